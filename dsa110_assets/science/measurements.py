"""Measured fluxes of one image as rows of the ``photometry`` table, whichever method measured them."""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pandas as pd
from astropy.wcs import WCS

from dsa110_assets.science.background import BackgroundMaps
from dsa110_assets.science.components import Components
from dsa110_assets.science.flags import PhotometryFlag
from dsa110_assets.science.forced import measure
from dsa110_assets.science.geometry import direction_cosines, separation_deg
from dsa110_assets.science.joint import JointResult

F_CAL = 0.05
"""Relative error of the absolute flux scale (DECISIONS 17): in absolute fluxes only, never after normalisation."""
SURVEY_FREQUENCY_HZ = 1.4e9


@dataclass(frozen=True)
class ImageContext:
    """What all rows of one image share.

    Attributes
    ----------
    center_deg
        ICRS of the image centre, degrees.
    frequency_hz
        Effective frequency, Hz.
    mid_mjd
        Middle of the exposure, MJD UTC.
    common_flags
        ``PhotometryFlag`` bits set on every row (partial group, warned input).
    """

    center_deg: tuple[float, float]
    frequency_hz: float
    mid_mjd: float
    common_flags: int = 0


def residual_rows(result: JointResult, catalogue: Components, context: ImageContext) -> pd.DataFrame:
    """Rows of the joint solve on the catalogue-subtracted residual (method ``residual``).

    Parameters
    ----------
    result
        Of :func:`dsa110_assets.science.joint.solve_joint`.
    catalogue
        The components it started from, in the same order (new sources follow them).
    context
        Of the image.

    Returns
    -------
    DataFrame
        Columns of the ``photometry`` table that a measurement gives; fluxes in Jy.
    """
    table = result.table
    rows = pd.DataFrame(
        {
            "source_id": table["source_id"],
            "ra_deg": table["ra_deg"],
            "dec_deg": table["dec_deg"],
            "apparent_jyb": table["apparent_jyb"],
            "flux_jy": table["flux_jy"],
            "err_stat_jyb": table["err_stat_jyb"],
            "local_rms_jyb": table["local_rms_jyb"],
            "chi2": table["chi2"],
            "dof": table["dof"],
            "ra_offset_arcsec": table["shift_ra_arcsec"],
            "dec_offset_arcsec": table["shift_dec_arcsec"],
            "ra_offset_err_arcsec": table["shift_ra_err_arcsec"],
            "dec_offset_err_arcsec": table["shift_dec_err_arcsec"],
            "pb_response": table["pb_response"],
            "flags": table["flags"],
        }
    )
    rows["method"] = "residual"
    return _complete(rows, catalogue, context)


def clean_rows(
    image: npt.NDArray[np.floating],
    maps: BackgroundMaps,
    wcs: WCS,
    beam: tuple[float, float, float],
    result: JointResult,
    *,
    catalogue: Components,
    context: ImageContext,
) -> pd.DataFrame:
    """Rows of forced photometry on the restored image (method ``clean``), at the positions of the joint solve.

    Parameters
    ----------
    image : (ny, nx)
        Restored image, apparent Jy/beam.
    maps
        Its background and rms.
    wcs, beam
        World coordinates, and restoring beam (degrees).
    result
        Joint solve: positions and primary-beam responses.
    """
    table = result.table
    ra, dec = table["ra_deg"].to_numpy(), table["dec_deg"].to_numpy()
    fit = measure(image, maps.background, maps.rms, wcs, beam, ra, dec)
    response = table["pb_response"].to_numpy()
    kept = int(PhotometryFlag.NEW_SOURCE | PhotometryFlag.LOW_PRIMARY_BEAM)
    rows = pd.DataFrame(
        {
            "source_id": table["source_id"],
            "ra_deg": ra,
            "dec_deg": dec,
            "apparent_jyb": fit["flux"].to_numpy(),
            "flux_jy": fit["flux"].to_numpy() / response,
            "err_stat_jyb": fit["flux_err"].to_numpy() / response,
            "local_rms_jyb": fit["local_rms"].to_numpy(),
            "local_background_jyb": fit["local_background"].to_numpy(),
            "chi2": fit["chi2"].to_numpy(),
            "dof": fit["dof"].to_numpy(),
            "pb_response": response,
            "flags": fit["flags"].to_numpy() | (table["flags"].to_numpy() & kept),
        }
    )
    rows["method"] = "clean"
    return _complete(rows, catalogue, context)


def _complete(rows: pd.DataFrame, catalogue: Components, context: ImageContext) -> pd.DataFrame:
    """Add what follows from the measurement: errors, ratios, catalogue values and geometry."""
    flux, err_stat = rows["flux_jy"].to_numpy(), rows["err_stat_jyb"].to_numpy()
    err_cal = F_CAL * np.abs(flux)
    rows["peak_jyb"], rows["peak_err_jyb"] = flux, err_stat
    rows["flux_err_jy"], rows["err_rms"], rows["err_cal"] = err_stat, err_stat, err_cal
    rows["err_total_jyb"] = np.hypot(err_stat, err_cal)
    rows["snr"] = flux / err_stat
    n_new = len(rows) - len(catalogue)
    unknown = np.full(n_new, np.nan)
    rows["nvss_flux_jy"] = np.concatenate([catalogue.flux_at(SURVEY_FREQUENCY_HZ)[:, 0], unknown])
    rows["catalog_flux_jy"] = np.concatenate([catalogue.flux_at(context.frequency_hz)[:, 0], unknown])
    rows["freq_ghz"], rows["mjd"] = context.frequency_hz / 1e9, context.mid_mjd
    ra0, dec0 = context.center_deg
    rows["sep_from_center_deg"] = separation_deg(rows["ra_deg"], rows["dec_deg"], ra0, dec0)
    l_cosine, m_cosine, _ = direction_cosines(rows["ra_deg"], rows["dec_deg"], ra0, dec0)
    rows["x_deg"], rows["y_deg"] = np.degrees(l_cosine), np.degrees(m_cosine)
    rows["flags"] = rows["flags"].to_numpy(dtype=np.int64) | context.common_flags
    return rows


def recovered_fraction(rows: pd.DataFrame, *, min_expected_snr: float = 20.0, min_snr: float = 5.0) -> float:
    """Fraction of the catalogue sources expected at ``min_expected_snr`` that are measured above ``min_snr``.

    NaN when none is expected.
    """
    expected = rows["catalog_flux_jy"] / rows["err_stat_jyb"] >= min_expected_snr
    if not expected.any():
        return float("nan")
    return float((rows.loc[expected, "snr"] >= min_snr).mean())


def median_flux_ratio(rows: pd.DataFrame, *, min_snr: float = 20.0) -> float:
    """Median of measured over catalogue flux of the sources above ``min_snr``; NaN without any."""
    bright = rows[(rows["snr"] >= min_snr) & rows["catalog_flux_jy"].notna()]
    return float((bright["flux_jy"] / bright["catalog_flux_jy"]).median()) if len(bright) else float("nan")
