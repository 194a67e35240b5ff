"""`dsa110 doctor`: what this machine lacks and how to get it; every setting; a readiness answer."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Annotated, Any

import typer

from dsa110_resources.errors import PlatformError

if TYPE_CHECKING:
    from dsa110_resources.doctor import Examination, Finding
    from dsa110_resources.settings import DescribedSetting

_MARKS = {"ok": "ok     ", "warning": "WARNING", "error": "ERROR  "}


def doctor(
    show_settings: Annotated[
        bool, typer.Option("--settings", help="Every setting: value, default, range, where it came from.")
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="A readiness answer for machines.")] = False,
) -> None:
    """Tell what is missing on this machine and how to get it; exits 1 when the platform cannot work here."""
    from dsa110_resources.doctor import examine
    from dsa110_resources.settings import describe_settings, load_settings

    try:
        if show_settings:
            described = describe_settings()
            print(json.dumps([vars(item) for item in described], indent=2) if as_json else settings_text(described))
            return
        examination = examine(load_settings())
    except PlatformError as error:
        if not as_json:
            raise
        print(json.dumps({"ok": False, "settings_ok": False, "errors": [str(error)]}, indent=2))
        raise typer.Exit(1) from None
    print(json.dumps(answer(examination), indent=2) if as_json else report_text(examination))
    if not examination.is_ok:
        raise typer.Exit(1)


def answer(examination: Examination) -> dict[str, Any]:
    """Readiness answer as JSON data."""
    return examination.readiness()


def report_text(examination: Examination) -> str:
    """Findings line by line, errors last, and the install line.

    Parameters
    ----------
    examination : Examination
        What was found.

    Returns
    -------
    str
    """
    rank = {"ok": 0, "warning": 1, "error": 2}
    lines = [_finding_text(finding) for finding in sorted(examination.findings, key=lambda f: rank[f.level])]
    if examination.install_line:
        lines += ["", f"to install what is missing:  {examination.install_line}"]
    verdict = "this machine is ready" if examination.is_ok else "this machine is not ready: see the errors above"
    return "\n".join([*lines, "", verdict])


def settings_text(described: list[DescribedSetting]) -> str:
    """Every setting with value, default, range, source and meaning.

    Parameters
    ----------
    described : list of DescribedSetting
        From :func:`dsa110_resources.settings.describe_settings`.

    Returns
    -------
    str
        Two lines per setting.
    """
    width = max(len(item.name) for item in described)
    lines = []
    for item in described:
        changed = "" if item.source == "default" else f"  [default {item.default}]"
        lines.append(f"{item.name.ljust(width)} = {item.value}{changed}  (from {item.source}; {item.allowed})")
        lines.append(f"{' ' * width}   {item.description}")
    return "\n".join(lines)


def _finding_text(finding: Finding) -> str:
    cure = f"\n         → {finding.cure}" if finding.cure and finding.level != "ok" else ""
    return f"{_MARKS[finding.level]}  {finding.message}{cure}"
