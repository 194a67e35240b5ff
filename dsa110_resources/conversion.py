"""From one subband group to one Measurement Set: checks, choice of writer, staging, validation, publication."""

import logging
import os
import shutil
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
from pydantic import BaseModel, Field

from dsa110_assets.science import instrument
from dsa110_assets.science.subbands import group_id_of
from dsa110_resources.archive import STAGING_MARK, publish_directory, staging_sibling
from dsa110_resources.casacore_tables import open_table
from dsa110_resources.conversion_direct import Stopwatch, write_direct
from dsa110_resources.conversion_report import ConversionReport, directory_bytes
from dsa110_resources.disk_space import require_space
from dsa110_resources.errors import CorruptInputError, PermanentError
from dsa110_resources.ms_layout import KEYWORD_DEC_APP, KEYWORD_GROUP_ID, KEYWORD_MISSING, KEYWORD_WRITER
from dsa110_resources.ms_rewriting import replacing
from dsa110_resources.ms_subtables import SubtableContent, write_subtables
from dsa110_resources.subband_group import SubbandGroup, field_name, read_group
from dsa110_resources.uvh5 import open_raw, read_telescope

logger = logging.getLogger(__name__)

Writer = Literal["auto", "direct", "pyuvdata"]
Staging = Literal["auto", "tmpfs", "disk"]


class ConversionOptions(BaseModel, frozen=True):
    """How a group becomes a Measurement Set."""

    writer: Writer = "auto"
    """``direct``: the production writer. ``pyuvdata``: slow, for validation. ``auto`` is direct."""
    staging: Staging = "disk"
    """Where it is built: beside the target, or in RAM (``auto``: in RAM if there is room, else on disk)."""
    tmpfs_dir: Path = Path("/dev/shm")  # noqa: S108 - a setting, and its contents are made with fresh names
    """The RAM file system; used only when twice the need is free."""
    threads: int = Field(default=2, ge=1, le=64)
    """Threads that read and rephase."""
    flag_autocorrelations: bool = True
    """Flag autocorrelations: kept, but 500 times stronger than the rest, they ruin what takes them for baselines."""
    uvw_warn_m: float = Field(default=0.01, gt=0)
    """Discrepancy with the header's uvw that is reported, metres."""
    uvw_error_m: float = Field(default=20.0, gt=0)
    """Discrepancy that is refused, metres: the data are not phased where the header says."""
    pyuvdata_max_subbands: int = Field(default=2, ge=1, le=instrument.N_SUBBANDS)
    """Most subbands the slow writer takes (6 GB of memory for a full group)."""


@dataclass(frozen=True)
class _Outcome:
    writer: str
    staging: str
    uvw_suspect: bool
    timings_s: dict[str, float]
    bytes_written: int


def convert_group(
    paths: Sequence[Path], ms_path: Path, *, options: ConversionOptions | None = None, partition: str = ""
) -> ConversionReport:
    """Convert the subbands of one group into one Measurement Set, whole or not at all.

    Parameters
    ----------
    paths
        The group's files, in any order; absent subbands become flagged channels.
    ms_path
        Target; an existing one is replaced in one step.
    options
        See :class:`ConversionOptions`.
    partition
        Named in errors.

    Raises
    ------
    CorruptInputError
        A damaged file, files that do not belong together, or data phased elsewhere than the header says.
    ForeignDataError
        Another telescope's file, or an impossible time.
    DiskFullError
        No room for the Measurement Set.
    LockedError
        A step is rewriting the Measurement Set that was to be replaced.
    """
    options = options or ConversionOptions()
    watch, start = Stopwatch(), time.perf_counter()
    with watch.step("headers"):
        group = read_group([Path(path) for path in paths], partition=partition)
        _require_uvw(group, options, partition)
    writer, target = _choose_writer(group, options, partition), Path(ms_path)
    target.parent.mkdir(parents=True, exist_ok=True)
    remove_abandoned_staging(target.parent, target.name)
    need = _estimate_bytes(group)
    require_space(target.parent, need, partition=partition)
    staged = staging_sibling(target)
    try:
        with _build_directory(staged, options, need) as (build, staging):
            _write(group, build, writer, options, watch)
            _require_valid(build, group, writer, partition)
            bytes_written = directory_bytes(build)
            with watch.step("publish"):
                if build != staged:
                    shutil.copytree(build, staged)
                with replacing(target):
                    publish_directory(staged, target)
    finally:
        if staged.exists():
            shutil.rmtree(staged)
    watch.seconds["total"] = time.perf_counter() - start
    suspect = group.uvw.max_discrepancy_m > options.uvw_warn_m
    report = _report(group, target, _Outcome(writer, staging, suspect, dict(watch.seconds), bytes_written))
    logger.info("%s: %d rows, %d channels in %.1f s (%s)", *_summary(report))
    return report


def convert_files(
    files: Sequence[Path], ms_path: Path, *, options: ConversionOptions | None = None
) -> ConversionReport:
    """Convert the files of one observation, whichever telescope wrote them.

    Raw DSA-110 subbands go through :func:`convert_group`, everything else through pyuvdata.

    Raises
    ------
    CorruptInputError
        A damaged file, or files that do not fit together.
    """
    options = options or ConversionOptions()
    first = Path(files[0])
    with open_raw(first) as file:
        ours = read_telescope(file) == instrument.TELESCOPE_NAME
    if ours:
        return convert_group(files, ms_path, options=options, partition=Path(ms_path).stem)
    if options.writer == "direct":
        raise PermanentError(
            "the direct writer knows DSA-110 raw files only", path=first, cure="use the writer auto or pyuvdata"
        )
    from dsa110_resources.conversion_pyuvdata import convert_foreign

    return convert_foreign([Path(path) for path in files], Path(ms_path), partition=Path(ms_path).stem)


def _summary(report: ConversionReport) -> tuple[str, int, int, float, str]:
    return report.group_id, report.n_rows, report.n_channels, report.timings_s["total"], report.writer_type


def _require_uvw(group: SubbandGroup, options: ConversionOptions, partition: str) -> None:
    found = group.uvw.max_discrepancy_m
    if found > options.uvw_error_m:
        raise CorruptInputError(
            f"its uvw differ by {found:.1f} m from those of its antennas at hour angle 0 and declination "
            f"{np.degrees(group.first.dec_app_rad):.4f} deg (rotation {group.uvw.rotation_arcsec} arcsec)",
            partition=partition,
            path=group.first.path,
            cure="the data are phased elsewhere (zenith is ~1 km off): look at phase_center_dec and the antenna table",
        )
    if found > options.uvw_warn_m:
        logger.warning("%s: header uvw differ by %.3f m from the recomputed ones", partition, found)


def _choose_writer(group: SubbandGroup, options: ConversionOptions, partition: str) -> str:
    if options.writer != "pyuvdata":
        return "direct"
    if len(group.headers) > options.pyuvdata_max_subbands:
        raise PermanentError(
            f"the pyuvdata writer takes at most {options.pyuvdata_max_subbands} subbands, not {len(group.headers)}",
            partition=partition,
            cure="use writer = direct, or raise pyuvdata_max_subbands (6 GB of memory for a full group)",
        )
    return "pyuvdata"


def _write(group: SubbandGroup, build: Path, writer: str, options: ConversionOptions, watch: Stopwatch) -> None:
    if writer == "direct":
        write_direct(group, build, threads=options.threads, flag_autos=options.flag_autocorrelations, watch=watch)
    else:
        from dsa110_resources.conversion_pyuvdata import write_by_pyuvdata

        write_by_pyuvdata(group, build, flag_autos=options.flag_autocorrelations, watch=watch)
    with watch.step("write"):
        if writer == "direct":
            write_subtables(build, _content(group, writer))
        _write_keywords(build, group, writer)


def _content(group: SubbandGroup, writer: str) -> SubtableContent:
    header = group.first
    group_id = group_id_of(header.time_start_jd)
    rotation = ", ".join(f"{angle:.4f}" for angle in group.uvw.rotation_arcsec)
    lines = (
        header.history,
        f"group {group_id}, apparent declination {np.degrees(header.dec_app_rad):.6f} deg, writer {writer}",
        f"missing subbands: {', '.join(map(str, group.missing)) or 'none'}",
        f"header uvw within {group.uvw.max_discrepancy_m:.4f} m of the recomputed, rotation {rotation} arcsec",
    )
    return SubtableContent(
        antenna_names=header.antenna_names,
        antenna_positions_itrf_m=header.antenna_positions_m + instrument.TELESCOPE_ITRF_M,
        antenna_diameters_m=header.antenna_diameters_m,
        frequencies_hz=group.frequencies_hz,
        channel_width_hz=header.channel_width_hz,
        polarizations=header.polarizations,
        time_range_mjd=_time_range_mjd(group),
        phase_center_deg=group.phase_center_deg,
        group_id=group_id,
        field_name=field_name(group),
        history=lines,
    )


def _time_range_mjd(group: SubbandGroup) -> tuple[float, float]:
    header = group.first
    half = 0.5 * header.integration_s / 86400.0
    mjd = header.times_jd - 2400000.5
    return float(mjd[0] - half), float(mjd[-1] + half)


def _write_keywords(build: Path, group: SubbandGroup, writer: str) -> None:
    with open_table(build, write=True) as table:
        table.putkeyword(KEYWORD_GROUP_ID, group_id_of(group.first.time_start_jd))
        table.putkeyword(KEYWORD_DEC_APP, float(np.degrees(group.first.dec_app_rad)))
        table.putkeyword(KEYWORD_MISSING, ",".join(map(str, group.missing)))
        table.putkeyword(KEYWORD_WRITER, writer)


def _require_valid(build: Path, group: SubbandGroup, writer: str, partition: str) -> None:
    """Open what was written and compare its shape; a staged table that fails is never published."""
    with open_table(build) as table:
        n_rows, shape = table.nrows(), tuple(table.getcell("DATA", table.nrows() - 1).shape)
        flag_shape = tuple(table.getcell("FLAG", table.nrows() - 1).shape)
    expected = (_n_written_channels(group, writer), len(group.first.polarizations))
    if n_rows != group.first.n_blts or shape != expected or flag_shape != expected:
        raise CorruptInputError(
            f"{n_rows} rows of {shape} were written, not {group.first.n_blts} of {expected}",
            partition=partition,
            path=build,
            cure="run the conversion again; if it recurs, report it",
        )


def _n_written_channels(group: SubbandGroup, writer: str) -> int:
    """The slow writer knows nothing of subbands that are not there."""
    return group.n_channels if writer == "direct" else len(group.headers) * group.first.n_channels


def _estimate_bytes(group: SubbandGroup) -> int:
    header = group.first
    values = header.n_blts * group.n_channels * len(header.polarizations)
    spectrum = 4 * values if group.missing else 0
    return 8 * values + values // 8 + spectrum + 120 * header.n_blts + 4_000_000


@contextmanager
def _build_directory(staged: Path, options: ConversionOptions, need: int) -> Iterator[tuple[Path, str]]:
    """Where the table is built: the staged sibling itself, or a directory in RAM that is copied to it."""
    if options.staging == "disk" or not _tmpfs_has_room(options.tmpfs_dir, need):
        yield staged, "disk"
        return
    remove_abandoned_staging(options.tmpfs_dir, "*.ms")
    build = options.tmpfs_dir / f"dsa110-{staged.name.lstrip('.')}"
    try:
        yield build, "tmpfs"
    finally:
        shutil.rmtree(build, ignore_errors=True)


def _tmpfs_has_room(directory: Path, need: int) -> bool:
    return directory.is_dir() and os.access(directory, os.W_OK) and shutil.disk_usage(directory).free >= 2 * need


def remove_abandoned_staging(directory: Path, name: str = "*") -> list[Path]:
    """Remove what killed conversions left half built; a staging directory names the process that made it.

    Parameters
    ----------
    directory
        Where to look.
    name
        Name of the Measurement Set (or a pattern).
    """
    removed = []
    for prefix in (".", "dsa110-"):
        for path in directory.glob(f"{prefix}{name}{STAGING_MARK}*"):
            process = path.name.rsplit(STAGING_MARK, 1)[1].split("-")[0]
            if process.isdigit() and path.is_dir() and not Path(f"/proc/{process}").exists():
                shutil.rmtree(path, ignore_errors=True)
                removed.append(path)
    return removed


def _report(group: SubbandGroup, ms_path: Path, outcome: _Outcome) -> ConversionReport:
    header, span = group.first, _time_range_mjd(group)
    return ConversionReport(
        ms_path=ms_path,
        group_id=group_id_of(header.time_start_jd),
        writer_type=outcome.writer,
        staging=outcome.staging,
        n_rows=header.n_blts,
        n_times=header.n_times,
        n_baselines=header.n_baselines,
        n_antennas=header.n_antennas,
        n_channels=_n_written_channels(group, outcome.writer),
        n_subbands=len(group.headers),
        missing_subbands=group.missing,
        uvw_max_discrepancy_m=group.uvw.max_discrepancy_m,
        uvw_rotation_arcsec=group.uvw.rotation_arcsec,
        uvw_residual_m=group.uvw.max_residual_m,
        uvw_suspect=outcome.uvw_suspect,
        phase_center_deg=group.phase_center_deg,
        dec_app_deg=float(np.degrees(header.dec_app_rad)),
        start_mjd=span[0],
        mid_mjd=0.5 * sum(span),
        end_mjd=span[1],
        timings_s=outcome.timings_s,
        bytes_read=sum(member.file_size for member in group.headers.values()),
        bytes_written=outcome.bytes_written,
    )
