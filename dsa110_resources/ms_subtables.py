"""Subtables of a Measurement Set, such that CASA, WSClean and AOFlagger accept it without network or warnings."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from dsa110_assets.science import instrument
from dsa110_resources.casacore_tables import open_table

Floats = npt.NDArray[np.float64]

CORRELATION_TYPES = {"XX": 9, "XY": 10, "YX": 11, "YY": 12}
SECONDS_PER_DAY = 86400.0
# The dishes only tilt along the meridian and their feeds do not turn: the sky's orientation on the receptors is that
# of an equatorial mount at hour angle 0. "ALT-AZ" would make CASA rotate the feeds, "other" fills its log.
MOUNT = "EQUATORIAL"
ICRS_REFERENCE = 21
"""casacore's code of the ICRS direction frame, where a reference is stored as a number."""


@dataclass(frozen=True, eq=False)
class SubtableContent:
    """What the subtables say.

    Attributes
    ----------
    antenna_names, antenna_positions_itrf_m, antenna_diameters_m
        All stations, (n_station,), (n_station, 3) absolute, metres.
    frequencies_hz, channel_width_hz
        Ascending channel centres, Hz.
    polarizations
        Such as ``("XX", "YY")``.
    time_range_mjd
        Start of the first and end of the last integration.
    phase_center_deg
        ICRS.
    group_id, field_name
        Names.
    history
        Lines.
    """

    antenna_names: tuple[str, ...]
    antenna_positions_itrf_m: Floats
    antenna_diameters_m: Floats
    frequencies_hz: Floats
    channel_width_hz: float
    polarizations: tuple[str, ...]
    time_range_mjd: tuple[float, float]
    phase_center_deg: tuple[float, float]
    group_id: str
    field_name: str
    history: tuple[str, ...]

    @property
    def middle_s(self) -> float:
        """Mid-time, MJD seconds."""
        return 0.5 * sum(self.time_range_mjd) * SECONDS_PER_DAY


def write_subtables(ms: Path, content: SubtableContent) -> None:
    """Fill all subtables of a fresh Measurement Set."""
    _write_antenna(ms, content)
    _write_feed(ms, content)
    _write_spectral_window(ms, content)
    _write_polarization(ms, content)
    _write_field(ms, content)
    _write_observation(ms, content)
    _write_history(ms, content)


def _fill(ms: Path, name: str, columns: dict[str, object], n_rows: int) -> None:
    with open_table(ms / name, write=True) as table:
        missing = n_rows - table.nrows()
        if missing > 0:
            table.addrows(missing)
        for column, values in columns.items():
            table.putcol(column, values)


def _write_antenna(ms: Path, content: SubtableContent) -> None:
    n = len(content.antenna_names)
    columns: dict[str, object] = {
        "NAME": list(content.antenna_names),
        "STATION": [f"DSA-{int(name):03d}" if name.isdigit() else name for name in content.antenna_names],
        "TYPE": ["GROUND-BASED"] * n,
        "MOUNT": [MOUNT] * n,
        "POSITION": content.antenna_positions_itrf_m,
        "OFFSET": np.zeros((n, 3)),
        "DISH_DIAMETER": content.antenna_diameters_m,
        "FLAG_ROW": np.zeros(n, bool),
    }
    _fill(ms, "ANTENNA", columns, n)


def _write_feed(ms: Path, content: SubtableContent) -> None:
    n = len(content.antenna_names)
    columns: dict[str, object] = {
        "ANTENNA_ID": np.arange(n, dtype=np.int32),
        "FEED_ID": np.zeros(n, np.int32),
        "SPECTRAL_WINDOW_ID": np.full(n, -1, np.int32),
        "TIME": np.full(n, content.middle_s),
        "INTERVAL": np.zeros(n),
        "NUM_RECEPTORS": np.full(n, 2, np.int32),
        "BEAM_ID": np.full(n, -1, np.int32),
        "BEAM_OFFSET": np.zeros((n, 2, 2)),
        "POLARIZATION_TYPE": {"shape": [n, 2], "array": ["X", "Y"] * n},
        "POL_RESPONSE": np.tile(np.eye(2, dtype=np.complex64), (n, 1, 1)),
        "POSITION": np.zeros((n, 3)),
        "RECEPTOR_ANGLE": np.zeros((n, 2)),
    }
    _fill(ms, "FEED", columns, n)


def _write_spectral_window(ms: Path, content: SubtableContent) -> None:
    n = len(content.frequencies_hz)
    widths = np.full((1, n), content.channel_width_hz)
    columns: dict[str, object] = {
        "NUM_CHAN": np.array([n], np.int32),
        "NAME": ["DSA110_L"],
        "REF_FREQUENCY": content.frequencies_hz[:1],
        "CHAN_FREQ": content.frequencies_hz[None, :],
        "CHAN_WIDTH": widths,
        "EFFECTIVE_BW": widths,
        "RESOLUTION": widths,
        "TOTAL_BANDWIDTH": np.array([n * content.channel_width_hz]),
        "MEAS_FREQ_REF": np.array([5], np.int32),  # TOPO
        "NET_SIDEBAND": np.array([1], np.int32),
        "IF_CONV_CHAIN": np.array([0], np.int32),
        "FREQ_GROUP": np.array([0], np.int32),
        "FREQ_GROUP_NAME": [""],
        "FLAG_ROW": np.zeros(1, bool),
    }
    _fill(ms, "SPECTRAL_WINDOW", columns, 1)
    identifiers = {"SPECTRAL_WINDOW_ID": np.zeros(1, np.int32), "POLARIZATION_ID": np.zeros(1, np.int32)}
    _fill(ms, "DATA_DESCRIPTION", {**identifiers, "FLAG_ROW": np.zeros(1, bool)}, 1)


def _write_polarization(ms: Path, content: SubtableContent) -> None:
    products = [["XY".index(receptor) for receptor in name] for name in content.polarizations]
    columns: dict[str, object] = {
        "NUM_CORR": np.array([len(products)], np.int32),
        "CORR_TYPE": np.array([[CORRELATION_TYPES[name] for name in content.polarizations]], np.int32),
        "CORR_PRODUCT": np.array([products], np.int32),
        "FLAG_ROW": np.zeros(1, bool),
    }
    _fill(ms, "POLARIZATION", columns, 1)


def _write_field(ms: Path, content: SubtableContent) -> None:
    centre = np.radians(np.array(content.phase_center_deg)).reshape(1, 1, 2)
    columns: dict[str, object] = {
        "NAME": [content.field_name],
        "CODE": [""],
        "TIME": np.array([content.middle_s]),
        "NUM_POLY": np.zeros(1, np.int32),
        "DELAY_DIR": centre,
        "PHASE_DIR": centre,
        "REFERENCE_DIR": centre,
        "SOURCE_ID": np.full(1, -1, np.int32),
        "FLAG_ROW": np.zeros(1, bool),
    }
    _fill(ms, "FIELD", columns, 1)
    with open_table(ms / "FIELD", write=True) as field:
        for column in ("DELAY_DIR", "PHASE_DIR", "REFERENCE_DIR"):
            measure = field.getcolkeyword(column, "MEASINFO")
            field.putcolkeyword(column, "MEASINFO", {**measure, "Ref": "ICRS"})


def _write_observation(ms: Path, content: SubtableContent) -> None:
    span = np.array(content.time_range_mjd) * SECONDS_PER_DAY
    columns: dict[str, object] = {
        "TELESCOPE_NAME": [instrument.TELESCOPE_NAME],
        "TIME_RANGE": span[None, :],
        "OBSERVER": ["DSA-110"],
        "PROJECT": [content.group_id],
        "SCHEDULE_TYPE": ["drift scan"],
        "SCHEDULE": {"shape": [1, 1], "array": ["meridian"]},
        "LOG": {"shape": [1, 1], "array": [""]},
        "RELEASE_DATE": span[1:],
        "FLAG_ROW": np.zeros(1, bool),
    }
    _fill(ms, "OBSERVATION", columns, 1)
    _fill(ms, "PROCESSOR", {"TYPE": ["CORRELATOR"], "SUB_TYPE": [instrument.INSTRUMENT_NAME]}, 1)
    state: dict[str, object] = {
        "SIG": np.ones(1, bool),
        "REF": np.zeros(1, bool),
        "CAL": np.zeros(1),
        "LOAD": np.zeros(1),
        "SUB_SCAN": np.ones(1, np.int32),
        "OBS_MODE": ["OBSERVE_TARGET#ON_SOURCE"],
        "FLAG_ROW": np.zeros(1, bool),
    }
    _fill(ms, "STATE", state, 1)


def _write_history(ms: Path, content: SubtableContent) -> None:
    n = len(content.history)
    columns: dict[str, object] = {
        "TIME": np.full(n, content.middle_s),
        "OBSERVATION_ID": np.zeros(n, np.int32),
        "MESSAGE": list(content.history),
        "PRIORITY": ["INFO"] * n,
        "ORIGIN": ["dsa110"] * n,
        "OBJECT_ID": np.full(n, -1, np.int32),
        "APPLICATION": ["dsa110 convert"] * n,
        "CLI_COMMAND": {"shape": [n, 1], "array": [""] * n},
        "APP_PARAMS": {"shape": [n, 1], "array": [""] * n},
    }
    _fill(ms, "HISTORY", columns, n)
