"""`dsa110 doctor`: what people read and what machines read."""

import json
from pathlib import Path

import pytest
import typer
from click.testing import Result
from typer.testing import CliRunner

from dsa110_assets.cli import doctor as command
from dsa110_resources.doctor import Examination, Finding
from dsa110_resources.errors import PermanentError
from dsa110_resources.settings import Settings


@pytest.fixture(autouse=True)
def _workplace(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("DSA110_DATA_ROOT", str(tmp_path / "archive"))
    monkeypatch.setenv("DSA110_DISK_CRITICAL_GB", "0")
    monkeypatch.setenv("DSA110_DISK_WARNING_GB", "0")


def run(*arguments: str) -> Result:
    app = typer.Typer()
    app.command()(command.doctor)
    return CliRunner().invoke(app, list(arguments))


def test_the_readiness_answer_is_json_and_agrees_with_the_exit_status() -> None:
    result = run("--json")
    answer = json.loads(result.stdout)
    assert {"ok", "casa_ok", "disk_ok", "db_ok", "settings_ok", "warnings", "errors", "install"} <= set(answer)
    assert result.exit_code == (0 if answer["ok"] else 1)
    assert answer["disk_ok"] is True


def test_the_report_ends_with_a_verdict() -> None:
    result = run()
    last = result.stdout.strip().splitlines()[-1]
    assert last == (
        "this machine is ready" if result.exit_code == 0 else "this machine is not ready: see the errors above"
    )


def test_errors_come_last_with_their_cure_and_the_install_line() -> None:
    findings = (
        Finding("imager", "error", "WSClean is missing", "install it", ("wsclean",)),
        Finding("flagger", "warning", "AOFlagger is missing", "the thorough tier needs it", ("aoflagger",)),
        Finding("disk", "ok", "500 GB are free", "never shown"),
    )
    assert command.report_text(Examination(findings)).splitlines() == [
        "ok       500 GB are free",
        "WARNING  AOFlagger is missing",
        "         → the thorough tier needs it",
        "ERROR    WSClean is missing",
        "         → install it",
        "",
        "to install what is missing:  sudo apt-get install aoflagger wsclean",
        "",
        "this machine is not ready: see the errors above",
    ]


def test_every_setting_is_shown_with_default_range_and_source(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DSA110_MIN_SUBBANDS", "12")
    monkeypatch.setenv("CONTIMG_QA_MS_MAX_FLAGGED", "0.4")
    shown = run("--settings").stdout
    for name in Settings.model_fields:
        assert f"DSA110_{name.upper()} " in shown
    lines = {line.split()[0]: line for line in shown.splitlines() if line.startswith("DSA110_")}
    assert "= 12  [default 14]  (from DSA110_MIN_SUBBANDS; ≥ 1, ≤ 16)" in lines["DSA110_MIN_SUBBANDS"]
    assert "= 0.4  [default 0.5]  (from CONTIMG_QA_MS_MAX_FLAGGED;" in lines["DSA110_QA_MS_MAX_FLAGGED"]
    assert "(from default;" in lines["DSA110_SOLVER"]
    described = {item["name"]: item for item in json.loads(run("--settings", "--json").stdout)}
    assert described["DSA110_MIN_SUBBANDS"]["value"] == "12"
    assert len(described) == len(Settings.model_fields)


def test_a_wrong_setting_is_an_answer_too(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DSA110_MIN_SUBBANDS", "40")
    result = run("--json")
    answer = json.loads(result.stdout)
    assert result.exit_code == 1
    assert (answer["ok"], answer["settings_ok"]) == (False, False)
    assert "DSA110_MIN_SUBBANDS='40'" in answer["errors"][0]
    assert isinstance(run().exception, PermanentError)
