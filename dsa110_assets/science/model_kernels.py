"""Compiled loops of the visibility prediction: antenna phasors with smearing terms, and the gather of baselines."""

from typing import NamedTuple

import numba
import numpy as np
import numpy.typing as npt

Floats32 = npt.NDArray[np.float32]
Floats64 = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]


class AntennaPhases(NamedTuple):
    """Geometry of one integration, for antennas (n_ant) and sources (n_src).

    Attributes
    ----------
    delay_s : (n_ant, n_src) float
        Delay of the source against the phase centre, seconds.
    time_rate : (n_ant, n_src) float32
        pi times the fringe turns per integration and hertz: the argument of the time-smearing terms over frequency.
    channel_turn : (n_ant, n_src) float32
        pi times the turns across one channel: the argument of the channel-smearing terms.
    """

    delay_s: Floats64
    time_rate: Floats32
    channel_turn: Floats32


class SmearingTerms(NamedTuple):
    """Terms of the separable expansion of sinc(time) sinc(channel).

    Attributes
    ----------
    orders : (n_term, 2) int
        Orders of the spherical Bessel functions in time and channel.
    first, last : (n_term,) int
        The term is needed by the sources first, ..., last - 1 (sorted by decreasing smearing).
    """

    orders: Ints
    first: Ints
    last: Ints


@numba.njit(nogil=True, cache=True, fastmath=True)
def _count_series(largest: float) -> int:
    """Terms of the power series that leave less than 1e-6 of its value, for arguments up to ``largest``."""
    square, rest, n = largest * largest, 1.0, 0
    while n < 12:
        rest *= square / ((2 * n + 2) * (2 * n + 3))
        if rest < 1e-6:
            break
        n += 1
    return n


@numba.njit(nogil=True, cache=True, fastmath=True)
def multiply_bessel(argument: Floats32, order: int, n_series: int, series: Floats32, out: Floats32) -> None:
    """Multiply ``out`` by sqrt(2k + 1) j_k(z), from the power series (DLMF 10.53.1); ``series`` is scratch."""
    scale = np.float32(np.sqrt(2.0 * order + 1.0))
    for k in range(1, order + 1):
        scale /= np.float32(2.0 * k + 1.0)
    n = argument.shape[0]
    for s in range(n):
        series[s] = 1.0
    for m in range(n_series, 0, -1):
        factor = np.float32(1.0 / (2 * m * (2 * order + 2 * m + 1)))
        for s in range(n):
            series[s] = np.float32(1.0) - series[s] * argument[s] * argument[s] * factor
    for _ in range(order):
        for s in range(n):
            series[s] *= argument[s]
    for s in range(n):
        out[s] *= series[s] * scale


@numba.njit(nogil=True, cache=True, fastmath=True)
def _start_phasors(delay_s: Floats64, frequency_hz: float, state: Floats32) -> None:
    """Write cos and sin of 2 pi f delay into the two rows of ``state``; turns are reduced in float64."""
    for s in range(delay_s.shape[0]):
        turns = delay_s[s] * frequency_hz
        angle = 2.0 * np.pi * (turns - np.round(turns))
        state[0, s], state[1, s] = np.cos(angle), np.sin(angle)


@numba.njit(nogil=True, cache=True, fastmath=True)
def _fill_weights(
    time_argument: Floats32, channel_argument: Floats32, terms: SmearingTerms, scratch: Floats32, weight: Floats32
) -> None:
    """Weights sqrt((2k + 1)(2m + 1)) j_k j_m of all columns of one antenna at one frequency."""
    n_time = _count_series(np.abs(time_argument).max())
    n_channel = _count_series(np.abs(channel_argument).max())
    weight[:] = 1.0
    column = 0
    for term in range(terms.orders.shape[0]):
        first, last = terms.first[term], terms.last[term]
        part = weight[column : column + last - first]
        multiply_bessel(time_argument[first:last], terms.orders[term, 0], n_time, scratch, part)
        multiply_bessel(channel_argument[first:last], terms.orders[term, 1], n_channel, scratch, part)
        column += last - first


class RunState(NamedTuple):
    """Where a run of channels stands: buffers that :func:`start_run` fills and :func:`fill_phasors` advances.

    Attributes
    ----------
    phasor, step : (n_ant, 2, n_src) float32
        Real and imaginary parts of the next channel's phasors, and of the turn from channel to channel.
    weight, slope : (n_ant, n_column) float32
        Weights of the columns, and their change per channel.
    """

    phasor: Floats32
    step: Floats32
    weight: Floats32
    slope: Floats32


@numba.njit(nogil=True, cache=True, fastmath=True)
def start_run(phases: AntennaPhases, frequencies_hz: Floats64, terms: SmearingTerms, state: RunState) -> None:
    """Phasors and weights at the first of equally spaced channels.

    A run spans so little that the weights are linear over it. Turns are reduced in float64.
    """
    n_chan = frequencies_hz.shape[0]
    step_hz = frequencies_hz[1] - frequencies_hz[0] if n_chan > 1 else 0.0
    scratch = np.empty(phases.delay_s.shape[1], np.float32)
    for a in range(phases.delay_s.shape[0]):
        rate, turn = phases.time_rate[a], phases.channel_turn[a]
        weight, slope = state.weight[a], state.slope[a]
        _fill_weights(rate * np.float32(frequencies_hz[0]), turn, terms, scratch, weight)
        _fill_weights(rate * np.float32(frequencies_hz[-1]), turn, terms, scratch, slope)
        for column in range(weight.shape[0]):
            slope[column] = (slope[column] - weight[column]) / np.float32(max(n_chan - 1, 1))
        _start_phasors(phases.delay_s[a], frequencies_hz[0], state.phasor[a])
        _start_phasors(phases.delay_s[a], step_hz, state.step[a])


@numba.njit(nogil=True, cache=True, fastmath=True)
def _multiply(x: Floats32, y: Floats32, out: Floats32) -> None:
    for s in range(out.shape[0]):
        out[s] = x[s] * y[s]


@numba.njit(nogil=True, cache=True, fastmath=True)
def _fill_columns(
    base_re: Floats32, base_im: Floats32, terms: SmearingTerms, weights: tuple[Floats32, Floats32], out: Floats32
) -> None:
    """Columns of one antenna and channel; the weights move on to the next channel."""
    weight, slope = weights
    n_column = weight.shape[0]
    real, imag = out[:n_column], out[n_column:]
    column = 0
    for term in range(terms.orders.shape[0]):
        first, last = terms.first[term], terms.last[term]
        n = last - first
        # slices, indexed from 0: an index that might be negative would not vectorise
        _multiply(base_re[first:last], weight[column : column + n], real[column : column + n])
        _multiply(base_im[first:last], weight[column : column + n], imag[column : column + n])
        column += n
    for k in range(n_column):
        weight[k] += slope[k]


@numba.njit(nogil=True, cache=True, fastmath=True)
def fill_phasors(amplitude: Floats32, terms: SmearingTerms, state: RunState, out: Floats32) -> None:
    """Antenna phasors of all terms over the run's next channels.

    Parameters
    ----------
    amplitude : (n_chan, n_src) float32
        Square roots of the apparent fluxes.
    terms : SmearingTerms
        The expansion.
    state : RunState
        Advanced by n_chan channels.
    out : (n_chan, n_ant, 2 * n_column) float32
        Real parts, then imaginary parts; a column is a (term, source) pair.
    """
    n_chan, n_ant, n_src = out.shape[0], out.shape[1], amplitude.shape[1]
    base_re, base_im = np.empty(n_src, np.float32), np.empty(n_src, np.float32)
    turned = np.empty(n_src, np.float32)
    # one store per loop: the compiler's run-time aliasing checks then let it vectorise
    for a in range(n_ant):
        re, im = state.phasor[a, 0], state.phasor[a, 1]
        step_re, step_im = state.step[a, 0], state.step[a, 1]
        for c in range(n_chan):
            strength = amplitude[c]
            _multiply(re, strength, base_re)
            _multiply(im, strength, base_im)
            for s in range(n_src):
                turned[s] = re[s] * step_re[s] - im[s] * step_im[s]
            for s in range(n_src):
                im[s] = re[s] * step_im[s] + im[s] * step_re[s]
            for s in range(n_src):
                re[s] = turned[s]
            _fill_columns(base_re, base_im, terms, (state.weight[a], state.slope[a]), out[c, a])


@numba.njit(nogil=True, cache=True)
def gather_baselines(
    products: tuple[Floats32, Floats32],
    places: npt.NDArray[np.uintp],
    sign: float,
    first_channel: int,
    out: npt.NDArray[np.complex64],
) -> None:
    """Add Re V_ij = real_ij and Im V_ij = cross_ij - cross_ji of a run of channels to the baselines.

    Parameters
    ----------
    products : two (n_chan, n * n) float32
        X X^T + Y Y^T and Y X^T of the antenna phasors X + iY.
    places : (n_pair, 3) unsigned int
        Elements ij and ji of the products, and the row of ``out``; unsigned, since an index that might be negative
        costs a branch.
    sign
        +1 or -1 (sources of negative flux).
    first_channel
        Place of the run in ``out``.
    out : (n_bl, n_all_chan) complex64
        Added to.

    Notes
    -----
    Tiles of baselines by channels: reading runs along antennas, writing along channels, both within cache lines.
    """
    real, cross = products
    n_chan = real.shape[0]
    factor = np.float32(sign)
    tile = np.empty((16, n_chan), np.complex64)
    for start in range(0, places.shape[0], 16):
        mine = places[start : start + 16]
        for c in range(n_chan):
            re, im = real[c], cross[c]
            for b in range(mine.shape[0]):
                ij, ji = mine[b, 0], mine[b, 1]
                tile[b, c] = complex(factor * re[ij], factor * (im[ij] - im[ji]))
        for b in range(mine.shape[0]):
            row = out[mine[b, 2], first_channel : first_channel + n_chan]
            for c in range(n_chan):
                row[c] += tile[b, c]


@numba.njit(nogil=True, cache=True, fastmath=True)
def predict_directly(
    phases: AntennaPhases,
    frequencies_hz: Floats64,
    flux_jy: Floats64,
    pairs: Ints,
    out: npt.NDArray[np.complex64],
) -> None:
    """Sum baseline by baseline, for sources smeared beyond the reach of the expansion.

    Adds sum_s S_s sinc(time) sinc(channel) exp(2 pi i f (delay_i - delay_j)) to ``out`` (n_bl, n_chan);
    ``flux_jy`` is (n_chan, n_src), ``pairs`` is (n_bl, 3): two antennas and the row of ``out``.
    """
    for b in range(pairs.shape[0]):
        i, j, row = pairs[b]
        for s in range(flux_jy.shape[1]):
            delay = phases.delay_s[i, s] - phases.delay_s[j, s]
            rate = np.float64(phases.time_rate[i, s]) - np.float64(phases.time_rate[j, s])
            turn = np.float64(phases.channel_turn[i, s]) - np.float64(phases.channel_turn[j, s])
            across = np.sin(turn) / turn if abs(turn) > 1e-9 else 1.0
            for c in range(frequencies_hz.shape[0]):
                z = rate * frequencies_hz[c]
                along = np.sin(z) / z if abs(z) > 1e-9 else 1.0
                turns = delay * frequencies_hz[c]
                angle = 2.0 * np.pi * (turns - np.round(turns))
                strength = flux_jy[c, s] * across * along
                out[row, c] += np.complex64(complex(strength * np.cos(angle), strength * np.sin(angle)))
