"""The sky model in force: the user's component file if there is one, else the master catalogue."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from dsa110_assets.science.components import Components
from dsa110_assets.science.geometry import separation_deg
from dsa110_resources.archive import Archive
from dsa110_resources.catalogues import read_component_catalogue
from dsa110_resources.errors import PermanentError
from dsa110_resources.tables import list_partitions, read_partition

NVSS_FREQUENCY_GHZ = 1.4
TYPICAL_SPECTRAL_INDEX = -0.7
"""Taken where no pair of surveys gives one: the median between 1.4 and 3 GHz is about -0.8, NVSS-selected -0.7."""


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
    versions = list_partitions(archive, "sources")
    if not versions:
        raise PermanentError(
            "there is no sky model: no DSA110_CATALOGUE and no `sources` table",
            path=archive.table_dir("sources"),
            cure="set DSA110_CATALOGUE to a component CSV, or DSA110_NVSS_CATALOGUE and materialise `sources`",
        )
    version = max(versions)
    frame = read_partition(archive, "sources", version)
    if frame is None or frame.empty:
        raise PermanentError("the `sources` table is empty", partition=version, cure="materialise `sources` again")
    alpha = frame["alpha"].to_numpy(dtype=np.float64)
    return SkyModel(
        Components(
            source_id=frame["source_id"].to_numpy(dtype=str),
            ra_deg=frame["ra_deg"].to_numpy(dtype=np.float64),
            dec_deg=frame["dec_deg"].to_numpy(dtype=np.float64),
            flux_jy=frame["s_nvss"].to_numpy(dtype=np.float64),
            freq_ghz=np.full(len(frame), NVSS_FREQUENCY_GHZ),
            spectral_index=np.where(np.isfinite(alpha), alpha, TYPICAL_SPECTRAL_INDEX),
        ),
        version,
    )
