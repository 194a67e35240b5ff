"""What a conversion reports of itself."""

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class ConversionReport:
    """What was written.

    Attributes
    ----------
    ms_path, group_id, writer_type, staging
        Where, what, ``direct`` or ``pyuvdata``, ``disk`` or ``tmpfs``.
    n_rows, n_times, n_baselines, n_antennas, n_channels, n_subbands
        Counts; antennas are those with data.
    missing_subbands
        Subbands whose channels are flagged.
    uvw_max_discrepancy_m
        Largest difference of the header's uvw from the recomputed one at hour angle 0.
    uvw_rotation_arcsec, uvw_residual_m
        The rotation that explains it (about u, v, w) and what it leaves.
    uvw_suspect
        Whether the discrepancy exceeds the warning limit.
    phase_center_deg, dec_app_deg
        ICRS centre, and the apparent declination of the pointing.
    start_mjd, mid_mjd, end_mjd
        Start of the first, middle and end of the last integration, UTC.
    timings_s
        Seconds of ``read``, ``rephase`` (summed over threads), ``write``, ``publish`` and ``total`` (wall).
    bytes_read, bytes_written
        Bytes.
    """

    ms_path: Path
    group_id: str
    writer_type: str
    staging: str
    n_rows: int
    n_times: int
    n_baselines: int
    n_antennas: int
    n_channels: int
    n_subbands: int
    missing_subbands: tuple[int, ...]
    uvw_max_discrepancy_m: float
    uvw_rotation_arcsec: tuple[float, float, float]
    uvw_residual_m: float
    uvw_suspect: bool
    phase_center_deg: tuple[float, float]
    dec_app_deg: float
    start_mjd: float
    mid_mjd: float
    end_mjd: float
    timings_s: dict[str, float]
    bytes_read: int
    bytes_written: int


def directory_bytes(path: Path) -> int:
    """Bytes of all files below a directory."""
    return sum(file.stat().st_size for file in path.rglob("*") if file.is_file())
