"""Photometry on catalogue-subtracted residuals: one linear solve for all sources of a tile, iterated.

S = S_cat + H^-1 d with H = B diag(P): B_kl the PSF at the offset between sources k and l, P the drift-averaged primary
beam, d the residual at the sources. Bright sources have position terms too, since the beam has a narrow spike and an
arcsecond matters; then the corrected list is subtracted anew, what the catalogue lacks is found, and so on until
nothing changes (SCIENCE 3b, DECISIONS 14).
"""

from __future__ import annotations

import logging
from collections.abc import Callable

import numpy as np
import numpy.typing as npt

from dsa110_assets.science.background import measure_background
from dsa110_assets.science.components import Components
from dsa110_assets.science.joint_options import JointOptions, JointResult
from dsa110_assets.science.joint_round import Round, solve_round
from dsa110_assets.science.joint_sources import find_new_sources
from dsa110_assets.science.joint_state import Sources, rescale
from dsa110_assets.science.joint_table import Agreement, build_table, check_agreement
from dsa110_assets.science.noise import image_rms
from dsa110_assets.science.residual import ResidualImage

__all__ = ["Agreement", "JointOptions", "JointResult", "check_agreement", "solve_joint"]

logger = logging.getLogger(__name__)


def solve_joint(
    make_residual: Callable[[Components], ResidualImage],
    components: Components,
    *,
    options: JointOptions | None = None,
    position_error_arcsec: npt.ArrayLike | None = None,
) -> JointResult:
    """Fluxes (and positions of the bright) of all sources of a tile from its residual visibilities.

    Parameters
    ----------
    make_residual : callable
        Subtracts a component list from the data and images the rest; called once per round.
    components : Components
        The catalogue: sky model and target list.
    options : JointOptions
        None: the defaults.
    position_error_arcsec : (n,) or scalar, optional
        Catalogue position error of each component per axis, arcsec; 0 holds a position. None: from the options.

    Returns
    -------
    JointResult

    Raises
    ------
    SolveError
        If no component lies in the image, or the system is singular.
    """
    options = options or JointOptions()
    residual = make_residual(components)
    sources = Sources.start(components, residual, options, position_error_arcsec)
    subtracted_jy = sources.flux_jy
    for number in range(1, options.max_rounds + 1):
        n_before = len(sources)
        if number > 1:
            listed = sources.to_subtract(residual)
            residual = make_residual(listed)
            subtracted_jy = np.maximum(sources.flux_jy, 0.0)
        rms = measure_background(residual.image).rms
        if number > 1 and options.find_new_sources:
            sources = sources.extended(find_new_sources(residual, rms, listed, options), residual)
            subtracted_jy = np.concatenate([subtracted_jy, np.zeros(len(sources) - n_before)])
        before = sources
        sources, outcome = solve_round(sources, subtracted_jy, residual, rms, options=options)
        change = float(_remainder_sigma(outcome, residual) if number == 1 else outcome.change_sigma.max())
        logger.info("round %d: %d sources, largest change %.2f sigma", number, len(outcome.solved), change)
        searched = number > 1 or options.max_rounds == 1 or not options.find_new_sources
        converged = searched and len(before) == n_before and change <= options.tolerance_sigma
        if converged:
            break
    return JointResult(
        table=build_table(sources, outcome, residual, options, converged=converged),
        components=rescale(sources.present(residual.wcs), sources.flux_jy, residual.frequency_hz),
        residual=residual,
        rms_jyb=image_rms(residual.image),
        rounds=number,
        converged=converged,
        condition_number=outcome.solution.condition,
        n_new=int(sources.is_new.sum()),
    )


def _remainder_sigma(outcome: Round, residual: ResidualImage) -> float:
    """What a linear step leaves out, in sigma: A |shift|^2 |curvature| / 2, the worst of all sources."""
    psf_y, psf_x = residual.psf_center
    centre = residual.psf[psf_y - 1 : psf_y + 2, psf_x - 1 : psf_x + 2].astype(np.float64)
    curvature = max(2.0 * centre[1, 1] - centre[1, 0] - centre[1, 2], 2.0 * centre[1, 1] - centre[0, 1] - centre[2, 1])
    n = outcome.unknowns.n_blends
    sigma = np.sqrt(np.diag(outcome.solution.covariance)[:n])
    return float(np.max(0.5 * np.abs(outcome.apparent) * np.sum(outcome.step**2, axis=0) * curvature / sigma))
