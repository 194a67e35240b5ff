"""How two tables differ once what does not matter is taken out: a common phase, and a plane across the array."""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from dsa110_assets.science.delay import east_north_m, fit_delay_plane, measure_delays
from dsa110_assets.science.errors import SolveError
from dsa110_assets.science.gains import GainTable
from dsa110_assets.science.referencing import wrap_deg

Floats = npt.NDArray[np.float64]
_PLANE_ROUNDS = 5


@dataclass(frozen=True)
class GainChange:
    """Change from one table to another.

    Attributes
    ----------
    antenna_names : (n_ant,) str
        Antennas of the newer table.
    phase_deg : (n_ant, n_pol) float
        Phase change, common phase of each polarization and plane removed, in [-180, 180); NaN where unknown.
    amplitude : (n_ant, n_pol) float
        Ratio of amplitudes, new over old.
    phase_rms_deg, amplitude_rms
        Robust rms: 1.4826 median |x|, and 1.4826 MAD of the ratios over their median.
    amplitude_ratio
        Median ratio.
    died : tuple of str
        Receptors (antenna and polarization index) solved before and not now.
    """

    antenna_names: tuple[str, ...]
    phase_deg: Floats
    amplitude: Floats
    phase_rms_deg: float
    amplitude_rms: float
    amplitude_ratio: float
    died: tuple[str, ...]


def measure_change(table: GainTable, previous: GainTable) -> GainChange:
    """Compare two tables of one kind, antennas matched by name and channels by frequency.

    Only the first time of ``table`` and the last of ``previous`` are compared.

    Parameters
    ----------
    table, previous
        B or G tables.

    Raises
    ------
    SolveError
        If they have no solution in common.
    """
    before, before_flags = previous.for_antennas(table.antenna_names).at_frequencies(table.frequencies_hz)
    flags = table.flags[0] | before_flags[-1]
    if flags.all():
        raise SolveError("the two tables have no antenna and channel in common")
    ratio = np.where(flags, 0.0, table.gains[0] / np.where(before_flags[-1], 1.0, before[-1]))
    ratio = _remove_delay_plane(ratio, flags, table)
    with np.errstate(invalid="ignore"):
        mean = np.sum(ratio, axis=1) / np.maximum(np.sum(~flags, axis=1), 1)
    phase = np.where(mean == 0, np.nan, np.degrees(np.angle(mean)))
    phase = _remove_phase_plane(phase, table.antenna_positions_m)
    amplitude = _median_amplitude(ratio, flags)
    known = amplitude[np.isfinite(amplitude)]
    median = float(np.median(known))
    solved_before = ~np.all(before_flags[-1], axis=1)
    died = np.argwhere(solved_before & np.all(table.flags[0], axis=1))
    return GainChange(
        antenna_names=table.antenna_names,
        phase_deg=phase,
        amplitude=amplitude,
        phase_rms_deg=1.4826 * float(np.nanmedian(np.abs(phase))),
        amplitude_rms=1.4826 * float(np.median(np.abs(known / median - 1.0))),
        amplitude_ratio=median,
        died=tuple(f"{table.antenna_names[a]} {'XY'[p] if p < 2 else p}" for a, p in died),
    )


def _remove_delay_plane(
    ratio: npt.NDArray[np.complex128], flags: npt.NDArray[np.bool_], table: GainTable
) -> npt.NDArray[np.complex128]:
    """Take the delay plane of the change out (a direction error), channels permitting."""
    if ratio.shape[1] < 2 * 4:
        return ratio
    delays, _ = measure_delays(ratio, flags, table.frequencies_hz)
    try:
        plane = fit_delay_plane(delays, table.antenna_positions_m)
    except SolveError:
        return ratio
    ground = np.nan_to_num(east_north_m(table.antenna_positions_m))
    tau = 1e-9 * (ground @ np.array([plane.east_ns_m, plane.north_ns_m]))
    turned = ratio * np.exp(-2j * np.pi * table.frequencies_hz[None, :, None] * tau[:, None, None])
    return np.asarray(turned)


def _remove_phase_plane(phase_deg: Floats, positions_m: Floats) -> Floats:
    """Take out a phase per polarization and a plane common to both, fitted in rounds of clipping."""
    antenna, pol = np.nonzero(np.isfinite(phase_deg) & np.isfinite(positions_m[:, :1]))
    ground = east_north_m(positions_m) / 1000.0
    values = np.radians(phase_deg[antenna, pol])
    common = np.exp(1j * values)
    offsets = np.array([np.angle(np.sum(common[pol == p])) for p in range(phase_deg.shape[1])])
    rest = _wrap(values - offsets[pol])
    design = np.concatenate([ground[antenna], np.eye(phase_deg.shape[1])[pol]], axis=1)
    fitted = rest
    for _ in range(_PLANE_ROUNDS):
        limit = max(3.0 * 1.4826 * float(np.median(np.abs(fitted))), 1e-6)
        keep = np.abs(fitted) <= limit
        if np.count_nonzero(keep) <= 2 * design.shape[1]:
            break
        fitted = _wrap(fitted - design @ np.linalg.lstsq(design[keep], fitted[keep], rcond=None)[0])
    # a plane through phases that are not small everywhere is no plane: keep it only if it helps
    best = fitted if np.median(np.abs(fitted)) < np.median(np.abs(rest)) else rest
    out = np.full_like(phase_deg, np.nan)
    out[antenna, pol] = np.degrees(best)
    return wrap_deg(out)


def _median_amplitude(ratio: npt.NDArray[np.complex128], flags: npt.NDArray[np.bool_]) -> Floats:
    out = np.full((ratio.shape[0], ratio.shape[2]), np.nan)
    for a, p in np.argwhere(~flags.all(axis=1)):
        out[a, p] = np.median(np.abs(ratio[a, ~flags[a, :, p], p]))
    return out


def _wrap(angle: Floats) -> Floats:
    return np.asarray((angle + np.pi) % (2 * np.pi) - np.pi)
