"""CASA in its child process: configuration of its own, errors in its own words, crashes and time-outs contained."""

import os
import signal
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from dsa110_resources.casa import CasaSession, casa_environment, read_complaints
from dsa110_resources.errors import ExternalToolError


@pytest.fixture(scope="module")
def session(tmp_path_factory: pytest.TempPathFactory) -> Iterator[CasaSession]:
    """One child for the tests that leave it alive (import costs seconds)."""
    with CasaSession(log_dir=tmp_path_factory.mktemp("casa-log")) as casa:
        yield casa


def test_environment_is_configured_by_one_generated_file(tmp_path: Path) -> None:
    environment = casa_environment({"PATH": "/bin", "HOME": "/root"}, tmp_path / "site.py", tmp_path, 2)
    assert environment == {
        "PATH": "/bin",
        "HOME": str(tmp_path),
        "CASASITECONFIG": str(tmp_path / "site.py"),
        "MPLCONFIGDIR": str(tmp_path),
        "MPLBACKEND": "Agg",
        "OMP_NUM_THREADS": "2",
        "OPENBLAS_NUM_THREADS": "1",
    }


def test_a_task_fails_in_its_own_words_and_the_session_goes_on(session: CasaSession, tmp_path: Path) -> None:
    with pytest.raises(ExternalToolError, match=r"CASA listobs failed: .*does not exist") as caught:
        session.run("listobs", vis=tmp_path / "nothing.ms")
    assert caught.value.path == session.log_path
    child = session.pid
    with pytest.raises(ExternalToolError, match="no_such_task"):
        session.run("no_such_task")
    assert session.pid == child


def test_values_come_back_as_plain_data(session: CasaSession) -> None:
    """imstat-like results hold arrays; the smallest task that returns some is ``imhead`` of a tiny image."""
    cube = session.workdir / "tiny.fits"
    from astropy.io import fits

    header = fits.Header()
    for axis, (kind, unit, delta) in enumerate((("RA---SIN", "deg", -0.01), ("DEC--SIN", "deg", 0.01)), start=1):
        header[f"CTYPE{axis}"], header[f"CUNIT{axis}"], header[f"CDELT{axis}"] = kind, unit, delta
        header[f"CRPIX{axis}"], header[f"CRVAL{axis}"] = 3.0, 40.0
    fits.PrimaryHDU(np.arange(20, dtype=np.float32).reshape(4, 5), header).writeto(cube)
    statistics = session.run("imstat", imagename=cube)
    assert statistics["max"] == [19.0]
    assert statistics["maxpos"] == [4, 3]
    np.testing.assert_allclose(statistics["mean"], [9.5])


def test_nothing_is_littered_outside_its_own_directories(session: CasaSession, tmp_path: Path) -> None:
    here = set(Path.cwd().iterdir())
    home = Path("~/.casa").expanduser()
    before = set(home.rglob("*")) if home.exists() else set()
    with pytest.raises(ExternalToolError):
        session.run("listobs", vis=tmp_path)
    assert {p for p in set(Path.cwd().iterdir()) - here if p.name.startswith("casa")} == set()
    assert (set(home.rglob("*")) if home.exists() else set()) == before
    assert session.log_path.exists()


def test_a_time_out_ends_the_child_and_the_next_task_gets_a_new_one(tmp_path: Path) -> None:
    with CasaSession(log_dir=tmp_path) as casa:
        started = time.monotonic()
        with pytest.raises(ExternalToolError, match="stopped at its time-out"):
            casa.run("listobs", vis="/", timeout_s=0.05)
        assert time.monotonic() - started < 10
        assert casa.pid is None
        with pytest.raises(ExternalToolError, match="failed"):
            casa.run("listobs", vis=tmp_path / "nothing.ms")
        workdir = casa.workdir
    assert not workdir.exists()


def test_a_crash_is_an_error_not_the_end(tmp_path: Path) -> None:
    """The worker is killed as a segmentation fault would."""
    with CasaSession(log_dir=tmp_path) as casa:
        with pytest.raises(ExternalToolError, match="failed"):
            casa.run("listobs", vis=tmp_path / "nothing.ms")
        child = casa.pid
        assert child is not None
        os.kill(child, signal.SIGSTOP)  # so that it dies with the request in hand
        threading.Timer(0.3, lambda: [os.kill(child, number) for number in (signal.SIGSEGV, signal.SIGCONT)]).start()
        with pytest.raises(ExternalToolError, match=r"CASA crashed in listobs \(signal SIGSEGV\)"):
            casa.run("listobs", vis=tmp_path / "nothing.ms")
        with pytest.raises(ExternalToolError, match="failed"):  # a new child answers
            casa.run("listobs", vis=tmp_path / "nothing.ms")
        assert casa.pid != child


def test_complaints_leave_out_the_known_noise(tmp_path: Path) -> None:
    log = tmp_path / "casa.log"
    log.write_text(
        "2026-01-01 00:00:00\tINFO\tgaincal::::\tfine\n"
        "2026-01-01 00:00:00\tSEVERE\tMeasTable::dUTC(Double)\tLeap second table TAI_UTC seems out-of-date.\n"
        "2026-01-01 00:00:01\tWARN\tgaincal::::\tInsufficient unflagged antennas\n"
        "2026-01-01 00:00:02\tSEVERE\tcalibrater::solve\tFailed to solve\n"
    )
    said = read_complaints(log, 0)
    assert said == "WARN gaincal:::: Insufficient unflagged antennas | SEVERE calibrater::solve Failed to solve"
    assert read_complaints(log, log.stat().st_size) == "(nothing)"
