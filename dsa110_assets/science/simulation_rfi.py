"""Interference: narrow-band tones that every dish picks up, and weak ones that only a few baselines see."""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from dsa110_assets.science.wander import seeded_generator

Floats = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Tone:
    """A transmitter.

    Attributes
    ----------
    frequency_hz, width_hz
        Centre and full width, Hz.
    amplitude_jy
        Correlated flux density on a typical baseline where the tone fills the channel, Jy.
    duty
        Fraction of the groups in which it transmits at all.
    burst
        Fraction of a group that it lasts then.
    """

    frequency_hz: float
    width_hz: float
    amplitude_jy: float
    duty: float = 1.0
    burst: float = 1.0


TONES = (
    Tone(1381.05e6, 1.2e6, 60.0, burst=0.35),  # GPS L3, dominant with wings (waterfall of 2025-02)
    Tone(1343.2e6, 0.2e6, 12.0),
    Tone(1347.6e6, 0.2e6, 25.0, duty=0.7, burst=0.6),
    Tone(1404.3e6, 0.2e6, 9.0),
    Tone(1450.1e6, 0.2e6, 150.0, duty=0.5, burst=0.2),
    Tone(1466.4e6, 0.4e6, 15.0),
)
"""Lines of the site (TELESCOPE.md 3.7), amplitudes chosen to be visible in one integration."""
LOCAL_AMPLITUDE_JY = 30.0
"""Of a baseline-local tone: about 10 sigma on its own baseline in one full-array sample, invisible in an array mean."""
N_LOCAL = 6


@dataclass(frozen=True)
class Interference:
    """All RFI of one group.

    Attributes
    ----------
    channel : (n_tone,) int
        Channel of each array-wide tone, counted from the top of the band (descending frequency).
    amplitude_jy : (n_tone,) float
        Jy in that channel.
    on : (n_tone, n_time) bool
        When it transmits.
    local_baseline, local_channel : (n_local,) int
        Row of the baseline within an integration, and channel, of each local tone.
    local_amplitude_jy : (n_local,) float
        Jy.
    """

    channel: npt.NDArray[np.int64]
    amplitude_jy: Floats
    on: npt.NDArray[np.bool_]
    local_baseline: npt.NDArray[np.int64]
    local_channel: npt.NDArray[np.int64]
    local_amplitude_jy: Floats

    def array_responses(self, time: int, n_antennas: int, generator: np.random.Generator) -> npt.NDArray[np.complex64]:
        """Voltage responses r (n_tone, n_ant, 2), sqrt(Jy): V = conj(r_1) r_2, zero while the tone is off.

        Satellites drift through the far sidelobes and are not fringe-stopped: phases are random per integration.
        """
        shape = (len(self.channel), n_antennas, 2)
        amplitude = np.sqrt(self.amplitude_jy * self.on[:, time])[:, None, None] * np.exp(
            0.4 * generator.standard_normal(shape)
        )
        return np.asarray(amplitude * np.exp(2j * np.pi * generator.random(shape)), dtype=np.complex64)

    def channel_index(self, first: int, n_channels: int) -> npt.NDArray[np.int64]:
        """Tone in each of a subband's channels, -1 where there is none (the strongest where two meet)."""
        index = np.full(n_channels, -1, dtype=np.int64)
        for tone in np.argsort(self.amplitude_jy):
            if first <= self.channel[tone] < first + n_channels:
                index[self.channel[tone] - first] = tone
        return index


def draw_interference(
    frequencies_hz: Floats, n_times: int, n_baselines: int, *, scale: float, seed: int, group: int
) -> Interference:
    """RFI of one group.

    Parameters
    ----------
    frequencies_hz : (n_chan,) float
        All channels of the band, descending, evenly spaced.
    n_times, n_baselines
        Integrations, and baselines of an integration.
    scale
        Multiplies the amplitudes; 0: none.
    seed
        Of the campaign.
    group
        Number that tells groups apart.
    """
    generator = seeded_generator(seed, "rfi", group)
    width = abs(float(frequencies_hz[1] - frequencies_hz[0]))
    channel, amplitude, on = [], [], []
    for tone in TONES:
        transmits = generator.random() < tone.duty
        first = int(generator.integers(0, max(1, round(n_times * (1.0 - tone.burst)) + 1)))
        times = np.zeros(n_times, dtype=bool)
        times[first : first + max(1, round(n_times * tone.burst))] = transmits
        overlap = np.minimum(frequencies_hz + width / 2, tone.frequency_hz + tone.width_hz / 2)
        overlap = overlap - np.maximum(frequencies_hz - width / 2, tone.frequency_hz - tone.width_hz / 2)
        for c in np.flatnonzero(overlap > 0.05 * width):
            channel.append(int(c))
            amplitude.append(scale * tone.amplitude_jy * float(overlap[c]) / width)
            on.append(times)
    n_local = N_LOCAL if scale > 0 else 0
    return Interference(
        channel=np.array(channel, dtype=np.int64),
        amplitude_jy=np.array(amplitude),
        on=np.array(on, dtype=bool).reshape(-1, n_times) & (scale > 0),
        local_baseline=generator.integers(0, n_baselines, n_local),
        local_channel=generator.integers(0, len(frequencies_hz), n_local),
        local_amplitude_jy=np.full(n_local, scale * LOCAL_AMPLITUDE_JY * np.sqrt(244140.625 / width)),
    )
