"""A small Measurement Set of averaged Stokes I residuals: what an external imager is given, so that the group's own
Measurement Set is only ever read.

Stokes I is stored as the one correlation XX (for which every imager makes I of an unpolarised sky without further
options), in DATA and, so that no option about columns is needed, nowhere else.
"""

from pathlib import Path

import numpy as np
import numpy.typing as npt

from dsa110_assets.science.averaging import AveragedVisibilities
from dsa110_resources.casacore_tables import open_table
from dsa110_resources.measurement_set import Layout
from dsa110_resources.ms_creation import add_data_column, create_measurement_set
from dsa110_resources.ms_subtables import SECONDS_PER_DAY, SubtableContent, write_subtables

_ZERO_COLUMNS = (
    "ARRAY_ID",
    "DATA_DESC_ID",
    "FEED1",
    "FEED2",
    "FIELD_ID",
    "OBSERVATION_ID",
    "PROCESSOR_ID",
    "STATE_ID",
)


def write_averaged_set(path: Path, averaged: AveragedVisibilities, layout: Layout) -> None:
    """Write averaged visibilities as a Measurement Set of one polarisation.

    Parameters
    ----------
    path
        Must not exist; in staging, removed by whoever asked for it.
    averaged
        Visibilities, weights, uvw and frequencies of the cross-correlations of ``layout``, in its order.
    layout
        Of the group's Measurement Set.
    """
    n_time, n_baseline, n_channel = averaged.visibilities.shape
    create_measurement_set(path, n_baseline=n_baseline, n_time=n_time, n_channel=n_channel, n_pol=1)
    write_subtables(path, _content(averaged, layout))
    with open_table(path, write=True) as table:
        add_data_column(table, "WEIGHT_SPECTRUM", "float", n_baseline=n_baseline)
        for name, values in _columns(averaged, layout).items():
            table.putcol(name, values)


def _content(averaged: AveragedVisibilities, layout: Layout) -> SubtableContent:
    return SubtableContent(
        antenna_names=layout.antenna_names,
        antenna_positions_itrf_m=layout.antenna_positions_itrf_m,
        antenna_diameters_m=layout.antenna_diameters_m,
        frequencies_hz=averaged.frequencies_hz,
        channel_width_hz=averaged.channel_width_hz,
        polarizations=("XX",),
        time_range_mjd=(layout.start_mjd, layout.end_mjd),
        phase_center_deg=layout.phase_center_deg,
        group_id=layout.group_id,
        field_name=layout.field_name,
        history=("averaged Stokes I residuals, written for imaging",),
    )


def _columns(averaged: AveragedVisibilities, layout: Layout) -> dict[str, npt.NDArray[np.generic]]:
    n_time, n_baseline, n_channel = averaged.visibilities.shape
    n_row = n_time * n_baseline
    cross = ~layout.autocorrelations
    seconds = np.repeat(layout.times_mjd * SECONDS_PER_DAY, n_baseline)
    weights = averaged.weights.reshape(n_row, n_channel, 1)
    row_weight = weights.mean(axis=1)
    columns: dict[str, npt.NDArray[np.generic]] = {
        "DATA": averaged.visibilities.reshape(n_row, n_channel, 1),
        "FLAG": weights <= 0,
        "WEIGHT_SPECTRUM": weights,
        "UVW": averaged.uvw_m.reshape(n_row, 3),
        "ANTENNA1": np.tile(layout.antenna1[cross], n_time).astype(np.int32),
        "ANTENNA2": np.tile(layout.antenna2[cross], n_time).astype(np.int32),
        "TIME": seconds,
        "TIME_CENTROID": seconds,
        "INTERVAL": np.full(n_row, averaged.interval_s),
        "EXPOSURE": np.full(n_row, averaged.interval_s),
        "WEIGHT": row_weight,
        "SIGMA": np.divide(1.0, np.sqrt(row_weight), out=np.zeros_like(row_weight), where=row_weight > 0),
        "SCAN_NUMBER": np.ones(n_row, np.int32),
        "FLAG_ROW": np.zeros(n_row, bool),
    }
    return columns | dict.fromkeys(_ZERO_COLUMNS, np.zeros(n_row, np.int32))
