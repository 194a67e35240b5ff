"""`dsa110 run`: the platform on a real incoming folder, in the foreground, until Ctrl-C."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from contextlib import suppress

import typer
from rich.console import Console

from dsa110_assets.cli.instance import child_environment, prepare_dagster_home, project_root
from dsa110_resources.settings import Settings, load_settings

STOP_GRACE_S = 20.0
TERMINATE_GRACE_S = 2.0

console = Console()


def run(
    host: str = typer.Option("127.0.0.1", help="Address of the Dagster UI."),
    port: int = typer.Option(3000, help="Port of the Dagster UI."),
) -> None:
    """Start the Dagster UI, daemon and sensors on DSA110_INCOMING; Ctrl-C ends everything."""
    settings = load_settings()
    settings.incoming_dir.mkdir(parents=True, exist_ok=True)
    console.print(f"watching [bold]{settings.incoming_dir}[/]; products in [bold]{settings.data_root}[/]")
    raise typer.Exit(supervise(settings, host=host, port=port))


def dagster_command(host: str, port: int) -> list[str]:
    """Command line of the webserver, daemon and code server together."""
    workspace = project_root() / "workspace.yaml"
    return [
        sys.executable, "-m", "dagster", "dev", "--workspace", str(workspace),
        "--host", host, "--port", str(port), "--log-level", "warning",
    ]  # fmt: skip


def supervise(settings: Settings, *, host: str, port: int, companions: Sequence[Sequence[str]] = ()) -> int:
    """Run Dagster and any companion commands until Dagster ends or Ctrl-C; nothing is left running.

    Returns
    -------
    int
        Exit status: 0 after Ctrl-C, else Dagster's own.
    """
    home = prepare_dagster_home(settings)
    environment = child_environment(settings, home)
    commands = [dagster_command(host, port), *companions]
    # A session of their own, so that Ctrl-C reaches them once, from here, in order.
    children = [
        subprocess.Popen(list(c), env=environment, cwd=project_root(), start_new_session=True) for c in commands
    ]
    console.print(f"Dagster UI: [bold]http://{host}:{port}[/] (Ctrl-C ends it)")
    previous = signal.signal(signal.SIGTERM, _interrupt)
    try:
        return children[0].wait()
    except KeyboardInterrupt:
        console.print("stopping …")
        return 0
    finally:
        signal.signal(signal.SIGTERM, previous)
        for child in reversed(children):
            stop(child)


def stop(child: "subprocess.Popen[bytes]") -> None:
    """End a process politely, then whatever is left of its session: code servers and run workers too."""
    if child.poll() is None:
        child.send_signal(signal.SIGINT)
        with suppress(subprocess.TimeoutExpired):
            child.wait(STOP_GRACE_S)
    for last_word in (signal.SIGTERM, signal.SIGKILL):
        with suppress(ProcessLookupError):
            os.killpg(child.pid, last_word)
            time.sleep(TERMINATE_GRACE_S)
    child.wait()


def _interrupt(_signal: int, _frame: object) -> None:
    raise KeyboardInterrupt
