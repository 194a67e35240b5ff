"""tclean's adapter: its arguments, and its products from a recorded run (CASA itself is run by `make truth`)."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from calibrated_set import Recipe, make_components, write_calibrated_set
from casacore.tables import makearrcoldesc, maketabdesc, table

from dsa110_resources.imager import ImagePaths, ImagingDivergedError, ImagingOptions, ResidualImager
from dsa110_resources.images import read_fits
from dsa110_resources.tclean import TcleanImager, build_tclean_arguments

OPTIONS = ImagingOptions(channel_factor=4, cell_arcsec=8.0, size_pixels=(320, 280), imager="tclean", niter=100)


@pytest.fixture(scope="module")
def ms(tmp_path_factory: pytest.TempPathFactory) -> Path:
    recipe = Recipe(components=make_components([343.3], [16.1], [1.0]), n_channels=16, n_times=2, noise_jy=1.0)
    return write_calibrated_set(tmp_path_factory.mktemp("tclean") / "one.ms", recipe)


def test_arguments(ms: Path) -> None:
    imager = ResidualImager(ms, OPTIONS)
    imager.require_data(make_components([343.3], [16.1], [1.0]))
    arguments = build_tclean_arguments(Path("a.ms"), Path("p"), imager.plan, OPTIONS)
    assert arguments["imsize"] == [320, 280]
    assert (arguments["gridder"], arguments["stokes"], arguments["uvrange"]) == ("wproject", "XX", "")
    assert (arguments["niter"], arguments["weighting"], arguments["robust"]) == (100, "briggs", 0.5)
    assert float(arguments["cell"].removesuffix("arcsec")) == pytest.approx(8.0, rel=2e-4)


def record(scale: float, calls: list[dict[str, Any]]) -> Any:
    """A task that writes noise of a given scale where tclean would write its images."""

    def run(task: str, **arguments: Any) -> None:
        calls.append({"task": task, **arguments})
        noise = np.random.default_rng(1).normal(scale=scale, size=(1, 1, 280, 320)).astype(np.float32)
        for kind in ("image", "residual", "model"):
            description = maketabdesc([makearrcoldesc("map", 0.0, ndim=4, valuetype="float")])
            image = table(f"{arguments['imagename']}.{kind}", description, nrow=1, ack=False)
            image.putcell("map", 0, noise)
            image.close()

    return run


def test_products_and_divergence(ms: Path, tmp_path: Path) -> None:
    sky, calls = make_components([343.3], [16.1], [1.0]), []
    out = ImagePaths.beside(tmp_path / "tile.fits")
    report = TcleanImager(run=record(1e-4, calls)).clean(ms, sky, options=OPTIONS, out=out)
    assert (report.imager, report.n_seeded) == ("tclean", 1)
    assert calls[0]["task"] == "tclean"
    assert report.peak_jyb == pytest.approx(float(read_fits(out.image, check=True).data.max()))
    assert report.peak_jyb == pytest.approx(float(read_fits(out.primary_beam).data[140, 160]), abs=0.05)
    assert {p.suffix for p in tmp_path.iterdir()} == {".fits"}
    with pytest.raises(ImagingDivergedError):
        TcleanImager(run=record(1e3, calls)).clean(ms, sky, options=OPTIONS, out=out)
