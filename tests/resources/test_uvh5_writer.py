"""The raw format: every dataset, type, shape, chunk and limit of a real header."""

from concurrent.futures import ThreadPoolExecutor

import h5py
import numpy as np
import pytest

from dsa110_assets.science.instrument import array_configuration
from dsa110_resources.uvh5_writer import RawHeader, write_subband

DEC = np.radians(16.27)
UNLIMITED = None

# name: (dtype, shape, chunks) in a file of the small array; what has chunks grows along its first axis
HEADER_DATASETS = {
    "latitude": ("<f8", (), None),
    "longitude": ("<f8", (), None),
    "altitude": ("<f8", (), None),
    "telescope_name": ("|S8", (), None),
    "instrument": ("|S3", (), None),
    "object_name": ("|S6", (), None),
    "history": ("|S64", (), None),
    "phase_type": ("|S5", (), None),
    "phase_center_app_dec": ("<f8", (), None),
    "Nants_data": ("<i8", (), None),
    "Nants_telescope": ("<i8", (), None),
    "antenna_diameters": ("<f8", (117,), None),
    "ant_1_array": ("<i8", (4224,), (1024,)),
    "ant_2_array": ("<i8", (4224,), (1024,)),
    "antenna_names": ("|S4", (117,), None),
    "antenna_numbers": ("<i8", (117,), None),
    "Nbls": ("<i8", (), None),
    "Nblts": ("<i8", (), None),
    "Nfreqs": ("<i8", (), None),
    "Npols": ("<i8", (), None),
    "Ntimes": ("<i8", (), None),
    "Nspws": ("<i8", (), None),
    "uvw_array": ("<f4", (4224, 3), (512, 3)),
    "time_array": ("<f8", (4224,), (1024,)),
    "integration_time": ("<f8", (4224,), (1024,)),
    "freq_array": ("<f8", (1, 8), None),
    "channel_width": ("<f8", (), None),
    "spw_array": ("<i8", (1,), None),
    "polarization_array": ("<i8", (2,), None),
    "antenna_positions": ("<f8", (117, 3), None),
}
ABSENT = (
    "lst_array", "phase_center_app_ra", "phase_center_catalog", "phase_center_frame", "vis_units", "blt_order",
    "flex_spw", "x_orientation", "dut1", "gst0", "version",
)  # fmt: skip


def header_of(array, subband=3, dec=DEC):
    delays = np.zeros((117, 2), dtype=np.int64)
    delays[array.antenna_order] = 15734
    return RawHeader(
        array=array,
        frequencies_hz=array.frequencies_hz(subband),
        times_jd=2461066.43 + np.arange(array.n_integrations) * 1.49e-4,
        dec_app_rad=dec,
        applied_delays_ns=delays,
        written_at="2026-01-25T14:26:05",
    )


@pytest.fixture(scope="module")
def small_file(tmp_path_factory):
    array = array_configuration("small")
    rng = np.random.default_rng(1)
    vis = rng.standard_normal((8, 528, 8, 2, 2)).astype(np.float32).view(np.complex64)[..., 0]
    path = tmp_path_factory.mktemp("raw") / "2026-01-25T22:26:05_sb03.hdf5"
    write_subband(path, header_of(array), vis)
    with h5py.File(path) as file:
        yield file, vis, path


def test_header_holds_exactly_the_datasets_of_a_real_one(small_file):
    header = small_file[0]["Header"]
    assert set(header) == set(HEADER_DATASETS) | {"extra_keywords"}
    assert not set(ABSENT) & set(header)
    for name, (dtype, shape, chunks) in HEADER_DATASETS.items():
        dataset = header[name]
        assert (dataset.dtype.str, dataset.shape, dataset.chunks) == (dtype, shape, chunks), name
        assert dataset.maxshape == ((UNLIMITED, *shape[1:]) if chunks else shape), name
        assert dataset.compression is None


def test_fixed_strings_are_null_padded_and_the_epoch_is_a_variable_one(small_file):
    header = small_file[0]["Header"]
    assert header["telescope_name"][()] == b"OVRO_MMA"
    assert header["instrument"][()] == b"DSA"
    assert header["object_name"][()] == b"search"
    assert header["phase_type"][()] == b"drift"
    assert header["history"][()] == b"written by dsa110-meridian-fringestopping on 2026-01-25T14:26:05"
    assert header["antenna_names"][0] == b"1"
    assert header["antenna_names"][116] == b"117"
    assert header["telescope_name"].id.get_type().get_strpad() == h5py.h5t.STR_NULLPAD
    epoch = header["extra_keywords/phase_center_epoch"]
    assert h5py.check_string_dtype(epoch.dtype).length is None
    assert epoch[()] == b"HADEC"


def test_extra_keywords_alone_tell_the_true_declination(small_file):
    extra = small_file[0]["Header/extra_keywords"]
    assert set(extra) == {
        "phase_center_dec", "ha_phase_center", "phase_center_epoch", "fs_table", "applied_delays_ns",
    }  # fmt: skip
    assert extra["phase_center_dec"][()] == DEC
    assert extra["ha_phase_center"][()] == 0.0
    assert extra["fs_table"][()] == b"/home/ubuntu/data//fringestopping_table_dec16.3deg_32ant.npz"
    delays = extra["applied_delays_ns"][()].split()
    assert len(delays) == 234
    assert sum(d != b"0" for d in delays) == 64


def test_data_are_uncompressed_complex_with_real_chunks_and_no_quality_information(small_file):
    file, vis, _ = small_file
    data = file["Data"]
    assert set(data) == {"visdata", "flags", "nsamples"}
    expected = {
        "visdata": ("<c8", (128, 1, 8, 1)),
        "flags": ("|b1", (256, 1, 8, 1)),
        "nsamples": ("<f4", (256, 1, 8, 1)),
    }
    for name, (dtype, chunks) in expected.items():
        dataset = data[name]
        assert (dataset.dtype.str, dataset.chunks) == (dtype, chunks)
        assert dataset.shape == (4224, 1, 8, 2)
        assert dataset.maxshape == (None, 1, 8, 2)
        assert dataset.compression is None
    np.testing.assert_array_equal(data["visdata"][:], vis.reshape(4224, 1, 8, 2))
    assert not data["flags"][:].any()
    assert (data["nsamples"][:] == 96.0).all()


def test_values_of_the_axes(small_file):
    header = small_file[0]["Header"]
    frequency = header["freq_array"][0]
    assert (np.diff(frequency) < 0).all()
    assert header["channel_width"][()] == 1464843.75
    assert list(header["polarization_array"][:]) == [-5, -6]
    assert list(header["spw_array"][:]) == [1]
    assert (header["integration_time"][:] == 12.884902000427246).all()
    first, second = header["ant_1_array"][:], header["ant_2_array"][:]
    assert (first > second).any()
    assert (first < second).any()
    np.testing.assert_array_equal(first[:528], first[528:1056])
    times = header["time_array"][:].reshape(8, 528)
    assert (np.ptp(times, axis=1) == 0).all()


def test_uvw_is_the_meridian_formula_constant_in_time(small_file):
    header = small_file[0]["Header"]
    uvw = header["uvw_array"][:].reshape(8, 528, 3)
    assert (uvw == uvw[0]).all()
    positions = header["antenna_positions"][:]
    baseline = positions[header["ant_2_array"][:528]] - positions[header["ant_1_array"][:528]]
    longitude = np.radians(-118.2830000)
    x = baseline[:, 0] * np.cos(longitude) + baseline[:, 1] * np.sin(longitude)
    y = -baseline[:, 0] * np.sin(longitude) + baseline[:, 1] * np.cos(longitude)
    z = baseline[:, 2]
    expected = [y, -np.sin(DEC) * x + np.cos(DEC) * z, np.cos(DEC) * x + np.sin(DEC) * z]
    np.testing.assert_allclose(uvw[0], np.transpose(expected), atol=2e-4)


def test_pyuvdata_refuses_it_as_it_refuses_the_real_one(small_file):
    from pyuvdata import UVData

    path = small_file[2]
    with pytest.raises(ValueError, match=r"uvw_array is not the appropriate type.*float32"):
        UVData.from_file(path, file_type="uvh5")


@pytest.mark.filterwarnings("ignore")
def test_pyuvdata_without_checks_takes_the_drift_for_the_zenith(small_file):
    from pyuvdata import UVData

    data = UVData.from_file(small_file[2], file_type="uvh5", run_check=False)
    (entry,) = data.phase_center_catalog.values()
    assert entry["cat_type"] == "unprojected"
    assert entry["cat_name"] == "search"
    np.testing.assert_allclose(data.phase_center_app_dec, 0.64984551, atol=1e-6)
    assert data.extra_keywords["phase_center_dec"] == DEC
    assert (data.Nbls, data.Ntimes, data.Nfreqs) == (528, 8, 8)


def test_visibilities_of_the_wrong_size_are_refused(tmp_path):
    array = array_configuration("small")
    with pytest.raises(ValueError, match="do not fill"):
        write_subband(tmp_path / "x.hdf5", header_of(array), np.zeros((7, 528, 8, 2), np.complex64))


def test_full_file_has_the_logical_size_and_chunks_of_the_real_one(tmp_path):
    """139,456,512 bytes of data arrays, about 145.3 MB of file (145,348,600 in 6272 of 6276 real groups / 16)."""
    array = array_configuration("full")
    path = tmp_path / "full.hdf5"
    write_subband(path, header_of(array, dec=np.radians(71.66)), np.zeros((24, 4656, 48, 2), np.complex64))
    with h5py.File(path) as file:
        data = file["Data"]
        assert data["visdata"].shape == (111744, 1, 48, 2)
        assert data["visdata"].chunks == (128, 1, 12, 1)
        assert data["flags"].chunks == (256, 1, 24, 1)
        assert data["nsamples"].chunks == (256, 1, 12, 1)
        assert sum(data[name].size * data[name].dtype.itemsize for name in data) == 139_456_512
        header = file["Header"]
        assert header["freq_array"][0, 0] == 1498643188.4765625 - 3 * 48 * 244140.625
        assert header["channel_width"][()] == 244140.625
        assert int(header["Nblts"][()]) == 111744
        uv_length = np.hypot(*header["uvw_array"][:4656, :2].T)
        assert np.abs(header["uvw_array"][:4656]).max() == pytest.approx(1828.1, abs=0.1)
        assert uv_length.max() > 1828.0
    assert path.stat().st_size == pytest.approx(145_348_600, abs=5000)


def test_writing_from_threads_gives_the_same_file(tmp_path):
    array = array_configuration("small")
    vis = np.arange(8 * 528 * 8 * 2, dtype=np.complex64).reshape(8, 528, 8, 2)
    paths = [tmp_path / f"{k}.hdf5" for k in range(4)]
    with ThreadPoolExecutor(2) as threads:
        list(threads.map(lambda p: write_subband(p, header_of(array), vis), paths))
    assert len({p.read_bytes() for p in paths}) == 1
