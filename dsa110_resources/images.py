"""FITS images: written with every header keyword of the product definition, and read back."""

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
from astropy.io import fits
from astropy.wcs import WCS
from pydantic import BaseModel, ConfigDict

from dsa110_assets.science.beam import PRIMARY_BEAM_MODEL
from dsa110_assets.science.instrument import TELESCOPE_ITRF_M
from dsa110_resources.archive import atomic_file
from dsa110_resources.errors import CorruptInputError, PermanentError

TELESCOPE = "DSA-110"
ORIGIN = "DSA-110 continuum platform"
DISTRIBUTION = "dsa110-continuum-platform"
MJD_EPOCH = datetime(1858, 11, 17, tzinfo=UTC)

State = Literal["staged", "validated", "published"]


class ImageHeader(BaseModel):
    """What the header of an image says besides its world coordinates; units in the field names."""

    model_config = ConfigDict(frozen=True)

    object_name: str
    """Group or mosaic id."""
    image_type: str
    """image, pbcor, residual, pb, rms, model, psf, mosaic, weight, mjd."""
    unit: str = "Jy/beam"
    """BUNIT; empty for a ratio."""
    beam: tuple[float, float, float] | None = None
    """BMAJ, BMIN, BPA, deg."""
    frequency_hz: float = 0.0
    """Effective frequency."""
    bandwidth_hz: float = 0.0
    """Width of the band."""
    start_mjd: float = 0.0
    """UTC begin of the first integration."""
    end_mjd: float = 0.0
    """UTC end of the last integration."""
    mid_mjd: float = 0.0
    """UTC weighted mean time."""
    exposure_s: float = 0.0
    """Integration time."""
    rms_jyb: float | None = None
    """Noise of the image, Jy/beam."""
    thermal_jyb: float | None = None
    """Noise expected from the SEFD and the weights, Jy/beam."""
    pbcor: bool = False
    """Corrected for the primary beam."""
    n_tiles: int = 1
    """Tiles in it."""
    weighting: str = ""
    """natural, uniform, briggs R, or how a mosaic is weighted."""
    imager: str = ""
    """Which imager and tier."""
    primary_beam_model: str = PRIMARY_BEAM_MODEL
    """Name and version."""
    n_components: int = 0
    """Catalogue components subtracted and restored."""
    pointing_deg: tuple[float, float] | None = None
    """ICRS meridian point at mid-time."""
    run_id: str = ""
    """Dagster run id."""
    git_commit: str = ""
    """Commit of this code."""
    bandpass_table: str = ""
    """BP table applied."""
    bandpass_age_h: float | None = None
    """Its age, hours."""
    gain_table: str = ""
    """G table applied."""
    gain_age_h: float | None = None
    """Its age, hours."""
    catalogue: str = ""
    """Component catalogue."""
    state: State = "staged"
    """staged, validated or published."""


_KEYWORDS: tuple[tuple[str, str, str], ...] = (
    ("OBJECT", "object_name", "group or mosaic id"),
    ("IMTYPE", "image_type", "kind of image"),
    ("BUNIT", "unit", "unit of the pixels"),
    ("RESTFRQ", "frequency_hz", "[Hz] effective frequency"),
    ("BANDWID", "bandwidth_hz", "[Hz] bandwidth"),
    ("MJD-OBS", "start_mjd", "[d] UTC begin"),
    ("MJD-BEG", "start_mjd", "[d] UTC begin"),
    ("MJD-END", "end_mjd", "[d] UTC end"),
    ("MJD-AVG", "mid_mjd", "[d] UTC mid-exposure"),
    ("EXPTIME", "exposure_s", "[s] integration time"),
    ("RMS", "rms_jyb", "[Jy/beam] noise of the apparent image, P > 0.5"),
    ("THERMAL", "thermal_jyb", "[Jy/beam] noise expected (SEFD, weights)"),
    ("PBCOR", "pbcor", "corrected for the primary beam"),
    ("PBMODEL", "primary_beam_model", "primary beam model"),
    ("NTILES", "n_tiles", "number of tiles"),
    ("WEIGHTNG", "weighting", "imaging weights"),
    ("IMAGER", "imager", "imager and tier"),
    ("NCOMP", "n_components", "components subtracted and restored"),
    ("RUNID", "run_id", "Dagster run"),
    ("GITCOMM", "git_commit", "commit of the code"),
    ("BPTABLE", "bandpass_table", "bandpass table applied"),
    ("BPAGE", "bandpass_age_h", "[h] age of the bandpass table"),
    ("GTABLE", "gain_table", "gain table applied"),
    ("GAGE", "gain_age_h", "[h] age of the gain table"),
    ("CATALOG", "catalogue", "component catalogue"),
    ("STATE", "state", "staged, validated or published"),
)
"""(keyword, field of :class:`ImageHeader`, comment); empty strings and None are not written."""


_GRID_KEYWORDS = ("WCSAXES", "CRPIX", "CDELT", "CUNIT", "CTYPE", "CRVAL", "PC", "PV", "LONPOLE", "LATPOLE")


@dataclass(frozen=True)
class FitsImage:
    """An image read back.

    Attributes
    ----------
    data : (ny, nx) float32
        Pixels in native byte order.
    wcs
        Celestial world coordinates.
    header
        The fields of :class:`ImageHeader`.
    """

    data: npt.NDArray[np.float32]
    wcs: WCS
    header: ImageHeader


def platform_version() -> str:
    """Version of this distribution, ``unknown`` if it is not installed."""
    try:
        return version(DISTRIBUTION)
    except PackageNotFoundError:
        return "unknown"


def iso_of_mjd(mjd: float) -> str:
    """ISO 8601 of a UTC MJD, to the millisecond."""
    moment = MJD_EPOCH + timedelta(milliseconds=round(mjd * 86400_000.0))
    return moment.strftime("%Y-%m-%dT%H:%M:%S.") + f"{moment.microsecond // 1000:03d}"


def build_header(wcs: WCS, header: ImageHeader) -> fits.Header:
    """FITS header of an image: world coordinates, then everything of :class:`ImageHeader`."""
    # of a WCS that was itself read from an image only the grid, or times and frequencies would stand there twice
    cards = fits.Header([card for card in wcs.to_header().cards if card.keyword.startswith(_GRID_KEYWORDS)])
    cards["RADESYS"] = ("ICRS", "celestial frame")
    for keyword, field, comment in _KEYWORDS:
        value = getattr(header, field)
        if value is not None and value != "":
            cards[keyword] = (value, comment)
    if header.beam is not None:
        for keyword, value in zip(("BMAJ", "BMIN", "BPA"), header.beam, strict=True):
            cards[keyword] = (value, "[deg] restoring beam")
    if header.pointing_deg is not None:
        cards["OBSRA"] = (header.pointing_deg[0], "[deg] pointing at mid-time, ICRS")
        cards["OBSDEC"] = (header.pointing_deg[1], "[deg] pointing at mid-time, ICRS")
    for keyword, mjd in (
        ("DATE-OBS", header.start_mjd),
        ("DATE-BEG", header.start_mjd),
        ("DATE-END", header.end_mjd),
        ("DATE-AVG", header.mid_mjd),
    ):
        cards[keyword] = (iso_of_mjd(mjd), "UTC")
    cards["TIMESYS"] = ("UTC", "time scale")
    cards["TELESCOP"] = (TELESCOPE, "")
    cards["INSTRUME"] = ("DSA", "")
    for axis, value in zip("XYZ", TELESCOPE_ITRF_M, strict=True):
        cards[f"OBSGEO-{axis}"] = (float(value), "[m] ITRF")
    cards["ORIGIN"] = (ORIGIN, "")
    cards["PIPEVER"] = (platform_version(), "version of the platform")
    return cards


def write_fits(path: Path, image: npt.NDArray[np.floating], wcs: WCS, header: ImageHeader) -> None:
    """Write one image, whole or not at all, with checksums.

    The bytes depend on the arguments only (no date of writing), so that the same image made twice is the same file.

    Parameters
    ----------
    path
        Target; replaced.
    image : (ny, nx)
        Written as float32; blanks are NaN.
    wcs
        Celestial world coordinates.
    header
        Everything else.
    """
    hdu = fits.PrimaryHDU(np.ascontiguousarray(image, dtype=np.float32), header=build_header(wcs, header))
    hdu.add_checksum(when="on writing")
    with atomic_file(path) as staged:
        hdu.writeto(staged, output_verify="exception", checksum=False)
        _require_whole(staged, image.shape)


def _require_whole(path: Path, shape: tuple[int, ...]) -> None:
    """Raise if what was written cannot be read back."""
    with fits.open(path, memmap=True) as hdus:
        if hdus[0].shape != shape or "CHECKSUM" not in hdus[0].header:
            raise PermanentError("the image written cannot be read back", path=path, cure="check the disk")


def read_fits(path: Path, *, check: bool = False) -> FitsImage:
    """Read an image that :func:`write_fits` wrote.

    Parameters
    ----------
    path
        File.
    check
        Verify CHECKSUM and DATASUM as well.

    Raises
    ------
    CorruptInputError
        If the file is missing, not FITS, truncated, or its checksums do not fit.
    """
    try:
        with fits.open(path, memmap=False) as hdus:
            hdu = hdus[0]
            if check and not (hdu.verify_checksum() == 1 and hdu.verify_datasum() == 1):
                raise CorruptInputError("checksum differs", path=path, cure="make the image again")
            data = np.ascontiguousarray(hdu.data, dtype=np.float32)
            cards = hdu.header.copy()
    except (OSError, TypeError, ValueError) as error:
        raise CorruptInputError(f"not a readable FITS image: {error}", path=path, cure="make it again") from error
    return FitsImage(data, WCS(cards, naxis=2, fix=False), _parse_header(cards))


def read_header(path: Path) -> ImageHeader:
    """The header alone; reads no pixels."""
    try:
        return _parse_header(fits.getheader(path))
    except OSError as error:
        raise CorruptInputError(f"not a readable FITS image: {error}", path=path, cure="make it again") from error


def _parse_header(cards: fits.Header) -> ImageHeader:
    fields: dict[str, Any] = {field: cards[keyword] for keyword, field, _ in _KEYWORDS if keyword in cards}
    fields.setdefault("object_name", "")
    fields.setdefault("image_type", "")
    fields.setdefault("unit", "")
    if "BMAJ" in cards:
        fields["beam"] = (cards["BMAJ"], cards["BMIN"], cards["BPA"])
    if "OBSRA" in cards:
        fields["pointing_deg"] = (cards["OBSRA"], cards["OBSDEC"])
    return ImageHeader.model_validate(fields)


def publish_image(path: Path, state: State) -> None:
    """Set the state of an image in place, checksums included: staged -> validated -> published."""
    found = read_fits(path)
    write_fits(path, found.data, found.wcs, found.header.model_copy(update={"state": state}))
