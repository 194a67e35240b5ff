"""Jobs that an operator understands, one per cadence."""

import dagster as dg

from dsa110_assets.defs.failures import NO_RUN_RETRY
from dsa110_assets.defs.tiles import TILE_STAGES

BANDPASS_ASSETS = ("delay_table", "prebandpass_table", "bandpass_table")

process_tile = dg.define_asset_job(
    "process_tile",
    selection=dg.AssetSelection.assets(*TILE_STAGES),
    executor_def=dg.in_process_executor,
    description="One 5-minute group from its subbands to photometry, in one run.",
    tags=NO_RUN_RETRY,
)

solve_bandpass = dg.define_asset_job(
    "solve_bandpass",
    selection=dg.AssetSelection.assets(*BANDPASS_ASSETS),
    executor_def=dg.in_process_executor,
    description="The day's delay, pre-bandpass phase and bandpass tables, on its best calibrator transit.",
    tags=NO_RUN_RETRY,
)

solve_gains = dg.define_asset_job(
    "solve_gains",
    selection=dg.AssetSelection.assets("gain_table"),
    executor_def=dg.in_process_executor,
    description="The hour's gain table, on the catalogue sky model.",
    tags=NO_RUN_RETRY,
)

build_catalogue = dg.define_asset_job(
    "build_catalogue",
    selection=dg.AssetSelection.assets("sources"),
    executor_def=dg.in_process_executor,
    description="The master catalogue from the survey files that the settings name.",
    tags=NO_RUN_RETRY,
)

JOBS = (process_tile, solve_bandpass, solve_gains, build_catalogue)
