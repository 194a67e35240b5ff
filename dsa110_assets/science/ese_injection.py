"""What the detector finds and what it imagines: lenses injected into light curves, and curves without any."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pandas as pd

from dsa110_assets.science.ese import Candidate, SearchOptions, search
from dsa110_assets.science.ese_filter import lens_shape

Floats = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Injection:
    """A lensing event.

    Attributes
    ----------
    mjd_mid : float
        Centre.
    width_days : float
        Full width, edge to edge (a tenth of the depth).
    depth : float
        Fractional depth.
    strength, source_fwhm : float
        Of the lens; the depth is reached by letting it act on part of the flux.
    """

    mjd_mid: float
    width_days: float
    depth: float
    strength: float = 3.0
    source_fwhm: float = 0.5

    def gain(self, mjd: npt.ArrayLike) -> Floats:
        """Factor on the flux at times."""
        shape = lens_shape(self.strength, self.source_fwhm)
        change = shape.at(np.asarray(mjd, np.float64) - self.mjd_mid, self.width_days)
        return np.asarray(1.0 + change * self.depth / shape.depth)


def matches(candidate: Candidate, injection: Injection) -> bool:
    """Whether a candidate is that event: its centre lies within it and the widths agree within a factor of 2.5."""
    near = abs(candidate.mjd_mid - injection.mjd_mid) < 0.5 * injection.width_days
    return near and 0.4 < candidate.timescale_days / injection.width_days < 2.5


def measure_recovery(
    mjd: npt.ArrayLike,
    flux: Floats,
    flux_err: Floats,
    *,
    depths: tuple[float, ...] = (0.1, 0.2, 0.3, 0.5),
    widths_days: tuple[float, ...] = (10.0, 30.0, 60.0, 90.0),
    n_trials: int = 20,
    options: SearchOptions | None = None,
    seed: int = 0,
) -> pd.DataFrame:
    """Inject lenses of given depth and width into observed curves and search them.

    Parameters
    ----------
    mjd : (n_epoch,)
        Times, days.
    flux, flux_err : (n_source, n_epoch)
        Curves believed to hold no event.
    depths, widths_days : tuple of float
        The map's axes.
    n_trials : int
        Injections per cell, into randomly drawn curves.
    options : SearchOptions
        None: the defaults.
    seed : int
        Of the draw.

    Returns
    -------
    DataFrame
        One row per injection: row (of the curve), snr (median flux over error), depth, width_days, mjd_mid, strength,
        recovered, false_alarm_probability, depth_found, onset_error_days; NaN where not recovered.
    """
    time, generator = np.asarray(mjd, np.float64), np.random.default_rng(seed)
    rows = []
    for depth in depths:
        for width in widths_days:
            for _ in range(n_trials):
                rows.append(_try_one(time, flux, flux_err, depth, width, options, generator))  # noqa: PERF401
    return pd.DataFrame(rows)


def _try_one(
    time: Floats,
    flux: Floats,
    error: Floats,
    depth: float,
    width: float,
    options: SearchOptions | None,
    generator: np.random.Generator,
) -> dict[str, float]:
    row = int(generator.integers(len(flux)))
    margin = min(0.6 * width, 0.45 * float(np.ptp(time)))
    event = Injection(
        mjd_mid=float(generator.uniform(time.min() + margin, time.max() - margin)),
        width_days=width,
        depth=depth,
        strength=float(np.exp(generator.uniform(np.log(0.7), np.log(30.0)))),
        source_fwhm=float(generator.uniform(0.2, 1.5)),
    )
    gain = event.gain(time)
    found = [c for c in search(time, flux[row] * gain, error[row], options=options) if matches(c, event)]
    best = found[0] if found else None
    return {
        "row": row,
        "snr": float(np.nanmedian(flux[row] / error[row])),
        "depth": depth,
        "width_days": width,
        "mjd_mid": event.mjd_mid,
        "strength": event.strength,
        "recovered": best is not None,
        "false_alarm_probability": best.false_alarm_probability if best else np.nan,
        "depth_found": best.depth if best else np.nan,
        "onset_error_days": best.mjd_start - (event.mjd_mid - 0.5 * width) if best else np.nan,
    }


def summarise_recovery(trials: pd.DataFrame) -> pd.DataFrame:
    """Completeness per depth and width: depth, width_days, n, completeness, completeness_err (binomial, Wilson)."""
    cells = trials.groupby(["depth", "width_days"], as_index=False).agg(n=("recovered", "size"), k=("recovered", "sum"))
    k, n = cells["k"].astype(float), cells["n"].astype(float)
    cells["completeness"] = k / n
    cells["completeness_err"] = np.sqrt(k * (n - k) / n + 0.25) / (n + 1.0)
    return cells.drop(columns="k")


def measure_false_alarms(
    mjd: npt.ArrayLike, flux: Floats, flux_err: Floats, *, options: SearchOptions | None = None
) -> tuple[int, float, float]:
    """Candidates in curves that hold no event.

    Returns
    -------
    n_candidates : int
    source_years : float
        Curves times their span.
    rate : float
        Candidates per source-year; with none, the 95 % upper limit 3 / source-years.
    """
    time = np.asarray(mjd, np.float64)
    number = sum(len(search(time, f, e, options=options)) for f, e in zip(flux, flux_err, strict=True))
    years = len(flux) * float(np.ptp(time)) / 365.25
    return number, years, max(number, 3.0 if number == 0 else 0.0) / years


def measure_detection_delay(
    mjd: npt.ArrayLike,
    flux: npt.ArrayLike,
    flux_err: npt.ArrayLike,
    *,
    onset_mjd: float,
    options: SearchOptions | None = None,
) -> float:
    """Days from the onset of an event to the first epoch with which the curve so far shows it; NaN if never.

    Parameters
    ----------
    mjd, flux, flux_err : (n,)
        The whole curve, ascending.
    onset_mjd : float
        When the event began.
    options : SearchOptions
        None: the defaults.
    """
    time, value, error = (np.asarray(a, np.float64) for a in (mjd, flux, flux_err))
    for last in np.flatnonzero(time >= onset_mjd):
        part = slice(0, int(last) + 1)
        found = search(time[part], value[part], error[part], options=options)
        if any(c.mjd_end >= onset_mjd for c in found):
            return float(time[last] - onset_mjd)
    return float("nan")
