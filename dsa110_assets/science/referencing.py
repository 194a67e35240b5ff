"""Which antenna's phase is zero, and how solutions are referred to it."""

from typing import Any

import numpy as np
import numpy.typing as npt

from dsa110_assets.science.errors import SolveError

Floats = npt.NDArray[np.float64]
Complexes = npt.NDArray[np.complex128]
Flags = npt.NDArray[np.bool_]

_SOLVED = 0.9  # of the best antenna's solution fraction
_SNR = 0.5  # of the array's median SNR


def rank_reference_antennas(
    flags: Flags, snr: npt.NDArray[np.floating[Any]], positions_m: Floats
) -> npt.NDArray[np.int64]:
    """Antennas by fitness as phase reference, best first.

    Eligible antennas (solved in at least 0.9 of the cells of the best one in *both* polarizations, median SNR at least
    half the array's) come first, nearest to the array's median position first; the others follow by solved fraction.

    Parameters
    ----------
    flags, snr : (n_ant, n_chan, n_pol)
        Of the solutions.
    positions_m : (n_ant, 3) float
        Metres, any origin.

    Returns
    -------
    (n,) int
        Indices of the antennas that have any solution.

    Raises
    ------
    SolveError
        If there is none.
    """
    solved = np.min(np.mean(~flags, axis=1), axis=-1)
    if not solved.any():
        raise SolveError("no antenna has solutions in both polarizations: nothing can be the phase reference")
    strength = np.array([np.median(s[~f]) if (~f).any() else 0.0 for s, f in zip(snr, flags, strict=True)])
    usable = solved > 0
    centre = np.median(positions_m[usable], axis=0)
    distance = np.linalg.norm(positions_m - centre, axis=1)
    eligible = (solved >= _SOLVED * solved.max()) & (strength >= _SNR * np.median(strength[usable]))
    order = np.lexsort((np.where(eligible, distance, -solved), ~eligible))
    return np.array([i for i in order if usable[i]], dtype=np.int64)


def choose_reference_antenna(order: npt.NDArray[np.int64], names: tuple[str, ...], wanted: str | None) -> int:
    """Index of the wanted antenna if it has solutions, else of the best one.

    Parameters
    ----------
    order
        From :func:`rank_reference_antennas`.
    names
        Antenna names in table order.
    wanted
        Name asked for, or None.
    """
    if wanted is not None and wanted in names and names.index(wanted) in order:
        return names.index(wanted)
    return int(order[0])


def refer_phases(gains: Complexes, flags: Flags, reference: int, fallback: int | None = None) -> Complexes:
    """Turn every channel and polarization so that the reference antenna's phase is zero.

    In channels where the reference has no solution the fallback antenna stands in, with the phase difference between
    the two interpolated (along the circle) from the channels that hold both, so that no step appears.

    Parameters
    ----------
    gains : (n_ant, n_chan, n_pol) complex
    flags : (n_ant, n_chan, n_pol) bool
    reference, fallback
        Antenna indices.

    Returns
    -------
    (n_ant, n_chan, n_pol) complex
    """
    turn = np.ones(gains.shape[1:], np.complex128)
    for p in range(gains.shape[2]):
        good = ~flags[reference, :, p] & (gains[reference, :, p] != 0)
        turn[good, p] = _unit(gains[reference, good, p])
        if fallback is None or good.all():
            continue
        both = good & ~flags[fallback, :, p] & (gains[fallback, :, p] != 0)
        use = ~good & ~flags[fallback, :, p] & (gains[fallback, :, p] != 0)
        if both.any() and use.any():
            difference = np.unwrap(np.angle(gains[reference, both, p] * np.conj(gains[fallback, both, p])))
            step = np.interp(np.flatnonzero(use), np.flatnonzero(both), difference)
            turn[use, p] = _unit(gains[fallback, use, p]) * np.exp(1j * step)
    return np.asarray(gains * np.conj(turn)[None])


def _unit(value: Complexes) -> Complexes:
    return np.asarray(np.exp(1j * np.angle(value)))


def remove_common_phase(phase_deg: Floats) -> Floats:
    """Phases less their circular mean over the first axis, wrapped to [-180, 180); NaN stays NaN."""
    phasor = np.exp(1j * np.radians(phase_deg))
    good = np.isfinite(phase_deg)
    mean = np.sum(np.where(good, phasor, 0.0), axis=0)
    return wrap_deg(phase_deg - np.degrees(np.angle(mean)))


def wrap_deg(angle_deg: npt.ArrayLike) -> Floats:
    """Angles in degrees wrapped to [-180, 180)."""
    return np.asarray((np.asarray(angle_deg, dtype=np.float64) + 180.0) % 360.0 - 180.0)
