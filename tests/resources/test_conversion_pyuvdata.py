"""The slow writer against the production one, and other telescopes' files."""

from pathlib import Path

import numpy as np
import pytest
from raw_subband import write_raw_subband

from dsa110_assets.science.instrument import array_configuration
from dsa110_resources.casacore_tables import open_table
from dsa110_resources.conversion import ConversionOptions, convert_group
from dsa110_resources.conversion_pyuvdata import convert_foreign
from dsa110_resources.errors import CorruptInputError
from dsa110_resources.measurement_set import flagged_fraction, read_column, read_layout

SMALL = array_configuration("small")
SUBBANDS = (9, 10)
CHANNELS = slice((15 - 10) * 8, (16 - 9) * 8)


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    folder, rng = tmp_path_factory.mktemp("raw"), np.random.default_rng(11)
    paths = []
    for subband in SUBBANDS:
        noise = rng.normal(size=(8, 528, 8, 2, 2)).astype(np.float32).view(np.complex64)[..., 0]
        paths.append(write_raw_subband(folder / f"x_sb{subband:02d}.hdf5", SMALL, subband, visibilities=noise))
    return paths


@pytest.fixture(scope="module")
def pair(files: list[Path], tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """The same files by both writers."""
    folder = tmp_path_factory.mktemp("both")
    direct = convert_group(files, folder / "direct.ms")
    slow = convert_group(files, folder / "slow.ms", options=ConversionOptions(writer="pyuvdata"))
    assert (direct.writer_type, slow.writer_type) == ("direct", "pyuvdata")
    assert (direct.n_channels, slow.n_channels) == (128, 16)
    assert direct.phase_center_deg == slow.phase_center_deg
    assert direct.group_id == slow.group_id
    return direct.ms_path, slow.ms_path


def test_both_writers_give_the_same_visibilities_flags_and_weights(pair: tuple[Path, Path]) -> None:
    direct, slow = pair
    theirs = read_column(slow, "DATA")
    assert theirs.shape == (8, 528, 16, 2)
    np.testing.assert_allclose(read_column(direct, "DATA", channels=CHANNELS), theirs, rtol=0, atol=2e-6)
    np.testing.assert_array_equal(read_column(direct, "FLAG", channels=CHANNELS), read_column(slow, "FLAG"))
    ours = read_column(direct, "WEIGHT_SPECTRUM", channels=CHANNELS)
    np.testing.assert_allclose(ours, read_column(slow, "WEIGHT_SPECTRUM"), rtol=1e-6)


def test_both_writers_give_the_same_metadata(pair: tuple[Path, Path]) -> None:
    ours, theirs = (read_layout(ms) for ms in pair)
    np.testing.assert_allclose(ours.uvw_m, theirs.uvw_m, atol=1e-9)
    np.testing.assert_array_equal(ours.frequencies_hz[CHANNELS], theirs.frequencies_hz)
    for name in ("antenna1", "antenna2", "times_mjd", "antenna_diameters_m"):
        np.testing.assert_array_equal(getattr(ours, name), getattr(theirs, name), err_msg=name)
    np.testing.assert_allclose(ours.antenna_positions_itrf_m, theirs.antenna_positions_itrf_m, atol=1e-8)
    for name in (
        "antenna_names", "interval_s", "channel_width_hz", "polarizations", "phase_center_deg", "dec_app_deg",
        "group_id", "field_name", "telescope_name", "missing_subbands",
    ):  # fmt: skip
        assert getattr(ours, name) == getattr(theirs, name), name
    for name in ("TIME", "TIME_CENTROID", "INTERVAL", "EXPOSURE", "SIGMA", "WEIGHT", "DATA_DESC_ID", "FIELD_ID"):
        with open_table(pair[0]) as one, open_table(pair[1]) as other:
            np.testing.assert_allclose(one.getcol(name), other.getcol(name), rtol=1e-6, err_msg=name)


def test_pyuvdata_s_own_uvw_agree_to_a_centimetre(pair: tuple[Path, Path]) -> None:
    """Its frames leave polar motion out and differ in the sense of north: millimetres on 2.2 km."""
    from astropy.utils import iers
    from pyuvdata import UVData

    data = UVData()
    with (
        iers.earth_orientation_table.set(iers.IERS_A.open(iers.IERS_A_FILE)),
        iers.conf.set_temp("auto_download", False),
    ):
        data.read_ms(str(pair[1]), run_check=False)
        written = data.uvw_array.copy()
        data._set_app_coords_helper()
        with pytest.warns(UserWarning, match="without adjusting visibility"):
            data.set_uvws_from_antenna_positions(update_vis=False)
    assert np.abs(written).max() > 1500
    np.testing.assert_allclose(data.uvw_array, written, atol=0.01)


def test_pyuvdata_refuses_the_raw_file_as_it_does_the_real_one(files: list[Path]) -> None:
    from pyuvdata import UVData

    with pytest.raises(ValueError, match="_uvw_array is not the appropriate type"):
        UVData.from_file(str(files[0]), file_type="uvh5")


def test_two_ata_files_become_one_measurement_set(shared_data: Path, tmp_path: Path) -> None:
    """3C286, 1252 to 1259.5 and 1260 to 1267.5 MHz, 28 antennas, one integration."""
    paths = sorted((shared_data / "uvh5").glob("ata.*.uvh5"))
    report = convert_foreign(paths, tmp_path / "ata.ms")
    assert report.writer_type == "pyuvdata"
    assert (report.n_rows, report.n_antennas, report.n_channels, report.n_times) == (406, 28, 32, 1)
    layout = read_layout(report.ms_path)
    assert layout.telescope_name == "ATA"
    assert layout.polarizations == ("XX", "XY", "YX", "YY")
    assert layout.phase_center_deg == pytest.approx((202.784529, 30.5091553), abs=1e-6)
    assert layout.frequencies_hz[[0, 16, 31]] == pytest.approx([1252e6, 1260e6, 1267.5e6])
    assert np.all(layout.antenna1 <= layout.antenna2)
    assert np.abs(read_column(layout, "DATA")).max() > 0
    assert flagged_fraction(layout) == 0
    with open_table(layout.path) as table:
        assert np.isfinite(table.getcol("SIGMA")).all()


def test_a_hera_drift_scan_is_phased_to_its_middle(shared_data: Path, tmp_path: Path) -> None:
    report = convert_foreign(sorted((shared_data / "uvh5").glob("zen.*.uvh5")), tmp_path / "hera.ms")
    layout = read_layout(report.ms_path)
    assert layout.telescope_name == "HERA"
    assert (layout.n_times, layout.n_baselines, layout.n_channels) == (20, 10, 4)
    assert layout.dec_app_deg == pytest.approx(-30.7215261, abs=1e-4)  # its latitude: the zenith
    assert np.isfinite(read_column(layout, "DATA")).all()
    positions = layout.antenna_positions_itrf_m
    lengths = np.linalg.norm(positions[layout.antenna1] - positions[layout.antenna2], axis=1)
    np.testing.assert_allclose(np.linalg.norm(layout.uvw_m, axis=2), np.tile(lengths, (20, 1)), atol=1e-3)
    w_middle = np.abs(layout.uvw_m[9:11, :, 2]).max(), np.abs(layout.uvw_m[0, :, 2]).max()
    assert w_middle[0] < w_middle[1]


def test_files_pyuvdata_cannot_read_are_named(tmp_path: Path) -> None:
    bad = tmp_path / "bad.uvh5"
    bad.write_bytes(b"nothing")
    with pytest.raises(CorruptInputError, match=r"pyuvdata cannot read bad\.uvh5") as caught:
        convert_foreign([bad], tmp_path / "x.ms", partition="p")
    assert caught.value.cure
    assert [p.name for p in tmp_path.iterdir()] == ["bad.uvh5"]
