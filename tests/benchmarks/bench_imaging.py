"""Imaging of a full group: subtract and average, PSFs, dirty image, a corrected list; WSClean as the peer."""

import shutil
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from dsa110_assets.science.components import Components
from dsa110_resources.averaged_set import write_averaged_set
from dsa110_resources.catalogues import read_component_catalogue
from dsa110_resources.imager import ImagingOptions, ResidualImager
from dsa110_resources.process import run_command
from dsa110_resources.wsclean import WSCleanRequest, build_wsclean_command

PEER_TIMEOUT_S = 600.0


def run(data_dir: Path) -> list[dict[str, Any]]:
    """Time the stages on a calibrated Measurement Set.

    Parameters
    ----------
    data_dir
        Holds ``calibrated.ms`` (CORRECTED_DATA, FLAG) and ``catalogue.csv``.

    Returns
    -------
    list of dict
        stage, ours_s, peer, peer_s, ratio, limit_s, note.
    """
    ms, components = Path(data_dir) / "calibrated.ms", read_component_catalogue(Path(data_dir) / "catalogue.csv")
    warm_up(ms, components)
    imager = ResidualImager(ms, ImagingOptions())
    residual = imager.image(components)
    wrong = components.with_flux(components.flux_jy * (1.0 + 0.15 * np.cos(np.arange(len(components)))))
    again = _timed(lambda: imager.image(wrong))
    ratio = float(residual.image[residual.primary_beam > 0.5].std() / residual.thermal_jyb)
    plan = imager.plan.geometry
    rows = [
        _row("subtract and average", imager.seconds["subtract"], 6.0, f"{len(components)} components"),
        _row(
            "dirty image and PSFs",
            imager.seconds["psf"] + imager.seconds["dirty"],
            8.0,
            f"{plan.nx} x {plan.ny}, PSFs {2 * plan.nx} x {2 * plan.ny}; rms / thermal {ratio:.2f}",
        ),
        _row("residual image of a corrected list", again, None, "change subtracted, dirty image"),
    ]
    if shutil.which("wsclean"):
        rows[1] |= _peer(imager, rows[1]["ours_s"])
    return rows


def warm_up(ms: Path, components: Components) -> None:
    """Compile what is compiled once per machine, outside the figures."""
    options = ImagingOptions(tier="quicklook", channel_factor=16)
    ResidualImager(ms, options).image(components.select(np.arange(len(components)) < 2))


def _peer(imager: ResidualImager, ours_s: float) -> dict[str, Any]:
    """WSClean's dirty image and PSF of the same averaged data and grid."""
    plan, options = imager.plan, ImagingOptions(niter=0)
    with tempfile.TemporaryDirectory(dir=imager.ms.parent) as folder:
        ms = Path(folder) / "averaged.ms"
        write_averaged_set(ms, imager.averaged, imager.layout)
        cell = float(np.degrees(plan.geometry.gridding_cell_rad) * 3600.0)
        size = (plan.geometry.nx, plan.geometry.ny)
        request = WSCleanRequest(ms, Path(folder) / "peer", size, cell, plan.beam.triple, 0.8)
        command = build_wsclean_command(request, options)
        command.insert(1, "-make-psf")
        seconds = _timed(lambda: run_command(command, timeout_s=PEER_TIMEOUT_S, cwd=Path(folder)))
    return {
        "peer": "WSClean wgridder, dirty + one PSF",
        "peer_s": round(seconds, 2),
        "ratio": round(seconds / ours_s, 2),
    }


def _timed(call: Callable[[], Any]) -> float:
    start = time.perf_counter()
    call()
    return time.perf_counter() - start


def _row(stage: str, ours_s: float, limit_s: float | None, note: str) -> dict[str, Any]:
    return {
        "stage": stage,
        "ours_s": round(ours_s, 2),
        "peer": None,
        "peer_s": None,
        "ratio": None,
        "limit_s": limit_s,
        "note": note,
    }
