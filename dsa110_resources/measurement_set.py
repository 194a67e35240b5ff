"""Measurement Sets as arrays: (time, baseline, channel, polarisation), whoever wrote the table.

A table need not be regular: rows may be missing or unordered (they become flagged slots of the grid), channels may
descend (they are turned round). More than one spectral window is refused.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from dsa110_resources.casacore_tables import open_table
from dsa110_resources.errors import PermanentError
from dsa110_resources.ms_creation import add_data_column
from dsa110_resources.ms_layout import Array, Layout, place_on_grid, read_layout
from dsa110_resources.ms_rewriting import marker_path, require_consistent, rewriting

__all__ = [
    "Layout",
    "MeasurementSet",
    "flagged_fraction",
    "has_column",
    "iter_times",
    "marker_path",
    "open_ms",
    "read_column",
    "read_layout",
    "require_consistent",
    "rewriting",
    "write_column",
]

COLUMN_KINDS = {"CORRECTED_DATA": "complex", "MODEL_DATA": "complex", "WEIGHT_SPECTRUM": "float"}
"""Columns made when they are first written."""


@contextmanager
def open_ms(ms: Path | Layout, *, write: bool = False) -> Iterator["MeasurementSet"]:
    """Open a Measurement Set once for several reads or writes of columns; closed on leaving.

    Parameters
    ----------
    ms
        Path, or a layout read before (which saves reading it again).
    write
        For writing columns; the caller holds :func:`rewriting`.
    """
    layout = ms if isinstance(ms, Layout) else read_layout(ms)
    with open_table(layout.path, write=write) as table:
        yield MeasurementSet(table, layout)


class MeasurementSet:
    """An open Measurement Set; from :func:`open_ms`."""

    def __init__(self, table: Any, layout: Layout) -> None:
        self._table = table
        self.layout = layout

    def has(self, name: str) -> bool:
        """Whether a column exists."""
        return name in self._table.colnames()

    def read(self, name: str, *, times: slice = slice(None), channels: slice = slice(None)) -> Array:
        """Read a column as (time, baseline, channel, polarisation).

        FLAG includes FLAG_ROW and is True for missing rows; other columns are 0 there. WEIGHT_SPECTRUM falls back on
        WEIGHT, the same in all channels. Slices have step 1; channels count upwards in frequency.
        """
        layout = self.layout
        t0, t1, _ = times.indices(layout.n_times)
        c0, c1, _ = channels.indices(layout.n_channels)
        if name == "WEIGHT_SPECTRUM" and not self.has(name):
            weight = self._rows("WEIGHT", t0, t1, None)
            return np.repeat(weight[:, :, None, :], c1 - c0, axis=2)
        self._require(name)
        data = self._rows(name, t0, t1, (c0, c1))
        if name == "FLAG":
            data |= self._rows("FLAG_ROW", t0, t1, None)[:, :, None, None]
        return data

    def write(self, name: str, values: Array, *, times: slice = slice(None)) -> None:
        """Write integrations of a column, all channels; the columns of :data:`COLUMN_KINDS` are made if absent."""
        layout = self.layout
        t0, t1, _ = times.indices(layout.n_times)
        expected = (t1 - t0, layout.n_baselines, layout.n_channels, len(layout.polarizations))
        if values.shape != expected:
            raise PermanentError(f"{name} of shape {values.shape} was given, not {expected}", path=layout.path)
        if not self.has(name) and name in COLUMN_KINDS:
            add_data_column(self._table, name, COLUMN_KINDS[name], n_baseline=layout.n_baselines)
        self._require(name)
        stored = self._table.getcell(name, 0).dtype
        ordered = np.ascontiguousarray(values[:, :, ::-1] if layout.descending else values, dtype=stored)
        rows = ordered.reshape(-1, *ordered.shape[2:])
        if layout.rows is None:
            self._table.putcol(name, rows, t0 * layout.n_baselines, len(rows))
            return
        slots = layout.rows[t0:t1].reshape(-1)
        present = slots >= 0
        chosen = self._table.selectrows(slots[present])
        chosen.putcol(name, rows[present])
        chosen.close()

    def _require(self, name: str) -> None:
        if not self.has(name):
            cure = "run the step that writes it (calibration, model prediction)"
            raise PermanentError(f"there is no column {name}", path=self.layout.path, cure=cure)

    def _rows(self, name: str, t0: int, t1: int, channels: tuple[int, int] | None) -> Array:
        layout = self.layout
        shape = (t1 - t0, layout.n_baselines)
        if t1 <= t0:
            return self._empty(name, channels)
        if layout.rows is None:
            return place_on_grid(self._slice(name, t0 * shape[1], shape[0] * shape[1], channels), None, shape, 0)
        rows = layout.rows[t0:t1]
        first, last = int(rows[rows >= 0].min()), int(rows.max())
        values = self._slice(name, first, last - first + 1, channels)
        missing = name in {"FLAG", "FLAG_ROW"}
        return place_on_grid(values, np.where(rows >= 0, rows - first, -1), shape, missing)

    def _empty(self, name: str, channels: tuple[int, int] | None) -> Array:
        cell = np.asarray(self._table.getcell(name, 0))
        shape = cell.shape if channels is None else (channels[1] - channels[0], *cell.shape[1:])
        return np.empty((0, self.layout.n_baselines, *shape), cell.dtype)

    def _slice(self, name: str, row: int, n_rows: int, channels: tuple[int, int] | None) -> Array:
        if channels is None:
            return np.asarray(self._table.getcol(name, row, n_rows))
        n_pol, n_channel = len(self.layout.polarizations), self.layout.n_channels
        c0, c1 = channels
        if self.layout.descending:
            c0, c1 = n_channel - c1, n_channel - c0
        if (c0, c1) == (0, n_channel):
            data = self._table.getcol(name, row, n_rows)
        else:
            data = self._table.getcolslice(name, [c0, 0], [c1 - 1, n_pol - 1], [], row, n_rows)
        return np.asarray(data[:, ::-1] if self.layout.descending else data)


def has_column(ms: Path, name: str) -> bool:
    """Whether a Measurement Set has a column."""
    with open_table(Path(ms)) as table:
        return name in table.colnames()


def read_column(ms: Path | Layout, name: str, *, times: slice = slice(None), channels: slice = slice(None)) -> Array:
    """Read a column as (time, baseline, channel, polarisation); see :meth:`MeasurementSet.read`."""
    with open_ms(ms) as opened:
        return opened.read(name, times=times, channels=channels)


def write_column(ms: Path | Layout, name: str, values: Array, *, times: slice = slice(None)) -> None:
    """Write integrations of a column, making it if need be; the caller holds :func:`rewriting`."""
    with open_ms(ms, write=True) as opened:
        opened.write(name, values, times=times)


def iter_times(
    ms: Path | Layout, columns: Sequence[str], *, block: int = 4
) -> Iterator[tuple[slice, dict[str, Array]]]:
    """Go through a Measurement Set in blocks of integrations with one table open.

    Yields
    ------
    times : slice
        Integrations of the block.
    arrays : dict
        Column name to (time, baseline, channel, polarisation).
    """
    with open_ms(ms) as opened:
        for start in range(0, opened.layout.n_times, block):
            times = slice(start, min(start + block, opened.layout.n_times))
            yield times, {name: opened.read(name, times=times) for name in columns}


def flagged_fraction(ms: Path | Layout) -> float:
    """Flagged share of the cross-correlations, missing rows and subbands included (0 to 1)."""
    n_flagged = n_total = 0
    with open_ms(ms) as opened:
        cross = ~opened.layout.autocorrelations
        for start in range(0, opened.layout.n_times, 4):
            flags = opened.read("FLAG", times=slice(start, start + 4))[:, cross]
            n_flagged += int(np.count_nonzero(flags))
            n_total += flags.size
    return n_flagged / n_total if n_total else 1.0
