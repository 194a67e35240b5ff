"""Imagers behind one protocol: WSClean, the native one in process, CASA tclean; and the choice between them."""

import logging
import shutil
from pathlib import Path
from typing import Protocol

from dsa110_assets.science.components import Components
from dsa110_resources.errors import ExternalToolMissingError
from dsa110_resources.imaging_options import (
    TIERS,
    ImagePaths,
    ImagerName,
    ImagingDivergedError,
    ImagingOptions,
    ImagingReport,
    Provenance,
    Tier,
)
from dsa110_resources.residual_imaging import ResidualImager, residual_image

__all__ = [
    "TIERS",
    "FallbackImager",
    "ImagePaths",
    "Imager",
    "ImagingDivergedError",
    "ImagingOptions",
    "ImagingReport",
    "Provenance",
    "ResidualImager",
    "Tier",
    "choose_imager",
    "residual_image",
    "resolve_imager_name",
]

logger = logging.getLogger(__name__)


class Imager(Protocol):
    """Makes the images of a tile."""

    def clean(
        self,
        ms: Path,
        components: Components,
        *,
        options: ImagingOptions,
        out: ImagePaths,
        provenance: Provenance | None = None,
        residual: ResidualImager | None = None,
    ) -> ImagingReport:
        """Image a calibrated Measurement Set and write all products.

        Parameters
        ----------
        ms
            Measurement Set with CORRECTED_DATA; only read.
        components
            Sky model: subtracted before and restored after.
        options
            What is asked.
        out
            Where the products go.
        provenance
            What the headers say of tables, run and commit.
        residual
            An imager of the same data and options that has read them already, to save the reading.
        """
        ...


def resolve_imager_name(name: ImagerName, *, wsclean: str | None = None) -> ImagerName:
    """The imager meant: ``auto`` becomes wsclean where it is installed, else native.

    Raises
    ------
    ExternalToolMissingError
        If WSClean is asked for by name and is not there.
    """
    found = wsclean or shutil.which("wsclean")
    if name == "auto":
        return "wsclean" if found else "native"
    if name == "wsclean" and not found:
        raise ExternalToolMissingError(
            "wsclean is not installed", cure="apt-get install wsclean, or set the imager to native"
        )
    return name


class FallbackImager:
    """One imager, and another for the tiles on which the first one's CLEAN diverges; the report names which it was."""

    def __init__(self, first: Imager, second: Imager) -> None:
        self._first = first
        self._second = second

    def clean(
        self,
        ms: Path,
        components: Components,
        *,
        options: ImagingOptions,
        out: ImagePaths,
        provenance: Provenance | None = None,
        residual: ResidualImager | None = None,
    ) -> ImagingReport:
        """Image a calibrated Measurement Set; see `Imager.clean`."""
        shared = residual or ResidualImager(ms, options)
        arguments = {"options": options, "out": out, "provenance": provenance, "residual": shared}
        try:
            return self._first.clean(ms, components, **arguments)  # type: ignore[arg-type]
        except ImagingDivergedError as error:
            logger.warning("%s; imaging it with the second imager", error)
            return self._second.clean(ms, components, **arguments)  # type: ignore[arg-type]


def choose_imager(name: ImagerName) -> Imager:
    """The imager of a name, see :func:`resolve_imager_name`; ``auto`` goes native where WSClean diverges."""
    from dsa110_resources.imaging_native import NativeImager

    chosen = resolve_imager_name(name)
    logger.debug("imager %s: %s", name, chosen)
    if chosen == "wsclean":
        from dsa110_resources.wsclean import WSCleanImager

        return FallbackImager(WSCleanImager(), NativeImager()) if name == "auto" else WSCleanImager()
    if chosen == "tclean":
        from dsa110_resources.tclean import TcleanImager

        return TcleanImager()
    return NativeImager()
