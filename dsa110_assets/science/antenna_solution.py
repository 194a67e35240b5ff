"""From normal sums to judged solutions: gains, noise, signal-to-noise ratio and flags."""

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from dsa110_assets.science.errors import SolveError
from dsa110_assets.science.normal_sums import NormalSums
from dsa110_assets.science.stefcal import solve_stefcal

Floats = npt.NDArray[np.float64]
Flags = npt.NDArray[np.bool_]
_CLIP_ROUNDS = 4
BAD_CHANNEL_RMS = 1.5
"""Residual rms over the median channel's above which a channel is interference."""
Antennas = tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]


@dataclass(frozen=True)
class AntennaSolution:
    """Solutions of one time.

    Attributes
    ----------
    gains : (n_ant, n_chan, n_pol) complex64
        0 where there is none.
    flags : (n_ant, n_chan, n_pol) bool
    snr : (n_ant, n_chan, n_pol) float32
        |g| / sigma, sigma^2 = s_i / (2 sum_j D_ij |g_j|^2 / s_j), the variance of the amplitude.
    noise : (n_ant, n_pol) float32
        s: a sample of baseline (i, j) has ``E|n|^2 = s_i s_j``; NaN where unknown.
    """

    gains: npt.NDArray[np.complex64]
    flags: Flags
    snr: npt.NDArray[np.float32]
    noise: npt.NDArray[np.float32]


def measure_noise(
    sums: NormalSums, gains: npt.NDArray[np.complex64], antennas: Antennas
) -> tuple[npt.NDArray[np.float32], Flags]:
    """Noise factor of each antenna from the residuals, and the channels whose residuals are not noise.

    The residual power per sample of each baseline, averaged over the clean channels, is fitted by the rank-one model
    ``r_ij = s_i s_j`` with outliers clipped, so that neither bad channels nor bad baselines spoil it.

    Parameters
    ----------
    sums
        Normal sums.
    gains : (n_ant, n_chan, n_pol) complex64
        Their solution.
    antennas
        Antenna indices (i, j) of each baseline.

    Returns
    -------
    noise : (n_ant, n_pol) float32
        NaN for an antenna without data.
    bad : (n_chan, n_pol) bool
        Channels with a residual rms above 1.5 times that of the median channel: interference.
    """
    residual = sums.residual(gains, antennas)
    known = np.isfinite(residual)
    residual = np.where(known, residual, 0.0)
    count = np.where(known, sums.count, 0.0)
    per_channel = np.sum(residual, axis=0, dtype=np.float64) / np.maximum(np.sum(count, axis=0), 1.0)
    bad = np.zeros(per_channel.shape, bool)
    for p in range(bad.shape[1]):
        solved = per_channel[:, p] > 0
        if solved.any():
            bad[:, p] = per_channel[:, p] > BAD_CHANNEL_RMS**2 * np.median(per_channel[solved, p])
    clean = ~bad
    number = np.einsum("bcp,cp->bp", count, clean)
    power = np.einsum("bcp,cp->bp", residual, clean)
    per_baseline = np.where(number > 0, power / np.maximum(number, 1.0), np.nan)
    return fit_antenna_noise(per_baseline, antennas, len(gains)), bad


def fit_antenna_noise(
    baseline_noise: npt.NDArray[np.floating[Any]], antennas: Antennas, n_antenna: int
) -> npt.NDArray[np.float32]:
    """Rank-one fit ``r_ij = s_i s_j``: least squares in the logarithms, outliers clipped in rounds.

    Parameters
    ----------
    baseline_noise : (n_bl, n_pol) float
        Residual power per sample; NaN where there is none. Autocorrelations are left out.
    antennas
        Antenna indices (i, j) of each baseline.
    n_antenna
        Number of antennas.

    Returns
    -------
    (n_antenna, n_pol) float32
        s; NaN for an antenna without data.
    """
    n_pol = baseline_noise.shape[1]
    noise = np.full((n_antenna, n_pol), np.nan, np.float32)
    cross = antennas[0] != antennas[1]
    for p in range(n_pol):
        use = cross & (baseline_noise[:, p] > 0)
        i, j = antennas[0][use], antennas[1][use]
        values = np.log(baseline_noise[use, p].astype(np.float64))
        weight = np.ones(len(values))
        for _ in range(_CLIP_ROUNDS):
            solution = _solve_log_noise(values, weight, i, j, n_antenna)
            residual = values - solution[i] - solution[j]
            scale = 1.4826 * np.median(np.abs(residual)) if len(residual) else 0.0
            weight = (np.abs(residual) <= max(3.0 * scale, 1e-6)).astype(np.float64)
        known = np.bincount(i, minlength=n_antenna) + np.bincount(j, minlength=n_antenna) > 0
        noise[known, p] = np.exp(solution[known])
    return noise


def _solve_log_noise(
    values: Floats, weight: Floats, i: npt.NDArray[np.int64], j: npt.NDArray[np.int64], n_antenna: int
) -> Floats:
    matrix = np.zeros((n_antenna, n_antenna))
    np.add.at(matrix, (i, j), weight)
    matrix += matrix.T
    matrix[np.diag_indices(n_antenna)] += matrix.sum(axis=1)
    right = np.bincount(i, weight * values, n_antenna) + np.bincount(j, weight * values, n_antenna)
    return np.asarray(np.linalg.lstsq(matrix, right, rcond=None)[0])


def invert_noise(noise: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    """Weights 1 / s, and 0 where the noise is unknown."""
    known = np.isfinite(noise) & (noise > 0)
    return np.where(known, 1.0 / np.where(known, noise, 1.0), 0.0).astype(np.float32)


def solve_antennas(
    sums: NormalSums,
    antennas: Antennas,
    n_antenna: int,
    *,
    start: npt.NDArray[np.complex64] | None = None,
    phase_only: bool = False,
    minimum: tuple[float, int] = (3.0, 4),
) -> AntennaSolution:
    """Gains of every channel, weighted by the noise the residuals show.

    Two rounds: equal weights first, whose residuals give the noise of each antenna, then weights 1 / (s_i s_j).

    Parameters
    ----------
    sums
        Normal sums.
    antennas
        Antenna indices (i, j) of each baseline.
    n_antenna
        Number of antennas.
    start : (n_ant, n_chan, n_pol) complex64, optional
        First guess.
    phase_only
        Gains of unit modulus.
    minimum
        Lowest SNR, and lowest number of baselines with data in a channel; solutions below are flagged.

    Returns
    -------
    AntennaSolution
    """
    if not sums.count.any():
        raise SolveError("no unflagged data: nothing to solve on. Check the flags of the Measurement Set")
    equal = np.ones((n_antenna, sums.cross.shape[2]), np.float32)
    gains, _ = solve_stefcal(sums, antennas, equal, start=start, phase_only=phase_only)
    noise, _ = measure_noise(sums, gains, antennas)
    gains, converged = solve_stefcal(sums, antennas, invert_noise(noise), start=gains, phase_only=phase_only)
    noise, bad = measure_noise(sums, gains, antennas)
    converged &= ~bad
    return judge_solution(sums, antennas, gains, noise=noise, converged=converged, minimum=minimum)


def judge_solution(
    sums: NormalSums,
    antennas: Antennas,
    gains: npt.NDArray[np.complex64],
    *,
    noise: npt.NDArray[np.float32],
    converged: Flags,
    minimum: tuple[float, int],
) -> AntennaSolution:
    """Signal-to-noise ratio and flags of gains already solved.

    ``converged`` (n_chan, n_pol) tells which channels hold a solution; the rest is as in :func:`solve_antennas`.
    """
    weight = invert_noise(noise)
    strength = (np.abs(gains) ** 2 * weight[:, None, :]).astype(np.float32)
    information, baselines = sums.information(strength, antennas)
    snr = (np.abs(gains) * np.sqrt(2.0 * information * weight[:, None, :])).astype(np.float32)
    flags = (snr < minimum[0]) | (baselines < minimum[1]) | ~converged[None] | (gains == 0)
    return AntennaSolution(gains=gains, flags=flags, snr=np.where(flags, 0, snr), noise=noise)


def find_dead_receptors(solution: AntennaSolution, *, amplitude_ratio: float, flagged_fraction: float) -> Flags:
    """Receptors (antenna and polarization) that do not see the sky.

    A receptor is dead when it fails in more than ``flagged_fraction`` of the channels that half of the array solves,
    or when its median amplitude is below ``amplitude_ratio`` of the array's median.

    Returns
    -------
    (n_ant, n_pol) bool
        Receptors that had no data at all are included.
    """
    solved = ~solution.flags
    best = np.max(np.mean(solved, axis=0), axis=0)
    alive_channels = np.mean(solved, axis=0) > 0.5 * best
    dead = np.ones((solved.shape[0], solved.shape[2]), dtype=bool)
    for p in range(solved.shape[2]):
        use = alive_channels[:, p]
        if not use.any():
            continue
        fraction = np.mean(solved[:, use, p], axis=1)
        amplitude = np.array([_median_amplitude(solution, a, p) for a in range(solved.shape[0])])
        array = np.median(amplitude[fraction > 1 - flagged_fraction]) if (fraction > 1 - flagged_fraction).any() else 0
        dead[:, p] = (fraction <= 1 - flagged_fraction) | (amplitude < amplitude_ratio * array)
    return dead


def fill_gaps(
    gains: npt.NDArray[np.complex64], flags: Flags, snr: npt.NDArray[np.float32], longest: int
) -> tuple[npt.NDArray[np.complex64], Flags, npt.NDArray[np.float32]]:
    """Interpolate short runs of flagged channels between their neighbours.

    Amplitude and phase are taken linearly (the phase the short way round); runs at the edges of the band, and longer
    ones, stay flagged. The SNR of a filled channel is the lower one of its neighbours.

    Parameters
    ----------
    gains, flags, snr : (n_ant, n_chan, n_pol)
    longest
        Longest run that is filled, channels.
    """
    gains, flags, snr = gains.copy(), flags.copy(), snr.copy()
    for a, p in np.argwhere(flags.any(axis=1) & ~flags.all(axis=1)):
        edges = np.flatnonzero(np.diff(np.concatenate([[False], flags[a, :, p], [False]]).astype(np.int8)))
        for start, stop in edges.reshape(-1, 2):
            if stop - start > longest or start == 0 or stop == flags.shape[1]:
                continue
            left, right = gains[a, start - 1, p], gains[a, stop, p]
            step = (np.arange(start, stop) - start + 1) / (stop - start + 1)
            amplitude = np.abs(left) + step * (np.abs(right) - np.abs(left))
            phase = np.angle(left) + step * np.angle(right * np.conj(left))
            gains[a, start:stop, p] = amplitude * np.exp(1j * phase)
            snr[a, start:stop, p] = min(snr[a, start - 1, p], snr[a, stop, p])
            flags[a, start:stop, p] = False
    return gains, flags, snr


def flag_receptors(solution: AntennaSolution, receptors: Flags) -> AntennaSolution:
    """The solution with whole receptors, shape (n_ant, n_pol), flagged."""
    flags = solution.flags | receptors[:, None, :]
    return replace(solution, flags=flags, snr=np.where(flags, 0, solution.snr))


def _median_amplitude(solution: AntennaSolution, antenna: int, pol: int) -> float:
    good = ~solution.flags[antenna, :, pol]
    return float(np.median(np.abs(solution.gains[antenna, good, pol]))) if good.any() else 0.0
