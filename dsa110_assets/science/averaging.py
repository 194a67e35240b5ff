"""From calibrated visibilities to what is imaged: Stokes I, model subtracted, channels averaged, in one pass."""

from dataclasses import dataclass

import numba
import numpy as np
import numpy.typing as npt

from dsa110_assets.science.beam import SPEED_OF_LIGHT_M_S
from dsa110_assets.science.errors import ShapeError
from dsa110_assets.science.instrument import SEFD_JY

CHANNEL_FACTORS = (16, 12, 8, 6, 4, 3, 2)
"""Numbers of channels that may be averaged, in the order they are tried."""


@dataclass(frozen=True)
class AveragedVisibilities:
    """Stokes I visibilities ready to be gridded.

    Attributes
    ----------
    visibilities : (n_time, n_baseline, n_channel) complex64
        Jy; 0 where nothing is left.
    weights : same shape, float32
        Sums of the weights of the samples averaged; 0 where all were flagged.
    uvw_m : (n_time, n_baseline, 3) float64
        Measurement Set convention: V = exp(+2 pi i uvw . s / lambda).
    frequencies_hz : (n_channel,) float64
        Weighted mean frequency of each averaged channel, ascending.
    channel_width_hz
        Width of an averaged channel, Hz.
    interval_s
        Integration time, s.
    sample_weight
        Mean weight of one unflagged input sample (one polarisation, one channel, one integration).
    sample_width_hz
        Width of one input channel, Hz.
    """

    visibilities: npt.NDArray[np.complex64]
    weights: npt.NDArray[np.float32]
    uvw_m: npt.NDArray[np.float64]
    frequencies_hz: npt.NDArray[np.float64]
    channel_width_hz: float
    interval_s: float
    sample_weight: float = 1.0
    sample_width_hz: float = 0.0

    def __post_init__(self) -> None:
        shape = self.visibilities.shape
        expected = ((*self.uvw_m.shape[:2], len(self.frequencies_hz)), shape)
        if self.weights.shape != shape or expected[0] != shape:
            raise ShapeError(f"visibilities {shape}, weights {self.weights.shape}, uvw and channels {expected[0]}")

    @property
    def sample_sigma_jy(self) -> float:
        """Thermal noise (real or imaginary part) of one input sample: SEFD / sqrt(2 bandwidth time), Jy."""
        return float(SEFD_JY / np.sqrt(2.0 * (self.sample_width_hz or self.channel_width_hz) * self.interval_s))


def smearing_loss(baseline_m: float, offset_rad: float, channel_width_hz: float) -> float:
    """Amplitude lost by averaging a channel: 1 - sinc(width * delay), delay = baseline * sin(offset) / c.

    Thompson, Moran & Swenson 2017, eq. 6.75 (rectangular band).
    """
    return float(1.0 - np.sinc(channel_width_hz * baseline_m * np.sin(offset_rad) / SPEED_OF_LIGHT_M_S))


def choose_channel_factor(
    n_channels: int, channel_width_hz: float, *, longest_baseline_m: float, offset_rad: float, max_loss: float
) -> int:
    """How many channels may be averaged before the longest baseline loses too much at an offset.

    Parameters
    ----------
    n_channels, channel_width_hz
        Input channels and their width, Hz.
    longest_baseline_m, offset_rad
        Where the loss is judged: normally the half-power radius of the primary beam.
    max_loss
        Greatest amplitude loss allowed there (0-1).

    Returns
    -------
    int
        1 or one of :data:`CHANNEL_FACTORS` that divides ``n_channels``.
    """
    for factor in CHANNEL_FACTORS:
        loss = smearing_loss(longest_baseline_m, offset_rad, factor * channel_width_hz)
        if n_channels % factor == 0 and loss <= max_loss:
            return factor
    return 1


@numba.njit(parallel=True, cache=True, nogil=True)
def _accumulate(data, flags, baselines, sample_weights, model, factor, visibilities, weights, count):  # type: ignore[no-untyped-def]  # pragma: no cover
    _, _, n_channel, n_pol = data.shape
    n_time, n_baseline, _ = visibilities.shape
    weighted, modelled = sample_weights.size > 0, model.size > 0
    for row in numba.prange(n_time * n_baseline):
        t, b = row // n_baseline, row % n_baseline
        source = baselines[b]
        samples = 0
        for out in range(n_channel // factor):
            total, weight_sum = 0.0 + 0.0j, 0.0
            for c in range(out * factor, (out + 1) * factor):
                for p in range(n_pol):
                    value = data[t, source, c, p]
                    weight = sample_weights[t, source, c, p] if weighted else 1.0
                    if flags[t, source, c, p] or not (weight > 0.0) or not np.isfinite(value.real + value.imag):
                        continue
                    if modelled:
                        value -= model[t, b, c]
                    total += weight * value
                    weight_sum += weight
                    samples += 1
            visibilities[t, b, out] = total / weight_sum if weight_sum > 0.0 else 0.0
            weights[t, b, out] = weight_sum
        count[row] = samples


def average_block(
    data: npt.NDArray[np.complex64],
    flags: npt.NDArray[np.bool_],
    *,
    factor: int,
    baselines: npt.NDArray[np.intp] | None = None,
    sample_weights: npt.NDArray[np.float32] | None = None,
    model: npt.NDArray[np.complex64] | None = None,
) -> tuple[npt.NDArray[np.complex64], npt.NDArray[np.float32], int]:
    """Subtract a model, combine the polarisations to Stokes I and average channels.

    I = sum w (V - M) / sum w over unflagged, finite samples of both parallel hands and ``factor`` channels.

    Parameters
    ----------
    data, flags : (n_time, n_baseline, n_channel, n_pol)
        Jy, True = bad.
    factor
        Channels averaged; must divide n_channel.
    baselines : (n_out,) int, optional
        Baselines to use, in order of output; None: all.
    sample_weights : same shape, optional
        None: 1 for every sample.
    model : (n_time, n_out, n_channel), optional
        Stokes I model of each parallel hand, Jy.

    Returns
    -------
    visibilities, weights : (n_time, n_out, n_channel // factor)
        Jy, and the sum of the weights.
    n_samples
        Samples used.
    """
    n_time, n_all, n_channel, _ = data.shape
    rows = np.arange(n_all) if baselines is None else baselines
    if n_channel % factor:
        raise ShapeError(f"{n_channel} channels cannot be averaged by {factor}")
    shape = (n_time, len(rows), n_channel // factor)
    if model is not None and model.shape != (*shape[:2], n_channel):
        raise ShapeError(f"model has shape {model.shape}, expected {(*shape[:2], n_channel)}")
    visibilities, weights = np.empty(shape, np.complex64), np.empty(shape, np.float32)
    count = np.zeros(n_time * len(rows), np.int64)
    no_weights, no_model = np.empty((0, 0, 0, 0), np.float32), np.empty((0, 0, 0), np.complex64)
    _accumulate(
        data,
        flags,
        rows,
        no_weights if sample_weights is None else sample_weights,
        no_model if model is None else model,
        factor,
        visibilities,
        weights,
        count,
    )
    return visibilities, weights, int(count.sum())


def average_frequencies(
    frequencies_hz: npt.NDArray[np.float64], factor: int, *, good: npt.NDArray[np.float64] | None = None
) -> npt.NDArray[np.float64]:
    """Mean frequency of each group of ``factor`` channels, weighted by how much of each channel is good."""
    grouped = frequencies_hz.reshape(-1, factor)
    if good is None:
        return np.asarray(grouped.mean(axis=1))
    weight = good.reshape(-1, factor)
    total = weight.sum(axis=1)
    weighted = (grouped * weight).sum(axis=1) / np.where(total > 0, total, 1.0)
    return np.asarray(np.where(total > 0, weighted, grouped.mean(axis=1)))
