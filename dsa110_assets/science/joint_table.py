"""The table of a joint solve, and its agreement with photometry on the CLEANed image."""

from __future__ import annotations

from dataclasses import dataclass

import numba
import numpy as np
import numpy.typing as npt
import pandas as pd

from dsa110_assets.science.band_limited import read_band_limited
from dsa110_assets.science.flags import PhotometryFlag
from dsa110_assets.science.joint_options import JointOptions
from dsa110_assets.science.joint_round import Round
from dsa110_assets.science.joint_state import Sources
from dsa110_assets.science.noise import robust_rms
from dsa110_assets.science.residual import ResidualImage

Floats = npt.NDArray[np.float64]
_CUTOUT_BEAMS = 1.5
"""Half the width of the cut-out in which chi squared is summed, BMAJ."""
_UNFINISHED_SIGMA = 1.0
"""A source is flagged NOT_CONVERGED when the last round still changed it by more than this."""


def build_table(
    sources: Sources, outcome: Round, residual: ResidualImage, options: JointOptions, *, converged: bool
) -> pd.DataFrame:
    """One row per component; see :class:`JointResult`.

    Parameters
    ----------
    sources : Sources
        State after the last round.
    outcome : Round
        The last round.
    residual : ResidualImage
        Its image.
    options : JointOptions
        Limits for flags.
    converged : bool
        Whether the rounds had settled.
    """
    n, solved, blend = len(sources), outcome.solved, outcome.unknowns.blend
    present = sources.present(residual.wcs)
    error = np.sqrt(np.diag(outcome.solution.covariance)[: outcome.unknowns.n_blends])
    chi2, dof = _chi_squares(outcome, residual)
    arcsec = 3600.0 * residual.cell_deg
    shift_error = _shift_errors(outcome) * arcsec
    response = outcome.where.primary_beam
    values = {
        "apparent_jyb": outcome.apparent[blend],
        "apparent_err_jyb": error[blend],
        "flux_jy": outcome.apparent[blend] / response[solved],
        "err_stat_jyb": error[blend] / response[solved],
        "snr": outcome.apparent[blend] / error[blend],
        "shift_ra_arcsec": -sources.shift[0, solved] * arcsec,
        "shift_dec_arcsec": sources.shift[1, solved] * arcsec,
        "shift_ra_err_arcsec": shift_error[0, blend],
        "shift_dec_err_arcsec": shift_error[1, blend],
        "chi2": chi2,
    }
    frame = pd.DataFrame(
        {"source_id": present.source_id.astype(object), "ra_deg": present.ra_deg, "dec_deg": present.dec_deg}
    )
    frame["catalog_flux_jy"] = np.where(sources.is_new, np.nan, sources.listed.flux_at(residual.frequency_hz)[:, 0])
    for name, column in values.items():
        frame[name] = np.nan
        frame.loc[solved, name] = column
    frame["dof"] = 0
    frame.loc[solved, "dof"] = dof
    frame["pb_response"] = response
    frame["local_rms_jyb"] = outcome.where.rms
    frame["flags"] = _flags(sources, outcome, options, converged=converged)
    frame["blended_with"] = _partners(present.source_id, solved, blend, n)
    return frame


def _shift_errors(outcome: Round) -> Floats:
    """(2, n_blend) pixels; NaN without position terms."""
    n, moving = outcome.unknowns.n_blends, outcome.unknowns.moving
    errors = np.full((2, n), np.nan)
    variance = np.diag(outcome.solution.covariance)[n:].reshape(2, len(moving))
    flux = np.abs(outcome.apparent[moving])
    errors[:, moving] = np.sqrt(variance) / np.where(flux > 0, flux, np.nan)
    return errors


def _flags(sources: Sources, outcome: Round, options: JointOptions, *, converged: bool) -> npt.NDArray[np.int64]:
    flags = np.zeros(len(sources), np.int64)
    where, solved, blend = outcome.where, outcome.solved, outcome.unknowns.blend
    flags[~where.covered] |= int(PhotometryFlag.NO_COVERAGE)
    with np.errstate(invalid="ignore"):
        flags[where.primary_beam < options.low_primary_beam] |= int(PhotometryFlag.LOW_PRIMARY_BEAM)
    flags[sources.is_new] |= int(PhotometryFlag.NEW_SOURCE)
    moving = np.isin(blend, outcome.unknowns.moving)
    flags[solved[moving]] |= int(PhotometryFlag.POSITION_FITTED)
    flags[sources.prior_pixels == 0.0] |= int(PhotometryFlag.POSITION_HELD)
    flags[solved[np.bincount(blend)[blend] > 1]] |= int(PhotometryFlag.BLENDED)
    flags[solved[outcome.apparent[blend] < 0]] |= int(PhotometryFlag.NEGATIVE_FLUX)
    if not converged:
        flags[solved[outcome.change_sigma[blend] > _UNFINISHED_SIGMA]] |= int(PhotometryFlag.NOT_CONVERGED)
    return flags


def _partners(
    names: npt.NDArray[np.str_], solved: npt.NDArray[np.int64], blend: npt.NDArray[np.int64], n: int
) -> list[str]:
    """Names of the other members of every source's blend, joined by commas."""
    partners = [""] * n
    for group in np.flatnonzero(np.bincount(blend) > 1):
        members = solved[blend == group]
        for member in members.tolist():
            partners[member] = ",".join(str(names[other]) for other in members.tolist() if other != member)
    return partners


@numba.njit(cache=True, nogil=True)
def _sum_squares(image, x, y, reach, scale, out, count):  # type: ignore[no-untyped-def]  # pragma: no cover
    ny, nx = image.shape
    for k in range(x.size):
        i0, j0 = int(np.round(x[k])), int(np.round(y[k]))
        for j in range(max(0, j0 - reach), min(ny, j0 + reach + 1)):
            for i in range(max(0, i0 - reach), min(nx, i0 + reach + 1)):
                value = np.float64(image[j, i])
                if np.isfinite(value):
                    out[k] += (value / scale[k]) ** 2
                    count[k] += 1


def _chi_squares(outcome: Round, residual: ResidualImage) -> tuple[Floats, npt.NDArray[np.int64]]:
    """Sum of (residual / rms)^2 about every source, its own last correction taken out, and pixels - 1.

    sum (d - a B)^2 = sum d^2 - 2 a sum d B + a^2 sum B^2, with the three sums over the cut-out.
    """
    solved = outcome.solved
    x, y, rms = outcome.where.x[solved], outcome.where.y[solved], outcome.where.rms[solved]
    reach = max(1, int(np.ceil(_CUTOUT_BEAMS * residual.beam[0] / residual.cell_deg)))
    chi2, count = np.zeros(len(solved)), np.zeros(len(solved), np.int64)
    _sum_squares(residual.image, x, y, reach, rms, chi2, count)
    correction = outcome.unknowns.shares @ outcome.solution.flux
    psf_y, psf_x = residual.psf_center
    steps = np.arange(-reach, reach + 1)
    grid_x, grid_y = (g.ravel() for g in np.meshgrid(steps, steps))
    ny, nx = residual.image.shape
    for k in np.flatnonzero(np.abs(correction) > 0.1 * rms):
        column, row = np.rint(x[k]) + grid_x, np.rint(y[k]) + grid_y
        inside = (column >= 0) & (row >= 0) & (column < nx) & (row < ny)
        column, row = column[inside], row[inside]
        data = residual.image[row.astype(np.int64), column.astype(np.int64)].astype(np.float64)
        response = read_band_limited(residual.psf, psf_x + column - x[k], psf_y + row - y[k])[0]
        good = np.isfinite(data)
        chi2[k] = np.sum(((data - correction[k] * response)[good] / rms[k]) ** 2)
    return chi2, np.maximum(count - 1, 0)


@dataclass(frozen=True)
class Agreement:
    """How far two photometries of one image agree.

    Attributes
    ----------
    passed : bool
        Median ratio and scatter are within their limits; also true with fewer than five common sources.
    n_common : int
        Sources above the SNR limit in both.
    median_ratio : float
        Of CLEAN over residual flux; NaN without common sources.
    scatter_sigma : float
        1.4826 MAD of the differences in units of their combined error.
    message : str
        For the check.
    """

    passed: bool
    n_common: int
    median_ratio: float
    scatter_sigma: float
    message: str


def check_agreement(
    residual: pd.DataFrame,
    clean: pd.DataFrame,
    *,
    min_snr: float = 20.0,
    max_bias: float = 0.05,
    max_scatter_sigma: float = 5.0,
) -> Agreement:
    """Compare the residual with the CLEAN photometry of one image, source by source.

    Parameters
    ----------
    residual, clean : DataFrame
        source_id, apparent_jyb, snr and an error: apparent_err_jyb, or |apparent_jyb / snr| where it is missing.
    min_snr : float
        Only sources this bright in both.
    max_bias : float
        Largest |median ratio - 1|.
    max_scatter_sigma : float
        Largest robust scatter in combined errors (CLEAN errors do not know the CLEAN bias).

    Returns
    -------
    Agreement
    """
    columns = ["source_id", "apparent_jyb", "snr"]
    both = residual[columns].merge(clean[columns], on="source_id", suffixes=("_r", "_c"))
    both = both[(both["snr_r"] >= min_snr) & (both["snr_c"] >= min_snr)]
    if len(both) == 0:
        return Agreement(True, 0, np.nan, np.nan, f"no source above SNR {min_snr:g} in both methods")
    ratio = float(np.median(both["apparent_jyb_c"] / both["apparent_jyb_r"]))
    error = np.hypot(both["apparent_jyb_r"] / both["snr_r"], both["apparent_jyb_c"] / both["snr_c"])
    scatter = float(robust_rms((both["apparent_jyb_c"] - both["apparent_jyb_r"]) / error))
    enough = len(both) >= 5
    passed = not enough or (abs(ratio - 1.0) <= max_bias and scatter <= max_scatter_sigma)
    message = f"{len(both)} sources above SNR {min_snr:g}: clean / residual {ratio:.4f}, scatter {scatter:.2f} sigma"
    return Agreement(bool(passed), len(both), ratio, scatter, message)
