"""`dsa110 run`: the platform on a real incoming folder, in the foreground, until Ctrl-C."""

import signal
import subprocess
import sys
from collections.abc import Sequence

import typer
from rich.console import Console

from dsa110_assets.cli.instance import child_environment, prepare_dagster_home, project_root
from dsa110_resources.settings import Settings, load_settings

STOP_GRACE_S = 30.0

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
    """End a process politely, then with its whole session."""
    if child.poll() is not None:
        return
    child.send_signal(signal.SIGINT)
    try:
        child.wait(STOP_GRACE_S)
    except subprocess.TimeoutExpired:
        child.kill()
        child.wait()


def _interrupt(_signal: int, _frame: object) -> None:
    raise KeyboardInterrupt
