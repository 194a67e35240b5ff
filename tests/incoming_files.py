"""Tiny raw subbands (three antennas, two integrations) in the writer's exact format, for ingest tests."""

import os
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np

from dsa110_assets.science.instrument import HEADER_INTEGRATION_S, N_SUBBANDS, ArrayConfiguration, array_configuration
from dsa110_assets.science.subbands import jd_of
from dsa110_resources.uvh5_writer import RawHeader, write_subband

START = datetime(2026, 2, 11, 16, 3, 22, 700000, tzinfo=UTC)
"""``time_array[0]`` of the first group; its id is 2026-02-11T16:03:22."""
LATER = START + timedelta(hours=1)
"""A clock that finds the files whole."""
SPACING = timedelta(seconds=309.2376)


def tiny_array(n_antennas: int = 3, n_channels: int = 2, n_integrations: int = 2) -> ArrayConfiguration:
    full = array_configuration("full")
    return ArrayConfiguration(
        name="tiny",
        antenna_names=full.antenna_names,
        antenna_positions_m=full.antenna_positions_m,
        antenna_order=full.antenna_order[:n_antennas],
        n_channels=n_channels,
        n_integrations=n_integrations,
    )


def write_raw(
    folder: Path,
    subband: int,
    *,
    start: datetime = START,
    name_time: datetime | None = None,
    dec_deg: float = 16.27,
    telescope: str = "OVRO_MMA",
    array: ArrayConfiguration | None = None,
    suffix: str = ".hdf5",
    start_jd: float | None = None,
) -> Path:
    """Write one subband as the telescope would, last modified when its last integration ended."""
    array = array or tiny_array()
    first_jd = jd_of(start) if start_jd is None else start_jd
    times = first_jd + np.arange(array.n_integrations) * HEADER_INTEGRATION_S / 86400.0
    header = RawHeader(
        array=array,
        frequencies_hz=array.frequencies_hz(subband),
        times_jd=times,
        dec_app_rad=float(np.radians(dec_deg)),
        applied_delays_ns=np.zeros((117, 2), dtype=np.int64),
        written_at="2026-02-11T08:00:00",
        telescope_name=telescope,
    )
    n_baselines = len(array.baselines()[0])
    visibilities = np.ones((array.n_integrations, n_baselines, array.n_channels, 2), dtype=np.complex64)
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{name_time or start:%Y-%m-%dT%H:%M:%S}_sb{subband:02d}{suffix}"
    write_subband(path, header, visibilities)
    touch(path, start)
    return path


def write_group(folder: Path, subbands: range | list[int] = range(N_SUBBANDS), **options: object) -> list[Path]:
    return [write_raw(folder, subband, **options) for subband in subbands]  # type: ignore[arg-type]


def touch(path: Path, moment: datetime) -> None:
    os.utime(path, (moment.timestamp(), moment.timestamp()))
