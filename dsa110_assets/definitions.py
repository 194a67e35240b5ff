"""The one Definitions object: assets, checks, jobs, sensors and schedules, bound to this deployment's settings."""

import dagster as dg

from dsa110_assets.defs.automation import JOBS
from dsa110_assets.defs.bandpasses import bandpass_tables
from dsa110_assets.defs.calibrated import calibrated_visibilities
from dsa110_assets.defs.catalogues import sources
from dsa110_assets.defs.gains import gain_table
from dsa110_assets.defs.imaging import tile_image
from dsa110_assets.defs.ingest import subband_group, subband_sensor
from dsa110_assets.defs.measurement_sets import measurement_set
from dsa110_assets.defs.photometry import photometry
from dsa110_assets.defs.platform import Platform
from dsa110_assets.defs.sensors import SCHEDULES, calibration_sensor, failed_group_sensor
from dsa110_resources.settings import Settings, load_settings

ASSETS = (
    sources,
    subband_group,
    measurement_set,
    calibrated_visibilities,
    tile_image,
    photometry,
    bandpass_tables,
    gain_table,
)
SENSORS = (subband_sensor, calibration_sensor, failed_group_sensor)


def build_definitions(settings: Settings) -> dg.Definitions:
    """Everything that Dagster shows and runs, for one deployment."""
    return dg.Definitions(
        assets=ASSETS,
        jobs=JOBS,
        sensors=SENSORS,
        schedules=SCHEDULES,
        resources={"platform": Platform.from_settings(settings)},
        executor=dg.in_process_executor,
    )


defs = build_definitions(load_settings())
