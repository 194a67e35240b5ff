"""`dsa110`: the command line; one file per command group, and the platform's errors in one line each."""

import sys

import typer
from rich.console import Console

from dsa110_resources.errors import PlatformError

app = typer.Typer(
    name="dsa110",
    help="DSA-110 continuum platform: subbands to images, light curves and extreme scattering events.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    add_completion=False,
)


def _register() -> None:
    from dsa110_assets.cli import demo, process, serve, simulate, sql

    app.command()(simulate.simulate)
    app.command()(process.process)
    app.command()(serve.run)
    app.command()(sql.sql)
    app.command()(demo.demo)


def main() -> None:
    """Entry point of the console script."""
    _register()
    try:
        app()
    except PlatformError as error:
        Console(stderr=True).print(f"[red]error[/] {error}", highlight=False, markup=True)
        sys.exit(2)
