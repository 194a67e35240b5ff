"""What this machine lacks for the platform, and how to get it."""

from __future__ import annotations

import importlib.util
import os
import shutil
import tempfile
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal

from dsa110_resources.archive import Archive
from dsa110_resources.errors import PlatformError
from dsa110_resources.settings import Settings

GB = 1e9
NAMED_SETS = 20
"""Measurement Sets named one by one; the others are counted."""

Level = Literal["ok", "warning", "error"]
Topic = Literal["settings", "python", "casa", "imager", "flagger", "disk", "write", "state", "db", "ms", "earth"]

REQUIRED_MODULES = ("numpy", "scipy", "numba", "astropy", "pandas", "pyarrow", "duckdb", "h5py", "ducc0", "dagster")
CASA_MODULES = ("casatools", "casatasks", "casadata", "casacore")
CASA_TABLES = ("geodetic/IERSeop2000", "geodetic/IERSpredict", "geodetic/Observatories", "geodetic/TAI_UTC")
SCRATCH_FILE_SYSTEMS = frozenset({"tmpfs", "ramfs", "overlay"})
NETWORK_FILE_SYSTEMS = frozenset({"nfs", "nfs4", "cifs", "smb3", "fuseblk", "fuse.sshfs", "lustre", "beegfs"})
SCRATCH_NAMES = frozenset({"scratch", "tmp", "stage", "shm"})
EARTH_WARNING_DAYS = 30.0
UNIX_EPOCH_MJD = 40587.0


@dataclass(frozen=True)
class Finding:
    """One thing looked at.

    Attributes
    ----------
    topic
        What it belongs to; ``TOPIC_ok`` of the readiness answer is False when one of its findings is an error.
    level
        ok, warning (works without it) or error (does not work).
    message
        What was found.
    cure
        What to do about it.
    packages
        Debian packages that cure it.
    """

    topic: Topic
    level: Level
    message: str
    cure: str = ""
    packages: tuple[str, ...] = ()


@dataclass(frozen=True)
class Examination:
    """All findings."""

    findings: tuple[Finding, ...]

    @property
    def is_ok(self) -> bool:
        """Whether nothing is an error."""
        return all(finding.level != "error" for finding in self.findings)

    @property
    def install_line(self) -> str:
        """The one command that installs every missing Debian package; empty when none is missing."""
        packages = sorted({package for finding in self.findings for package in finding.packages})
        return f"sudo apt-get install {' '.join(packages)}" if packages else ""

    def readiness(self) -> dict[str, Any]:
        """Answer for machines: ``ok``, ``TOPIC_ok`` for every topic, the findings and the install line."""
        topics = dict.fromkeys(finding.topic for finding in self.findings)
        answers = {
            f"{topic}_ok": all(f.level != "error" for f in self.findings if f.topic == topic) for topic in topics
        }
        return {
            "ok": self.is_ok,
            **answers,
            "warnings": [finding.message for finding in self.findings if finding.level == "warning"],
            "errors": [finding.message for finding in self.findings if finding.level == "error"],
            "install": self.install_line,
        }


@dataclass(frozen=True)
class Machine:
    """What the examination asks of the machine; tests put their own answers.

    Attributes
    ----------
    find_program
        Path of a program, or None.
    find_module
        Folder of a Python package without importing it, or None.
    free_bytes
        Free space of a folder's file system.
    file_system
        Type of a folder's file system (``ext4``, ``tmpfs``, …).
    can_write
        Whether this user may write a file or folder.
    now
        The clock.
    """

    find_program: Callable[[str], str | None] = shutil.which
    find_module: Callable[[str], Path | None] = field(default_factory=lambda: find_module)
    free_bytes: Callable[[Path], int] = lambda path: shutil.disk_usage(path).free
    file_system: Callable[[Path], str] = field(default_factory=lambda: file_system_of)
    can_write: Callable[[Path], bool] = lambda path: os.access(path, os.W_OK)
    now: Callable[[], datetime] = lambda: datetime.now(UTC)


def examine(settings: Settings, machine: Machine | None = None) -> Examination:
    """Look at everything the platform needs.

    Parameters
    ----------
    settings : Settings
        The deployment.
    machine : Machine, optional
        Who answers; this machine when None.

    Returns
    -------
    Examination
    """
    machine = machine or Machine()
    findings: list[Finding] = [Finding("settings", "ok", "settings are valid")]
    findings += check_python(machine)
    findings += check_casa(machine)
    findings += check_imager(settings, machine)
    findings += check_flagger(settings, machine)
    findings += check_earth_orientation(machine)
    findings += check_folders(settings, machine)
    findings += check_disk(settings, machine)
    findings += check_state(settings, machine)
    findings += check_database(settings)
    findings += check_measurement_sets(settings, machine)
    return Examination(tuple(findings))


def check_python(machine: Machine) -> list[Finding]:
    """Python packages of the lock."""
    missing = [name for name in REQUIRED_MODULES if machine.find_module(name) is None]
    if missing:
        return [Finding("python", "error", f"Python packages are missing: {', '.join(missing)}", "run `make setup`")]
    return [Finding("python", "ok", "Python packages are installed")]


def check_casa(machine: Machine) -> list[Finding]:
    """CASA's packages and its measures tables."""
    missing = [name for name in CASA_MODULES if machine.find_module(name) is None]
    if missing:
        return [Finding("casa", "error", f"CASA packages are missing: {', '.join(missing)}", "run `make setup`")]
    data = machine.find_module("casadata")
    absent = [name for name in CASA_TABLES if data is None or not (data / "__data__" / name).is_dir()]
    if absent:
        cure = "reinstall the package casadata (`make setup`)"
        return [Finding("casa", "error", f"CASA data lack {', '.join(absent)}", cure)]
    return [Finding("casa", "ok", f"CASA and its data are installed ({data})")]


def check_imager(settings: Settings, machine: Machine) -> list[Finding]:
    """The imager that the settings ask for; the native one is always there."""
    found = machine.find_program("wsclean")
    if found:
        return [Finding("imager", "ok", f"WSClean is installed ({found})")]
    wanted = settings.imager == "wsclean"
    cure = "install it, or set DSA110_IMAGER=native" if wanted else "the native imager is used; install it to compare"
    return [Finding("imager", "error" if wanted else "warning", "WSClean is missing", cure, ("wsclean",))]


def check_flagger(settings: Settings, machine: Machine) -> list[Finding]:
    """AOFlagger as a program or as a wheel."""
    program, wheel = machine.find_program("aoflagger"), machine.find_module("aoflagger")
    if program:
        return [Finding("flagger", "ok", f"AOFlagger is installed ({program})")]
    if wheel:
        return [Finding("flagger", "ok", f"AOFlagger is installed as a Python package ({wheel})")]
    wanted = settings.flagging_strategy == "aoflagger"
    cure = "install it, or set DSA110_FLAGGING_STRATEGY=array_wide" if wanted else "only the thorough tier needs it"
    return [Finding("flagger", "error" if wanted else "warning", "AOFlagger is missing", cure, ("aoflagger",))]


def check_earth_orientation(machine: Machine) -> list[Finding]:
    """How long the Earth orientation tables reach: beyond their end UVW lose accuracy."""
    package = machine.find_module("astropy_iers_data")
    table = None if package is None else package / "data" / "finals2000A.all"
    cure = "update the package astropy-iers-data"
    if table is None or not table.is_file():
        return [Finding("earth", "error", "Earth orientation tables are missing", "run `make setup`")]
    end_mjd = _last_predicted_mjd(table)
    left_days = end_mjd - (machine.now().timestamp() / 86400.0 + UNIX_EPOCH_MJD)
    message = f"Earth orientation tables reach {left_days:.0f} days ahead"
    if left_days <= 0:
        message = f"Earth orientation tables ended {-left_days:.0f} days ago"
    return [Finding("earth", "ok" if left_days > EARTH_WARNING_DAYS else "warning", message, cure)]


def check_folders(settings: Settings, machine: Machine) -> list[Finding]:
    """The data root and the state folder are writable, the incoming folder is readable."""
    findings = []
    for name, folder in (("data root", settings.data_root), ("state folder", settings.state_dir)):
        existing = nearest_existing(folder)
        if not machine.can_write(existing) or not _accepts_files(existing):
            cure = f"give this user write access to {existing}, or set another folder"
            findings.append(Finding("write", "error", f"the {name} {folder} cannot be written", cure))
        else:
            state = "is writable" if folder.is_dir() else "will be created"
            findings.append(Finding("write", "ok", f"the {name} {folder} {state}"))
    incoming = settings.incoming_dir
    if not incoming.is_dir():
        cure = "create it, or set DSA110_INCOMING to the folder where subbands arrive"
        findings.append(Finding("write", "warning", f"the incoming folder {incoming} does not exist", cure))
    elif not os.access(incoming, os.R_OK | os.X_OK):
        findings.append(
            Finding("write", "error", f"the incoming folder {incoming} cannot be read", "give access to it")
        )
    return findings


def check_disk(settings: Settings, machine: Machine) -> list[Finding]:
    """Free disk against the two limits of the settings."""
    free_gb = machine.free_bytes(nearest_existing(settings.data_root)) / GB
    message = f"{free_gb:.0f} GB are free under {settings.data_root}"
    cure = "free disk (`dsa110 prune` lists what may go) or set another data root"
    if free_gb < settings.disk_critical_gb:
        limit = f" (critical below {settings.disk_critical_gb:.0f} GB in live operation; the demo needs 5 GB)"
        return [Finding("disk", "error", message + limit, cure)]
    if free_gb < settings.disk_warning_gb:
        return [Finding("disk", "warning", f"{message} (warning below {settings.disk_warning_gb:.0f} GB)", cure)]
    return [Finding("disk", "ok", message)]


def check_state(settings: Settings, machine: Machine) -> list[Finding]:
    """The ledger, registry and catalogues must survive: they must not lie on scratch or on a network file system."""
    folder = settings.state_dir.absolute()
    kind = machine.file_system(nearest_existing(folder))
    cure = "set DSA110_STATE_ROOT to a local disk that is kept and backed up"
    if kind in NETWORK_FILE_SYSTEMS:
        message = f"the state folder {folder} lies on {kind}: SQLite locks are not safe there"
        return [Finding("state", "warning", message, f"{cure}, or use PostgreSQL (DSA110_OPERATIONS_URL)")]
    named = next((part for part in folder.parts if part.lower() in SCRATCH_NAMES), None)
    if kind in SCRATCH_FILE_SYSTEMS or named:
        reason = f"on {kind}" if kind in SCRATCH_FILE_SYSTEMS else f"under a folder called {named}"
        return [Finding("state", "warning", f"the state folder {folder} lies on scratch ({reason})", cure)]
    return [Finding("state", "ok", f"the state folder {folder} lies on {kind}")]


def check_database(settings: Settings) -> list[Finding]:
    """The operations database answers (an SQLite file that does not exist yet will be made)."""
    from dsa110_resources.operations_copy import list_operations_tables

    try:
        tables = list_operations_tables(settings.database_url)
    except PlatformError as error:
        return [Finding("db", "error", error.message, error.cure or "")]
    message = f"the operations database has {len(tables)} tables" if tables else "the operations database will be made"
    return [Finding("db", "ok", message)]


def check_measurement_sets(settings: Settings, machine: Machine) -> list[Finding]:
    """Measurement Sets that this user cannot write (calibration and flagging would fail on them)."""
    locked = [path for path in _measurement_sets(Archive(settings.data_root)) if not _is_writable_set(path, machine)]
    if not locked:
        return [Finding("ms", "ok", "every Measurement Set is writable")]
    named = ", ".join(str(path.relative_to(settings.data_root)) for path in locked[:NAMED_SETS])
    more = f" and {len(locked) - NAMED_SETS} more" if len(locked) > NAMED_SETS else ""
    cure = f"sudo chown -R $(id -un) {settings.data_root / 'ms'}"
    return [Finding("ms", "warning", f"this user cannot write {len(locked)} Measurement Sets: {named}{more}", cure)]


def find_module(name: str) -> Path | None:
    """Folder of a Python package (or module) without importing it; None when it is not installed."""
    try:
        spec = importlib.util.find_spec(name)
    except (ImportError, ValueError):
        return None
    if spec is None:
        return None
    places: Sequence[str] = list(spec.submodule_search_locations or ())
    return Path(places[0]) if places else Path(spec.origin or name)


def file_system_of(folder: Path, mounts: Path = Path("/proc/self/mounts")) -> str:
    """Type of the file system that holds a folder; ``unknown`` where the kernel does not tell."""
    try:
        lines = mounts.read_text(encoding="utf-8").splitlines()
    except OSError:
        return "unknown"
    resolved, best, kind = folder.resolve(), -1, "unknown"
    for line in lines:
        _, point, found, *_ = line.split(" ")
        mounted = Path(point.replace("\\040", " "))
        if resolved.is_relative_to(mounted) and len(mounted.parts) >= best:
            best, kind = len(mounted.parts), found
    return kind


def nearest_existing(path: Path) -> Path:
    """The path itself or the nearest folder above it that exists."""
    absolute = path.absolute()
    return next(candidate for candidate in (absolute, *absolute.parents) if candidate.exists())


def _accepts_files(folder: Path) -> bool:
    """Whether a file can really be made there (permissions lie on read-only and full file systems)."""
    try:
        with tempfile.TemporaryFile(dir=folder):
            return True
    except OSError:
        return False


def _measurement_sets(archive: Archive) -> Iterable[Path]:
    for kind in ("calibrators", "science"):
        yield from sorted((archive.root / "ms" / kind).glob("*/*.ms"))


def _is_writable_set(path: Path, machine: Machine) -> bool:
    table = path / "table.dat"
    return machine.can_write(path) and (not table.exists() or machine.can_write(table))


def _last_predicted_mjd(table: Path) -> float:
    """Last MJD of ``finals2000A.all`` that has values (columns 8–15 MJD, 19–27 the pole's x; later rows are blank)."""
    last = 0.0
    with table.open(encoding="ascii") as handle:
        for line in handle:
            if line[18:27].strip():
                last = float(line[7:15])
    return last
