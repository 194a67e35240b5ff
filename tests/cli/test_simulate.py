"""`dsa110 simulate` as it is typed."""

import json

import pandas as pd
import pytest
import typer
from typer.testing import CliRunner

from dsa110_assets.cli.simulate import read_assignments, simulate
from dsa110_assets.science.errors import ScienceError

app = typer.Typer()
app.command()(simulate)
runner = CliRunner()
QUIET = ["--sky", "density_per_deg2=0", "--instrument", "rfi=false"]


def test_the_issue_s_command_line_writes_groups_truth_and_catalogues(tmp_path):
    arguments = ["--array", "small", "--groups", "2", "--start", "transit:3C48", "--dec", "33.2", "--seed", "4"]
    result = runner.invoke(
        app, [*arguments, "--days", "1", "--faults", "missing:1:2,zero_byte:1:3", "--out", str(tmp_path), *QUIET]
    )
    assert result.exit_code == 0, result.output
    assert len(list(tmp_path.glob("*_sb??.hdf5"))) == 31
    options = json.loads((tmp_path / "truth" / "options.json").read_text())
    assert options["faults"] == ["missing:1:2", "zero_byte:1:3"]
    assert options["seed"] == 4
    assert options["instrument"]["rfi"] is False
    assert (tmp_path / "nvss.fits").exists()
    catalogue = pd.read_csv(tmp_path / "catalogue.csv")
    assert list(catalogue) == ["source_id", "ra_deg", "dec_deg", "flux_jy", "freq_ghz", "spectral_index"]
    assert "3C48" in set(catalogue.source_id)
    groups = pd.read_parquet(tmp_path / "truth" / "groups.parquet")
    assert groups.pointing_dec_deg[0] == pytest.approx(33.2)


def test_a_catalogue_file_is_the_sky(tmp_path):
    (tmp_path / "c.csv").write_text(
        "source_id,ra_deg,dec_deg,flux_jy,freq_ghz,spectral_index\nA,343.49,16.1482,5.0,1.4,-0.5\nB,343.9,16.5,0.2,1.4,-0.8\n"
    )
    result = runner.invoke(
        app,
        ["--start", "2026-01-25T22:26:05", "--dec", "16.27", "--catalogue", str(tmp_path / "c.csv"),
         "--out", str(tmp_path / "out")],
    )  # fmt: skip
    assert result.exit_code == 0, result.output
    assert "2026-01-25T22:26:05" in result.output
    sources = pd.read_parquet(tmp_path / "out" / "truth" / "sources.parquet")
    assert list(sources.source_id) == ["A", "B"]
    assert list(sources.flux_jy) == [5.0, 0.2]


def test_watch_paces_the_files(tmp_path):
    result = runner.invoke(app, ["--out", str(tmp_path), "--watch", "--speed", "1000", *QUIET])
    assert result.exit_code == 0, result.output
    assert len(list(tmp_path.glob("*_sb??.hdf5"))) == 16


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--start", "yesterday"], "yesterday"),
        (["--start", "transit:NOBODY"], "NOBODY"),
        (["--faults", "gremlins"], "gremlins"),
        (["--array", "medium"], "medium"),
        (["--catalogue", "/nowhere.csv"], "/nowhere.csv"),
        (["--sky", "colour=blue"], "colour"),
        (["--sky", "lensed=NVSS J000000.0-900000"], "NVSS J000000.0-900000"),
    ],
)
def test_what_cannot_be_done_is_said_in_one_line_with_status_one(tmp_path, arguments, message):
    result = runner.invoke(app, ["--out", str(tmp_path / "out"), *arguments])
    assert result.exit_code == 1
    assert message in result.output
    assert not list(tmp_path.glob("out/*.hdf5"))


def test_assignments_are_split_at_the_first_equals_sign():
    assert read_assignments(["a=1", "b=x=y", "c=1,2"]) == {"a": "1", "b": "x=y", "c": "1,2"}
    with pytest.raises(ScienceError, match="KEY=VALUE"):
        read_assignments(["a"])
