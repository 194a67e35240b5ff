"""What a Measurement Set holds: antennas, times, baselines, channels, phase centre, and the row of every slot."""

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from dsa110_assets.science import geometry, instrument
from dsa110_assets.science.subbands import group_id_of
from dsa110_resources.casacore_tables import open_table
from dsa110_resources.errors import CorruptInputError, PermanentError
from dsa110_resources.ms_subtables import CORRELATION_TYPES, SECONDS_PER_DAY

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]
Array = npt.NDArray[Any]

KEYWORD_GROUP_ID = "DSA110_GROUP_ID"
KEYWORD_DEC_APP = "DSA110_DEC_APP_DEG"
KEYWORD_MISSING = "DSA110_MISSING_SUBBANDS"
KEYWORD_WRITER = "DSA110_WRITER_TYPE"
_CORRELATION_NAMES = {code: name for name, code in CORRELATION_TYPES.items()} | {5: "RR", 6: "RL", 7: "LR", 8: "LL"}
_SAME_TIME_S = 1e-3


@dataclass(frozen=True, eq=False)
class Layout:
    """What a Measurement Set holds, and where.

    Attributes
    ----------
    path
        The table.
    antenna_names, antenna_positions_itrf_m, antenna_diameters_m
        Its ANTENNA table: all stations, also those without data; (n_station,), (n_station, 3), (n_station,), metres.
    antenna1, antenna2 : (n_baseline,) int
        Row numbers in the ANTENNA table; autocorrelations included.
    times_mjd : (n_time,) float
        Mid-times, MJD UTC.
    interval_s
        Integration time, seconds.
    uvw_m : (n_time, n_baseline, 3) float
        Metres; NaN where a row is missing.
    frequencies_hz : (n_channel,) float
        Ascending, Hz.
    channel_width_hz
        Positive, Hz.
    polarizations
        Such as ``("XX", "YY")``.
    phase_center_deg
        ICRS (right ascension, declination).
    dec_app_deg
        Apparent declination of the meridian point that the dishes look at.
    group_id, field_name, telescope_name
        Names.
    missing_subbands
        Subbands that had no file: their channels are flagged and must stay so.
    rows : (n_time, n_baseline) int or None
        Table row of each slot, -1 where it is missing; None when rows are regular (time-major).
    descending
        Whether the table's channels descend.
    """

    path: Path
    antenna_names: tuple[str, ...]
    antenna_positions_itrf_m: Floats
    antenna_diameters_m: Floats
    antenna1: Ints
    antenna2: Ints
    times_mjd: Floats
    interval_s: float
    uvw_m: Floats
    frequencies_hz: Floats
    channel_width_hz: float
    polarizations: tuple[str, ...]
    phase_center_deg: tuple[float, float]
    dec_app_deg: float
    group_id: str
    field_name: str
    telescope_name: str
    missing_subbands: tuple[int, ...] = ()
    rows: Ints | None = None
    descending: bool = False

    @property
    def n_times(self) -> int:
        """Number of integrations."""
        return len(self.times_mjd)

    @property
    def n_baselines(self) -> int:
        """Number of baselines, autocorrelations included."""
        return len(self.antenna1)

    @property
    def n_channels(self) -> int:
        """Number of channels."""
        return len(self.frequencies_hz)

    @property
    def start_mjd(self) -> float:
        """Start of the first integration, MJD UTC."""
        return float(self.times_mjd[0] - 0.5 * self.interval_s / SECONDS_PER_DAY)

    @property
    def end_mjd(self) -> float:
        """End of the last integration, MJD UTC."""
        return float(self.times_mjd[-1] + 0.5 * self.interval_s / SECONDS_PER_DAY)

    @property
    def mid_mjd(self) -> float:
        """Middle, MJD UTC."""
        return 0.5 * (self.start_mjd + self.end_mjd)

    @cached_property
    def autocorrelations(self) -> npt.NDArray[np.bool_]:
        """Which baselines are autocorrelations, (n_baseline,)."""
        return np.asarray(self.antenna1 == self.antenna2)

    @cached_property
    def antennas_with_data(self) -> Ints:
        """Row numbers of the stations that occur in a baseline, ascending."""
        return np.union1d(self.antenna1, self.antenna2)

    @cached_property
    def missing_channels(self) -> npt.NDArray[np.bool_]:
        """Channels of missing subbands, (n_channel,): any reset of flags must flag them again."""
        top = instrument.BAND_TOP_HZ - self.frequencies_hz
        width = (instrument.BAND_TOP_HZ - instrument.BAND_BOTTOM_HZ) / instrument.N_SUBBANDS
        return np.isin(np.floor(top / width).astype(np.int64), np.array(self.missing_subbands, dtype=np.int64))


def read_layout(ms: Path) -> Layout:
    """Read everything about a Measurement Set but its data.

    Raises
    ------
    CorruptInputError
        No table, a damaged one, or one that holds a (time, baseline) twice.
    PermanentError
        More than one spectral window, polarisation set-up or field.
    """
    path = Path(ms)
    with open_table(path) as table:
        _require_single(table, path)
        seconds = np.asarray(table.getcol("TIME"), dtype=np.float64)
        ends = [np.asarray(table.getcol(f"ANTENNA{i}"), dtype=np.int64) for i in (1, 2)]
        uvw = np.asarray(table.getcol("UVW"), dtype=np.float64)
        interval = float(np.median(table.getcol("INTERVAL")))
        description, field = int(table.getcell("DATA_DESC_ID", 0)), int(table.getcell("FIELD_ID", 0))
        keywords = table.getkeywords()
    times, antenna1, antenna2, rows = _grid(seconds, ends[0], ends[1], path)
    window = _read_window(path, description)
    mjd = times / SECONDS_PER_DAY
    centre, field_name = _read_field(path, field)
    with open_table(path / "ANTENNA") as antennas:
        names = tuple(str(name) for name in antennas.getcol("NAME"))
        positions = np.asarray(antennas.getcol("POSITION"), dtype=np.float64)
        diameters = np.asarray(antennas.getcol("DISH_DIAMETER"), dtype=np.float64)
    with open_table(path / "OBSERVATION") as observation:
        telescope = str(observation.getcell("TELESCOPE_NAME", 0))
    dec_app = keywords.get(KEYWORD_DEC_APP)
    missing = str(keywords.get(KEYWORD_MISSING, ""))
    return Layout(
        path=path,
        antenna_names=names,
        antenna_positions_itrf_m=positions,
        antenna_diameters_m=diameters,
        antenna1=antenna1,
        antenna2=antenna2,
        times_mjd=mjd,
        interval_s=interval,
        uvw_m=place_on_grid(uvw, rows, (len(times), len(antenna1)), np.nan),
        phase_center_deg=centre,
        dec_app_deg=_apparent_declination(centre, mjd) if dec_app is None else float(dec_app),
        group_id=str(keywords.get(KEYWORD_GROUP_ID) or group_id_of(float(mjd[0]) + 2400000.5)),
        field_name=field_name,
        telescope_name=telescope,
        missing_subbands=tuple(int(n) for n in missing.split(",") if n),
        rows=rows,
        **window,
    )


def _require_single(table: Any, path: Path) -> None:
    if table.nrows() == 0:
        raise CorruptInputError("the Measurement Set has no rows", path=path, cure="convert the group again")
    for column in ("DATA_DESC_ID", "FIELD_ID"):
        values = np.unique(table.getcol(column))
        if len(values) > 1:
            raise PermanentError(
                f"{len(values)} values of {column}: one spectral window and one field are handled",
                path=path,
                cure="convert it with `dsa110 convert`, which writes one of each",
            )


def _grid(seconds: Floats, first: Ints, second: Ints, path: Path) -> tuple[Floats, Ints, Ints, Ints | None]:
    """Times, baselines and the row of each (time, baseline) slot; None for the rows when they are regular."""
    ordered = np.sort(seconds)
    times = ordered[np.concatenate([[True], np.diff(ordered) > _SAME_TIME_S])]
    n_baseline = len(seconds) // len(times)
    if len(seconds) == len(times) * n_baseline:
        shape = (len(times), n_baseline)
        regular = np.all(np.abs(seconds.reshape(shape) - times[:, None]) <= _SAME_TIME_S)
        regular &= np.all(first.reshape(shape) == first[:n_baseline]) & np.all(
            second.reshape(shape) == second[:n_baseline]
        )
        pair = first[:n_baseline] * (second.max() + 1) + second[:n_baseline]
        if regular and len(np.unique(pair)) == n_baseline:
            return times, first[:n_baseline].copy(), second[:n_baseline].copy(), None
    pairs, baseline = np.unique(np.stack([first, second], axis=1), axis=0, return_inverse=True)
    time = np.clip(np.searchsorted(times, seconds + _SAME_TIME_S) - 1, 0, None)
    rows = np.full((len(times), len(pairs)), -1, dtype=np.int64)
    rows[time, baseline.reshape(-1)] = np.arange(len(seconds))
    if np.count_nonzero(rows >= 0) != len(seconds):
        raise CorruptInputError("a baseline occurs twice at one time", path=path, cure="select one sub-array or scan")
    return times, pairs[:, 0].copy(), pairs[:, 1].copy(), rows


def _read_window(path: Path, description: int) -> dict[str, Any]:
    with open_table(path / "DATA_DESCRIPTION") as table:
        window = int(table.getcell("SPECTRAL_WINDOW_ID", description))
        polarization = int(table.getcell("POLARIZATION_ID", description))
    with open_table(path / "SPECTRAL_WINDOW") as table:
        frequencies = np.asarray(table.getcell("CHAN_FREQ", window), dtype=np.float64)
        widths = np.abs(np.asarray(table.getcell("CHAN_WIDTH", window), dtype=np.float64))
    with open_table(path / "POLARIZATION") as table:
        codes = [int(code) for code in table.getcell("CORR_TYPE", polarization)]
    return {
        "frequencies_hz": np.sort(frequencies),
        "channel_width_hz": float(np.median(widths)),
        "polarizations": tuple(_CORRELATION_NAMES.get(code, str(code)) for code in codes),
        "descending": len(frequencies) > 1 and bool(frequencies[0] > frequencies[-1]),
    }


def _read_field(path: Path, field: int) -> tuple[tuple[float, float], str]:
    with open_table(path / "FIELD") as table:
        ra, dec = np.degrees(np.asarray(table.getcell("PHASE_DIR", field), dtype=np.float64).reshape(-1, 2)[0])
        return (float(ra) % 360.0, float(dec)), str(table.getcell("NAME", field))


def _apparent_declination(centre: tuple[float, float], mjd: Floats) -> float:
    """A table without our keyword: its phase centre is taken for the pointing."""
    direction = geometry.icrs_to_itrs([centre[0]], [centre[1]], np.array([mjd.mean() + 2400000.5]))[0, 0]
    return float(np.degrees(np.arcsin(direction[2])))


def place_on_grid(values: Array, rows: Ints | None, shape: tuple[int, int], missing: Any) -> Array:
    """Table rows as (time, baseline, …); ``missing`` where there is no row."""
    if rows is None:
        return values.reshape(*shape, *values.shape[1:])
    grid = values[np.maximum(rows, 0)]
    grid[rows < 0] = missing
    return grid
