"""Speed of the pure photometry and light-curve code, on synthetic data of the size of the real thing."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
from astropy.wcs import WCS

from dsa110_assets.science.background import measure_background
from dsa110_assets.science.crossmatch import ConeIndex
from dsa110_assets.science.ensemble import normalise, normalise_epochs
from dsa110_assets.science.ese import search
from dsa110_assets.science.forced import measure
from dsa110_assets.science.joint_system import Unknowns, build_matrix, solve_system
from dsa110_assets.science.variability import measure_variability

N_SOURCES, N_EPOCHS, N_PIXELS = 10_000, 1_000, 3_600
Row = dict[str, object]


def _seconds(function: Callable[[], object]) -> float:
    start = time.perf_counter()
    function()
    return time.perf_counter() - start


def _row(stage: str, ours_s: float, limit_s: float, note: str, *, peer: str = "", peer_s: float | None = None) -> Row:
    ratio = None if peer_s is None else peer_s / ours_s
    return {
        "stage": stage,
        "ours_s": ours_s,
        "peer": peer,
        "peer_s": peer_s,
        "ratio": ratio,
        "limit_s": limit_s,
        "note": note,
    }


def bench_image() -> list[Row]:
    """Maps of a full tile, and 2,000 forced fluxes on it."""
    rng = np.random.default_rng(1)
    image = rng.normal(size=(N_PIXELS, N_PIXELS)).astype(np.float32)
    wcs = WCS(naxis=2)
    wcs.wcs.ctype, wcs.wcs.crval = ["RA---SIN", "DEC--SIN"], [10.0, 16.0]
    wcs.wcs.crpix, wcs.wcs.cdelt = [N_PIXELS // 2 + 1] * 2, [-4 / 3600, 4 / 3600]
    ra, dec = wcs.wcs_pix2world(*rng.uniform(50, N_PIXELS - 50, (2, 2000)), 0)
    beam = (69 / 3600, 35 / 3600, 20.0)
    measure_background(image[:400, :400])
    maps = measure_background(image)
    measure(image, maps.background, maps.rms, wcs, beam, ra[:20], dec[:20])
    return [
        _row("background and rms, 3600²", _seconds(lambda: measure_background(image)), 2.0, "mesh of 100 pixels"),
        _row(
            "forced photometry, 2,000 sources",
            _seconds(lambda: measure(image, maps.background, maps.rms, wcs, beam, ra, dec)),
            2.0,
            "linked neighbours together",
        ),
    ]


def bench_joint_system() -> list[Row]:
    """The linear algebra of one joint round: 600 sources, 200 of them with positions."""
    rng = np.random.default_rng(2)
    j, i = np.mgrid[-2000:2000, -2000:2000].astype(np.float32)
    psf = np.exp(-(i**2 + j**2) / 60.0)
    x, y = rng.uniform(0, 1990, (2, 600))
    unknowns = Unknowns(np.eye(600), np.arange(0, 600, 3))
    n = 600 + 2 * 200
    build_matrix(psf, x[:5], y[:5], Unknowns(np.eye(5), np.arange(2)))

    def solve() -> None:
        matrix = build_matrix(psf, x, y, unknowns)
        prior = np.zeros((n, 2))
        prior[600:] = 1e-3
        solve_system(matrix + 1e-6 * np.eye(n), matrix, rng.normal(size=n), prior, np.zeros(n), 600)

    return [_row("joint system, 600 sources", _seconds(solve), 5.0, "PSF pairs, solve and covariance")]


def _curves() -> tuple[pd.DataFrame, np.ndarray, np.ndarray]:
    rng = np.random.default_rng(3)
    level = 0.005 * 400.0 ** rng.random(N_SOURCES)
    x, y = rng.uniform(-1.3, 1.3, (2, N_SOURCES))
    scale = np.exp(0.05 * rng.normal(size=N_EPOCHS))
    error = np.full((N_SOURCES, N_EPOCHS), 3e-4)
    flux = level[:, None] * scale + error * rng.normal(size=error.shape)
    names = np.array([f"S{k:05d}" for k in range(N_SOURCES)], dtype=object)
    table = pd.DataFrame(
        {
            "source_id": pd.Categorical.from_codes(np.repeat(np.arange(N_SOURCES), N_EPOCHS), categories=names),
            "epoch": np.tile(np.arange(N_EPOCHS), N_SOURCES),
            "flux_jy": flux.ravel(),
            "flux_err_jy": error.ravel(),
            "x_deg": np.repeat(x, N_EPOCHS),
            "y_deg": np.repeat(y, N_EPOCHS),
        }
    )
    return table, flux, error


def _pandas_loop(flux: np.ndarray, error: np.ndarray) -> None:
    """Some of the metrics as they are written for one source at a time."""
    for f, e in zip(flux, error, strict=True):
        curve = pd.DataFrame({"f": f, "e": e}).dropna()
        w = 1.0 / curve["e"] ** 2
        mean = (w * curve["f"]).sum() / w.sum()
        _ = (w * (curve["f"] - mean) ** 2).sum() / (len(curve) - 1)
        _ = curve["f"].std() / curve["f"].mean()
        _ = [abs(curve["f"].iloc[k] - curve["f"].drop(k).median()) / curve["e"].iloc[k] for k in range(len(curve))]


def bench_light_curves() -> list[Row]:
    """10,000 sources × 1,000 epochs: normalisation, metrics, and the update of one day."""
    table, flux, error = _curves()
    small = table[table["epoch"] < 20]
    levels = normalise_epochs(small).references
    measure_variability(flux[:3], error[:3])
    whole = _seconds(lambda: normalise(table))
    day = table[table["epoch"] == 7].copy()
    update = _seconds(lambda: normalise(day, references=levels))
    metrics = _seconds(lambda: measure_variability(flux, error))
    loop = _seconds(lambda: _pandas_loop(flux[:2], error[:2])) * N_SOURCES / 2
    return [
        _row("ensemble normalisation, 10,000 × 1,000", whole, 20.0, "1,000 references, gradients"),
        _row("the same, one day", update, 5.0, "held levels; peer: the whole again", peer="full rebuild", peer_s=whole),
        _row(
            "all variability metrics, 10,000 × 1,000",
            metrics,
            5.0,
            "peer scaled from 2 sources; it lacks the pair statistics",
            peer="pandas loop over sources",
            peer_s=loop,
        ),
    ]


def bench_search(n_sample: int = 200) -> list[Row]:
    """ESE search, scaled from a sample of curves in which one of twenty scintillates."""
    rng = np.random.default_rng(4)
    mjd = 60000.0 + np.arange(N_EPOCHS)
    error = np.full(N_EPOCHS, 0.03)
    curves = 1.0 + 0.03 * rng.normal(size=(n_sample, N_EPOCHS))
    for k in range(0, n_sample, 20):
        curves[k] *= 1.0 + 0.08 * np.sin(2 * np.pi * mjd / rng.uniform(10, 50)) * np.sin(2 * np.pi * mjd / 71.0)
    search(mjd, curves[0], error)
    total = _seconds(lambda: [search(mjd, curve, error) for curve in curves])
    seconds = total * N_SOURCES / n_sample
    note = f"scaled from {n_sample} curves, one process; 5 % scintillating"
    return [_row("ESE search, 10,000 × 1,000", seconds, 600.0, note)]


def bench_cone() -> list[Row]:
    """Cone search in a million rows."""
    rng = np.random.default_rng(5)
    index = ConeIndex(rng.uniform(0, 360, 1_000_000), np.degrees(np.arcsin(rng.uniform(-1, 1, 1_000_000))))
    seconds = _seconds(lambda: [index.search(3.0 * k, 30.0, 0.5) for k in range(100)]) / 100
    return [_row("cone search, 10⁶ rows", seconds, 0.010, "0.5 degrees")]


def run(data_dir: Path | None = None) -> list[Row]:
    """All of it; needs no data.

    Parameters
    ----------
    data_dir : Path, optional
        Not used: the data are synthetic.

    Returns
    -------
    list of dict
        stage, ours_s, peer, peer_s, ratio (peer over ours), limit_s, note.
    """
    rows: list[Row] = []
    for bench in (bench_image, bench_joint_system, bench_light_curves, bench_search, bench_cone):
        rows += bench()
    return rows
