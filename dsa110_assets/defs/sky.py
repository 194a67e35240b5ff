"""The catalogue around a group, as calibration, imaging and photometry take it."""

from functools import lru_cache
from pathlib import Path

from dsa110_assets.defs.platform import Platform
from dsa110_assets.science.components import Components
from dsa110_resources.errors import PermanentError
from dsa110_resources.measurement_set import read_layout
from dsa110_resources.query import CURRENT_CATALOGUE
from dsa110_resources.sky_model import SkyModel, read_sky_model

FIELD_RADIUS_DEG = 3.2
"""Primary-beam null at mid-band: what lies beyond contributes less than 2 % of its flux density."""


def sky_model(platform: Platform) -> SkyModel:
    """The sky model in force, read once per process and file version."""
    catalogue = platform.settings.catalogue
    source = catalogue if catalogue is not None else platform.archive.catalogs / CURRENT_CATALOGUE
    stamp = source.stat().st_mtime_ns if source.exists() else 0
    return _cached(platform.archive.root, platform.archive.state_root, catalogue, stamp)


def field_components(platform: Platform, ms: Path, *, min_mjy: float) -> Components:
    """Catalogue components within the primary beam of a Measurement Set, at least ``min_mjy`` bright.

    Raises
    ------
    PermanentError
        If the catalogue has none there.
    """
    ra_deg, dec_deg = read_layout(ms).phase_center_deg
    model = sky_model(platform)
    components = model.within(ra_deg, dec_deg, FIELD_RADIUS_DEG, min_jy=1e-3 * min_mjy)
    if not len(components):
        raise PermanentError(
            f"the catalogue {model.name} has no source within {FIELD_RADIUS_DEG} deg of ({ra_deg:.3f}, {dec_deg:.3f})",
            path=ms,
            cure="give a catalogue that covers this declination strip (DSA110_CATALOGUE or DSA110_NVSS_CATALOGUE)",
        )
    return components


@lru_cache(maxsize=2)
def _cached(root: Path, state: Path, catalogue: Path | None, stamp: int) -> SkyModel:  # noqa: ARG001
    from dsa110_resources.archive import Archive

    return read_sky_model(Archive(root, state), catalogue)
