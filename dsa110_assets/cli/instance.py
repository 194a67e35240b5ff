"""A Dagster instance for this deployment: DAGSTER_HOME with its dagster.yaml, and the environment of its processes."""

import os
from importlib import metadata
from pathlib import Path

import yaml

from dsa110_resources.archive import atomic_file
from dsa110_resources.errors import PermanentError
from dsa110_resources.settings import PREFIX, Settings

GB = 1e9
RAM_PER_RUN_GB = 5.0


def project_root() -> Path:
    """Folder of ``dagster.yaml`` and ``workspace.yaml``.

    Raises
    ------
    PermanentError
        If the package was installed without its checkout.
    """
    root = Path(__file__).parents[2]
    if not (root / "dagster.yaml").is_file():
        version = metadata.version("dsa110-continuum-platform")
        raise PermanentError(
            f"dagster.yaml is not beside the package (version {version})",
            path=root,
            cure="run from a checkout set up by `make setup`, or set DAGSTER_HOME yourself",
        )
    return root


def max_concurrent_runs() -> int:
    """Runs that this machine can take at once: max(1, min(cores // 2 + 1, RAM // 5 GB)) (DECISIONS 23)."""
    ram_gb = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / GB
    return max(1, min((os.cpu_count() or 1) // 2 + 1, int(ram_gb // RAM_PER_RUN_GB)))


def prepare_dagster_home(settings: Settings) -> Path:
    """Write DAGSTER_HOME below the data root from the root ``dagster.yaml``; returns it."""
    home = settings.data_root.absolute() / "dagster"
    home.mkdir(parents=True, exist_ok=True)
    configuration = yaml.safe_load((project_root() / "dagster.yaml").read_text(encoding="utf-8"))
    configuration["concurrency"]["runs"]["max_concurrent_runs"] = max_concurrent_runs()
    configuration["python_logs"]["python_log_level"] = settings.log_level
    with atomic_file(home / "dagster.yaml") as staged:
        staged.write_text(yaml.safe_dump(configuration, sort_keys=False), encoding="utf-8")
    return home


def child_environment(settings: Settings, home: Path) -> dict[str, str]:
    """Environment of Dagster's processes: these settings, this DAGSTER_HOME, one BLAS thread."""
    environment = dict(os.environ)
    for name, value in settings.model_dump(mode="json", exclude_none=True, exclude_defaults=True).items():
        environment[f"{PREFIX}{name.upper()}"] = str(value)
    environment["DAGSTER_HOME"] = str(home)
    environment["DAGSTER_DISABLE_TELEMETRY"] = "1"
    environment["OPENBLAS_NUM_THREADS"] = "1"
    return environment
