"""The master catalogue: NVSS sources with their matches in other surveys, spectral index, compactness and confusion."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pandas as pd
from pydantic import BaseModel

from dsa110_assets.science.catalogue_columns import CatalogueError
from dsa110_assets.science.crossmatch import ConeIndex, Matches, source_names
from dsa110_assets.science.surveys import (
    COVERAGE_NEIGHBOURS,
    COVERAGE_RADIUS_DEG,
    Survey,
    covers_declination,
    require_survey,
)

Floats = npt.NDArray[np.float64]
Bools = npt.NDArray[np.bool_]

MIN_LN_FREQUENCY_RATIO = 0.3
"""Surveys nearer in ln ν than this give no spectral index (SCIENCE §6: NVSS against RACS-mid scatters by 2.24)."""

_RACS = ("racs_low", "racs_mid", "racs_high")


class CatalogueOptions(BaseModel, frozen=True):
    """How the master catalogue is built, and which of its sources are references."""

    match_radius_arcsec: float = 7.5
    """Radius of the cross-match, arcsec."""
    confusion_radius_arcsec: float = 45.0
    """Another NVSS component within this makes a source confused, arcsec (the NVSS beam)."""
    resolved_arcsec: float = 6.0
    """A FIRST deconvolved major axis above this makes a source resolved, arcsec."""
    good_snr: float = 7.0
    """Least NVSS signal-to-noise ratio of ``good_references``."""
    final_snr: float = 10.0
    """Least NVSS signal-to-noise ratio of ``final_references``."""
    alpha_min: float = -1.5
    """Least spectral index of a reference; an unknown one is allowed."""
    alpha_max: float = 0.5
    """Largest spectral index of a reference."""
    plausible_median_jy: tuple[float, float] = (3e-4, 1.0)
    """Range of each survey's median flux, Jy; outside it the unit is wrong and the build stops."""
    plausible_max_jy: float = 5000.0
    """No flux may be larger, Jy."""
    reference_ids: tuple[str, ...] | None = None
    """Fixed list of reference sources; None: the rule."""


@dataclass(frozen=True)
class SurveyTable:
    """Sources of one survey as read from a file.

    Attributes
    ----------
    survey : Survey
        Which survey.
    ra_deg, dec_deg, flux_jy : (n,) float
        ICRS position, degrees, and flux density, Jy.
    flux_err_jy, ra_err_arcsec, dec_err_arcsec : (n,) float
        1σ errors; NaN where the file has none.
    maj_arcsec, min_arcsec, pa_deg : (n,) float
        Deconvolved size (FWHM) and position angle; NaN where the file has none.
    source_id : (n,) str or None
        Names that are to be kept; None: names are made from positions.
    alpha : (n,) float or None
        Spectral indices that are to be kept.
    """

    survey: Survey
    ra_deg: Floats
    dec_deg: Floats
    flux_jy: Floats
    flux_err_jy: Floats
    ra_err_arcsec: Floats
    dec_err_arcsec: Floats
    maj_arcsec: Floats
    min_arcsec: Floats
    pa_deg: Floats
    source_id: npt.NDArray[np.str_] | None = None
    alpha: Floats | None = None

    def __len__(self) -> int:
        return len(self.ra_deg)


def build_sources(
    nvss: SurveyTable,
    others: Mapping[str, SurveyTable] | None = None,
    *,
    options: CatalogueOptions | None = None,
    known_variables: Collection[str] = (),
) -> pd.DataFrame:
    """Build the master catalogue.

    Parameters
    ----------
    nvss : SurveyTable
        The catalogue every source comes from.
    others : mapping of str to SurveyTable, optional
        ``vlass``, ``first`` and ``racs`` (any of the RACS surveys).
    options : CatalogueOptions, optional
        Radii and limits.
    known_variables : collection of str
        Names of sources that are never references.

    Returns
    -------
    pandas.DataFrame
        Columns of the ``sources`` table, without ``catalogue_version``. Fluxes of a survey are NaN where it has no
        match, and the number of matches is null where it does not cover the position: that is no non-detection.
    """
    opts = options or CatalogueOptions()
    frame = _nvss_columns(nvss)
    index = ConeIndex(nvss.ra_deg, nvss.dec_deg)
    confused = index.separation_of_nearest_arcsec() <= opts.confusion_radius_arcsec
    spectra = [(nvss.survey.freq_ghz, nvss.flux_jy, frame["s_nvss_err"].to_numpy())]
    labels = ["nvss"]
    for name in ("vlass", "first", "racs"):
        other = (others or {}).get(name)
        matches = None if other is None else ConeIndex(other.ra_deg, other.dec_deg).match(
            nvss.ra_deg, nvss.dec_deg, radius_arcsec=opts.match_radius_arcsec)  # fmt: skip
        _add_survey(frame, name, other, matches)
        if other is None or matches is None:
            continue
        confused |= matches.count > 1
        if name == "first":  # at NVSS's frequency, and blind to what is extended
            continue
        spectra.append((other.survey.freq_ghz, frame[f"s_{name}"].to_numpy(), frame[f"s_{name}_err"].to_numpy()))
        labels.append(other.survey.name)
    _add_sizes(frame, (others or {}).get("first"), opts)
    _add_alpha(frame, nvss, spectra, labels)
    frame["confusion_flag"] = confused
    frame["variable_flag"] = frame["source_id"].isin(list(known_variables))
    return frame


def select_references(sources: pd.DataFrame, *, options: CatalogueOptions | None = None, final: bool = True) -> Bools:
    """Which sources may be references.

    The rule: signal-to-noise ratio at least ``final_snr`` (``good_snr``), spectral index within its limits or unknown,
    neither resolved nor confused (unknown counts as neither), not a known variable. A fixed list replaces the rule
    for the final references, still without known variables.

    Parameters
    ----------
    sources : pandas.DataFrame
        The master catalogue.
    options : CatalogueOptions, optional
        Limits and the fixed list.
    final : bool
        ``final_references`` (True) or ``good_references``.

    Returns
    -------
    ndarray of bool, shape (n,)

    Raises
    ------
    CatalogueError
        When the fixed list names a source that the catalogue does not have.
    """
    opts = options or CatalogueOptions()
    steady = ~_is_true(sources["variable_flag"])
    if final and opts.reference_ids is not None:
        unknown = sorted(set(opts.reference_ids) - set(sources["source_id"]))
        if unknown:
            msg = f"{len(unknown)} fixed references are not in the catalogue: {', '.join(unknown[:5])}"
            raise CatalogueError(msg)
        return sources["source_id"].isin(opts.reference_ids).to_numpy(dtype=bool) & steady
    alpha = sources["alpha"].to_numpy(dtype=np.float64)
    bright = sources["snr_nvss"].to_numpy(dtype=np.float64) >= (opts.final_snr if final else opts.good_snr)
    usual = np.isnan(alpha) | ((alpha >= opts.alpha_min) & (alpha <= opts.alpha_max))
    chosen: Bools = bright & usual & steady & ~_is_true(sources["resolved_flag"]) & ~_is_true(sources["confusion_flag"])
    return chosen


def fit_spectra(freq_ghz: Floats, flux_jy: Floats, flux_err_jy: Floats) -> tuple[Floats, Floats]:
    """Weighted straight line in ln S against ln ν for many sources at once.

    Parameters
    ----------
    freq_ghz : ndarray, shape (m,)
        Frequencies, GHz.
    flux_jy, flux_err_jy : ndarray, shape (n, m)
        Flux densities and 1σ errors, Jy; NaN or ≤ 0 where there is none.

    Returns
    -------
    alpha, alpha_err : ndarray, shape (n,)
        Slope and its error from the flux errors, σ_α² = 1 / Σ w (ln ν − ⟨ln ν⟩)² with w = (S/σ)². NaN where the
        fluxes of a source span less than :data:`MIN_LN_FREQUENCY_RATIO` in ln ν.
    """
    x = np.broadcast_to(np.log(freq_ghz), flux_jy.shape)
    usable = np.isfinite(flux_jy) & (flux_jy > 0) & np.isfinite(flux_err_jy) & (flux_err_jy > 0)
    y = np.log(np.where(usable, flux_jy, 1.0))
    weight = np.where(usable, (flux_jy / np.where(usable, flux_err_jy, 1.0)) ** 2, 0.0)
    total = weight.sum(axis=1)
    highest = np.where(usable, x, -np.inf).max(axis=1, initial=-np.inf)
    lowest = np.where(usable, x, np.inf).min(axis=1, initial=np.inf)
    wide = (highest - lowest) >= MIN_LN_FREQUENCY_RATIO
    with np.errstate(divide="ignore", invalid="ignore"):
        offset = x - ((weight * x).sum(axis=1) / total)[:, None]
        spread = (weight * offset**2).sum(axis=1)
        alpha = np.where(wide, (weight * offset * y).sum(axis=1) / spread, np.nan)
        alpha_err = np.where(wide, 1.0 / np.sqrt(spread), np.nan)
    return alpha, alpha_err


def thermal_error_jy(survey: Survey, flux_jy: Floats, flux_err_jy: Floats) -> Floats:
    """Noise part of a survey's flux error, Jy: its scale error taken out in quadrature, at least the survey's rms."""
    scale = survey.calibration_error * np.abs(flux_jy)
    with np.errstate(invalid="ignore"):
        noise = np.sqrt(np.maximum(flux_err_jy**2 - scale**2, (survey.rms_mjy * 1e-3) ** 2))
    return np.where(np.isfinite(noise), noise, survey.rms_mjy * 1e-3)


def flux_error_jy(survey: Survey, flux_jy: Floats, flux_err_jy: Floats) -> Floats:
    """Flux errors, Jy: the file's where it has them, else rms and scale error of the survey in quadrature."""
    modelled = np.hypot(survey.rms_mjy * 1e-3, survey.calibration_error * np.abs(flux_jy))
    return np.where(np.isfinite(flux_err_jy) & (flux_err_jy > 0), flux_err_jy, modelled)


def position_error_arcsec(survey: Survey, snr: Floats, floor_arcsec: float) -> Floats:
    """Position error of a point source along one axis, arcsec: hypot(floor, θ / 2 SNR) (Condon 1997, PASP 109, 166)."""
    return np.hypot(floor_arcsec, survey.beam_arcsec / (2.0 * np.maximum(snr, 1.0)))


_NVSS_FLOOR_ARCSEC = (0.45, 0.56)
"""NVSS calibration errors in RA and Dec, arcsec (Condon+98, eq. 27)."""


def _nvss_columns(nvss: SurveyTable) -> pd.DataFrame:
    if nvss.survey != require_survey("nvss"):
        msg = f"the master catalogue is built from NVSS, not from {nvss.survey.name}"
        raise CatalogueError(msg)
    names = source_names(nvss.ra_deg, nvss.dec_deg) if nvss.source_id is None else nvss.source_id
    snr = nvss.flux_jy / thermal_error_jy(nvss.survey, nvss.flux_jy, nvss.flux_err_jy)
    columns = {
        "source_id": names,
        "ra_deg": nvss.ra_deg,
        "dec_deg": nvss.dec_deg,
        "s_nvss": nvss.flux_jy,
        "s_nvss_err": flux_error_jy(nvss.survey, nvss.flux_jy, nvss.flux_err_jy),
        "snr_nvss": snr,
    }
    given = (nvss.ra_err_arcsec, nvss.dec_err_arcsec)
    for axis, errors, floor in zip(("ra", "dec"), given, _NVSS_FLOOR_ARCSEC, strict=True):
        modelled = position_error_arcsec(nvss.survey, snr, floor)
        columns[f"{axis}_err_arcsec"] = np.where(np.isfinite(errors), errors, modelled)
    return pd.DataFrame(columns)


def _add_survey(frame: pd.DataFrame, name: str, other: SurveyTable | None, matches: Matches | None) -> None:
    """Flux, error, separation and number of matches; everything null without the survey."""
    n = len(frame)
    if other is None or matches is None:
        for column in (f"s_{name}", f"s_{name}_err", f"sep_{name}_arcsec"):
            frame[column] = np.full(n, np.nan)
        frame[f"n_{name}"] = pd.array([pd.NA] * n, dtype="Int64")
    else:
        errors = flux_error_jy(other.survey, other.flux_jy, other.flux_err_jy)
        frame[f"s_{name}"] = matches.take(other.flux_jy)
        frame[f"s_{name}_err"] = matches.take(errors)
        frame[f"sep_{name}_arcsec"] = matches.separation_arcsec
        covered = is_covered(other, frame["ra_deg"].to_numpy(), frame["dec_deg"].to_numpy()) | matches.is_matched
        frame[f"n_{name}"] = pd.array(np.where(covered, matches.count, 0), dtype="Int64")
        frame.loc[~covered, f"n_{name}"] = pd.NA
    if name == "racs":
        frame["racs_freq_ghz"] = np.nan if other is None else np.where(
            np.isfinite(frame["s_racs"]), other.survey.freq_ghz, np.nan)  # fmt: skip


def is_covered(table: SurveyTable, ra_deg: npt.ArrayLike, dec_deg: npt.ArrayLike) -> Bools:
    """Whether a survey's file covers positions: within its declinations and with sources of it close by.

    Parameters
    ----------
    table : SurveyTable
        The survey.
    ra_deg, dec_deg : array_like, shape (n,)
        Positions, degrees.

    Returns
    -------
    ndarray of bool, shape (n,)
    """
    near = ConeIndex(table.ra_deg, table.dec_deg).has_neighbours(
        ra_deg, dec_deg, radius_deg=COVERAGE_RADIUS_DEG, n_neighbours=COVERAGE_NEIGHBOURS
    )
    return near & covers_declination(table.survey, dec_deg)


def _add_sizes(frame: pd.DataFrame, first: SurveyTable | None, options: CatalogueOptions) -> None:
    """FIRST sizes and the resolved flag, null where FIRST has no match."""
    if first is None:
        for column in ("first_size_maj_arcsec", "first_size_min_arcsec", "first_size_pa_deg"):
            frame[column] = np.nan
        frame["resolved_flag"] = pd.array([pd.NA] * len(frame), dtype="boolean")
        return
    matches = ConeIndex(first.ra_deg, first.dec_deg).match(
        frame["ra_deg"], frame["dec_deg"], radius_arcsec=options.match_radius_arcsec
    )
    frame["first_size_maj_arcsec"] = matches.take(first.maj_arcsec)
    frame["first_size_min_arcsec"] = matches.take(first.min_arcsec)
    frame["first_size_pa_deg"] = matches.take(first.pa_deg)
    size = frame["first_size_maj_arcsec"].to_numpy()
    frame["resolved_flag"] = pd.array(size > options.resolved_arcsec, dtype="boolean")
    frame.loc[np.isnan(size), "resolved_flag"] = pd.NA


def _add_alpha(
    frame: pd.DataFrame, nvss: SurveyTable, spectra: list[tuple[float, Floats, Floats]], labels: list[str]
) -> None:
    freq = np.array([entry[0] for entry in spectra])
    flux = np.stack([entry[1] for entry in spectra], axis=1)
    errors = np.stack([entry[2] for entry in spectra], axis=1)
    alpha, alpha_err = fit_spectra(freq, flux, errors)
    used = np.isfinite(flux) & (flux > 0)
    names = np.array(labels)
    surveys = [",".join(names[row]) if np.isfinite(a) else None for row, a in zip(used, alpha, strict=True)]
    if nvss.alpha is not None:
        given = np.isfinite(nvss.alpha)
        alpha, alpha_err = np.where(given, nvss.alpha, alpha), np.where(given, np.nan, alpha_err)
        surveys = ["given" if has else name for has, name in zip(given, surveys, strict=True)]
    frame["alpha"], frame["alpha_err"] = alpha, alpha_err
    frame["alpha_surveys"] = pd.array(surveys, dtype="string")


def _is_true(column: pd.Series) -> Bools:
    """A nullable flag with unknown as False."""
    return column.astype("boolean").fillna(False).to_numpy(dtype=bool)
