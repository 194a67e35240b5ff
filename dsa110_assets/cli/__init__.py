"""`dsa110`: the command line; one file per command group, and the platform's errors in one line each."""

import sys

import typer
from rich.console import Console

from dsa110_resources.errors import PlatformError


def build_app() -> typer.Typer:
    """All commands."""
    from dsa110_assets.cli import convert, demo, doctor, process, prune, reprocess, serve, simulate, sql

    app = typer.Typer(
        name="dsa110",
        help="DSA-110 continuum platform: subbands to images, light curves and extreme scattering events.",
        no_args_is_help=True,
        pretty_exceptions_enable=False,
        add_completion=False,
    )
    for command in (
        simulate.simulate, process.process, reprocess.reprocess, convert.convert, sql.sql, doctor.doctor,
        prune.prune, serve.run, demo.demo,
    ):  # fmt: skip
        app.command()(command)
    return app


def main() -> None:
    """Entry point of the console script."""
    try:
        build_app()()
    except PlatformError as error:
        Console(stderr=True).print(f"[red]error[/] {error}", highlight=False, soft_wrap=True)
        sys.exit(2)
