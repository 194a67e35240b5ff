"""FITS images: every keyword of the product definition, checksums, the same bytes twice, typed errors."""

from pathlib import Path

import numpy as np
import pytest
from astropy.io import fits
from numpy.testing import assert_allclose, assert_array_equal

from dsa110_assets.science.beam import PRIMARY_BEAM_MODEL
from dsa110_assets.science.imaging import ImageGeometry
from dsa110_assets.science.instrument import TELESCOPE_ITRF_M
from dsa110_resources.errors import CorruptInputError
from dsa110_resources.images import ImageHeader, iso_of_mjd, publish_image, read_fits, read_header, write_fits

GEOMETRY = ImageGeometry(nx=60, ny=40, cell_arcsec=4.5, ra_deg=359.9, dec_deg=16.2)
HEADER = ImageHeader(
    object_name="2026-01-25T22:26:00",
    image_type="pbcor",
    beam=(0.0148, 0.0061, -79.5),
    frequency_hz=1.4052e9,
    bandwidth_hz=187.5e6,
    start_mjd=61065.9347222,
    end_mjd=61065.9383014,
    mid_mjd=61065.9365118,
    exposure_s=309.2376,
    rms_jyb=2.3e-4,
    thermal_jyb=2.2e-4,
    pbcor=True,
    weighting="briggs 0.5",
    imager="native standard",
    n_components=208,
    pointing_deg=(359.9, 16.2),
    run_id="0b5c",
    git_commit="abc123",
    bandpass_table="2026-01-25_22_26_39_24h.bpcal",
    bandpass_age_h=1.25,
    gain_table="2026-01-25_22_26_39_1h.gpcal",
    gain_age_h=0.0,
    catalogue="nvss 3",
)
WORLD = ["RADESYS", "BUNIT", "BMAJ", "BMIN", "BPA", "RESTFRQ", "BANDWID", "OBSGEO-X", "OBSGEO-Y", "OBSGEO-Z"]
TIMES = ["DATE-OBS", "DATE-BEG", "DATE-END", "DATE-AVG", "MJD-OBS", "MJD-AVG", "TIMESYS", "EXPTIME"]
ORIGIN = ["TELESCOP", "OBJECT", "ORIGIN", "PIPEVER", "GITCOMM", "RUNID", "BPTABLE", "BPAGE", "GTABLE", "GAGE"]
QUALITY = ["RMS", "PBCOR", "NTILES", "WEIGHTNG", "PBMODEL", "STATE", "CHECKSUM", "DATASUM"]
REQUIRED = WORLD + TIMES + ORIGIN + QUALITY


@pytest.fixture
def image(tmp_path: Path) -> Path:
    path = tmp_path / "images" / "tile.fits"
    data = np.arange(2400, dtype=np.float64).reshape(40, 60) * 1e-3
    data[0, 0] = np.nan
    write_fits(path, data, GEOMETRY.wcs(), HEADER)
    return path


def test_every_keyword_is_there_and_the_checksums_hold(image: Path) -> None:
    with fits.open(image, checksum=True) as hdus:  # warnings are errors here
        cards, data = hdus[0].header, hdus[0].data
        assert hdus[0].verify_checksum() == 1
        assert hdus[0].verify_datasum() == 1
        assert [k for k in REQUIRED if k not in cards] == []
        assert data.dtype == np.dtype(">f4")
        assert (cards["CTYPE1"], cards["CTYPE2"]) == ("RA---SIN", "DEC--SIN")
        assert (cards["RADESYS"], cards["TIMESYS"], cards["TELESCOP"]) == ("ICRS", "UTC", "DSA-110")
        assert (cards["BITPIX"], cards["BUNIT"], cards["PBCOR"], cards["NTILES"]) == (-32, "Jy/beam", True, 1)
        assert (cards["DATE-OBS"], cards["DATE-BEG"]) == (iso_of_mjd(HEADER.start_mjd),) * 2
        assert (cards["MJD-OBS"], cards["MJD-AVG"]) == (HEADER.start_mjd, HEADER.mid_mjd)
        assert_allclose([cards[f"OBSGEO-{a}"] for a in "XYZ"], TELESCOPE_ITRF_M, atol=1e-4)
        assert (cards["RESTFRQ"], cards["GAGE"], cards["BPAGE"]) == (1.4052e9, 0.0, 1.25)
        assert cards["PBMODEL"] == PRIMARY_BEAM_MODEL


def test_round_trip(image: Path) -> None:
    found = read_fits(image, check=True)
    assert found.header == HEADER
    assert read_header(image) == HEADER
    assert found.data.dtype == np.float32
    assert np.isnan(found.data[0, 0])
    assert found.data[39, 59] == np.float32(2.399)
    assert_array_equal(found.wcs.wcs.crpix, [31, 21])
    assert_allclose(
        found.wcs.wcs_pix2world([[30, 20], [0, 20]], 0), GEOMETRY.wcs().wcs_pix2world([[30, 20], [0, 20]], 0)
    )


def test_unknown_stays_unknown(tmp_path: Path) -> None:
    path = tmp_path / "plain.fits"
    write_fits(path, np.zeros((4, 4)), GEOMETRY.wcs(), ImageHeader(object_name="x", image_type="rms"))
    cards = fits.getheader(path)
    assert not {"RMS", "BPTABLE", "BPAGE", "RUNID", "BMAJ"} & set(cards)
    header = read_header(path)
    assert header.bandpass_age_h is None
    assert header.rms_jyb is None


def test_the_same_image_twice_is_the_same_file(image: Path, tmp_path: Path) -> None:
    found = read_fits(image)
    again = tmp_path / "again.fits"
    write_fits(again, found.data, found.wcs, found.header)
    assert again.read_bytes() == image.read_bytes()


def test_publishing_changes_the_state_and_keeps_the_checksum(image: Path) -> None:
    before = read_fits(image).data
    publish_image(image, "published")
    after = read_fits(image, check=True)
    assert after.header.state == "published"
    assert_array_equal(after.data, before)


def test_damaged_and_missing_images_are_typed_errors(image: Path, tmp_path: Path) -> None:
    content = bytearray(image.read_bytes())
    content[2880 * 2 + 1500] ^= 0xFF
    image.write_bytes(content)
    with pytest.raises(CorruptInputError, match="checksum"):
        read_fits(image, check=True)
    image.write_bytes(b"not FITS at all")
    with pytest.raises(CorruptInputError, match="not a readable FITS"):
        read_fits(image)
    with pytest.raises(CorruptInputError):
        read_header(tmp_path / "absent.fits")


def test_nothing_half_written_is_left(tmp_path: Path) -> None:
    path = tmp_path / "deep" / "tile.fits"
    with pytest.raises((ValueError, TypeError)):
        write_fits(path, np.array(["no", "image"]), GEOMETRY.wcs(), HEADER)  # type: ignore[arg-type]
    assert not path.exists()
    assert list(path.parent.glob("*")) == [] if path.parent.exists() else True


@pytest.mark.parametrize(
    ("mjd", "iso"),
    [
        (61065.0, "2026-01-25T00:00:00.000"),
        (61065.5 + 0.9996 / 86400, "2026-01-25T12:00:01.000"),
        (0.0, "1858-11-17T00:00:00.000"),
    ],
)
def test_dates(mjd: float, iso: str) -> None:
    assert iso_of_mjd(mjd) == iso
