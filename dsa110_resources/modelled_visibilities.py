"""Visibilities of a Measurement Set together with their predicted model, streamed once."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from dsa110_assets.science.block_averaging import average_times, average_visibilities, group_channels
from dsa110_assets.science.components import Components
from dsa110_assets.science.gain_options import BandpassOptions, GainOptions
from dsa110_assets.science.gains import GainTable, Kind
from dsa110_assets.science.model import Beam, ModelPredictor
from dsa110_assets.science.uvrange import select_baselines
from dsa110_resources.errors import PermanentError
from dsa110_resources.measurement_set import Layout, iter_times

Complex64s = npt.NDArray[np.complex64]
Flags = npt.NDArray[np.bool_]
Solved = tuple[npt.NDArray[Any], Flags, npt.NDArray[Any]]


@dataclass(frozen=True)
class Interval:
    """Consecutive integrations with their model."""

    times_mjd: npt.NDArray[np.float64]
    data: Complex64s
    flags: Flags
    model: Complex64s


class ModelledVisibilities:
    """DATA of a Measurement Set with its predicted model, in intervals, read once.

    Parameters
    ----------
    layout
        Of the Measurement Set.
    components
        Sky model.
    options
        Baselines, averaging and block length.
    beam
        Primary beam of the model.
    """

    def __init__(
        self, layout: Layout, components: Components, options: BandpassOptions | GainOptions, beam: Beam | None
    ) -> None:
        self.layout = layout
        self._averaging = options.averaging
        self._block = options.block_integrations
        self._keep = self._choose_baselines(options.uvrange)
        ends = [a if self._keep is None else a[self._keep] for a in (layout.antenna1, layout.antenna2)]
        self.antenna_rows = np.union1d(*ends)
        index = np.zeros(len(layout.antenna_names), np.int64)
        index[self.antenna_rows] = np.arange(len(self.antenna_rows))
        self.antennas = (index[ends[0]], index[ends[1]])
        self.names = tuple(layout.antenna_names[i] for i in self.antenna_rows)
        self.positions_m = layout.antenna_positions_itrf_m[self.antenna_rows]
        uvw = layout.uvw_m if self._keep is None else layout.uvw_m[:, self._keep]
        factor = self._averaging[1]
        n_channel = group_channels(layout.n_channels, factor)
        self.frequencies_hz = layout.frequencies_hz.reshape(n_channel, factor).mean(axis=1)
        self._predictor = ModelPredictor(
            components,
            antenna_positions_itrf_m=self.positions_m,
            antenna1=self.antennas[0],
            antenna2=self.antennas[1],
            times_mjd=layout.times_mjd,
            frequencies_hz=self.frequencies_hz,
            channel_width_hz=layout.channel_width_hz * factor,
            interval_s=layout.interval_s,
            phase_center_deg=layout.phase_center_deg,
            dec_app_deg=layout.dec_app_deg,
            beam=beam,
            uvw_m=uvw if np.isfinite(uvw).all() else None,
        )

    def intervals(self, length_s: float | None) -> Iterator[Interval]:
        """Intervals of a length in seconds (None: as the blocks come)."""
        n = self._block if length_s is None else max(1, round(length_s / self.layout.interval_s))
        n = max(n, self._averaging[0])
        block = n * max(1, self._block // n)
        for times, columns in iter_times(self.layout, ("DATA", "FLAG"), block=block):
            model = self._predictor.predict(times, slice(None))
            for start in range(0, times.stop - times.start, n):
                part = slice(start, min(start + n, times.stop - times.start))
                yield self._average(times.start, part, columns["DATA"][part], columns["FLAG"][part], model[part])

    def make_table(
        self, kind: Kind, solution: Solved, *, times_mjd: npt.NDArray[np.float64], interval_s: float, refant: str
    ) -> GainTable:
        """Gain table of the antennas with data.

        Parameters
        ----------
        kind
            ``K``, ``B`` or ``G``.
        solution
            Gains, flags and SNR, each (n_time, n_ant, n_chan, n_pol); one channel spans the band, else they are the
            channels of the data.
        """
        layout = self.layout
        frequencies, widths = layout.frequencies_hz, np.full(layout.n_channels, layout.channel_width_hz)
        if solution[0].shape[2] == 1:
            frequencies, widths = np.array([frequencies.mean()]), np.array([widths.sum()])
        return GainTable(
            kind=kind,
            gains=np.asarray(solution[0], dtype=np.complex128),
            flags=solution[1],
            snr=np.asarray(solution[2], dtype=np.float64),
            times_mjd=times_mjd,
            interval_s=interval_s,
            frequencies_hz=frequencies,
            channel_widths_hz=widths,
            antenna_names=self.names,
            antenna_positions_m=self.positions_m,
            refant=refant,
            phase_center_deg=layout.phase_center_deg,
            n_observed=len(layout.antennas_with_data),
        )

    def _average(self, first: int, part: slice, data: Complex64s, flags: Flags, model: Complex64s) -> Interval:
        mjd = self.layout.times_mjd[first + part.start : first + part.stop]
        if self._keep is not None:
            data, flags = data[:, self._keep], flags[:, self._keep]
        if self._averaging == (1, 1):
            return Interval(mjd, data, flags, model)
        data, flags = average_visibilities(data, flags, self._averaging)
        return Interval(mjd, data, flags, average_times(model, self._averaging[0]))

    def _choose_baselines(self, uvrange: str) -> Flags | None:
        if not uvrange.strip():
            return None
        layout = self.layout
        middle = float(np.mean(layout.frequencies_hz))
        uvw = np.nanmedian(layout.uvw_m, axis=0)
        keep = select_baselines(uvrange, uvw, middle) & ~layout.autocorrelations
        if not keep.any():
            raise PermanentError(f"uvrange {uvrange!r} leaves no baseline", path=layout.path, cure="widen uvrange")
        return keep
