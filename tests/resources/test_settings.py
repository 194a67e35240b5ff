"""Settings are validated at start, say where they came from, and never show a secret."""

import pytest

from dsa110_resources.errors import PermanentError
from dsa110_resources.settings import ALIASES, Settings, describe_settings, load_settings


def test_defaults_need_no_environment(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    settings = load_settings({})
    assert settings.expected_subbands == 16
    assert settings.incoming_dir == settings.data_root / "incoming"
    assert settings.database_url.startswith("sqlite:///")


def test_our_name_wins_over_the_customers(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    environment = {"LOG_LEVEL": "debug", "EXPECTED_SUBBANDS": "15", "DSA110_EXPECTED_SUBBANDS": "14"}
    settings = load_settings(environment)
    assert (settings.log_level, settings.expected_subbands) == ("DEBUG", 14)


def test_the_file_gives_way_to_the_environment(tmp_path):
    file = tmp_path / "dsa110.toml"
    file.write_text('imager = "native"\nmin_subbands = 12\n')
    settings = load_settings({"DSA110_IMAGER": "tclean"}, file=file)
    assert (settings.imager, settings.min_subbands) == ("tclean", 12)


@pytest.mark.parametrize(
    ("environment", "words"),
    [
        ({"DSA110_IMAGER": "aips"}, "DSA110_IMAGER='aips'"),
        ({"CONTIMG_QA_MS_MAX_FLAGGED": "1.5"}, "CONTIMG_QA_MS_MAX_FLAGGED='1.5'"),
        ({"DSA110_MIN_SUBBANDS": "16", "DSA110_EXPECTED_SUBBANDS": "8"}, "exceeds expected_subbands"),
        ({"DSA110_SETTINGS": "nowhere.toml"}, "does not exist"),
    ],
)
def test_a_wrong_setting_is_named_with_its_source(environment, words, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(PermanentError, match=words):
        load_settings(environment)


def test_an_unknown_key_of_the_file_is_an_error(tmp_path):
    file = tmp_path / "dsa110.toml"
    file.write_text("imagr = 'native'\n")
    with pytest.raises(PermanentError, match="imagr"):
        load_settings({}, file=file)


def test_every_alias_names_a_setting():
    assert set(ALIASES.values()) <= set(Settings.model_fields)


def test_the_description_masks_secrets_and_names_sources(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    rows = {r.name: r for r in describe_settings({"CONTIMG_SLACK_WEBHOOK_URL": "https://hooks/secret"})}
    slack = rows["DSA110_SLACK_WEBHOOK_URL"]
    assert (slack.value, slack.source) == ("(set)", "CONTIMG_SLACK_WEBHOOK_URL")
    assert rows["DSA110_IMAGER"].allowed == "auto | wsclean | native | tclean"
    assert rows["DSA110_MIN_SUBBANDS"].allowed == "≥ 1, ≤ 16"


@pytest.mark.parametrize(("value", "staging"), [("true", "auto"), ("0", "disk"), ("tmpfs", "tmpfs")])
def test_the_customers_staging_flag_is_a_truth_value(value, staging, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert load_settings({"CONTIMG_STAGE_TO_TMPFS": value}).staging == staging
