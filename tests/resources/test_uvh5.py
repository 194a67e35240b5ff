"""Raw subbands: what a header says, how damage is called, and the fast reader against the HDF5 library."""

import shutil
from collections.abc import Callable
from pathlib import Path

import h5py
import numpy as np
import pytest
from raw_subband import DEC_APP_DEG, START_JD, meridian_uvw, raw_times, write_raw_subband

from dsa110_assets.science.instrument import HEADER_INTEGRATION_S, array_configuration
from dsa110_resources.errors import CorruptInputError, ForeignDataError
from dsa110_resources.uvh5 import read_baselines, read_group_time, read_header, read_visibilities
from dsa110_resources.uvh5_tiles import RawTiles, SubbandReader
from dsa110_resources.uvh5_writer import RawHeader, write_subband

SMALL = array_configuration("small")
N_BASELINES = len(SMALL.baselines()[0])


@pytest.fixture(scope="module")
def values() -> np.ndarray:
    rng = np.random.default_rng(7)
    shape = (SMALL.n_integrations, N_BASELINES, SMALL.n_channels, 2)
    return (rng.normal(size=shape) + 1j * rng.normal(size=shape)).astype(np.complex64)


@pytest.fixture(scope="module")
def subband(tmp_path_factory: pytest.TempPathFactory, values: np.ndarray) -> Path:
    path = tmp_path_factory.mktemp("raw") / "2026-01-25T22:26:01_sb03.hdf5"
    return write_raw_subband(path, SMALL, 3, visibilities=values)


@pytest.fixture
def own(subband: Path, tmp_path: Path) -> Path:
    """A copy to damage."""
    return Path(shutil.copy(subband, tmp_path))


def test_the_header_says_what_was_written(subband: Path) -> None:
    header = read_header(subband)
    assert header.telescope_name == "OVRO_MMA"
    assert header.time_start_jd == START_JD
    np.testing.assert_array_equal(header.times_jd, raw_times(SMALL))
    np.testing.assert_array_equal(header.frequencies_hz, SMALL.frequencies_hz(3))
    assert header.frequencies_hz[0] > header.frequencies_hz[-1]
    assert header.channel_width_hz == 1464843.75
    assert header.integration_s == HEADER_INTEGRATION_S
    assert header.polarizations == ("XX", "YY")
    assert (header.n_antennas, header.n_baselines, header.n_times, header.n_channels) == (32, 528, 8, 8)
    assert header.n_blts == 528 * 8
    assert header.antenna_names == SMALL.antenna_names
    np.testing.assert_array_equal(header.antenna_positions_m, SMALL.antenna_positions_m)
    assert header.dec_app_rad == np.radians(DEC_APP_DEG)
    assert header.file_size == subband.stat().st_size
    assert header.history.startswith("written by dsa110-meridian-fringestopping")
    assert read_group_time(subband) == START_JD


@pytest.mark.parametrize("kind", ["small", "full"])
def test_the_subband_is_known_by_its_frequencies_not_its_name(tmp_path: Path, kind: str) -> None:
    array = array_configuration(kind)
    for index in (0, 7, 15):
        path = tmp_path / "2026-01-25T22:26:01_sb99.hdf5"
        if kind == "small":
            assert read_header(write_raw_subband(path, array, index)).subband == index
        else:
            header = read_header(write_raw_subband(path, SMALL, index))
            object.__setattr__(header, "frequencies_hz", array.frequencies_hz(index))
            assert header.subband == index


def test_the_real_header_frequency_is_subband_zero() -> None:
    """First and last channel of a real header (sb00 to sb07 joined): 1498.643188... and 1405.137329... MHz."""
    full = array_configuration("full")
    assert full.frequencies_hz(0)[0] == 1498643188.4765625
    assert full.frequencies_hz(7)[47] == 1405137329.1015625


def test_the_simulator_writes_the_very_same_file(subband: Path, values: np.ndarray, tmp_path: Path) -> None:
    """Two writers from one description: same fields, types, shapes, values, and the same reading of them."""
    header = RawHeader(
        array=SMALL,
        frequencies_hz=SMALL.frequencies_hz(3),
        times_jd=raw_times(SMALL),
        dec_app_rad=np.radians(DEC_APP_DEG),
        applied_delays_ns=np.zeros((117, 2), np.int64),
        written_at="2026-01-25T14:26:00",
    )
    path = tmp_path / "simulated.hdf5"
    write_subband(path, header, values)

    def fields(file: h5py.File) -> dict[str, h5py.Dataset]:
        found: dict[str, h5py.Dataset] = {}
        file.visititems(lambda name, item: found.update({name: item}) if isinstance(item, h5py.Dataset) else None)
        return found

    with h5py.File(subband) as one, h5py.File(path) as other:
        ours, theirs = fields(one), fields(other)
        assert sorted(ours) == sorted(theirs)
        free_text = {"Header/extra_keywords/fs_table", "Header/extra_keywords/applied_delays_ns"}
        for name in set(ours) - free_text:
            assert (ours[name].dtype, ours[name].shape) == (theirs[name].dtype, theirs[name].shape), name
            if name == "Header/uvw_array":
                np.testing.assert_allclose(ours[name][()], theirs[name][()], atol=2e-4)
            else:
                np.testing.assert_array_equal(ours[name][()], theirs[name][()], err_msg=name)
    assert_fast_reader_gives(path, values)


def test_visibilities_come_back_in_the_file_s_order(subband: Path, values: np.ndarray) -> None:
    header = read_header(subband)
    visibilities, flags, nsamples = read_visibilities(header)
    np.testing.assert_array_equal(visibilities, values)
    assert not flags.any()
    assert np.all(nsamples == 96.0)
    part, _, _ = read_visibilities(header, times=slice(2, 5))
    np.testing.assert_array_equal(part, values[2:5])


def test_baselines_are_as_recorded_some_with_the_higher_antenna_first(subband: Path) -> None:
    baselines = read_baselines(read_header(subband))
    first, second = SMALL.baselines()
    np.testing.assert_array_equal(baselines.antenna1, first)
    np.testing.assert_array_equal(baselines.antenna2, second)
    assert np.any(baselines.antenna1 > baselines.antenna2)
    expected = meridian_uvw(SMALL, np.radians(DEC_APP_DEG))
    np.testing.assert_array_equal(baselines.uvw_m, expected.astype(np.float32))


def _edit(name: str, change: Callable[[h5py.File], None]) -> Callable[[Path], None]:
    def damage(path: Path) -> None:
        with h5py.File(path, "r+") as file:
            change(file)

    damage.__name__ = name
    return damage


def _replace(name: str, value: object) -> Callable[[h5py.File], None]:
    def change(file: h5py.File) -> None:
        del file[name]
        file[name] = value

    return change


def _truncate(size: int) -> Callable[[Path], None]:
    def damage(path: Path) -> None:
        with path.open("r+b") as handle:
            handle.truncate(size)

    return damage


DAMAGES = [
    pytest.param(_truncate(0), "empty", id="zero bytes"),
    pytest.param(_truncate(500_000), "truncated at 500000 bytes", id="truncated"),
    pytest.param(_truncate(40), "not a readable HDF5 file|truncated", id="truncated in the superblock"),
    pytest.param(lambda p: p.write_bytes(b"no such thing" * 100), "not a readable HDF5 file", id="not HDF5"),
    pytest.param(lambda p: p.unlink(), "cannot be read", id="vanished"),
    pytest.param(_edit("times", _replace("Header/Ntimes", 7)), "rows are not 7 times", id="wrong Ntimes"),
    pytest.param(_edit("vis", _replace("Data/visdata", np.zeros((5, 1, 8, 2), "c8"))), "visdata is", id="wrong shape"),
    pytest.param(_edit("gone", lambda f: f.__delitem__("Header/freq_array")), "damaged", id="missing field"),
    pytest.param(
        _edit("comb", lambda f: f["Header/freq_array"].__setitem__((0, 3), 1.4e9)), "even comb", id="uneven channels"
    ),
    pytest.param(
        _edit("band", lambda f: f["Header/freq_array"].__setitem__(0, f["Header/freq_array"][0] - 3e8)),
        "not one of this telescope",
        id="another band",
    ),
    pytest.param(_edit("dec", _replace("Header/extra_keywords/phase_center_dec", np.nan)), "no declination", id="dec"),
]


@pytest.mark.parametrize(("damage", "says"), DAMAGES)
def test_damage_is_named_with_file_and_cure(own: Path, damage: Callable[[Path], None], says: str) -> None:
    damage(own)
    with pytest.raises(CorruptInputError, match=says) as caught:
        read_header(own)
    assert caught.value.path == own
    assert caught.value.cure


@pytest.mark.parametrize("size", [0, 500_000, 40])
def test_the_group_time_of_a_broken_file_is_an_error_too(own: Path, size: int) -> None:
    _truncate(size)(own)
    with pytest.raises(CorruptInputError):
        read_group_time(own)


def test_every_truncation_of_a_file_is_noticed(own: Path) -> None:
    """The real one lost a third: 97,341,016 of 145,348,600 bytes."""
    size = own.stat().st_size
    for part in (0.97, 0.67, 0.3, 0.01):
        _truncate(int(size * part))(own)
        with pytest.raises(CorruptInputError, match="truncated"):
            read_header(own)


def test_data_that_were_never_written_are_noticed(own: Path) -> None:
    with h5py.File(own, "r+") as file:
        shape, chunks = file["Data/visdata"].shape, file["Data/visdata"].chunks
        del file["Data/visdata"]
        file["Data"].create_dataset("visdata", shape, "c8", chunks=chunks)
        file["Data/visdata"][:500] = 1.0
    with pytest.raises(CorruptInputError, match="not to its end"):
        read_header(own)


def test_a_node_without_its_clock_is_foreign(tmp_path: Path) -> None:
    """The writer falls back to MJD 55000.0 (2009-06-18) when etcd does not answer."""
    path = write_raw_subband(tmp_path / "2026-01-25T22:26:01_sb00.hdf5", SMALL, 0, start_jd=2455000.5)
    for read in (read_header, read_group_time):
        with pytest.raises(ForeignDataError, match="MJD 55000") as caught:
            read(path)
        assert caught.value.path == path


def test_another_telescope_is_foreign(tmp_path: Path, shared_data: Path) -> None:
    path = write_raw_subband(tmp_path / "2026-01-25T22:26:01_sb00.hdf5", SMALL, 0, telescope_name=b"OVRO_LWA")
    for foreign in (path, *sorted((shared_data / "uvh5").glob("*.uvh5"))):
        with pytest.raises(ForeignDataError, match="written by telescope"):
            read_header(foreign)


def test_changing_baselines_are_refused(own: Path) -> None:
    with h5py.File(own, "r+") as file:
        file["Header/ant_1_array"][N_BASELINES + 3] = 5
    with pytest.raises(CorruptInputError, match="baselines change"):
        read_baselines(read_header(own))


def test_rows_out_of_time_order_are_refused(own: Path) -> None:
    with h5py.File(own, "r+") as file:
        file["Header/time_array"][3] = file["Header/time_array"][-1]
    with pytest.raises(CorruptInputError, match="not ordered by time"):
        read_baselines(read_header(own))


def unfold(tiles: RawTiles, shape: tuple[int, int, int]) -> np.ndarray:
    """Look every value of a tiled array up."""
    vis = tiles.visibilities
    rows, channels, pols = vis.tile
    r, c, p = np.ix_(*(np.arange(n) for n in shape))
    r = r + vis.first_row
    start = vis.starts[r // rows, c // channels, p // pols]
    return vis.flat[start + ((r % rows) * channels + c % channels) * pols + p % pols]


def assert_fast_reader_gives(path: Path, values: np.ndarray) -> None:
    with SubbandReader(read_header(path)) as reader:
        for start, stop in ((0, 8), (0, 1), (3, 5), (7, 8)):
            tiles = reader.read(start, stop)
            expected = values[start:stop].reshape(-1, *values.shape[2:])
            np.testing.assert_array_equal(unfold(tiles, expected.shape), expected)
            assert tiles.flags is None
            np.testing.assert_array_equal(tiles.nsamples, np.full(len(expected), 96.0))


def _rewrite(path: Path, **layout: object) -> None:
    with h5py.File(path, "r+") as file:
        values = file["Data/visdata"][()]
        del file["Data/visdata"]
        file["Data"].create_dataset("visdata", data=values, **layout)


LAYOUTS = [
    pytest.param({"chunks": (128, 1, 2, 1), "maxshape": (None, 1, 8, 2)}, id="the writer's chunks"),
    pytest.param({"chunks": (100, 1, 3, 2)}, id="other chunks"),
    pytest.param({}, id="contiguous"),
    pytest.param({"chunks": (128, 1, 2, 1), "compression": "gzip"}, id="compressed"),
]


@pytest.mark.parametrize("layout", LAYOUTS)
def test_the_fast_reader_agrees_with_the_library(own: Path, values: np.ndarray, layout: dict[str, object]) -> None:
    _rewrite(own, **layout)
    assert_fast_reader_gives(own, values)


def test_the_fast_reader_copes_with_a_user_block(own: Path, values: np.ndarray) -> None:
    """Whatever stands before the HDF5 part of a file moves all its chunks."""
    moved = own.with_name("moved.hdf5")
    moved.write_bytes(b"\0" * 512 + own.read_bytes())
    assert_fast_reader_gives(moved, values)


@pytest.mark.parametrize("shift", [1, 3, 4])
def test_the_fast_reader_copes_with_odd_offsets(own: Path, values: np.ndarray, shift: int) -> None:
    with h5py.File(own, "r+") as file:
        file["Header/odd"] = np.bytes_(b"x" * (5000 + shift))
    _rewrite(own, chunks=(128, 1, 2, 1))
    assert_fast_reader_gives(own, values)


def test_the_fast_reader_copes_with_chunks_strewn_over_the_file(own: Path, values: np.ndarray) -> None:
    """As an appending writer leaves them: integrations of all three arrays by turns, here even back to front."""
    with h5py.File(own, "r+") as file:
        shape = file["Data/visdata"].shape
        del file["Data/visdata"]
        visdata = file["Data"].create_dataset("visdata", shape, "c8", chunks=(128, 1, 2, 1), maxshape=(None, 1, 8, 2))
        for row in range((shape[0] - 1) // 128 * 128, -1, -128):
            visdata[row : row + 128] = values.reshape(shape)[row : row + 128]
            file[f"Header/other{row}"] = np.zeros(20_000)
    assert_fast_reader_gives(own, values)


def test_recorded_flags_and_sample_counts_are_kept(own: Path) -> None:
    with h5py.File(own, "r+") as file:
        file["Data/flags"][700, 0, 3, 1] = True
        file["Data/nsamples"][N_BASELINES * 7 :] = 40.0
    with SubbandReader(read_header(own)) as reader:
        flags = reader.read(1, 3).flags
        assert flags is not None
        assert np.argwhere(flags).tolist() == [[700 - N_BASELINES, 3, 1]]
        assert reader.read(3, 8).flags is None
        np.testing.assert_array_equal(reader.read(6, 7).nsamples, 96.0)
        np.testing.assert_array_equal(reader.read(7, 8).nsamples, 40.0)


def test_a_file_that_shrinks_under_the_reader_is_an_error(own: Path) -> None:
    with SubbandReader(read_header(own)) as reader:
        _truncate(own.stat().st_size // 2)(own)
        with pytest.raises(CorruptInputError, match="shrank"):
            reader.read()
