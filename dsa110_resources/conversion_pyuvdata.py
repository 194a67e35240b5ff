"""The slow writer: pyuvdata reads, concatenates and writes. It validates the production writer and converts the UVH5
files of other telescopes.
"""

import contextlib
import logging
import time
import warnings
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from dsa110_assets.science import geometry, instrument
from dsa110_assets.science.phasing import SPEED_OF_LIGHT_M_S, Floats
from dsa110_resources.archive import atomic_directory
from dsa110_resources.casacore_tables import open_table
from dsa110_resources.conversion_direct import Stopwatch, visibility_weight
from dsa110_resources.conversion_report import ConversionReport, directory_bytes
from dsa110_resources.errors import CorruptInputError
from dsa110_resources.ms_layout import Layout, read_layout
from dsa110_resources.subband_group import SubbandGroup, field_name
from dsa110_resources.uvh5 import SubbandHeader

logger = logging.getLogger(__name__)


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Pyuvdata warns of what is meant here (units, conjugation, an unknown observatory); the log keeps it as debug."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        yield
    for warning in caught:
        logger.debug("pyuvdata: %s", warning.message)


def write_by_pyuvdata(group: SubbandGroup, ms: Path, *, flag_autos: bool, watch: Stopwatch) -> None:
    """Write a group's Measurement Set with ``UVData.write_ms``; the channels of its own subbands only.

    Parameters
    ----------
    group, ms, flag_autos, watch
        As for :func:`dsa110_resources.conversion_direct.write_direct`.
    """
    header = group.first
    with _quiet():
        with watch.step("read"):
            parts = [_read_raw(member) for member in group.headers.values()]
            data = parts[0]
            if len(parts) > 1:
                data.fast_concat(parts[1:], axis="freq", inplace=True, run_check=False)
            data.reorder_freqs(channel_order="freq", run_check=False)
        with watch.step("rephase"):
            _rephase(data, group)
        data.nsample_array *= visibility_weight(header, 1.0) / instrument.SAMPLES_PER_INTEGRATION
        if flag_autos:
            data.flag_array[data.ant_1_array == data.ant_2_array] = True
        data.conjugate_bls("ant1<ant2")
        data.reorder_blts(order="time", minor_order="baseline", run_check=False)
        with watch.step("write"):
            data.write_ms(str(ms), run_check=False, clobber=True)
    with watch.step("write"), open_table(ms, write=True) as table:
        weight = table.getcol("WEIGHT")
        table.putcol("SIGMA", _sigma(weight) * np.float32(instrument.RAW_GAIN**2))


def _read_raw(header: SubbandHeader) -> Any:
    from pyuvdata import UVData

    data = UVData()
    data.read(str(header.path), file_type="uvh5", run_check=False, run_check_acceptability=False)
    data.uvw_array = data.uvw_array.astype(np.float64)
    data.channel_width = np.abs(data.channel_width)
    return data


def _rephase(data: Any, group: SubbandGroup) -> None:
    """Row by row, in pyuvdata's sense: data x exp(-2 pi i (w_new - w_old) f / c) for antenna 2 minus antenna 1.

    pyuvdata's own ``phase`` starts from the zenith, which is not where these data point.
    """
    header = group.first
    vectors = header.antenna_positions_m[data.ant_2_array] - header.antenna_positions_m[data.ant_1_array]
    axes = geometry.uvw_axes(*group.phase_center_deg, header.times_jd)
    per_row = np.searchsorted(header.times_jd, data.time_array)
    uvw: Floats = np.einsum("rij,rj->ri", axes[per_row], vectors)
    delay_s = (uvw[:, 2] - geometry.header_uvw(vectors, header.dec_app_rad)[:, 2]) / SPEED_OF_LIGHT_M_S
    data.data_array *= np.exp(-2j * np.pi * delay_s[:, None] * data.freq_array)[:, :, None]
    data.uvw_array = uvw
    ra, dec = np.radians(group.phase_center_deg)
    name = field_name(group)
    centre = {"cat_name": name, "cat_type": "sidereal", "cat_lon": ra, "cat_lat": dec, "cat_frame": "icrs"}
    extra = dict.fromkeys(("cat_times", "cat_pm_ra", "cat_pm_dec", "cat_vrad", "cat_dist"))
    data.phase_center_catalog = {0: centre | extra | {"cat_epoch": 2000.0, "info_source": "dsa110 convert"}}
    data.phase_center_id_array = np.zeros(data.Nblts, dtype=int)


def _sigma(weight: Any) -> Any:
    return np.divide(1.0, np.sqrt(weight), out=np.zeros_like(weight), where=weight > 0)


def convert_foreign(paths: Sequence[Path], ms_path: Path, *, partition: str = "") -> ConversionReport:
    """Convert another telescope's UVH5 files (one observation, any number of frequency parts) through pyuvdata.

    Unprojected (drift) data are phased to the zenith of the middle of the observation.

    Parameters
    ----------
    paths
        Files.
    ms_path
        Target, replaced in one step.
    partition
        Named in errors.

    Raises
    ------
    CorruptInputError
        pyuvdata cannot read the files, or they do not fit together.
    """
    watch, start = Stopwatch(), time.perf_counter()
    with _quiet(), atomic_directory(Path(ms_path)) as staged:
        with watch.step("read"):
            data = _read_foreign(paths, partition)
        with watch.step("rephase"):
            if data._check_for_cat_type("unprojected").any():
                data.phase_to_time(float(0.5 * (data.time_array.min() + data.time_array.max())))
            data.conjugate_bls("ant1<ant2")
        with watch.step("write"):
            data.write_ms(str(staged))
            with open_table(staged, write=True) as table:
                table.putcol("SIGMA", _sigma(table.getcol("WEIGHT")))
        n_bytes, layout = directory_bytes(staged), read_layout(staged)
    watch.seconds["total"] = time.perf_counter() - start
    return _foreign_report(layout, Path(ms_path), paths, dict(watch.seconds), n_bytes)


def _read_foreign(paths: Sequence[Path], partition: str) -> Any:
    from pyuvdata import UVData

    data = UVData()
    try:
        data.read([str(path) for path in paths], file_type="uvh5")
    except (OSError, ValueError, KeyError) as error:
        names = ", ".join(path.name for path in paths)
        raise CorruptInputError(
            f"pyuvdata cannot read {names}: {error}",
            partition=partition,
            path=paths[0],
            cure="check that the files are UVH5 parts of one observation",
        ) from error
    return data


def _foreign_report(
    layout: Layout, ms_path: Path, paths: Sequence[Path], timings_s: dict[str, float], n_bytes: int
) -> ConversionReport:
    n_slots = layout.n_times * layout.n_baselines
    return ConversionReport(
        ms_path=ms_path,
        group_id=layout.group_id,
        writer_type="pyuvdata",
        staging="disk",
        n_rows=n_slots if layout.rows is None else int(np.count_nonzero(layout.rows >= 0)),
        n_times=layout.n_times,
        n_baselines=layout.n_baselines,
        n_antennas=len(layout.antennas_with_data),
        n_channels=layout.n_channels,
        n_subbands=len(paths),
        missing_subbands=(),
        uvw_max_discrepancy_m=float("nan"),
        uvw_rotation_arcsec=(float("nan"), float("nan"), float("nan")),
        uvw_residual_m=float("nan"),
        uvw_suspect=False,
        phase_center_deg=layout.phase_center_deg,
        dec_app_deg=layout.dec_app_deg,
        start_mjd=layout.start_mjd,
        mid_mjd=layout.mid_mjd,
        end_mjd=layout.end_mjd,
        timings_s=timings_s,
        bytes_read=sum(Path(path).stat().st_size for path in paths),
        bytes_written=n_bytes,
    )
