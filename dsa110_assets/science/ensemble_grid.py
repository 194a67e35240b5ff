"""Tables of measurements as matrices, and the choice of references among them."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pandas as pd

from dsa110_assets.science.ensemble_fit import EnsembleOptions, ReferenceData
from dsa110_assets.science.errors import ShapeError
from dsa110_assets.science.flags import BAD_FOR_LIGHT_CURVES

Floats = npt.NDArray[np.float64]
_COLUMNS = ("source_id", "epoch", "flux_jy", "flux_err_jy")


@dataclass(frozen=True)
class MeasurementGrid:
    """Rows of a table as matrices (n_epoch, n_source).

    Attributes
    ----------
    sources, epochs
        Labels; epochs in order of time.
    source, epoch : (n_row,) int
        Place of every row.
    flux, error, x, y : (n_epoch, n_source) float
        NaN (x, y: 0) where there is no good row.
    """

    sources: pd.Index
    epochs: pd.Index
    source: npt.NDArray[np.intp]
    epoch: npt.NDArray[np.intp]
    flux: Floats
    error: Floats
    x: Floats
    y: Floats

    @classmethod
    def of(cls, table: pd.DataFrame) -> MeasurementGrid:
        """Arrange a table; bad rows (flags, errors) stay blank."""
        missing = [name for name in _COLUMNS if name not in table.columns]
        if missing:
            raise ShapeError(f"the table lacks {', '.join(missing)}: it needs {', '.join(_COLUMNS)}")
        source, sources = pd.factorize(table["source_id"])
        epoch, epochs = pd.factorize(table["epoch"], sort=True)
        if "mjd" in table.columns and len(epochs):
            time = np.full(len(epochs), np.inf)
            np.minimum.at(time, epoch, table["mjd"].to_numpy(np.float64))
            order = np.argsort(time, kind="stable")
            epochs, epoch = pd.Index(epochs)[order], np.argsort(order, kind="stable")[epoch]
        shape = (len(epochs), len(sources))
        flat = epoch * max(shape[1], 1) + source
        if np.bincount(flat, minlength=1).max(initial=0) > 1:
            raise ShapeError("a source has two rows in one epoch: combine them first (an epoch is one image)")
        flux, error = table["flux_jy"].to_numpy(np.float64), table["flux_err_jy"].to_numpy(np.float64)
        good = np.isfinite(flux) & np.isfinite(error) & (error > 0)
        if "flags" in table.columns:
            good &= (table["flags"].to_numpy(np.int64) & int(BAD_FOR_LIGHT_CURVES)) == 0
        x, y = (
            table[n].to_numpy(np.float64) if n in table.columns else np.zeros(len(table)) for n in ("x_deg", "y_deg")
        )
        columns = (np.where(good, flux, np.nan), np.where(good, error, np.nan), np.nan_to_num(x), np.nan_to_num(y))
        placed = [
            _place(values, flat, shape, blank)
            for values, blank in zip(columns, (np.nan, np.nan, 0.0, 0.0), strict=True)
        ]
        return cls(pd.Index(sources), pd.Index(epochs), source, epoch, *placed)


def _place(values: Floats, flat: npt.NDArray[np.intp], shape: tuple[int, int], blank: float) -> Floats:
    out = np.full(shape[0] * shape[1], blank)
    out[flat] = values
    return out.reshape(shape)


def choose_references(
    grid: MeasurementGrid, table: pd.DataFrame, options: EnsembleOptions, given: pd.DataFrame | None
) -> tuple[ReferenceData, npt.NDArray[np.intp], tuple[Floats, Floats] | None]:
    """The references' measurements, their columns in the grid, and held levels."""
    levels = None
    level = median_levels(grid.flux)
    if given is not None:
        known = given[given["kept"]].set_index("source_id")
        chosen = grid.sources.get_indexer(known.index)
        known, rows = known[chosen >= 0], chosen[chosen >= 0]
        levels = (np.log(known["level_jy"].to_numpy(np.float64)), known["excess_scatter"].to_numpy(np.float64))
        level[rows] = known["level_jy"].to_numpy(np.float64)
    else:
        allowed = np.ones(len(grid.sources), np.bool_)
        if "is_reference" in table.columns:
            allowed = np.zeros(len(grid.sources), np.bool_)
            allowed[grid.source[table["is_reference"].to_numpy(np.bool_)]] = True
        rows = np.flatnonzero(allowed & (level > 0))
    with np.errstate(invalid="ignore", divide="ignore"):
        flux, error = grid.flux[:, rows], grid.error[:, rows] / level[rows]
        usable = (flux > 0) & (error <= 1.0 / options.min_reference_snr)
        if given is None:
            best = _best(usable, error, options)
            rows, flux, error, usable = rows[best], flux[:, best], error[:, best], usable[:, best]
        log_flux = np.where(usable, np.log(np.where(usable, flux, 1.0)), 0.0)
    error = np.where(usable, error, 1.0)
    return ReferenceData(log_flux, error, grid.x[:, rows], grid.y[:, rows], usable), rows, levels


def median_levels(flux: Floats) -> Floats:
    """Median flux of every source; NaN without any."""
    known = np.isfinite(flux).any(axis=0)
    return np.asarray(np.where(known, np.nanmedian(np.where(known, flux, 0.0), axis=0), np.nan))


def _best(usable: npt.NDArray[np.bool_], error: Floats, options: EnsembleOptions) -> npt.NDArray[np.intp]:
    """References used in at least one epoch; the ``max_references`` of largest summed weight."""
    floor = 1.0 / (10.0 * options.min_reference_snr)  # beyond SNR 500 a reference is as good as its steadiness
    weight = np.where(usable, 1.0 / (error**2 + floor**2), 0.0).sum(axis=0)
    order = np.argsort(weight, kind="stable")[::-1]
    order = order[weight[order] > 0]
    return np.sort(order[: options.max_references])
