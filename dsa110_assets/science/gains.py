"""Antenna gains: the table every solver makes and every apply reads.

Convention (CASA's): a raw visibility of baseline (i, j) is ``V_ij = g_i conj(g_j) M_ij`` with M the model in Jy, so the
calibrated one is ``V_ij / (g_i conj(g_j))``. A delay tau is a gain ``exp(2 pi i (nu - nu_0) tau)`` with nu_0 the centre
of the band it was solved over (what ``applycal`` does).
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
import numpy.typing as npt

from dsa110_assets.science.errors import ShapeError, SolveError

Floats = npt.NDArray[np.float64]
Complexes = npt.NDArray[np.complex128]
Flags = npt.NDArray[np.bool_]
Kind = Literal["K", "B", "G"]


@dataclass(frozen=True)
class GainTable:
    """Solutions per time, antenna, channel and polarization.

    Attributes
    ----------
    kind
        ``K`` delay, ``B`` bandpass, ``G`` gain (one solution over a wide channel).
    gains : (n_time, n_ant, n_chan, n_pol) complex
        Raw units per sqrt(Jy) for a bandpass, relative for a gain; for ``K`` the real part is the delay in ns.
    flags : (n_time, n_ant, n_chan, n_pol) bool
        True where there is no solution.
    snr : (n_time, n_ant, n_chan, n_pol) float
        Amplitude over its one-sigma error (half the complex variance).
    times_mjd : (n_time,) float
        Mid-time of each solution, MJD UTC.
    interval_s
        Length of one solution, seconds.
    frequencies_hz, channel_widths_hz : (n_chan,) float
        Ascending centres and full widths, Hz.
    antenna_names : (n_ant,) str
        In the order of the Measurement Set's antenna table.
    antenna_positions_m : (n_ant, 3) float
        ITRF, metres.
    refant
        Antenna whose phase is zero.
    phase_center_deg
        ICRS right ascension and declination of the data solved on, degrees.
    delay_removed
        A bandpass solved with the delay table applied: it must be applied together with that table.
    n_observed
        Antennas that had data; 0 where unknown.
    """

    kind: Kind
    gains: Complexes
    flags: Flags
    snr: Floats
    times_mjd: Floats
    interval_s: float
    frequencies_hz: Floats
    channel_widths_hz: Floats
    antenna_names: tuple[str, ...]
    antenna_positions_m: Floats
    refant: str
    phase_center_deg: tuple[float, float]
    delay_removed: bool = False
    n_observed: int = 0

    def __post_init__(self) -> None:
        if self.kind not in ("K", "B", "G"):
            raise ShapeError(f"kind {self.kind!r} is none of K, B, G")
        if self.gains.ndim != 4:
            raise ShapeError(f"gains have {self.gains.ndim} axes, expected (time, antenna, channel, polarization)")
        shape = (len(self.times_mjd), len(self.antenna_names), len(self.frequencies_hz), self.gains.shape[3])
        for name in ("gains", "flags", "snr"):
            if getattr(self, name).shape != shape:
                raise ShapeError(f"{name} has shape {getattr(self, name).shape}, expected {shape}")
        if self.antenna_positions_m.shape != (shape[1], 3) or self.channel_widths_hz.shape != (shape[2],):
            raise ShapeError("antenna_positions_m or channel_widths_hz does not fit the gains")

    @property
    def delays_ns(self) -> Floats:
        """Delays of a ``K`` table, ns, shape (n_time, n_ant, n_pol); NaN where flagged."""
        if self.kind != "K":
            raise SolveError(f"a {self.kind} table has no delays; measure them with delay.measure_delays")
        return np.where(self.flags[:, :, 0], np.nan, self.gains[:, :, 0].real)

    def at_frequencies(self, frequencies_hz: Floats) -> tuple[Complexes, Flags]:
        """Gains and flags at other channels, each shape (n_time, n_ant, len(frequencies_hz), n_pol).

        A delay is turned into phases; a bandpass or gain is read from the channel that holds the frequency, and is
        flagged where no channel does.
        """
        if self.kind == "K":
            offset = frequencies_hz - self.frequencies_hz[0]
            turns = 1e-9 * self.gains[:, :, :1].real * offset[None, None, :, None]
            flags = np.repeat(self.flags[:, :, :1], len(frequencies_hz), axis=2)
            return np.exp(2j * np.pi * turns), flags
        index, covered = find_channels(self.frequencies_hz, self.channel_widths_hz, frequencies_hz)
        flags = self.flags[:, :, index] | ~covered[None, None, :, None]
        return self.gains[:, :, index], flags

    def for_antennas(self, names: Sequence[str]) -> "GainTable":
        """The table in another antenna order; antennas it does not hold are flagged."""
        position = {name: i for i, name in enumerate(self.antenna_names)}
        index = np.array([position.get(name, -1) for name in names], dtype=np.int64)
        absent = index < 0
        flags = self.flags[:, index] | absent[None, :, None, None]
        positions = np.where(absent[:, None], np.nan, self.antenna_positions_m[index])
        return replace(
            self,
            gains=self.gains[:, index],
            flags=flags,
            snr=np.where(flags, 0.0, self.snr[:, index]),
            antenna_names=tuple(names),
            antenna_positions_m=positions,
        )


def find_channels(
    centres_hz: Floats, widths_hz: Floats, frequencies_hz: Floats
) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.bool_]]:
    """Nearest channel of each frequency, and whether the frequency lies inside it.

    Parameters
    ----------
    centres_hz, widths_hz : (n,) float
        Ascending channel centres and full widths, Hz.
    frequencies_hz : (m,) float
        Wanted frequencies, Hz.

    Returns
    -------
    index : (m,) int
    covered : (m,) bool
        Within half a width of the centre (plus 1 Hz for rounding).
    """
    right = np.clip(np.searchsorted(centres_hz, frequencies_hz), 1, max(1, len(centres_hz) - 1))
    left = right - 1
    right = np.minimum(right, len(centres_hz) - 1)
    nearer_left = np.abs(frequencies_hz - centres_hz[left]) <= np.abs(centres_hz[right] - frequencies_hz)
    index = np.where(nearer_left, left, right)
    covered = np.abs(frequencies_hz - centres_hz[index]) <= 0.5 * widths_hz[index] + 1.0
    return index.astype(np.int64), covered


def multiply_gains(bandpass: GainTable, gain: GainTable) -> GainTable:
    """B times G on the channels of B: one table of the whole antenna response, at the times of G.

    Parameters
    ----------
    bandpass
        Table of one time.
    gain
        Table with one channel or one per spectral window; its antennas are matched by name.

    Returns
    -------
    GainTable
        Kind ``B``, shape (n_time of G, n_ant, n_chan of B, n_pol); flagged where either is.

    Raises
    ------
    ShapeError
        If the bandpass holds more than one time.
    """
    if bandpass.gains.shape[0] != 1:
        raise ShapeError(f"a bandpass of one time is expected, this one has {bandpass.gains.shape[0]}")
    gains, flags = gain.for_antennas(bandpass.antenna_names).at_frequencies(bandpass.frequencies_hz)
    flags = flags | bandpass.flags
    return replace(
        bandpass,
        gains=np.where(flags, 1.0, gains * bandpass.gains),
        flags=flags,
        snr=np.where(flags, 0.0, np.broadcast_to(bandpass.snr, flags.shape)),
        times_mjd=gain.times_mjd,
        interval_s=gain.interval_s,
    )


def interpolate_gains(tables: Sequence[GainTable], times_mjd: Floats) -> tuple[Complexes, Flags]:
    """Gains at other times: amplitude and phase linear between solutions, held beyond the first and the last.

    Tables with different reference antennas are first referred to one; the phase step between two solutions is taken
    the short way round.

    Parameters
    ----------
    tables
        G tables of the same antennas and channels, in any order of time.
    times_mjd : (n,) float
        Wanted times, MJD UTC.

    Returns
    -------
    gains : (n, n_ant, n_chan, n_pol) complex
    flags : (n, n_ant, n_chan, n_pol) bool
        True where no table has a solution; where only one side is missing, the nearest solution is held.
    """
    ordered = sorted(tables, key=lambda t: float(t.times_mjd[0]))
    nodes = np.concatenate([t.times_mjd for t in ordered])
    gains = np.concatenate([t.gains for t in ordered])
    flags = np.concatenate([t.flags for t in ordered])
    if len({t.refant for t in ordered}) > 1:
        gains = _refer_to_common(gains, flags)
    n_out, shape = len(times_mjd), gains.shape[1:]
    if len(nodes) == 1:
        return np.repeat(gains, n_out, axis=0), np.repeat(flags, n_out, axis=0)
    gains, missing = _fill_missing(nodes, gains, flags)
    amplitude, phase = np.abs(gains), np.unwrap(np.angle(gains), axis=0)
    right = np.clip(np.searchsorted(nodes, times_mjd), 1, len(nodes) - 1)
    left = right - 1
    fraction = np.clip((times_mjd - nodes[left]) / (nodes[right] - nodes[left]), 0.0, 1.0)[:, None, None, None]
    modulus = amplitude[left] + fraction * (amplitude[right] - amplitude[left])
    angle = phase[left] + fraction * (phase[right] - phase[left])
    return modulus * np.exp(1j * angle), np.broadcast_to(missing, (n_out, *shape)).copy()


def _refer_to_common(gains: Complexes, flags: Flags) -> Complexes:
    """Refer all times to the antenna that has most solutions at every one of them."""
    solved = np.sum(~flags, axis=(0, 2, 3)) * np.all(np.any(~flags, axis=(2, 3)), axis=0)
    if not solved.any():
        raise SolveError("no antenna has a solution in all gain tables: they cannot be referred to one antenna")
    reference = gains[:, int(np.argmax(solved))][:, None]
    return np.where(reference == 0, gains, gains * np.exp(-1j * np.angle(reference)))


def _fill_missing(nodes: Floats, gains: Complexes, flags: Flags) -> tuple[Complexes, Flags]:
    """Replace flagged solutions by those nearest in time; also say where there is none at all."""
    filled = gains.copy()
    for k in range(len(nodes)):
        for other in np.argsort(np.abs(nodes - nodes[k]), kind="stable")[::-1]:
            use = flags[k] & ~flags[other]
            filled[k][use] = gains[other][use]
    missing = np.all(flags, axis=0)
    filled[:, missing] = 1.0
    return filled, missing
