"""Residual images of a Measurement Set: catalogue subtracted, averaged and imaged in process.

The data are read once. What is kept is small (a full group: 170 MB of averaged residuals and as much of weights), so
that a corrected component list costs the prediction of its difference and one transform.
"""

import logging
import time
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from dsa110_assets.science.averaging import (
    AveragedVisibilities,
    average_block,
    average_frequencies,
    choose_channel_factor,
)
from dsa110_assets.science.components import Components, concatenate
from dsa110_assets.science.imaging import beam_radius_deg, make_dirty_image
from dsa110_assets.science.model import ModelPredictor
from dsa110_assets.science.residual import ResidualImage
from dsa110_assets.science.subband_readings import SubbandReadings, read_subbands
from dsa110_resources.errors import PermanentError
from dsa110_resources.imaging_options import ImagingOptions
from dsa110_resources.imaging_plan import ImagingPlan, build_plan
from dsa110_resources.measurement_set import Layout, has_column, iter_times, read_layout, require_consistent

Array = npt.NDArray[Any]

logger = logging.getLogger(__name__)

_HALF_POWER = 0.5


def subtract_lists(new: Components, old: Components) -> Components:
    """The component list whose visibilities are those of ``new`` minus those of ``old``.

    A source that differs in flux only appears once, with the difference; one that moved or changed its spectrum
    appears twice, with both signs; one that did not change not at all.
    """
    index = {name: k for k, name in enumerate(old.source_id.tolist())}
    partner = np.array([index.get(name, -1) for name in new.source_id.tolist()], dtype=np.int64)
    both = np.flatnonzero(partner >= 0)
    twins = partner[both]
    same = np.ones(len(both), dtype=np.bool_)
    for field in ("ra_deg", "dec_deg", "freq_ghz", "spectral_index"):
        same &= getattr(new, field)[both] == getattr(old, field)[twins]
    change = new.select(both[same]).with_flux(new.flux_jy[both[same]] - old.flux_jy[twins[same]])
    gone = np.setdiff1d(np.arange(len(old)), twins[same])
    removed = old.select(gone)
    added = new.select(np.setdiff1d(np.arange(len(new)), both[same]))
    return concatenate([change.select(change.flux_jy != 0), added, removed.with_flux(-removed.flux_jy)])


class ResidualImager:
    """Makes residual images of one Measurement Set, again and again with better component lists.

    Parameters
    ----------
    ms
        Measurement Set with CORRECTED_DATA.
    options
        Tier, weighting, sizes.
    """

    def __init__(self, ms: Path, options: ImagingOptions | None = None) -> None:
        self.ms = Path(ms)
        self.options = options or ImagingOptions()
        self.layout = read_layout(self.ms)
        self.seconds: dict[str, float] = {}
        self.flagged_fraction = float("nan")
        self._base: tuple[Components, AveragedVisibilities] | None = None
        self._cross = np.flatnonzero(np.asarray(self.layout.antenna1) != np.asarray(self.layout.antenna2))

    def image(self, components: Components) -> ResidualImage:
        """Dirty image of the data minus a component list.

        The first call reads the data and subtracts at full resolution; later ones subtract what changed from the
        averaged residuals.
        """
        averaged = self.residual_visibilities(components)
        plan = self.plan
        with self._timed("dirty"):
            image = make_dirty_image(
                averaged.visibilities.reshape(-1, len(averaged.frequencies_hz)),
                plan.weights,
                averaged.uvw_m.reshape(-1, 3),
                averaged.frequencies_hz,
                geometry=plan.geometry,
                accuracy=self.options.numbers.accuracy,
            )
        return ResidualImage(
            image=image,
            psf=plan.psf,
            noise_psf=plan.noise_psf,
            wcs=plan.geometry.wcs(),
            beam=plan.beam.triple,
            frequency_hz=plan.drift.effective_frequency_hz,
            primary_beam=plan.primary_beam,
            components=components,
            thermal_jyb=plan.thermal_jyb,
            plane=plan.plane,
        )

    def residual_visibilities(self, components: Components) -> AveragedVisibilities:
        """Averaged Stokes I visibilities minus a component list."""
        if self._base is None:
            with self._timed("subtract"):
                self._base = (components, self._read_and_subtract(components))
            return self._base[1]
        base, averaged = self._base
        change = subtract_lists(components, base)
        if not len(change):
            return averaged
        with self._timed("subtract_change"):
            return replace(averaged, visibilities=averaged.visibilities - self._predict_averaged(change, averaged))

    def read_subbands(self, components: Components, *, n_parts: int = 4) -> SubbandReadings:
        """Residuals at the components' positions in equal parts of the band, the components subtracted."""
        averaged, plan = self.residual_visibilities(components), self.plan
        with self._timed("subbands"):
            return read_subbands(
                averaged,
                plan.weights,
                plan.drift,
                geometry=plan.geometry,
                position_deg=(components.ra_deg, components.dec_deg),
                n_parts=n_parts,
            )

    def require_data(self, components: Components) -> None:
        """Read the data now, subtracting a component list at full resolution, unless they were read before."""
        if self._base is None:
            self.residual_visibilities(components)

    @property
    def averaged(self) -> AveragedVisibilities:
        """The averaged residuals of the first component list."""
        if self._base is None:
            raise PermanentError("no component list was subtracted yet", path=self.ms, cure="call image() first")
        return self._base[1]

    @property
    def channel_factor(self) -> int:
        """Channels averaged."""
        return len(self.layout.frequencies_hz) // len(self.averaged.frequencies_hz)

    @cached_property
    def plan(self) -> ImagingPlan:
        """Grid, weights, PSFs and primary beam: made once, for the flags and geometry of this Measurement Set."""
        with self._timed("psf"):
            return build_plan(self.averaged, self.layout, self.options)

    @contextmanager
    def _timed(self, step: str) -> Iterator[None]:
        start = time.perf_counter()
        yield
        self.seconds[step] = round(time.perf_counter() - start, 3)
        logger.debug("%s: %s took %.2f s", self.ms.name, step, self.seconds[step])

    def _read_and_subtract(self, components: Components) -> AveragedVisibilities:
        layout, cross = self.layout, self._cross
        require_consistent(self.ms)
        if not len(cross):
            raise PermanentError("no cross-correlations", path=self.ms, cure="convert the group again")
        columns = ["CORRECTED_DATA", "FLAG"]
        if not set(layout.polarizations) <= {"XX", "YY", "RR", "LL", "I"}:
            raise PermanentError(
                f"polarisations {layout.polarizations} are not all parallel hands",
                path=self.ms,
                cure="keep the parallel hands only",
            )
        if not has_column(self.ms, "CORRECTED_DATA"):
            raise PermanentError("CORRECTED_DATA is missing", path=self.ms, cure="apply calibration first")
        if has_column(self.ms, "WEIGHT_SPECTRUM"):
            columns.append("WEIGHT_SPECTRUM")
        factor = self._choose_factor()
        shape = (len(layout.times_mjd), len(cross), len(layout.frequencies_hz) // factor)
        work = _Averaging(
            predictor=_predictor(components, layout, cross) if len(components) else None,
            cross=cross,
            factor=factor,
            visibilities=np.empty(shape, np.complex64),
            weights=np.empty(shape, np.float32),
            good=np.zeros(len(layout.frequencies_hz)),
        )
        n_samples = self._run(work, columns)
        total = float(work.weights.sum(dtype=np.float64))
        n_all = shape[0] * shape[1] * len(layout.frequencies_hz) * len(layout.polarizations)
        self.flagged_fraction = 1.0 - n_samples / n_all
        return AveragedVisibilities(
            visibilities=work.visibilities,
            weights=work.weights,
            uvw_m=np.nan_to_num(layout.uvw_m[:, cross]),  # NaN marks missing rows, which have no weight
            frequencies_hz=average_frequencies(layout.frequencies_hz, factor, good=work.good),
            channel_width_hz=factor * layout.channel_width_hz,
            interval_s=layout.interval_s,
            sample_weight=total / max(n_samples, 1),
            sample_width_hz=layout.channel_width_hz,
        )

    def _run(self, work: "_Averaging", columns: list[str]) -> int:
        """Read in this thread while another subtracts and averages; returns the number of samples used."""
        done: list[Future[int]] = []
        with ThreadPoolExecutor(1) as pool:
            for times, block in iter_times(self.layout, columns, block=4):
                if len(done) > 1:
                    done[-2].result()  # at most two blocks in memory
                done.append(pool.submit(work.process, times, block))
            return sum(future.result() for future in done)

    def _choose_factor(self) -> int:
        layout = self.layout
        if self.options.channel_factor is not None:
            if len(layout.frequencies_hz) % self.options.channel_factor:
                raise PermanentError(
                    f"{len(layout.frequencies_hz)} channels cannot be averaged by {self.options.channel_factor}",
                    path=self.ms,
                    cure="choose a channel_factor that divides them",
                )
            return self.options.channel_factor
        longest = float(np.linalg.norm(layout.uvw_m[:, self._cross], axis=-1).max())
        return choose_channel_factor(
            len(layout.frequencies_hz),
            layout.channel_width_hz,
            longest_baseline_m=longest,
            offset_rad=np.radians(beam_radius_deg(_HALF_POWER, float(layout.frequencies_hz.mean()))),
            max_loss=self.options.numbers.max_smearing,
        )

    def _predict_averaged(self, change: Components, averaged: AveragedVisibilities) -> npt.NDArray[np.complex64]:
        return _predictor(
            change,
            self.layout,
            self._cross,
            frequencies_hz=averaged.frequencies_hz,
            channel_width_hz=averaged.channel_width_hz,
        ).predict(slice(None), slice(None))


@dataclass
class _Averaging:
    """The work on one block of integrations, into arrays that all blocks share."""

    predictor: ModelPredictor | None
    cross: npt.NDArray[np.intp]
    factor: int
    visibilities: npt.NDArray[np.complex64]
    weights: npt.NDArray[np.float32]
    good: npt.NDArray[np.float64]

    def process(self, times: slice, block: dict[str, Array]) -> int:
        flags = block["FLAG"]
        self.visibilities[times], self.weights[times], n_samples = average_block(
            block["CORRECTED_DATA"],
            flags,
            factor=self.factor,
            baselines=self.cross,
            sample_weights=block.get("WEIGHT_SPECTRUM"),
            model=None if self.predictor is None else self.predictor.predict(times, slice(None)),
        )
        self.good += np.count_nonzero(~flags, axis=(0, 1, 3))
        return n_samples


def _predictor(
    components: Components,
    layout: Layout,
    cross: npt.NDArray[np.intp],
    *,
    frequencies_hz: npt.NDArray[np.float64] | None = None,
    channel_width_hz: float | None = None,
) -> ModelPredictor:
    uvw = layout.uvw_m[:, cross]
    return ModelPredictor(
        components,
        antenna_positions_itrf_m=layout.antenna_positions_itrf_m,
        antenna1=np.asarray(layout.antenna1)[cross],
        antenna2=np.asarray(layout.antenna2)[cross],
        times_mjd=layout.times_mjd,
        frequencies_hz=layout.frequencies_hz if frequencies_hz is None else frequencies_hz,
        channel_width_hz=channel_width_hz or layout.channel_width_hz,
        interval_s=layout.interval_s,
        phase_center_deg=layout.phase_center_deg,
        dec_app_deg=layout.dec_app_deg,
        uvw_m=uvw if np.isfinite(uvw).all() else None,
    )


def residual_image(ms: Path, components: Components, *, options: ImagingOptions | None = None) -> ResidualImage:
    """Residual image of a Measurement Set, once; use `ResidualImager` to iterate."""
    return ResidualImager(ms, options).image(components)
