"""Antenna gains from normal sums by alternating least squares (StefCal), compiled and threaded.

For one channel and polarization the sums over time are ``A_ij = sum w V_ij conj(M_ij)`` and ``D_ij = sum w |M_ij|^2``.
The gains that minimise ``sum w_ij |V_ij - g_i conj(g_j) M_ij|^2`` with noise ``|n_ij|^2 = s_i s_j`` obey

    g_i = sum_j (A_ij g_j / s_j) / sum_j (D_ij |g_j|^2 / s_j),

iterated with every second step averaged with the one before (Salvini & Wijnholds 2014, A&A 571, A97).
"""

from typing import Any

import numba
import numpy as np
import numpy.typing as npt

from dsa110_assets.science.normal_sums import Antennas, NormalSums

Complex64s = npt.NDArray[np.complex64]
Float32s = npt.NDArray[np.float32]

_BLOCK = 8  # channels gathered together: one cache line of complex64
TOLERANCE = 1e-5
"""Relative change of the gain vector at which the iteration stops."""


def _jit(**options: Any) -> Any:
    return numba.njit(cache=True, nogil=True, **options)


@_jit(fastmath=True, error_model="numpy")
def _step(a_re, a_im, d, weight, g_re, g_im, new_re, new_im, phase_only):  # type: ignore[no-untyped-def]
    """One least-squares update of all antennas; returns nothing, fills new_re, new_im."""
    n = len(g_re)
    for i in range(n):
        num_re = np.float32(0.0)
        num_im = np.float32(0.0)
        den = np.float32(0.0)
        for j in range(n):
            re = g_re[j] * weight[j]
            im = g_im[j] * weight[j]
            num_re += a_re[i, j] * re - a_im[i, j] * im
            num_im += a_re[i, j] * im + a_im[i, j] * re
            den += d[i, j] * (g_re[j] * re + g_im[j] * im)
        if phase_only:
            den = np.sqrt(num_re * num_re + num_im * num_im)
        if den > np.float32(0.0):
            new_re[i] = num_re / den
            new_im[i] = num_im / den
        else:
            new_re[i] = np.float32(0.0)
            new_im[i] = np.float32(0.0)


@_jit(fastmath=True, error_model="numpy")
def _iterate(a_re, a_im, d, weight, g_re, g_im, max_iterations, tolerance, phase_only):  # type: ignore[no-untyped-def]
    """Iterate in place; returns the number of iterations, negative when not converged."""
    n = len(g_re)
    new_re = np.zeros(n, np.float32)
    new_im = np.zeros(n, np.float32)
    for iteration in range(max_iterations):
        _step(a_re, a_im, d, weight, g_re, g_im, new_re, new_im, phase_only)
        change = np.float32(0.0)
        norm = np.float32(0.0)
        average = iteration % 2 == 1
        for i in range(n):
            if average:
                new_re[i] = np.float32(0.5) * (new_re[i] + g_re[i])
                new_im[i] = np.float32(0.5) * (new_im[i] + g_im[i])
            change += weight[i] * ((new_re[i] - g_re[i]) ** 2 + (new_im[i] - g_im[i]) ** 2)
            norm += weight[i] * (new_re[i] ** 2 + new_im[i] ** 2)
            g_re[i] = new_re[i]
            g_im[i] = new_im[i]
        if norm == np.float32(0.0):
            return iteration + 1
        if average and change <= tolerance * tolerance * norm:
            return iteration + 1
    return -max_iterations


@_jit(error_model="numpy")
def _start_from_reference(a_re, a_im, d, ref, g_re, g_im):  # type: ignore[no-untyped-def]
    """First guess: phases from the baselines to one antenna, amplitude from the mean of all."""
    n = len(g_re)
    power = 0.0
    weight = 0.0
    for i in range(n):
        for j in range(n):
            if d[i, j] > 0:
                power += np.sqrt(a_re[i, j] ** 2 + a_im[i, j] ** 2)
                weight += d[i, j]
    amplitude = np.sqrt(power / weight) if weight > 0 else 0.0
    for i in range(n):
        modulus = np.sqrt(a_re[i, ref] ** 2 + a_im[i, ref] ** 2)
        if i == ref or modulus == 0.0:
            g_re[i] = amplitude
            g_im[i] = 0.0
        else:
            g_re[i] = amplitude * a_re[i, ref] / modulus
            g_im[i] = amplitude * a_im[i, ref] / modulus


@_jit(parallel=True, error_model="numpy")
def _solve_blocks(cross, power, ant1, ant2, weight, gains, ref, max_iterations, phase_only, counts):  # type: ignore[no-untyped-def]
    n_bl, n_chan, n_pol = cross.shape
    n_ant = weight.shape[0]
    n_blocks = (n_chan + _BLOCK - 1) // _BLOCK
    for b in numba.prange(n_blocks):
        c0 = b * _BLOCK
        m = min(_BLOCK, n_chan - c0)
        a_re = np.zeros((m, n_pol, n_ant, n_ant), np.float32)
        a_im = np.zeros((m, n_pol, n_ant, n_ant), np.float32)
        d = np.zeros((m, n_pol, n_ant, n_ant), np.float32)
        for k in range(n_bl):
            i, j = ant1[k], ant2[k]
            if i == j:
                continue
            for c in range(m):
                for p in range(n_pol):
                    value = cross[k, c0 + c, p]
                    a_re[c, p, i, j] += value.real
                    a_re[c, p, j, i] += value.real
                    a_im[c, p, i, j] += value.imag
                    a_im[c, p, j, i] -= value.imag
                    d[c, p, i, j] += power[k, c0 + c, p]
                    d[c, p, j, i] += power[k, c0 + c, p]
        g_re = np.zeros(n_ant, np.float32)
        g_im = np.zeros(n_ant, np.float32)
        for p in range(n_pol):
            for c in range(m):
                cold = True
                for i in range(n_ant):
                    g_re[i] = gains[i, c0 + c, p].real
                    g_im[i] = gains[i, c0 + c, p].imag
                    if g_re[i] != 0.0 or g_im[i] != 0.0:
                        cold = False
                if cold:
                    _start_from_reference(a_re[c, p], a_im[c, p], d[c, p], ref, g_re, g_im)
                counts[c0 + c, p] = _iterate(
                    a_re[c, p], a_im[c, p], d[c, p], weight[:, p], g_re, g_im,
                    max_iterations, np.float32(TOLERANCE), phase_only,
                )  # fmt: skip
                for i in range(n_ant):
                    gains[i, c0 + c, p] = complex(g_re[i], g_im[i])


def solve_stefcal(
    sums: NormalSums,
    antennas: Antennas,
    weight: Float32s,
    *,
    start: Complex64s | None = None,
    phase_only: bool = False,
    max_iterations: int = 200,
) -> tuple[Complex64s, npt.NDArray[np.bool_]]:
    """Gains of every channel and polarization.

    Parameters
    ----------
    sums
        Normal sums A and D, (n_bl, n_chan, n_pol); D is 0 where a baseline has no data.
    antennas
        Antenna indices (i, j) of each baseline, each shape (n_bl,); autocorrelations are left out.
    weight : (n_ant, n_pol) float32
        1 / s, the inverse noise of each antenna in any unit.
    start : (n_ant, n_chan, n_pol) complex64, optional
        First guess; without it (or where it is all zero) phases start from the baselines to the antenna with most
        correlated amplitude.
    phase_only
        Gains of unit modulus.
    max_iterations
        Limit of the iteration.

    Returns
    -------
    gains : (n_ant, n_chan, n_pol) complex64
        0 where an antenna has no data.
    converged : (n_chan, n_pol) bool
    """
    _, n_chan, n_pol = sums.cross.shape
    n_ant = weight.shape[0]
    gains = np.zeros((n_ant, n_chan, n_pol), np.complex64) if start is None else start.astype(np.complex64)
    reference = find_best_connected(sums, antennas, n_ant) if start is None else 0
    counts = np.zeros((n_chan, n_pol), np.int64)
    scale = np.median(weight[weight > 0]) if np.any(weight > 0) else 1.0
    relative = np.ascontiguousarray(weight / scale, dtype=np.float32)
    _solve_blocks(sums.cross, sums.power, *antennas, relative, gains, reference, max_iterations, phase_only, counts)
    return gains, counts > 0


def find_best_connected(sums: NormalSums, antennas: Antennas, n_antenna: int) -> int:
    """Antenna with most correlated amplitude: phases of the first guess come from its baselines."""
    amplitude = np.asarray(np.sum(np.abs(sums.cross), axis=(1, 2), dtype=np.float64))
    cross = antennas[0] != antennas[1]
    total = np.bincount(antennas[0][cross], amplitude[cross], n_antenna)
    total += np.bincount(antennas[1][cross], amplitude[cross], n_antenna)
    return int(np.argmax(total))
