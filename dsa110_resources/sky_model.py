"""The sky model in force: the user's component file if there is one, else the master catalogue."""

from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from dsa110_assets.science.calibrators import MATCH_ARCSEC, read_calibrators
from dsa110_assets.science.components import Components
from dsa110_assets.science.crossmatch import ConeIndex
from dsa110_assets.science.geometry import separation_deg
from dsa110_resources.archive import Archive
from dsa110_resources.catalogues import components_of_sources, read_component_catalogue, read_sources
from dsa110_resources.errors import PermanentError
from dsa110_resources.query import read_current_version


@dataclass(frozen=True)
class SkyModel:
    """All components known, and where they came from.

    Attributes
    ----------
    components
        Every source.
    name
        File name or catalogue version.
    """

    components: Components
    name: str

    def within(self, ra_deg: float, dec_deg: float, radius_deg: float, *, min_jy: float = 0.0) -> Components:
        """Components within a radius (degrees) of an ICRS position and at least as bright as ``min_jy``."""
        # a strip in declination first: the catalogue may hold 10^6 rows
        near = np.abs(self.components.dec_deg - dec_deg) <= radius_deg
        near &= self.components.flux_jy >= min_jy
        indices = np.flatnonzero(near)
        distance = separation_deg(self.components.ra_deg[indices], self.components.dec_deg[indices], ra_deg, dec_deg)
        return self.components.select(indices[distance <= radius_deg])


def read_sky_model(archive: Archive, catalogue: Path | None) -> SkyModel:
    """Read the sky model.

    Parameters
    ----------
    archive
        Whose latest version of ``sources`` is taken when no file is named.
    catalogue
        Component CSV, or None.

    Raises
    ------
    PermanentError
        If there is neither.
    """
    if catalogue is not None:
        return SkyModel(read_component_catalogue(catalogue), catalogue.name)
    version = read_current_version(archive)
    if version is None:
        raise PermanentError(
            "there is no sky model: no DSA110_CATALOGUE and no `sources` table",
            path=archive.table_dir("sources"),
            cure="set DSA110_CATALOGUE to a component CSV, or DSA110_NVSS_CATALOGUE and materialise `sources`",
        )
    return SkyModel(place_calibrators(components_of_sources(read_sources(archive, version))), version)


def place_calibrators(components: Components) -> Components:
    """Put catalogue sources that are listed calibrators where the calibrator list has them (milliarcseconds).

    A survey's arcsecond error in the position of a 10 Jy source raises the noise of the whole field.
    """
    listed = read_calibrators()
    listed_ra, listed_dec = np.array([c.ra_deg for c in listed]), np.array([c.dec_deg for c in listed])
    index = ConeIndex(components.ra_deg, components.dec_deg)
    matches = index.match(listed_ra, listed_dec, radius_arcsec=MATCH_ARCSEC)
    alone = (matches.index >= 0) & (matches.count == 1)
    ra_deg, dec_deg = components.ra_deg.copy(), components.dec_deg.copy()
    ra_deg[matches.index[alone]], dec_deg[matches.index[alone]] = listed_ra[alone], listed_dec[alone]
    return replace(components, ra_deg=ra_deg, dec_deg=dec_deg)
