"""Genuine CASA calibration tables: written so that ``applycal`` takes them, read whatever CASA made them.

A caltable is a casacore table of type ``Calibration``, one row per time, spectral window and antenna, with copies of
the Measurement Set's ANTENNA, FIELD, OBSERVATION and HISTORY subtables and a SPECTRAL_WINDOW of its own.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from dsa110_assets.science.gains import GainTable, Kind
from dsa110_resources.archive import atomic_directory
from dsa110_resources.casacore_tables import open_table
from dsa110_resources.errors import CorruptInputError, PermanentError

SECONDS_PER_DAY = 86400.0
_FORMAT_VERSION = "6.7.0"  # the CASA whose table layout is written; CASA reads it to tell old delay conventions
_DELAY_KEYWORD = "DSA110_DELAY_REMOVED"
_OBSERVED_KEYWORD = "DSA110_N_OBSERVED"
_TIME_KEYWORDS = {"QuantumUnits": ["s"], "MEASINFO": {"type": "epoch", "Ref": "UTC"}}
_SUBTABLES = ("ANTENNA", "FIELD", "OBSERVATION", "HISTORY")


@dataclass(frozen=True)
class _Window:
    """Solutions of one spectral window, arrays (n_time, n_ant, n_chan, n_pol), channels ascending."""

    times_s: npt.NDArray[np.float64]
    frequencies_hz: npt.NDArray[np.float64]
    widths_hz: npt.NDArray[np.float64]
    gains: npt.NDArray[np.complex128]
    flags: npt.NDArray[np.bool_]
    snr: npt.NDArray[np.float64]


def write_caltable(path: Path, table: GainTable, *, ms: Path) -> None:
    """Write solutions as a CASA table, whole or not at all.

    Parameters
    ----------
    path
        Table directory to make or replace.
    table
        Solutions; antennas are matched by name to the Measurement Set's.
    ms
        Measurement Set solved on: its antennas, field and observation are copied.

    Raises
    ------
    PermanentError
        If no solution is unflagged (no empty or unity table is ever made).
    """
    if table.flags.all():
        raise PermanentError(
            "every solution is flagged: no calibration table is made",
            path=path,
            cure="check the flags and the sky model of the group, or solve on another calibrator",
        )
    with open_table(ms / "ANTENNA") as antenna:
        ordered = table.for_antennas(antenna.getcol("NAME"))
    with atomic_directory(path) as staged:
        _create(staged, ordered, ms)
        _copy_subtables(staged, ms)
        _write_spectral_window(staged, ordered, ms)
        with open_table(staged, write=True) as out:
            _write_rows(out, ordered)


def read_caltable(path: Path) -> GainTable:
    """Read a CASA table of delays, bandpasses or gains, all its spectral windows joined in ascending frequency.

    Raises
    ------
    CorruptInputError
        If it is no calibration table of kind K, B or G.
    """
    with open_table(path) as table:
        kind = _read_kind(path, table)
        parameter = "FPARAM" if kind == "K" else "CPARAM"
        columns = {name: table.getcol(name) for name in ("TIME", "SPECTRAL_WINDOW_ID", "ANTENNA1", "ANTENNA2")}
        columns["INTERVAL"] = table.getcol("INTERVAL")
        keywords = table.getkeywords()
        with open_table(path / "ANTENNA") as antenna:
            names, positions = tuple(antenna.getcol("NAME")), np.asarray(antenna.getcol("POSITION"))
        windows = [
            _read_window(path, table, columns, spw, (parameter, len(names)))
            for spw in np.unique(columns["SPECTRAL_WINDOW_ID"])
        ]
    windows.sort(key=lambda w: float(w.frequencies_hz[0]))
    if len({len(w.times_s) for w in windows}) > 1:
        raise CorruptInputError("its spectral windows hold different numbers of solutions in time", path=path)
    with open_table(path / "FIELD") as field:
        direction = np.degrees(np.asarray(field.getcell("PHASE_DIR", 0)).reshape(-1)[:2])
    return GainTable(
        kind=kind,
        gains=np.concatenate([w.gains for w in windows], axis=2),
        flags=np.concatenate([w.flags for w in windows], axis=2),
        snr=np.concatenate([w.snr for w in windows], axis=2),
        times_mjd=np.mean([w.times_s for w in windows], axis=0) / SECONDS_PER_DAY,
        interval_s=float(np.median(columns["INTERVAL"])),
        frequencies_hz=np.concatenate([w.frequencies_hz for w in windows]),
        channel_widths_hz=np.concatenate([w.widths_hz for w in windows]),
        antenna_names=names,
        antenna_positions_m=positions,
        refant=_read_refant(columns["ANTENNA2"], names),
        phase_center_deg=(float(direction[0] % 360.0), float(direction[1])),
        delay_removed=bool(keywords.get(_DELAY_KEYWORD, False)),
        n_observed=int(keywords.get(_OBSERVED_KEYWORD, 0)),
    )


def _create(path: Path, table: GainTable, ms: Path) -> None:
    from casacore.tables import makearrcoldesc, makescacoldesc, maketabdesc
    from casacore.tables import table as casa_table

    integers = ("FIELD_ID", "SPECTRAL_WINDOW_ID", "ANTENNA1", "ANTENNA2", "SCAN_NUMBER", "OBSERVATION_ID")
    value: Any = 0.0 if table.kind == "K" else 0j
    arrays = {"FPARAM" if table.kind == "K" else "CPARAM": (value, "float" if table.kind == "K" else "complex")}
    arrays |= {"PARAMERR": (0.0, "float"), "FLAG": (False, "boolean"), "SNR": (0.0, "float"), "WEIGHT": (0.0, "float")}
    description = maketabdesc([
        makescacoldesc("TIME", 0.0, keywords=_TIME_KEYWORDS),
        *(makescacoldesc(name, 0) for name in integers[:4]),
        makescacoldesc("INTERVAL", 0.0, keywords={"QuantumUnits": ["s"]}),
        *(makescacoldesc(name, 0) for name in integers[4:]),
        *(makearrcoldesc(name, default, ndim=-1, valuetype=kind) for name, (default, kind) in arrays.items()),
    ])  # fmt: skip
    n_time, n_ant = table.gains.shape[:2]
    handle = casa_table(str(path), description, nrow=n_time * n_ant, ack=False)
    try:
        handle.putinfo({"type": "Calibration", "subType": f"{table.kind} Jones"})
        handle.putkeyword("ParType", "Float" if table.kind == "K" else "Complex")
        handle.putkeyword("MSName", ms.name)
        handle.putkeyword("VisCal", f"{table.kind} Jones")
        handle.putkeyword("PolBasis", "unknown")
        handle.putkeyword("CASA_Version", _FORMAT_VERSION)
        handle.putkeyword(_DELAY_KEYWORD, table.delay_removed)
        handle.putkeyword(_OBSERVED_KEYWORD, table.n_observed)
    finally:
        handle.close()


def _copy_subtables(path: Path, ms: Path) -> None:
    for name in (*_SUBTABLES, "SPECTRAL_WINDOW"):
        with open_table(ms / name) as source:
            copy = source.copy(str(path / name), deep=True)
            copy.close()
    with open_table(path, write=True) as out:
        for name in ("OBSERVATION", "ANTENNA", "FIELD", "SPECTRAL_WINDOW", "HISTORY"):
            out.putkeyword(name, f"Table: {path / name}", makesubrecord=False)


def _write_spectral_window(path: Path, table: GainTable, ms: Path) -> None:
    """The table's own channels: those of the Measurement Set, or one wide one for gains and delays."""
    del ms
    with open_table(path / "SPECTRAL_WINDOW", write=True) as window:
        if window.nrows() != 1:
            window.removerows(list(range(1, window.nrows())))
        window.putcell("NUM_CHAN", 0, len(table.frequencies_hz))
        window.putcell("CHAN_FREQ", 0, table.frequencies_hz)
        for name in ("CHAN_WIDTH", "EFFECTIVE_BW", "RESOLUTION"):
            window.putcell(name, 0, table.channel_widths_hz)
        window.putcell("TOTAL_BANDWIDTH", 0, float(np.sum(table.channel_widths_hz)))


def _write_rows(out: Any, table: GainTable) -> None:
    n_time, n_ant, n_chan, n_pol = table.gains.shape
    n_rows = n_time * n_ant
    refant = table.antenna_names.index(table.refant) if table.refant in table.antenna_names else -1
    out.putcol("TIME", np.repeat(table.times_mjd * SECONDS_PER_DAY, n_ant))
    out.putcol("INTERVAL", np.full(n_rows, table.interval_s))
    out.putcol("ANTENNA1", np.tile(np.arange(n_ant, dtype=np.int32), n_time))
    for name, value in (("FIELD_ID", 0), ("SPECTRAL_WINDOW_ID", 0), ("ANTENNA2", refant), ("SCAN_NUMBER", 1)):
        out.putcol(name, np.full(n_rows, value, np.int32))
    out.putcol("OBSERVATION_ID", np.zeros(n_rows, np.int32))
    shape = (n_rows, n_chan, n_pol)
    flags = table.flags.reshape(shape)
    neutral = 0.0 if table.kind == "K" else 1.0
    values = np.where(flags, neutral, table.gains.reshape(shape))
    snr = np.where(flags, 0.0, table.snr.reshape(shape))
    error = np.where(snr > 0, np.abs(values) / np.where(snr > 0, snr, 1.0), 0.0)
    if table.kind == "K":
        out.putcol("FPARAM", values.real.astype(np.float32))
    else:
        out.putcol("CPARAM", values.astype(np.complex64))
    out.putcol("FLAG", flags)
    out.putcol("SNR", snr.astype(np.float32))
    out.putcol("PARAMERR", error.astype(np.float32))
    out.putcol("WEIGHT", (~flags).astype(np.float32))


def _read_kind(path: Path, table: Any) -> Kind:
    keywords = table.keywordnames()
    name = str(table.getkeyword("VisCal")) if "VisCal" in keywords else ""
    for kind in ("K", "B", "G"):
        if name == f"{kind} Jones":
            return kind
    cure = "give a table of kind K, B or G"
    raise CorruptInputError(f"no calibration table read here (VisCal is {name!r})", path=path, cure=cure)


def _read_window(path: Path, table: Any, columns: dict[str, Any], spw: int, what: tuple[str, int]) -> _Window:
    parameter, n_ant = what
    rows = np.flatnonzero(columns["SPECTRAL_WINDOW_ID"] == spw)
    times, time_index = np.unique(np.round(columns["TIME"][rows], 3), return_inverse=True)
    selected = table.selectrows(rows.tolist())
    try:
        values, flag, snr = (np.asarray(selected.getcol(name)) for name in (parameter, "FLAG", "SNR"))
    finally:
        selected.close()
    with open_table(path / "SPECTRAL_WINDOW") as window:
        frequencies = np.asarray(window.getcell("CHAN_FREQ", int(spw)), dtype=np.float64)
        widths = np.abs(np.asarray(window.getcell("CHAN_WIDTH", int(spw)), dtype=np.float64))
    if values.shape[1] != len(frequencies):
        frequencies, widths = np.array([frequencies.mean()]), np.array([widths.sum()])
    shape = (len(times), n_ant, *values.shape[1:])
    gains = np.ones(shape, np.complex128)
    flags = np.ones(shape, bool)
    ratio = np.zeros(shape)
    where = (time_index, columns["ANTENNA1"][rows])
    gains[where], flags[where], ratio[where] = values, flag | ~np.isfinite(values), snr
    order = np.argsort(frequencies)
    gains = np.where(flags, 0.0 if parameter == "FPARAM" else 1.0, gains)
    return _Window(
        times_s=times,
        frequencies_hz=frequencies[order],
        widths_hz=widths[order],
        gains=gains[:, :, order],
        flags=flags[:, :, order],
        snr=np.where(flags, 0.0, ratio)[:, :, order],
    )


def _read_refant(antenna2: npt.NDArray[np.int32], names: tuple[str, ...]) -> str:
    known = antenna2[antenna2 >= 0]
    return names[int(np.bincount(known).argmax())] if len(known) else ""
