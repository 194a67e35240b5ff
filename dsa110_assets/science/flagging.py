"""What is bad in raw visibilities: zeros, dead receptors and interference that the whole array sees.

The array-wide detector works on two means over all cross-correlations, per integration, channel and polarisation: the
amplitude, and the roughness (power of the second difference over channels), in which a strong calibrator cancels. Their
noise is that of one sample over sqrt(n_baseline), so a tone of a fraction of the noise per baseline stands out, and
they cost one pass over the data. What only a few baselines see is left to the per-baseline strategies.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt
from pydantic import BaseModel, Field
from scipy.linalg import solve_banded
from scipy.ndimage import median_filter

from dsa110_assets.science.errors import ShapeError
from dsa110_assets.science.flagging_kernels import sum_threshold, widen_by_rank
from dsa110_assets.science.instrument import N_SUBBANDS

Bools = npt.NDArray[np.bool_]
Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]

Strategy = Literal["array_wide", "baseline", "aoflagger", "flagdata"]

_MAD_TO_SIGMA = 1.4826
LONGEST_WINDOW = 32
"""Samples of the longest SumThreshold window."""
FEWEST_CHANNELS = 6
"""Fewer channels than this cannot tell interference from a bandpass."""


class FlaggingOptions(BaseModel, frozen=True, extra="forbid"):
    """How a Measurement Set is flagged."""

    strategy: Strategy = "array_wide"
    """What looks for interference after zeros, dead receptors and the array-wide detector: nothing more, our
    SumThreshold per baseline, AOFlagger, or CASA flagdata (tfcrop)."""
    reset: bool = True
    """Forget flags set before; those of missing subbands and rows are set again."""
    array_wide: bool = True
    """Run the array-wide detector (also before the per-baseline strategies)."""
    autocorrelations: bool = True
    """Flag autocorrelations: no later stage uses them."""
    dead_below: float = Field(default=0.15, gt=0.0, lt=1.0)
    """A receptor is dead when its amplitude is below this fraction of the median one (weakest live one seen: 0.39)."""
    n_sigma: float = Field(default=6.0, gt=0.0)
    """Excess of the array's mean amplitude, in its own noise, that counts as interference."""
    floor: float = Field(default=0.012, ge=0.0)
    """Relative excess below which nothing is flagged, however significant: bandpass structure is not interference."""
    smooth_hz: float = Field(default=8e6, gt=0.0)
    """Width of the running median that follows the bandpass, Hz."""
    rank_eta: float = Field(default=0.1, ge=0.0, lt=1.0)
    """Gaps are closed where a share of at least 1 - eta of a run is flagged."""
    base_threshold: float = Field(default=6.0, gt=0.0)
    """First threshold of the per-baseline SumThreshold, in the noise of a sample."""
    timeout_s: float = Field(default=1800.0, gt=0.0)
    """Limit for AOFlagger or flagdata, seconds."""


@dataclass(frozen=True)
class FlagReport:
    """What the flagging found.

    Attributes
    ----------
    flagged_fraction
        Flagged share of the cross-correlations, everything included (0 to 1).
    flagged_fraction_working
        The same among working receptors and channels that have data: what interference and zeros cost.
    per_antenna
        Antenna name to flagged share of its baselines.
    per_subband : (16,) float
        Flagged share in equal parts of the band, lowest frequencies first.
    dead_receptors
        Such as ``"101 XX"``.
    zero_fraction
        Share of exact zeros and non-finite samples among channels that have data.
    array_wide_fraction
        Share of (integration, channel, polarisation) that the array-wide detector flagged.
    strategy
        What was run.
    seconds
        Wall time.
    """

    flagged_fraction: float
    flagged_fraction_working: float
    per_antenna: dict[str, float]
    per_subband: Floats
    dead_receptors: list[str]
    zero_fraction: float
    array_wide_fraction: float
    strategy: str
    seconds: float


def find_dead_receptors(level: Floats, pairs: Ints, n_antennas: int, *, dead_below: float) -> Bools:
    """Receptors whose cross-correlations are far weaker than the array's.

    Parameters
    ----------
    level : (n_bl, n_pol) float
        Mean amplitude of each baseline; 0 where it has no data.
    pairs : (n_bl, 2) int
        Antennas.
    n_antennas
        Antennas in the table.
    dead_below
        Fraction of the median receptor.

    Returns
    -------
    (n_antennas, n_pol) bool
        False for antennas without baselines.

    Notes
    -----
    A baseline's amplitude is the product of two receptors', so a receptor's level is the median over its baselines;
    medians hold while fewer than half the array is dead.
    """
    cross = pairs[:, 0] != pairs[:, 1]
    if level.shape[0] != len(pairs):
        raise ShapeError(f"{level.shape[0]} levels for {len(pairs)} baselines")
    receptor = np.full((n_antennas, level.shape[1]), np.nan)
    for antenna in np.unique(pairs[cross]):
        mine = cross & (pairs == antenna).any(axis=1)
        receptor[antenna] = np.median(level[mine], axis=0)
    typical = np.nanmedian(np.where(receptor > 0, receptor, np.nan)) if np.any(receptor > 0) else np.inf
    return np.asarray(receptor < dead_below * typical)


def find_array_wide(
    amplitude: Floats, roughness: Floats, channel_width_hz: float, *, options: FlaggingOptions
) -> Bools:
    """Interference in the array's mean amplitude and roughness.

    Parameters
    ----------
    amplitude : (n_time, n_chan, n_pol) float
        Mean over baselines of |V|, each baseline normalised; NaN where there is no data.
    roughness : (n_time, n_chan, n_pol) float
        Mean over baselines of |V_c - (V_c-1 + V_c+1) / 2|^2, normalised likewise; NaN where it cannot be formed.
    channel_width_hz
        Sets the length of the running median.

    Returns
    -------
    (n_time, n_chan, n_pol) bool
        Interference; a channel bad in one polarisation is bad in all.

    Notes
    -----
    Relative excesses over a running median in frequency, which follows the bandpass; then SumThreshold over time and
    over frequency, with window means held against n_sigma of their own noise and against a floor. Only excesses count:
    interference adds power. The roughness of a tone leaks to its neighbours with a quarter of its power: neighbours of
    tones seen in amplitude are not judged by it, and the leak of the weaker ones is solved for.
    """
    length = max(9, 2 * int(options.smooth_hz / channel_width_hz / 2.0) + 1)
    found = np.zeros(amplitude.shape[:2], dtype=bool)
    for p in range(amplitude.shape[2]):
        found |= _search(amplitude[:, :, p], length, options, leak=0.0)
    beside = found.copy()
    beside[:, 1:] |= found[:, :-1]
    beside[:, :-1] |= found[:, 1:]
    for p in range(amplitude.shape[2]):
        found |= _search(np.where(beside, np.nan, roughness[:, :, p]), length, options, leak=0.25)
    found = _close_gaps(found, options.rank_eta)
    return np.repeat(found[:, :, None], amplitude.shape[2], axis=2)


def _search(spectrum: Floats, length: int, options: FlaggingOptions, *, leak: float) -> Bools:
    """Interference (n_time, n_chan) in one spectrum; channels without any data are taken out first."""
    found = np.zeros(spectrum.shape, dtype=bool)
    valid = np.isfinite(spectrum) & (spectrum > 0)
    channels = np.flatnonzero(valid.any(axis=0))
    if len(channels) >= FEWEST_CHANNELS:
        logs = np.log(np.where(valid, spectrum, np.nan))[:, channels]
        found[:, channels] = _find_excess(logs, length, options, leak)
    return found


def _find_excess(logs: Floats, length: int, options: FlaggingOptions, leak: float) -> Bools:
    """Interference (n_time, n_valid_chan) of one spectrum; the smooth part is found again without it."""
    missing = ~np.isfinite(logs)
    flags = missing.copy()
    for _ in range(4):
        excess = np.where(missing, 0.0, np.expm1(logs - _smooth(logs, flags, length)))
        if leak:
            excess = _solve_leak(excess, missing, leak)
        good = ~flags
        noise = _MAD_TO_SIGMA * float(np.median(np.abs(excess[good]))) if good.any() else 0.0
        found = missing | _threshold(excess, missing, noise, options)
        if np.array_equal(found, flags):
            break
        flags = found
    return flags & ~missing


def _solve_leak(excess: Floats, missing: Bools, leak: float) -> Floats:
    """Power p of e_c = p_c + leak (p_c-1 + p_c+1), per integration; missing channels stay 0."""
    coupled = np.where(missing[:, 1:] | missing[:, :-1], 0.0, leak)
    out = np.empty_like(excess)
    for row, beside, solved in zip(excess, coupled, out, strict=True):
        bands = np.ones((3, len(row)))
        bands[0, 1:], bands[2, :-1] = beside, beside
        solved[:] = solve_banded((1, 1), bands, row)
    return out


def _smooth(logs: Floats, flags: Bools, length: int) -> Floats:
    """Running median over channels of the unflagged part; flagged samples are bridged linearly."""
    bridged = logs.copy()
    channel = np.arange(logs.shape[1])
    for row, bad in zip(bridged, flags, strict=True):
        if bad.all():
            row[:] = 0.0
        elif bad.any():
            row[bad] = np.interp(channel[bad], channel[~bad], row[~bad])
    padded = np.concatenate([_extend(bridged, length)[:, ::-1], bridged, _extend(bridged[:, ::-1], length)], axis=1)
    smooth = median_filter(padded, size=(1, length), mode="nearest")
    pad = (padded.shape[1] - logs.shape[1]) // 2
    return np.asarray(smooth[:, pad : pad + logs.shape[1]])


def _extend(values: Floats, length: int) -> Floats:
    """Continue rows beyond their first sample, nearest first, by the line through the medians of their first halves.

    A slope at the band's edge must not look like an excess, nor may the noise of the very last channel.
    """
    half = max(1, min(length, values.shape[1]) // 2)
    near = np.median(values[:, :half], axis=1)
    far = np.median(values[:, half : 2 * half], axis=1) if values.shape[1] >= 2 * half else near
    steps = 0.5 * (half - 1) + np.arange(1, length // 2 + 1)
    return np.asarray(near[:, None] - (far - near)[:, None] / half * steps)


def _threshold(excess: Floats, missing: Bools, noise: float, options: FlaggingOptions) -> Bools:
    """SumThreshold with windows that double, over time and over frequency."""
    over_time, over_frequency = missing.T.copy(order="C"), missing.copy(order="C")
    for values, flags in ((excess.T.copy(order="C"), over_time), (excess.copy(order="C"), over_frequency)):
        window = 1
        while window <= min(values.shape[1], LONGEST_WINDOW):
            sum_threshold(values, flags, window, options.n_sigma * noise, options.floor)
            window *= 2
    return np.asarray((over_time.T | over_frequency) & ~missing)


def _close_gaps(flags: Bools, eta: float) -> Bools:
    """Rank operator over time, then over frequency."""
    over_time = flags.T.copy(order="C")
    widen_by_rank(over_time, eta)
    over_both = over_time.T.copy(order="C")
    widen_by_rank(over_both, eta)
    return over_both


def measure_fractions(counts: Ints, n_per_sample: int, *, cross: Bools, n_parts: int = N_SUBBANDS) -> Floats:
    """Flagged share in ``n_parts`` equal parts of the band, shape (n_parts,).

    Parameters
    ----------
    counts : (n_bl, n_chan) int
        Flagged (integration, polarisation) samples.
    n_per_sample
        Integrations times polarisations.
    cross : (n_bl,) bool
        Baselines that count.
    """
    per_channel = counts[cross].sum(axis=0) / max(1, n_per_sample * int(cross.sum()))
    return np.array([float(part.mean()) if len(part) else np.nan for part in np.array_split(per_channel, n_parts)])
