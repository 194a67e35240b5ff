"""Prediction of a whole full-array group beside ducc0's degridder, in one run."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import ducc0
import numpy as np

from dsa110_assets.science import geometry
from dsa110_assets.science.components import Components
from dsa110_assets.science.instrument import INTEGRATION_S, TELESCOPE_ITRF_M, array_configuration
from dsa110_assets.science.model import ModelPredictor

N_SOURCES = 201
DEC_APP_DEG = 16.27
START_MJD = 61065.934
LIMIT_S = 12.0


def run(data_dir: Path) -> list[dict[str, Any]]:
    """Seconds for 4560 baselines x 24 integrations x 768 channels x 201 sources, beam and smearing included."""
    predictor, components, centre = prepare()
    out = np.empty((1, *predictor.predict(slice(0, 1)).shape[1:]), np.complex64)
    started, cpu = time.perf_counter(), time.process_time()
    for t in range(len(predictor.times_mjd)):
        predictor.predict(slice(t, t + 1), out=out)
    ours, ours_cpu = time.perf_counter() - started, time.process_time() - cpu
    peer = degrid_subband(predictor, components, centre) * 16
    return [
        {
            "stage": "predict 201 components",
            "ours_s": ours,
            "peer": "ducc0 dirty2vis",
            "peer_s": peer,
            "ratio": peer / ours,
            "limit_s": LIMIT_S,
            "note": f"{ours_cpu:.1f} CPU-s with drifting beam and smearing; peer: one subband times 16, sources on "
            "pixels, neither beam nor smearing",
        }
    ]


def prepare() -> tuple[ModelPredictor, Components, tuple[float, float]]:
    """Predictor of the full array's cross-correlations for a random field."""
    array = array_configuration("full")
    order = array.antenna_order
    second, first = np.tril_indices(len(order), -1)
    times = START_MJD + np.arange(array.n_integrations) * INTEGRATION_S / 86400.0
    ra, dec = geometry.meridian_icrs(np.radians(DEC_APP_DEG), np.array([times.mean() + 2400000.5]))
    centre = float(ra[0]), float(dec[0])
    generator = np.random.default_rng(1)
    radius, angle = 1.5 * np.sqrt(generator.random(N_SOURCES)), 2 * np.pi * generator.random(N_SOURCES)
    components = Components(
        np.array([f"s{k}" for k in range(N_SOURCES)]),
        centre[0] + radius * np.sin(angle) / np.cos(np.radians(centre[1])),
        centre[1] + radius * np.cos(angle),
        0.01 + generator.exponential(0.1, N_SOURCES),
        np.full(N_SOURCES, 1.4),
        np.full(N_SOURCES, -0.7),
    )
    frequencies = np.sort(np.concatenate([array.frequencies_hz(k) for k in range(16)]))
    predictor = ModelPredictor(
        components,
        antenna_positions_itrf_m=TELESCOPE_ITRF_M + array.antenna_positions_m[order],
        antenna1=first,
        antenna2=second,
        times_mjd=times,
        frequencies_hz=frequencies,
        channel_width_hz=array.channel_width_hz,
        interval_s=INTEGRATION_S,
        phase_center_deg=centre,
        dec_app_deg=DEC_APP_DEG,
    )
    return predictor, components, centre


def degrid_subband(predictor: ModelPredictor, components: Components, centre: tuple[float, float]) -> float:
    """Seconds of ducc0 for all baselines and integrations of 48 channels, sources snapped to 3 arcsec pixels."""
    array = array_configuration("full")
    positions = array.antenna_positions_m[array.antenna_order]
    second, first = np.tril_indices(len(positions), -1)
    axes = geometry.uvw_axes(*centre, predictor.times_mjd + 2400000.5)
    uvw = np.einsum("tij,bj->tbi", axes, positions[first] - positions[second]).reshape(-1, 3)
    l_cosine, m_cosine, _ = geometry.direction_cosines(components.ra_deg, components.dec_deg, *centre)
    n_pixel, cell = 4320, np.radians(3.0 / 3600.0)
    sky = np.zeros((n_pixel, n_pixel), np.float32)
    x, y = (np.rint(v / cell).astype(int) + n_pixel // 2 for v in (l_cosine, m_cosine))
    inside = (np.abs(x - n_pixel // 2) < n_pixel // 2) & (np.abs(y - n_pixel // 2) < n_pixel // 2)
    np.add.at(sky, (x[inside], y[inside]), components.flux_jy[inside])
    started = time.perf_counter()
    ducc0.wgridder.dirty2vis(
        uvw=uvw,
        freq=predictor.frequencies_hz[:48],
        dirty=sky,
        pixsize_x=cell,
        pixsize_y=cell,
        epsilon=1e-4,
        do_wgridding=True,
        nthreads=2,
    )
    return time.perf_counter() - started
