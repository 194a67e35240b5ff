"""Measurement Sets as arrays: regular and irregular tables, whoever wrote them; columns, blocks, lock and marker."""

import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from raw_subband import write_raw_subband

from dsa110_assets.science.instrument import array_configuration
from dsa110_resources.casa import run_casa_task
from dsa110_resources.casacore_tables import open_table
from dsa110_resources.conversion import convert_group
from dsa110_resources.errors import CorruptInputError, LockedError, PermanentError
from dsa110_resources.measurement_set import (
    flagged_fraction,
    has_column,
    iter_times,
    marker_path,
    open_ms,
    read_column,
    read_layout,
    require_consistent,
    rewriting,
    write_column,
)

SMALL = array_configuration("small")
N_TIME, N_BASELINE, N_CHANNEL = 8, 528, 128


def noise_set(folder: Path, subbands: tuple[int, ...]) -> Path:
    rng = np.random.default_rng(5)
    files = []
    for subband in subbands:
        noise = rng.normal(size=(N_TIME, N_BASELINE, 8, 2, 2)).astype(np.float32).view(np.complex64)[..., 0]
        files.append(write_raw_subband(folder / f"x_sb{subband:02d}.hdf5", SMALL, subband, visibilities=noise))
    convert_group(files, folder / "original.ms")
    return folder / "original.ms"


@pytest.fixture(scope="module")
def original(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two subbands of noise; 14 are missing."""
    return noise_set(tmp_path_factory.mktemp("set"), (3, 4))


@pytest.fixture
def ms(original: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(original, tmp_path / "own.ms"))


def test_slices_of_time_and_channel_are_parts_of_the_whole(original: Path) -> None:
    for name in ("DATA", "FLAG", "WEIGHT_SPECTRUM"):
        whole = read_column(original, name)
        assert whole.shape == (N_TIME, N_BASELINE, N_CHANNEL, 2)
        for times, channels in (
            (slice(2, 5), slice(None)),
            (slice(None), slice(85, 99)),
            (slice(-1, None), slice(0, 1)),
            (slice(3, 3), slice(5, 9)),
            (slice(6, 99), slice(120, 200)),
        ):
            part = read_column(original, name, times=times, channels=channels)
            np.testing.assert_array_equal(part, whole[times, :, channels])
            assert part.dtype == whole.dtype


def test_blocks_cover_the_table_once_in_order(original: Path) -> None:
    whole = read_column(original, "DATA")
    seen = 0
    for times, columns in iter_times(original, ["DATA", "FLAG"], block=3):
        assert times.start == seen
        np.testing.assert_array_equal(columns["DATA"], whole[times])
        assert columns["FLAG"].shape == columns["DATA"].shape
        seen = times.stop
    assert seen == N_TIME


def test_columns_are_made_when_first_written(ms: Path) -> None:
    layout = read_layout(ms)
    data = read_column(layout, "DATA")
    assert not has_column(ms, "CORRECTED_DATA")
    with pytest.raises(PermanentError, match="no column CORRECTED_DATA"):
        read_column(ms, "CORRECTED_DATA")
    with rewriting(ms):
        write_column(ms, "CORRECTED_DATA", 2 * data)
        write_column(ms, "MODEL_DATA", data[2:4] + 1j, times=slice(2, 4))
    assert has_column(ms, "CORRECTED_DATA")
    np.testing.assert_array_equal(read_column(ms, "CORRECTED_DATA"), 2 * data)
    model = read_column(ms, "MODEL_DATA")
    np.testing.assert_array_equal(model[2:4], data[2:4] + 1j)
    assert not model[:2].any()
    assert not model[4:].any()
    np.testing.assert_array_equal(read_column(ms, "DATA"), data)
    with pytest.raises(PermanentError, match="no column NOISE"):
        write_column(ms, "NOISE", data)
    with pytest.raises(PermanentError, match="was given, not"):
        write_column(ms, "DATA", data[:, :5])


def test_reading_blocks_and_writing_them_back_interleaves(ms: Path) -> None:
    flags = read_column(ms, "FLAG")
    with open_ms(ms, write=True) as opened:
        for t in range(N_TIME):
            block = opened.read("DATA", times=slice(t, t + 1))
            opened.write("CORRECTED_DATA", block * (t + 1), times=slice(t, t + 1))
            opened.write("FLAG", ~opened.read("FLAG", times=slice(t, t + 1)), times=slice(t, t + 1))
    for times, columns in iter_times(ms, ["DATA"], block=4):
        write_column(ms, "MODEL_DATA", -columns["DATA"], times=times)
    data = read_column(ms, "DATA")
    scale = np.arange(1, N_TIME + 1)[:, None, None, None]
    np.testing.assert_allclose(read_column(ms, "CORRECTED_DATA"), data * scale)
    np.testing.assert_array_equal(read_column(ms, "MODEL_DATA"), -data)
    np.testing.assert_array_equal(read_column(ms, "FLAG"), ~flags)


def test_flag_row_counts_as_flag(ms: Path) -> None:
    layout = read_layout(ms)
    with open_table(ms, write=True) as table:
        rows = np.zeros(N_TIME * N_BASELINE, bool)
        rows[3 * N_BASELINE : 4 * N_BASELINE] = True
        table.putcol("FLAG_ROW", rows)
    assert read_column(ms, "FLAG")[3].all()
    assert flagged_fraction(layout) == pytest.approx(14 / 16 + 2 / 16 / 8)


def test_missing_and_shuffled_rows_become_flagged_slots(ms: Path, tmp_path: Path) -> None:
    rng = np.random.default_rng(1)
    layout = read_layout(ms)
    data, flags = read_column(ms, "DATA"), read_column(ms, "FLAG")
    keep = rng.permutation(N_TIME * N_BASELINE)[:-700]
    with open_table(ms) as table:
        table.selectrows(keep).copy(str(tmp_path / "irregular.ms"), deep=True).close()
    irregular = read_layout(tmp_path / "irregular.ms")
    assert irregular.rows is not None
    np.testing.assert_array_equal(irregular.times_mjd, layout.times_mjd)
    np.testing.assert_array_equal(irregular.antenna1, layout.antenna1)
    np.testing.assert_array_equal(irregular.antenna2, layout.antenna2)
    present = np.zeros(N_TIME * N_BASELINE, bool)
    present[keep] = True
    present = present.reshape(N_TIME, N_BASELINE)
    np.testing.assert_array_equal(irregular.rows >= 0, present)
    np.testing.assert_array_equal(irregular.uvw_m[present], layout.uvw_m[present])
    assert np.isnan(irregular.uvw_m[~present]).all()
    for times in (slice(None), slice(5, 7)):
        got = read_column(irregular, "DATA", times=times)
        np.testing.assert_array_equal(got, np.where(present[times, :, None, None], data[times], 0))
        got = read_column(irregular, "FLAG", times=times)
        np.testing.assert_array_equal(got, flags[times] | ~present[times, :, None, None])
        assert np.all(read_column(irregular, "WEIGHT_SPECTRUM", times=times)[~present[times]] == 0)
    write_column(irregular, "CORRECTED_DATA", 3 * data)
    expected = np.where(present[..., None, None], 3 * data, 0)
    np.testing.assert_array_equal(read_column(irregular, "CORRECTED_DATA"), expected)


def test_a_baseline_twice_at_one_time_is_refused(ms: Path) -> None:
    with open_table(ms, write=True) as table:
        table.putcell("ANTENNA2", 1, table.getcell("ANTENNA2", 2))
    with pytest.raises(CorruptInputError, match="twice"):
        read_layout(ms)


def test_descending_channels_are_turned_round(ms: Path) -> None:
    layout, data = read_layout(ms), read_column(ms, "DATA")
    with open_table(ms / "SPECTRAL_WINDOW", write=True) as table:
        table.putcol("CHAN_FREQ", table.getcol("CHAN_FREQ")[:, ::-1].copy())
        table.putcol("CHAN_WIDTH", -table.getcol("CHAN_WIDTH"))
    turned = read_layout(ms)
    assert turned.descending
    np.testing.assert_array_equal(turned.frequencies_hz, layout.frequencies_hz)
    assert turned.channel_width_hz == layout.channel_width_hz
    np.testing.assert_array_equal(read_column(turned, "DATA"), data[:, :, ::-1])
    part = read_column(turned, "DATA", channels=slice(20, 50))
    np.testing.assert_array_equal(part, data[:, :, ::-1][:, :, 20:50])
    write_column(turned, "DATA", data)
    np.testing.assert_array_equal(read_column(turned, "DATA"), data)
    with open_table(ms) as table:
        np.testing.assert_array_equal(table.getcol("DATA").reshape(data.shape), data[:, :, ::-1])


def test_several_spectral_windows_are_refused(ms: Path) -> None:
    with open_table(ms, write=True) as table:
        table.putcell("DATA_DESC_ID", 0, 1)
    with pytest.raises(PermanentError, match="one spectral window"):
        read_layout(ms)


def test_what_is_no_measurement_set_is_said(tmp_path: Path) -> None:
    with pytest.raises(CorruptInputError, match="not a readable casacore table"):
        read_layout(tmp_path / "nothing.ms")


def test_tables_without_our_keywords_are_read(ms: Path) -> None:
    layout = read_layout(ms)
    with open_table(ms, write=True) as table:
        for keyword in ("DSA110_GROUP_ID", "DSA110_DEC_APP_DEG", "DSA110_MISSING_SUBBANDS"):
            table.removekeyword(keyword)
    plain = read_layout(ms)
    assert plain.group_id == layout.group_id
    assert plain.dec_app_deg == pytest.approx(layout.dec_app_deg, abs=1e-4)
    assert plain.missing_subbands == ()
    assert not plain.missing_channels.any()


def test_casa_lists_splits_and_flags_without_complaint(ms: Path, tmp_path: Path) -> None:
    summary = run_casa_task("flagdata", vis=str(ms), mode="summary")
    assert summary["total"] == N_TIME * N_BASELINE * N_CHANNEL * 2
    assert summary["flagged"] == np.count_nonzero(read_column(ms, "FLAG"))
    listing = tmp_path / "list.txt"
    run_casa_task("listobs", vis=str(ms), listfile=str(listing))
    text = listing.read_text()
    for fact in ("OVRO_MMA", "drift_2026-01-25", "XX  YY", "Antennas: 32", "ICRS", "1311.998"):
        assert fact in text
    split = tmp_path / "split.ms"
    run_casa_task("split", vis=str(ms), outputvis=str(split), datacolumn="data", spw="0:80~95", keepflags=True)
    layout = read_layout(split)
    assert layout.n_channels == 16
    cross = ~layout.autocorrelations
    np.testing.assert_array_equal(read_column(layout, "DATA")[:, cross], read_column(ms, "DATA")[:, cross, 80:96])
    assert layout.group_id == "2026-01-25T22:26:00"


@pytest.mark.skipif(shutil.which("wsclean") is None, reason="WSClean is not installed")
def test_wsclean_images_it(ms: Path, tmp_path: Path) -> None:
    command = ["wsclean", "-use-wgridder", "-size", "128", "128", "-scale", "10asec", "-name", str(tmp_path / "im")]
    done = subprocess.run([*command, "-data-column", "DATA", str(ms)], capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    assert "Gridded visibility count: 63488" in done.stdout  # 8 times, 496 crosses, 16 channels of Stokes I
    complaints = [line for line in (done.stdout + done.stderr).splitlines() if "warning" in line.lower()]
    assert complaints == []


@pytest.mark.skipif(shutil.which("aoflagger") is None, reason="AOFlagger is not installed")
def test_aoflagger_flags_it(tmp_path: Path) -> None:
    ms = noise_set(tmp_path, tuple(range(16)))
    done = subprocess.run(["aoflagger", str(ms)], capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    assert 0 < flagged_fraction(ms) < 0.1


# --- one writer at a time ---------------------------------------------------------------------------------------------

HOLD = """
import sys, time
from pathlib import Path
from dsa110_resources.measurement_set import rewriting
with rewriting(Path(sys.argv[1]), step="flag"):
    print("held", flush=True)
    time.sleep(60)
"""


@pytest.fixture
def writer(tmp_path: Path) -> Iterator["subprocess.Popen[str]"]:
    """Another process that holds ``own.ms`` for rewriting."""
    process = subprocess.Popen(
        [sys.executable, "-c", HOLD, str(tmp_path / "own.ms")], stdout=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "held\n"
    yield process
    process.kill()
    process.wait()
    process.stdout.close()


def test_a_second_writer_waits_or_is_turned_away(tmp_path: Path, writer: "subprocess.Popen[str]") -> None:
    ms = tmp_path / "own.ms"
    with pytest.raises(LockedError, match="another process is writing"), rewriting(ms, step="flag"):
        pytest.fail("two writers")
    with pytest.raises(LockedError):
        require_consistent(ms)
    start = time.monotonic()
    with pytest.raises(LockedError), rewriting(ms, step="flag", timeout_s=0.5):
        pytest.fail("two writers")
    assert time.monotonic() - start >= 0.5


def test_a_killed_writer_leaves_evidence_and_only_its_own_step_goes_on(
    tmp_path: Path, writer: "subprocess.Popen[str]"
) -> None:
    ms = tmp_path / "own.ms"
    os.kill(writer.pid, signal.SIGKILL)
    writer.wait()
    with pytest.raises(PermanentError, match=f"flag \\(process {writer.pid}.*did not finish"):
        require_consistent(ms)
    with pytest.raises(PermanentError, match="half rewritten"), rewriting(ms, step="calibrate"):
        pytest.fail("another step took a half rewritten table")
    with rewriting(ms, step="flag"):
        assert marker_path(ms).exists()
    require_consistent(ms)
    assert not marker_path(ms).exists()
    with rewriting(ms, step="calibrate"):
        pass


def test_an_exception_leaves_the_marker(tmp_path: Path) -> None:
    ms = tmp_path / "own.ms"
    with pytest.raises(ValueError, match="half way"), rewriting(ms, step="apply"):
        raise ValueError("half way")
    with pytest.raises(PermanentError, match="apply"):
        require_consistent(ms)
    marker_path(ms).write_text("not JSON")
    with pytest.raises(PermanentError, match="half rewritten"):
        require_consistent(ms)


def test_many_writers_in_turn_never_meet(tmp_path: Path) -> None:
    """Locking, removing and recreating the marker at once in four processes: each adds one hundred to the sum."""
    counter = tmp_path / "count"
    counter.write_text("0")
    script = (
        "import sys\nfrom pathlib import Path\nfrom dsa110_resources.measurement_set import rewriting\n"
        "from dsa110_resources import ms_rewriting\nms_rewriting._POLL_S = 0.001\n"
        "ms, counter = Path(sys.argv[1]), Path(sys.argv[2])\n"
        "for _ in range(100):\n"
        "    with rewriting(ms, timeout_s=60):\n"
        "        counter.write_text(str(int(counter.read_text()) + 1))\n"
    )
    command = [sys.executable, "-c", script, str(tmp_path / "own.ms"), str(counter)]
    workers = [subprocess.Popen(command) for _ in range(4)]
    assert [worker.wait(timeout=120) for worker in workers] == [0, 0, 0, 0]
    assert counter.read_text() == "400"
