"""`dsa110 sql`: output forms, errors, and the prompt."""

import csv
import io
import json
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pandas as pd
import pytest
import typer
from typer.testing import CliRunner

from dsa110_assets.cli import sql as command
from dsa110_resources.archive import Archive
from dsa110_resources.errors import PermanentError
from dsa110_resources.tables import write_partition

NAME = "NVSS J123456.7+420312"


@pytest.fixture
def root(tmp_path: Path) -> Path:
    row = {"source_id": NAME, "image_path": "a.fits", "group_id": "g", "method": "residual", "flags": 0}
    first = row | {"mjd": 61065.9, "peak_jyb": 0.1 + 0.2, "measured_at": pd.Timestamp("2026-01-25T22Z")}
    second = row | {"mjd": 61065.9, "source_id": 'B, "C"', "subband_fluxes_jyb": [0.5, None]}
    rows = pd.DataFrame([first, second])
    write_partition(Archive(tmp_path), "photometry", "2026-01-25T22:25", rows)
    return tmp_path


def run(root: Path, *arguments: str, stdin: str | None = None) -> str:
    app = typer.Typer()
    app.command()(command.sql)
    result = CliRunner().invoke(app, ["--data-root", str(root), *arguments], input=stdin)
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    assert result.exit_code == 0, result.output
    return result.stdout


def test_a_table_is_aligned_and_counted(root: Path) -> None:
    shown = run(root, "-c", f"SELECT source_id, peak_jyb FROM photometry WHERE source_id = '{NAME}'")
    assert shown.splitlines() == [
        "source_id              peak_jyb",
        "---------------------  --------",
        "NVSS J123456.7+420312       0.3",
        "(1 row)",
    ]


def test_csv_reads_back_exactly(root: Path) -> None:
    query = "SELECT source_id, peak_jyb, measured_at, subband_fluxes_jyb FROM photometry ORDER BY source_id"
    rows = list(csv.DictReader(io.StringIO(run(root, "--format", "csv", "-c", query))))
    assert [row["source_id"] for row in rows] == ['B, "C"', NAME]
    assert float(rows[1]["peak_jyb"]) == 0.1 + 0.2
    assert rows[1]["measured_at"] == "2026-01-25T22:00:00"
    assert (rows[0]["peak_jyb"], rows[0]["subband_fluxes_jyb"]) == ("", "[0.5, null]")


def test_json_has_null_for_null_and_for_nan(root: Path) -> None:
    query = "SELECT source_id, peak_jyb, 'nan'::DOUBLE AS x, subband_fluxes_jyb AS l FROM photometry ORDER BY 1"
    assert json.loads(run(root, "--format", "json", "-c", query)) == [
        {"source_id": 'B, "C"', "peak_jyb": None, "x": None, "l": [0.5, None]},
        {"source_id": NAME, "peak_jyb": 0.1 + 0.2, "x": None, "l": None},
    ]
    assert json.loads(run(root, "--format", "json", "-c", "SELECT * FROM mosaics")) == []


def test_a_script_comes_through_a_pipe(root: Path) -> None:
    script = "CREATE VIEW bright AS SELECT * FROM photometry WHERE peak_jyb > 0.2;\nSELECT count(*) AS n FROM bright;"
    assert run(root, "--format", "csv", stdin=script) == "n\n1\n"


def test_an_error_says_what_there_is(root: Path) -> None:
    with pytest.raises(PermanentError, match=r"(?s)fotometry does not exist.*SHOW TABLES"):
        run(root, "-c", "SELECT * FROM fotometry")
    with pytest.raises(PermanentError, match="syntax error"):
        run(root, "-c", "SELCT 1")
    with pytest.raises(PermanentError, match="no such archive"):
        run(root / "nothing", "-c", "SELECT 1")
    assert not (root / "nothing").exists()


@pytest.fixture
def typed(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Lines that the user types; the prompts are swallowed."""
    lines: list[str] = []
    remaining: Iterator[str] = iter(lines)

    def read(_prompt: str) -> str:
        try:
            return next(remaining)
        except StopIteration:
            raise EOFError from None

    monkeypatch.setattr("builtins.input", read)
    return lines


def test_the_prompt_survives_errors_and_shows_units(
    root: Path, typed: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    typed += ["SELECT count(*) AS n", "FROM photometry;", "SELCT 1;", r"\d photometry", r"\d", "SELECT 42 AS b;"]
    with command.open_session(root) as session:
        command.prompt(session, command.Format.TABLE)
    shown = capsys.readouterr().out
    assert "n\n-\n2\n(1 row)" in shown
    assert "error: Parser Error" in shown
    assert "Jy/beam  Peak flux, primary-beam corrected" in shown
    assert "good_references" in shown
    assert " b\n--\n42\n" in shown


def test_the_prompt_shows_the_first_rows_of_many(
    root: Path, typed: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    typed += ["SELECT * FROM range(1000);", "quit", "SELECT 'never';"]
    with command.open_session(root) as session:
        command.prompt(session, command.Format.TABLE)
    shown = capsys.readouterr().out
    assert "(1000 rows, first 200 shown)" in shown
    assert "never" not in shown


def test_it_starts_at_once_over_ten_thousand_partitions(root: Path) -> None:
    archive = Archive(root)
    part = archive.table_partition("photometry", "2026-01-25T22:25").read_bytes()
    for hour in range(10_000):
        path = archive.table_partition(
            "photometry", f"{pd.Timestamp('2024-01-01') + pd.Timedelta(hours=hour):%Y-%m-%dT%H:%M}"
        )
        path.parent.mkdir()
        path.write_bytes(part)
    script = (
        "import sys, time, resource; from pathlib import Path\n"
        "from dsa110_resources.archive import Archive\nfrom dsa110_resources.query import connect\n"
        "with connect(Archive(Path(sys.argv[1]))) as c: c.execute('SELECT * FROM photometry LIMIT 5').fetchall()\n"
        "u = resource.getrusage(resource.RUSAGE_SELF); print(u.ru_utime + u.ru_stime)"
    )
    begin = time.perf_counter()
    done = subprocess.run([sys.executable, "-c", script, str(root)], capture_output=True, text=True, check=True)
    spent_cpu_s = float(done.stdout)
    assert min(spent_cpu_s, time.perf_counter() - begin) < 2.0
