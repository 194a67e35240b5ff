"""The doctor on machines that lack one thing each."""

from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import pytest

from dsa110_resources.doctor import (
    CASA_TABLES,
    Examination,
    Finding,
    Machine,
    examine,
    file_system_of,
    find_module,
    nearest_existing,
)
from dsa110_resources.settings import Settings

LEVELS = {"ok": 0, "warning": 1, "error": 2}


@pytest.fixture
def whole(tmp_path: Path) -> Machine:
    """A machine that lacks nothing, in July 2026, with Earth orientation tables to January 2027."""
    package = tmp_path / "packages"
    for table in CASA_TABLES:
        (package / "__data__" / table).mkdir(parents=True)
    (package / "data").mkdir()
    rows = [
        f"27 1 {day} 614{mjd:02d}.00 P  {pole:9} "
        for day, mjd, pole in ((1, 6, "0.123456"), (2, 7, "0.123456"), (3, 8, ""))
    ]
    (package / "data" / "finals2000A.all").write_text("\n".join(rows) + "\n", encoding="ascii")
    return Machine(
        find_program=lambda name: f"/usr/bin/{name}",
        find_module=lambda _name: package,
        free_bytes=lambda _path: 500_000_000_000,
        file_system=lambda _path: "ext4",
        can_write=lambda _path: True,
        now=lambda: datetime(2026, 7, 1, tzinfo=UTC),
    )


@pytest.fixture
def settings(monkeypatch: pytest.MonkeyPatch) -> Settings:
    """Settings of an archive with an incoming folder, outside /tmp as far as names go."""
    root = Path("archive")
    return Settings(data_root=root, state_root=root)


@pytest.fixture(autouse=True)
def _workplace(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "work" / "archive" / "incoming").mkdir(parents=True)
    monkeypatch.chdir(tmp_path / "work")


def found(examination: Examination, topic: str) -> Finding:
    """Return the gravest finding of a topic."""
    return max((f for f in examination.findings if f.topic == topic), key=lambda f: LEVELS[f.level])


def test_a_whole_machine_is_ready(settings: Settings, whole: Machine) -> None:
    examination = examine(settings, whole)
    readiness = examination.readiness()
    assert readiness["ok"] is True
    assert {"casa_ok", "disk_ok", "db_ok", "write_ok", "state_ok", "ms_ok", "imager_ok"} <= set(readiness)
    assert all(value for key, value in readiness.items() if key.endswith("_ok"))
    assert readiness["errors"] == []
    assert readiness["install"] == ""
    assert not (Path("archive") / "operations.sqlite3").exists()


def test_missing_debian_packages_make_one_line(settings: Settings, whole: Machine) -> None:
    bare = replace(whole, find_program=lambda _name: None, find_module=_without(whole, "aoflagger"))
    examination = examine(settings, bare)
    assert examination.is_ok
    assert examination.install_line == "sudo apt-get install aoflagger wsclean"
    assert found(examination, "imager").level == "warning"
    wanted = examine(settings.model_copy(update={"imager": "wsclean", "flagging_strategy": "aoflagger"}), bare)
    assert not wanted.is_ok
    assert wanted.readiness()["imager_ok"] is False
    assert wanted.readiness()["flagger_ok"] is False
    assert "DSA110_IMAGER=native" in found(wanted, "imager").cure


def test_the_wheel_of_aoflagger_is_enough(settings: Settings, whole: Machine) -> None:
    examination = examine(settings, replace(whole, find_program=lambda _name: None))
    assert found(examination, "flagger").message.startswith("AOFlagger is installed as a Python package")


@pytest.mark.parametrize(
    ("lacking", "topic", "message"),
    [
        ("duckdb", "python", "Python packages are missing: duckdb"),
        ("casatasks", "casa", "CASA packages are missing: casatasks"),
        ("astropy_iers_data", "earth", "Earth orientation tables are missing"),
    ],
)
def test_a_missing_python_package_is_named(
    settings: Settings, whole: Machine, lacking: str, topic: str, message: str
) -> None:
    examination = examine(settings, replace(whole, find_module=_without(whole, lacking)))
    assert not examination.is_ok
    assert found(examination, topic).message == message
    assert "make setup" in found(examination, topic).cure


def test_casa_without_its_tables_is_not_ready(settings: Settings, whole: Machine, tmp_path: Path) -> None:
    (tmp_path / "packages" / "__data__" / "geodetic" / "TAI_UTC").rmdir()
    assert found(examine(settings, whole), "casa").message == "CASA data lack geodetic/TAI_UTC"


@pytest.mark.parametrize(
    ("now", "level", "message"),
    [
        (datetime(2026, 7, 1, tzinfo=UTC), "ok", "reach 185 days ahead"),
        (datetime(2026, 12, 20, tzinfo=UTC), "warning", "reach 13 days ahead"),
        (datetime(2027, 1, 12, tzinfo=UTC), "warning", "ended 10 days ago"),
    ],
)
def test_old_earth_orientation_tables_warn(
    settings: Settings, whole: Machine, now: datetime, level: str, message: str
) -> None:
    finding = found(examine(settings, replace(whole, now=lambda: now)), "earth")
    assert finding.level == level
    assert message in finding.message


@pytest.mark.parametrize(("free_gb", "level"), [(250, "ok"), (150, "warning"), (50, "error")])
def test_free_disk_is_judged_by_the_limits(settings: Settings, whole: Machine, free_gb: int, level: str) -> None:
    examination = examine(settings, replace(whole, free_bytes=lambda _path: free_gb * 10**9))
    finding = found(examination, "disk")
    assert finding.level == level
    assert finding.message.startswith(f"{free_gb} GB are free")
    assert examination.readiness()["disk_ok"] is (level != "error")


@pytest.mark.parametrize(
    ("folder", "kind", "message"),
    [
        ("archive", "tmpfs", "lies on scratch (on tmpfs)"),
        ("scratch/state", "ext4", "lies on scratch (under a folder called scratch)"),
        ("archive", "nfs4", "lies on nfs4: SQLite locks are not safe there"),
        ("archive", "fuseblk", "lies on fuseblk"),
    ],
)
def test_state_on_scratch_or_on_a_network_warns(
    settings: Settings, whole: Machine, folder: str, kind: str, message: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("dsa110_resources.doctor.SCRATCH_NAMES", frozenset({"scratch"}))
    placed = settings.model_copy(update={"state_root": Path(folder)})
    examination = examine(placed, replace(whole, file_system=lambda _path: kind))
    assert examination.is_ok
    assert message in found(examination, "state").message
    assert "DSA110_STATE_ROOT" in found(examination, "state").cure


def test_folders_that_cannot_be_written_are_errors(settings: Settings, whole: Machine) -> None:
    examination = examine(settings, replace(whole, can_write=lambda _path: False))
    assert examination.readiness()["write_ok"] is False
    assert "cannot be written" in found(examination, "write").message


def test_an_absent_data_root_will_be_created(settings: Settings, whole: Machine) -> None:
    planned = settings.model_copy(update={"data_root": Path("not/yet"), "state_root": None})
    messages = [f.message for f in examine(planned, whole).findings if f.topic == "write"]
    assert messages[0] == "the data root not/yet will be created"
    assert messages[2] == "the incoming folder not/yet/incoming does not exist"
    assert not Path("not").exists()


def test_measurement_sets_of_another_user_are_named(settings: Settings, whole: Machine) -> None:
    for number in range(25):
        path = Path("archive") / "ms" / "science" / "2026-01-25" / f"2026-01-25_22_{number:02d}_05.ms"
        path.mkdir(parents=True)
        (path / "table.dat").touch()
    examination = examine(settings, replace(whole, can_write=lambda path: path.name != "table.dat"))
    finding = found(examination, "ms")
    assert finding.level == "warning"
    assert "cannot write 25 Measurement Sets: ms/science/2026-01-25/2026-01-25_22_00_05.ms, " in finding.message
    assert finding.message.endswith(" and 5 more")
    assert "chown" in finding.cure


def test_an_unreachable_database_is_an_error_without_its_password(settings: Settings, whole: Machine) -> None:
    away = settings.model_copy(update={"operations_url": "postgresql://dsa:secret@127.0.0.1:1/dsa110"})
    examination = examine(away, whole)
    assert examination.readiness()["db_ok"] is False
    assert "cannot reach the operations database" in found(examination, "db").message
    assert "secret" not in str(examination)


def test_the_file_system_is_that_of_the_deepest_mount(tmp_path: Path) -> None:
    mounts = tmp_path / "mounts"
    mounts.write_text(f"disk / ext4 rw 0 0\nram {tmp_path} tmpfs rw 0 0\nshare {tmp_path}/a\\040b nfs4 rw 0 0\n")
    (tmp_path / "a b" / "c").mkdir(parents=True)
    assert file_system_of(tmp_path / "a b" / "c", mounts) == "nfs4"
    assert file_system_of(tmp_path, mounts) == "tmpfs"
    assert file_system_of(Path("/"), mounts) == "ext4"
    assert file_system_of(tmp_path, tmp_path / "none") == "unknown"


def test_the_real_machine_is_asked_without_importing_casa() -> None:
    assert find_module("json") is not None
    assert find_module("no_such_package_here") is None
    assert find_module("no_such_package_here.part") is None
    assert nearest_existing(Path("no/such/folder")) == Path.cwd()


def _without(machine: Machine, *lacking: str) -> Callable[[str], Path | None]:
    return lambda name: None if name in lacking else machine.find_module(name)
