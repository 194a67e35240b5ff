"""Pruning lists first, deletes only when told, and never touches what it must keep."""

from typer.testing import CliRunner

from dsa110_assets.cli import build_app


def _make(root, *paths):
    for path in paths:
        (root / path).mkdir(parents=True)
        (root / path / "data").write_bytes(b"x" * 1000)


def _prune(root, *words):
    return CliRunner().invoke(build_app(), ["prune", "--data-root", str(root), "--older-than", "30", *words])


def test_a_dry_run_deletes_nothing(tmp_path):
    _make(tmp_path, "ms/science/2020-01-01/a.ms", "images/2020-01-01")
    result = _prune(tmp_path)
    assert result.exit_code == 0
    assert "would be deleted" in result.output
    assert (tmp_path / "ms/science/2020-01-01/a.ms/data").exists()


def test_only_old_days_of_kinds_not_kept_go(tmp_path):
    _make(tmp_path, "ms/science/2020-01-01/a.ms", "ms/calibrators/2020-01-01/b.ms", "ms/science/2999-01-01/c.ms")
    _make(tmp_path, "caltables/2020-01-01/x.bpcal", "tables/photometry/2020-01-01T00_00", "ms/failed/2020-01-01")
    result = _prune(tmp_path, "--keep", "calibrator-ms", "--yes")
    assert result.exit_code == 0
    assert not (tmp_path / "ms/science/2020-01-01").exists()
    for kept in ("ms/calibrators/2020-01-01", "ms/science/2999-01-01", "caltables/2020-01-01", "ms/failed/2020-01-01"):
        assert (tmp_path / kept).exists(), kept


def test_an_unknown_kind_is_refused(tmp_path):
    assert _prune(tmp_path, "--keep", "everything").exit_code != 0
