"""From true correlation matrices to raw data: gains, noise, autocorrelations and interference in one pass."""

from dataclasses import dataclass

import numba
import numpy as np
import numpy.typing as npt

from dsa110_assets.science.instrument_model import Instrument, thermal_sigma_jy
from dsa110_assets.science.simulation import Blocks, Complexes

Floats = npt.NDArray[np.float64]
Float32s = npt.NDArray[np.float32]


@numba.njit(nogil=True, cache=True, fastmath=True)
def _corrupt(  # type: ignore[no-untyped-def] # pragma: no cover
    core, far, pairs, sky_gain, noise_gain, loss, normal, levels, tone, response, out
):
    """Fill out[baseline, channel, pol]; ``levels`` is (sigma, SEFD) in Jy; ``pairs`` are antenna positions 1, 2."""
    n_core = core.shape[1]
    for b in range(out.shape[0]):
        first, second = pairs[b, 0], pairs[b, 1]
        same = first == second
        for f in range(out.shape[1]):
            if first >= n_core:
                true = far[f, first - n_core, second]
            elif second >= n_core:
                true = far[f, second - n_core, first].conjugate()
            else:
                true = core[f, first, second]
            for p in range(out.shape[2]):
                seen = true
                if tone[f] >= 0:
                    seen += response[tone[f], first, p].conjugate() * response[tone[f], second, p]
                gain = sky_gain[first, f, p].conjugate() * sky_gain[second, f, p] * loss[b, p]
                scale = noise_gain[first, f, p] * noise_gain[second, f, p]
                if same:
                    power = scale * (levels[1] + np.float32(1.41421356) * levels[0] * normal[b, f, p, 0])
                    out[b, f, p] = complex((gain * seen).real + power, np.float32(0.0))
                else:
                    noise = complex(normal[b, f, p, 0], normal[b, f, p, 1])
                    out[b, f, p] = gain * seen + scale * levels[0] * noise


@dataclass(frozen=True)
class Corruption:
    """Everything between the true correlations and the raw data that does not change within a group.

    Attributes
    ----------
    instrument
        Receptors, in correlator order.
    blocks
        Order of the antennas in the predicted matrices.
    pairs : (n_baseline, 2) int
        Positions of antennas 1 and 2 of each baseline in that order.
    loss : (n_baseline, 2) float32
        Decorrelation within a channel by the instrument's delays, sinc(D (tau_2 - tau_1)).
    levels : (2,) float32
        Thermal sigma and SEFD, Jy.
    """

    instrument: Instrument
    blocks: Blocks
    pairs: npt.NDArray[np.int64]
    loss: Float32s
    levels: Float32s

    def gains(self, mjd: float, frequency_hz: Floats) -> tuple[Complexes, Float32s]:
        """Sky gains (n_ant, n_chan, 2) and noise amplitudes of the same shape, in the blocks' order."""
        gains = self.instrument.gains(mjd, frequency_hz)[0]
        alive = ~self.instrument.dead[:, None, :]
        noise = np.abs(gains) * self.instrument.noise_scale[:, None, :]
        order = self.blocks.order
        return (gains * alive)[order].astype(np.complex64), noise[order].astype(np.float32)

    def apply(
        self,
        matrices: tuple[Complexes, Complexes],
        gains: tuple[Complexes, Float32s],
        tones: tuple[npt.NDArray[np.int64], Complexes],
        generator: np.random.Generator,
    ) -> Complexes:
        """Raw visibilities of one integration, shape (n_baseline, n_chan, 2).

        Parameters
        ----------
        matrices
            Core and far correlation matrices of :class:`VisibilityPredictor`, Jy.
        gains
            Of :meth:`gains`.
        tones
            Tone of each channel (-1: none), and responses (n_tone, n_ant, 2) in correlator order, sqrt(Jy).
        generator
            Of the thermal noise.
        """
        out = np.empty((len(self.pairs), matrices[0].shape[0], 2), dtype=np.complex64)
        if self.levels[0] > 0:
            normal = generator.standard_normal((*out.shape, 2), dtype=np.float32)
        else:
            normal = np.zeros((*out.shape, 2), dtype=np.float32)
        response = np.ascontiguousarray(tones[1][:, self.blocks.order])
        _corrupt(*matrices, self.pairs, *gains, self.loss, normal, self.levels, tones[0], response, out)
        return out


def build_corruption(
    instrument: Instrument,
    blocks: Blocks,
    baselines: tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]],
    *,
    sefd_jy: float,
    channel_width_hz: float,
    integration_s: float,
) -> Corruption:
    """Prepare the corruption of a group.

    Parameters
    ----------
    instrument
        Receptors, in correlator order.
    blocks
        Order of the predictor's matrices.
    baselines
        (antenna 1, antenna 2) as positions in correlator order, each (n_baseline,).
    sefd_jy, channel_width_hz, integration_s
        Set the thermal noise.
    """
    place = np.empty(len(blocks.order), dtype=np.int64)
    place[blocks.order] = np.arange(len(blocks.order))
    difference = instrument.delay_s[baselines[1]] - instrument.delay_s[baselines[0]]
    sigma = thermal_sigma_jy(sefd_jy, channel_width_hz, integration_s)
    return Corruption(
        instrument=instrument,
        blocks=blocks,
        pairs=np.stack([place[baselines[0]], place[baselines[1]]], axis=1),
        loss=np.sinc(channel_width_hz * difference).astype(np.float32),
        levels=np.array([sigma, sefd_jy], dtype=np.float32),
    )
