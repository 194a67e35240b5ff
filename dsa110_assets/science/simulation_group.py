"""One group as the telescope records it: raw visibilities, subband by subband, and what is true of it."""

from collections.abc import Callable
from concurrent.futures import Executor
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import numpy.typing as npt

from dsa110_assets.science.beam import airy_power
from dsa110_assets.science.geometry import icrs_to_itrs, meridian_direction
from dsa110_assets.science.instrument import INTEGRATION_S, N_SUBBANDS, REFERENCE_FREQUENCY_HZ
from dsa110_assets.science.instrument_model import Instrument
from dsa110_assets.science.simulation import SkyField, VisibilityPredictor
from dsa110_assets.science.simulation_campaign import Campaign
from dsa110_assets.science.simulation_corruption import Corruption, build_corruption
from dsa110_assets.science.simulation_rfi import Interference, draw_interference
from dsa110_assets.science.simulation_schedule import MJD_ZERO_JD, PlannedGroup
from dsa110_assets.science.wander import seeded_generator

Floats = npt.NDArray[np.float64]

MIN_APPARENT_JY = 5e-5
"""Sources that never reach this through the beam are left out of a group (a quarter of the thermal noise of a tile)."""
BEAM_SEARCH_DEG = 8.0


def widened_airy(width_factor: float) -> Callable[[Floats, Floats], Floats]:
    """The primary beam that is really there: wider than the modelled one by a factor."""
    from dsa110_assets.science.instrument import DISH_DIAMETER_M

    def power(separation_rad: Floats, frequency_hz: Floats) -> Floats:
        return airy_power(separation_rad, frequency_hz, diameter_m=DISH_DIAMETER_M / width_factor)

    return power


@dataclass(frozen=True)
class GroupSimulator:
    """Raw data of one group.

    Attributes
    ----------
    campaign
        What is simulated.
    planned
        When, and where the telescope looks.
    instrument
        Receptors as they are during this group (faults included), in correlator order.
    """

    campaign: Campaign
    planned: PlannedGroup
    instrument: Instrument

    @cached_property
    def frequencies_hz(self) -> Floats:
        """All channels of the band, descending, Hz, shape (16 n_channels,)."""
        return np.concatenate([self.campaign.array.frequencies_hz(s) for s in range(N_SUBBANDS)])

    @cached_property
    def beam(self) -> Callable[[Floats, Floats], Floats]:
        """The true primary beam (separation in radians, frequency in Hz)."""
        return widened_airy(self.campaign.options.instrument.beam_width_factor)

    @cached_property
    def sources(self) -> npt.NDArray[np.int64]:
        """Indices of the sky's sources that this group sees."""
        components = self.campaign.sky.components
        chord = np.linalg.norm(self._all_directions - meridian_direction(self.planned.pointing_dec_rad), axis=-1)
        separation = 2.0 * np.arcsin(np.minimum(1.0, chord / 2.0))
        low = self.beam(separation, np.array(self.frequencies_hz[-1]))
        high = self.beam(separation, np.array(self.frequencies_hz[0]))
        apparent = np.maximum(low, high).max(axis=0) * components.flux_jy
        near = separation.min(axis=0) < np.radians(BEAM_SEARCH_DEG)
        return np.flatnonzero(near & (apparent > MIN_APPARENT_JY))

    @cached_property
    def _all_directions(self) -> Floats:
        components = self.campaign.sky.components
        return icrs_to_itrs(components.ra_deg, components.dec_deg, self.planned.times_jd)

    @cached_property
    def separation_rad(self) -> Floats:
        """Angle of the group's sources from the pointing, shape (n_time, n_source), radians."""
        pointing = meridian_direction(self.planned.pointing_dec_rad)
        chord = np.linalg.norm(self._all_directions[:, self.sources] - pointing, axis=-1)
        return np.asarray(2.0 * np.arcsin(np.minimum(1.0, chord / 2.0)))

    @cached_property
    def flux_jy(self) -> Floats:
        """Flux densities of the group's sources on its date, shape (n_source, n_chan), Jy."""
        return self.campaign.sky.flux_jy(self.frequencies_hz, self.planned.mid_mjd)[self.sources]

    def mean_beam(self) -> Floats:
        """Drift-averaged primary beam at the reference frequency, shape (n_source,)."""
        return np.asarray(self.beam(self.separation_rad, np.array(REFERENCE_FREQUENCY_HZ)).mean(axis=0))

    @cached_property
    def interference(self) -> Interference:
        """RFI of this group."""
        options = self.campaign.options
        n_antennas = len(self.campaign.array.antenna_order)
        return draw_interference(
            self.frequencies_hz,
            len(self.planned.times_jd),
            n_antennas * (n_antennas + 1) // 2,
            scale=options.instrument.rfi_scale * options.instrument.rfi,
            seed=options.seed,
            group=self._tick,
        )

    @property
    def _tick(self) -> int:
        """A number that tells this group from every other: seconds since MJD 0."""
        return round((float(self.planned.times_jd[0]) - MJD_ZERO_JD) * 86400.0)

    @cached_property
    def _predictor(self) -> VisibilityPredictor:
        array = self.campaign.array
        field = SkyField(
            directions_itrs=self._all_directions[:, self.sources],
            phase_centre_itrs=meridian_direction(self.planned.phase_dec_rad),
            beam_centre_itrs=meridian_direction(self.planned.pointing_dec_rad),
            beam=self.beam,
        )
        return VisibilityPredictor(
            array.antenna_positions_m[array.antenna_order],
            field,
            highest_frequency_hz=float(self.frequencies_hz[0]),
            channel_width_hz=array.channel_width_hz,
        )

    @cached_property
    def _corruption(self) -> Corruption:
        array = self.campaign.array
        second, first = np.tril_indices(len(array.antenna_order))
        return build_corruption(
            self.instrument,
            self._predictor.blocks,
            (first, second),
            sefd_jy=self.campaign.options.instrument.sefd_jy,
            channel_width_hz=array.channel_width_hz,
            integration_s=INTEGRATION_S,
        )

    def prepare(self) -> None:
        """Compute what all subbands share, before threads ask for it."""
        _ = (self.flux_jy, self._corruption, self.interference)

    def visibilities(self, subband: int, executor: Executor) -> npt.NDArray[np.complex64]:
        """Raw data of one subband, shape (n_time, n_baseline, n_chan, 2).

        Parameters
        ----------
        subband
            0 (highest frequencies) to 15.
        executor
            Threads to spread the integrations over.
        """
        self.prepare()
        array, n_times = self.campaign.array, len(self.planned.times_jd)
        n_baselines = len(self._corruption.pairs)
        out = np.empty((n_times, n_baselines, array.n_channels, 2), dtype=np.complex64)

        def fill(time: int) -> None:
            out[time] = self._integration(time, subband)

        list(executor.map(fill, range(n_times)))
        return out

    def _integration(self, time: int, subband: int) -> npt.NDArray[np.complex64]:
        n_channels = self.campaign.array.n_channels
        first = subband * n_channels
        frequency = self.frequencies_hz[first : first + n_channels]
        matrices = self._predictor.predict(time, frequency, self.flux_jy[:, first : first + n_channels])
        gains = self._corruption.gains(float(self.planned.times_jd[time]) - MJD_ZERO_JD, frequency)
        seed = self.campaign.options.seed
        responses = self.interference.array_responses(
            time, len(self.instrument.stations), seeded_generator(seed, "rfi phases", self._tick, time)
        )
        tones = (self.interference.channel_index(first, n_channels), responses)
        noise = seeded_generator(seed, "noise", self._tick, subband, time)
        out = self._corruption.apply(matrices, gains, tones, noise)
        self._add_local_interference(out, first, gains[0], time)
        return out

    def _add_local_interference(
        self, out: npt.NDArray[np.complex64], first: int, gains: npt.NDArray[np.complex64], time: int
    ) -> None:
        """Weak tones on single baselines, during the middle half of the group."""
        n_times, rfi = len(self.planned.times_jd), self.interference
        if not n_times // 4 <= time < n_times - n_times // 4:
            return
        inside = (rfi.local_channel >= first) & (rfi.local_channel < first + out.shape[1])
        for row in np.flatnonzero(inside):
            baseline, channel = rfi.local_baseline[row], rfi.local_channel[row] - first
            one, two = self._corruption.pairs[baseline]
            if one == two:
                continue
            gain = np.conj(gains[one, channel]) * gains[two, channel]
            out[baseline, channel] += gain * rfi.local_amplitude_jy[row]
