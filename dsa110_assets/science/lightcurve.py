"""Light curves: from single tiles to one measurement per source and transit."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pandas as pd

from dsa110_assets.science.errors import ShapeError
from dsa110_assets.science.flags import BAD_FOR_LIGHT_CURVES, PhotometryFlag
from dsa110_assets.science.geometry import local_sidereal_time_deg

Floats = npt.NDArray[np.float64]
SIDEREAL_DEG_PER_DAY = 360.98564736629
"""Rotation of the Earth, degrees per UT1 day (IERS Conventions 2010)."""
_MJD_ZERO_JD = 2400000.5
_REQUIRED = ("source_id", "mjd", "flux_jy", "flux_err_jy")
_FROM_BEST = (
    "image_path",
    "group_id",
    "method",
    "freq_ghz",
    "table_set",
    "ra_deg",
    "dec_deg",
    "reference_version",
    "catalogue_version",
)
_AVERAGED = ("pb_response", "correction_factor", "x_deg", "y_deg")


def transit_mjd(mjd: npt.ArrayLike, ra_deg: npt.ArrayLike) -> Floats:
    """The meridian transit (local apparent sidereal time = RA) nearest to a time, MJD UTC.

    Parameters
    ----------
    mjd, ra_deg : (n,)
        Times, and right ascensions in degrees (ICRS will do: precession moves the transit by seconds per year).
    """
    time = np.atleast_1d(np.asarray(mjd, np.float64))
    hour_angle = local_sidereal_time_deg(time + _MJD_ZERO_JD) - np.asarray(ra_deg, np.float64)
    return np.asarray(time - ((hour_angle + 180.0) % 360.0 - 180.0) / SIDEREAL_DEG_PER_DAY)


def day_of_mjd(mjd: npt.ArrayLike) -> npt.NDArray[np.str_]:
    """UTC days ``YYYY-MM-DD`` of times."""
    day = np.floor(np.atleast_1d(np.asarray(mjd, np.float64))).astype(np.int64) - 40587  # MJD of 1970-01-01
    return np.asarray(day.astype("datetime64[D]").astype(str))


def combine_transits(table: pd.DataFrame, *, max_gap_days: float = 0.25) -> pd.DataFrame:
    """One measurement per source and transit from those of single tiles.

    Tiles of a source whose times lie less than ``max_gap_days`` apart are one transit. Fluxes are weighted by
    1 / sigma^2 (primary-beam corrected errors: P^2 / rms^2). The normalised flux, when there is one, is weighted by its
    own errors. The epoch is the UTC day of the source's meridian transit, or of the mean time without ``ra_deg``.

    Parameters
    ----------
    table : DataFrame
        One row per source and tile: source_id, mjd, flux_jy, flux_err_jy; optionally normalized_flux_jy and
        normalized_flux_err_jy, ra_deg, flags, n_references, correction_err and the columns of
        ``photometry_timeseries``, which are taken from the tile of highest weight or averaged.
    max_gap_days : float
        Between consecutive tiles of a transit; transits are 0.997 d apart.

    Returns
    -------
    DataFrame
        Sorted by source and time, with kind ``daily``, epoch (the day), n_tiles and flags (those of all its tiles and
        ``COMBINED``). Tiles flagged as bad for light curves, or without a positive error, do not enter; a transit
        without any other has no row.

    Raises
    ------
    ShapeError
        If a column is missing.
    """
    missing = [name for name in _REQUIRED if name not in table.columns]
    if missing:
        raise ShapeError(f"the table lacks {', '.join(missing)}")
    good = table["flux_jy"].notna() & (table["flux_err_jy"] > 0)
    if "flags" in table.columns:
        good &= (table["flags"].astype("int64") & int(BAD_FOR_LIGHT_CURVES)) == 0
    rows = table[good].sort_values(["source_id", "mjd"], kind="stable").reset_index(drop=True)
    new = (rows["source_id"] != rows["source_id"].shift()) | (rows["mjd"].diff() > max_gap_days)
    return _combine(rows, np.cumsum(new.to_numpy(), dtype=np.int64) - 1)


def _combine(rows: pd.DataFrame, transit: npt.NDArray[np.int64]) -> pd.DataFrame:
    n = int(transit.max()) + 1 if len(transit) else 0
    weight = 1.0 / rows["flux_err_jy"].to_numpy(np.float64) ** 2
    total = np.bincount(transit, weight, n)

    def averaged(name: str, w: Floats) -> Floats:
        values = rows[name].to_numpy(np.float64)
        known = np.isfinite(values) & np.isfinite(w)
        sums = np.bincount(transit, np.where(known, w, 0.0), n)
        with np.errstate(invalid="ignore", divide="ignore"):
            return np.asarray(np.bincount(transit, np.where(known, w * np.nan_to_num(values), 0.0), n) / sums)

    order = np.lexsort((-weight, transit))
    best = order[np.searchsorted(transit[order], np.arange(n))]
    out = pd.DataFrame({"source_id": rows["source_id"].to_numpy()[best], "mjd": averaged("mjd", weight)})
    out["kind"] = "daily"
    out["flux_jy"], out["flux_err_jy"] = averaged("flux_jy", weight), 1.0 / np.sqrt(total)
    if {"normalized_flux_jy", "normalized_flux_err_jy"} <= set(rows.columns):
        error = rows["normalized_flux_err_jy"].to_numpy(np.float64)
        with np.errstate(invalid="ignore", divide="ignore"):
            own = np.where(np.isfinite(rows["normalized_flux_jy"].to_numpy(np.float64)), 1.0 / error**2, np.nan)
            out["normalized_flux_jy"] = averaged("normalized_flux_jy", own)
            sums = np.bincount(transit, np.nan_to_num(own), n)
            out["normalized_flux_err_jy"] = np.where(sums > 0, 1.0 / np.sqrt(sums), np.nan)
    for name in [name for name in _AVERAGED if name in rows.columns]:
        out[name] = averaged(name, weight)
    for name in [name for name in _FROM_BEST if name in rows.columns]:
        out[name] = rows[name].to_numpy()[best]
    for name in [name for name in ("n_references", "correction_err") if name in rows.columns]:
        out[name] = rows.groupby(transit)[name].min().to_numpy()
    out["n_tiles"] = np.bincount(transit, minlength=n)
    flags = np.zeros(n, np.int64)
    if "flags" in rows.columns:
        np.bitwise_or.at(flags, transit, rows["flags"].to_numpy(np.int64))
    out["flags"] = flags | int(PhotometryFlag.COMBINED)
    when = transit_mjd(out["mjd"], out["ra_deg"]) if "ra_deg" in out.columns and n else out["mjd"].to_numpy(np.float64)
    out["epoch"] = day_of_mjd(when) if n else np.zeros(0, dtype=object)
    return out
