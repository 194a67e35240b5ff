"""Every definition is dressed, and the job of a tile is one run."""

import dagster as dg
import pytest

from dsa110_assets.definitions import defs
from dsa110_assets.defs.tiles import TILE_STAGES

PARTITIONED = {
    "subband_group": "tile", "measurement_set": "tile", "calibrated_visibilities": "tile", "tile_image": "tile",
    "photometry": "tile", "delay_table": "day", "prebandpass_table": "day", "bandpass_table": "day",
    "gain_table": "hour", "sources": None,
}  # fmt: skip


@pytest.fixture(scope="module")
def specs() -> dict[str, dg.AssetSpec]:
    return {spec.key.to_user_string(): spec for spec in defs.resolve_all_asset_specs()}


def test_the_assets_are_these(specs):
    assert set(specs) == set(PARTITIONED)


def test_every_asset_is_dressed(specs):
    for name, spec in specs.items():
        assert spec.description, name
        assert spec.group_name != "default", name
        assert spec.owners, name
        assert spec.kinds, name


def test_every_table_of_a_stage_has_a_check():
    checked = {check.asset_key.to_user_string() for check in defs.resolve_asset_graph().asset_check_keys}
    # the delay and pre-bandpass tables come out of the bandpass's solve and are judged with it
    assert set(PARTITIONED) - checked == {"delay_table", "prebandpass_table"}


def test_a_group_passes_in_one_run():
    job = defs.resolve_job_def("process_tile")
    assert {key.to_user_string() for key in job.asset_layer.executable_asset_keys} == set(TILE_STAGES)
    assert job.executor_def.name == "in_process"


def test_sensors_and_schedules_are_on():
    assert {s.name for s in defs.sensors} == {"subband_sensor", "calibration_sensor", "failed_group_sensor"}
    assert all(s.default_status is dg.DefaultSensorStatus.RUNNING for s in defs.sensors)
    assert all(s.default_status is dg.DefaultScheduleStatus.RUNNING for s in defs.schedules)
    assert {s.execution_timezone for s in defs.schedules} == {"UTC"}
