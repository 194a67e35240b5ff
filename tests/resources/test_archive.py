"""Paths are built and parsed in one place, and a product is whole or absent."""

import os

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dsa110_resources import archive as archive_module
from dsa110_resources.archive import (
    Archive,
    atomic_directory,
    atomic_file,
    group_id_of_path,
    is_staging,
    path_form,
    repair_aside,
)
from dsa110_resources.errors import PermanentError

GROUP = "2026-01-25T22:26:05"


@given(st.datetimes())
def test_path_form_inverts(moment):
    group_id = f"{moment.year:04d}" + moment.strftime("-%m-%dT%H:%M:%S")
    assert group_id_of_path(path_form(group_id)) == group_id
    assert ":" not in path_form(group_id)


@pytest.mark.parametrize("bad", ["../../etc", "2026-01-25", "2026-01-25T22:26:05/..", ""])
def test_only_group_ids_reach_a_path(bad, tmp_path):
    with pytest.raises(PermanentError):
        Archive(tmp_path).ms_path(bad)


def test_layout(tmp_path):
    archive = Archive(tmp_path)
    relative = [
        archive.ms_path(GROUP), archive.ms_path(GROUP, calibrator=True), archive.caltable_path(GROUP, "bpcal"),
        archive.caltable_path(GROUP, "gpcal"), archive.image_path(GROUP, "-pbcor"),
        archive.table_partition("photometry", GROUP),
    ]  # fmt: skip
    assert [str(path.relative_to(tmp_path)) for path in relative] == [
        "ms/science/2026-01-25/2026-01-25_22_26_05.ms",
        "ms/calibrators/2026-01-25/2026-01-25_22_26_05.ms",
        "caltables/2026-01-25/2026-01-25_22_26_05_24h.bpcal",
        "caltables/2026-01-25/2026-01-25_22_26_05_1h.gpcal",
        "images/2026-01-25/2026-01-25_22_26_05-pbcor.fits",
        "tables/photometry/2026-01-25T22_26_05/part.parquet",
    ]


def test_a_path_from_a_request_cannot_leave_the_root(tmp_path):
    archive = Archive(tmp_path / "root")
    with pytest.raises(PermanentError, match="outside"):
        archive.require_inside(tmp_path / "root" / ".." / "secret")
    for partition in ("..", "a/b", ".hidden", ""):
        with pytest.raises(PermanentError):
            archive.table_partition("photometry", partition)


def test_a_failed_write_leaves_the_old_file(tmp_path):
    target = tmp_path / "product.txt"
    target.write_text("old")
    with pytest.raises(RuntimeError), atomic_file(target) as staged:
        staged.write_text("half")
        raise RuntimeError
    assert target.read_text() == "old"
    assert os.listdir(tmp_path) == ["product.txt"]


def test_a_finished_directory_replaces_the_old_one_whole(tmp_path):
    target = tmp_path / "table"
    for content in ("one", "two"):
        with atomic_directory(target) as staged:
            assert is_staging(staged)
            staged.mkdir()
            (staged / content).touch()
        assert os.listdir(target) == [content]
    assert os.listdir(tmp_path) == ["table"]


def test_directories_are_swapped_where_the_kernel_cannot_exchange(tmp_path, monkeypatch):
    monkeypatch.setattr(archive_module, "_exchange", lambda first, second: False)
    test_a_finished_directory_replaces_the_old_one_whole(tmp_path)


def test_a_crash_between_the_two_renames_is_repaired(tmp_path):
    aside = tmp_path / ".table.aside"
    aside.mkdir()
    (aside / "old").touch()
    assert repair_aside(tmp_path) == [tmp_path / "table"]
    assert (tmp_path / "table" / "old").exists()
    aside.mkdir()
    assert repair_aside(tmp_path) == []
    assert not aside.exists()
