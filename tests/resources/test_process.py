"""Commands: output, time-outs that leave nobody behind, typed errors."""

import os
import sys
import time
from pathlib import Path

import pytest

from dsa110_resources.errors import ExternalToolError, ExternalToolMissingError
from dsa110_resources.process import parent_death_prefix, run_command


def is_alive(pid: int) -> bool:
    """Whether a process runs (a zombie does not)."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
    except FileNotFoundError:
        return False


def wait_until_dead(pid: int, seconds: float = 5.0) -> bool:
    deadline = time.monotonic() + seconds
    while is_alive(pid) and time.monotonic() < deadline:
        time.sleep(0.02)
    return not is_alive(pid)


def test_output_goes_to_result_and_log(tmp_path: Path) -> None:
    log = tmp_path / "run.log"
    result = run_command(
        ["sh", "-c", "echo out; echo err >&2; printf '10%%\\r20%%\\rdone'"], timeout_s=10, log_path=log, cwd=tmp_path
    )
    assert result.last_lines == ("out", "err", "10%", "20%", "done")
    assert log.read_text().splitlines() == ["out", "err", "10%", "20%", "done"]
    assert 0 <= result.seconds < 10


def test_directory_and_environment(tmp_path: Path) -> None:
    result = run_command(["sh", "-c", 'pwd; echo "$WORD"'], timeout_s=10, cwd=tmp_path, env_extra={"WORD": "seen"})
    assert result.last_lines == (str(tmp_path.resolve()), "seen")


def test_arguments_are_never_a_shell_line(tmp_path: Path) -> None:
    result = run_command(["echo", "a b; $HOME", tmp_path], timeout_s=10)
    assert result.last_lines == (f"a b; $HOME {tmp_path}",)


def test_only_the_last_lines_are_kept_and_all_are_logged(tmp_path: Path) -> None:
    result = run_command(["seq", "1", "5000"], timeout_s=20, log_path=tmp_path / "log")
    assert result.last_lines == tuple(str(n) for n in range(4961, 5001))
    assert len((tmp_path / "log").read_text().splitlines()) == 5000


def test_failure_tells_status_and_last_words() -> None:
    with pytest.raises(ExternalToolError, match=r"sh failed with status 3; last lines: no such gridder"):
        run_command(["sh", "-c", "echo no such gridder; exit 3"], timeout_s=10)


def test_a_crash_names_the_signal() -> None:
    with pytest.raises(ExternalToolError, match="SIGSEGV"):
        run_command(["sh", "-c", "kill -SEGV $$"], timeout_s=10)


def test_a_missing_program_is_permanent_and_has_a_cure() -> None:
    with pytest.raises(ExternalToolMissingError, match=r"not installed.*dsa110 doctor"):
        run_command(["no-such-program-here"], timeout_s=1)


def test_time_out_kills_the_grandchildren_too(tmp_path: Path) -> None:
    script = f"sleep 300 & echo $! > {tmp_path}/pid; trap '' TERM; sleep 300"
    started = time.monotonic()
    with pytest.raises(ExternalToolError, match="stopped after 1 s"):
        run_command(["sh", "-c", script], timeout_s=1)
    assert time.monotonic() - started < 20
    assert wait_until_dead(int((tmp_path / "pid").read_text()))


def test_a_program_that_leaves_a_child_with_the_pipe_does_not_hold_us(tmp_path: Path) -> None:
    started = time.monotonic()
    run_command(["sh", "-c", f"sleep 300 & echo $! > {tmp_path}/pid"], timeout_s=60)
    assert time.monotonic() - started < 10
    assert wait_until_dead(int((tmp_path / "pid").read_text()))


@pytest.mark.skipif(not parent_death_prefix(), reason="setpriv (util-linux) is not installed")
def test_a_killed_parent_takes_its_program_along(tmp_path: Path) -> None:
    """A run that is SIGKILLed must not leave an imager writing into the Measurement Set."""
    code = (
        "from dsa110_resources.process import run_command;"
        f"run_command(['sh', '-c', 'echo $$ > {tmp_path}/pid; exec sleep 300'], timeout_s=300)"
    )
    parent = os.posix_spawn(
        sys.executable,
        ["python", "-c", code],
        {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])},
    )
    deadline = time.monotonic() + 30
    while not (tmp_path / "pid").exists() and time.monotonic() < deadline:
        time.sleep(0.05)
    time.sleep(0.2)
    os.kill(parent, 9)
    os.waitpid(parent, 0)
    assert wait_until_dead(int((tmp_path / "pid").read_text()))
