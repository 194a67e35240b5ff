"""Downloading surveys: what is asked, and how it fails politely."""

import sys
import types
from pathlib import Path

import numpy as np
import pytest
from astropy.table import Table

from dsa110_assets.science.surveys import SURVEYS
from dsa110_resources.errors import ExternalToolMissingError, PermanentError, TransientError
from dsa110_resources.survey_download import VIZIER_TABLES, download_survey
from dsa110_resources.survey_files import SurveyInput, read_survey


class RecordingVizier:
    """Stands for astroquery's class: records what is asked, answers as told."""

    asked: list[dict[str, object]]
    answer: list[Table] | OSError

    def __init__(self, **options: object) -> None:
        type(self).asked = [options]

    def query_constraints(self, **query: object) -> list[Table]:
        self.asked.append(query)
        if isinstance(self.answer, OSError):
            raise self.answer
        return self.answer


@pytest.fixture
def vizier(monkeypatch: pytest.MonkeyPatch) -> type[RecordingVizier]:
    module = types.ModuleType("astroquery.vizier")
    module.Vizier = RecordingVizier  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "astroquery", types.ModuleType("astroquery"))
    monkeypatch.setitem(sys.modules, "astroquery.vizier", module)
    return RecordingVizier


def test_a_download_is_a_file_that_the_reader_takes(vizier: type[RecordingVizier], tmp_path: Path) -> None:
    rows = Table({"_RAJ2000": [10.0, 11.0], "_DEJ2000": [16.0, 16.5], "S1.4": [12.0, 340.0]})
    rows["S1.4"].unit = "mJy"
    vizier.answer = [rows]
    assert download_survey("nvss", tmp_path / "nvss.vot", dec_range_deg=(14.0, 18.5)) == 2
    assert vizier.asked[0]["row_limit"] == -1
    assert vizier.asked[1] == {"catalog": "VIII/65/nvss", "DEJ2000": "+14.000000..+18.500000"}
    np.testing.assert_allclose(read_survey(SurveyInput(tmp_path / "nvss.vot", "nvss")).flux_jy, [0.012, 0.34])


def test_without_a_network_nothing_is_left_behind(vizier: type[RecordingVizier], tmp_path: Path) -> None:
    vizier.answer = OSError("no route to host")
    with pytest.raises(TransientError, match=r"could not be reached.*no route to host"):
        download_survey("first", tmp_path / "first.vot")
    vizier.answer = []
    with pytest.raises(PermanentError, match="no rows"):
        download_survey("first", tmp_path / "first.vot")
    assert list(tmp_path.iterdir()) == []


def test_without_astroquery_the_cure_is_named(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setitem(sys.modules, "astroquery", None)
    with pytest.raises(ExternalToolMissingError, match="pip install astroquery"):
        download_survey("vlass", tmp_path / "vlass.vot")


def test_every_survey_has_a_table() -> None:
    assert set(VIZIER_TABLES) == set(SURVEYS)
