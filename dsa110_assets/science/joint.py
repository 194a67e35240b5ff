"""Photometry on catalogue-subtracted residuals: one linear solve for all sources of a tile, iterated.

S = S_cat + H^-1 d with H = B diag(P): B_kl the PSF at the offset between sources k and l, P the drift-averaged primary
beam, d the residual at the sources. Bright sources have position terms too, since the beam has a narrow spike and an
arcsecond matters; then the corrected list is subtracted anew, what the catalogue lacks is found, and so on until
nothing changes (SCIENCE 3b, DECISIONS 14).
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass

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
    state = _solve(sources, sources.flux_jy, residual, options)
    rounds, change = 1, _remainder_sigma(state)
    converged = change <= options.tolerance_sigma and not (options.find_new_sources and options.max_rounds > 1)
    while rounds < options.max_rounds and not converged:
        logger.info("round %d: %d sources, change %.2f sigma", rounds, len(state.outcome.solved), change)
        n_new = int(state.sources.is_new.sum())
        state = _solve_again(make_residual, state, options, first_repeat=rounds == 1)
        rounds, change = rounds + 1, float(state.outcome.change_sigma.max())
        converged = change <= options.tolerance_sigma and int(state.sources.is_new.sum()) <= n_new
    return _result(state, options, rounds, converged=converged)


@dataclass(frozen=True)
class _State:
    """A residual image and what was solved from it."""

    residual: ResidualImage
    rms: npt.NDArray[np.float32]
    sources: Sources
    outcome: Round


def _solve(
    sources: Sources, subtracted_jy: npt.NDArray[np.float64], residual: ResidualImage, options: JointOptions
) -> _State:
    rms = measure_background(residual.image).rms
    return _State(residual, rms, *solve_round(sources, subtracted_jy, residual, rms, options=options))


def _solve_again(
    make_residual: Callable[[Components], ResidualImage], state: _State, options: JointOptions, *, first_repeat: bool
) -> _State:
    """Subtract what is known by now, look for what is not, and solve."""
    sources = state.sources.select(~_faded(state.sources, state.outcome, options))
    if not first_repeat:  # or sources at the SNR limit would gain and lose their position terms for ever
        sources = sources.settled()
    listed = sources.to_subtract(state.residual)
    residual = make_residual(listed)
    subtracted_jy = np.maximum(sources.flux_jy, 0.0)
    rms = measure_background(residual.image).rms
    if options.find_new_sources:
        found = find_new_sources(residual, rms, listed, options)
        sources = sources.extended(found, residual)
        subtracted_jy = np.concatenate([subtracted_jy, np.zeros(len(found))])
    return _State(residual, rms, *solve_round(sources, subtracted_jy, residual, rms, options=options))


def _result(state: _State, options: JointOptions, rounds: int, *, converged: bool) -> JointResult:
    kept = ~_faded(state.sources, state.outcome, options)
    final = state.sources.select(kept)
    table = build_table(state.sources, state.outcome, state.residual, options, converged=converged)
    return JointResult(
        table=table[kept].reset_index(drop=True),
        components=rescale(final.present(state.residual.wcs), final.flux_jy, state.residual.frequency_hz),
        residual=state.residual,
        rms_jyb=image_rms(state.residual.image),
        rounds=rounds,
        converged=converged,
        condition_number=state.outcome.solution.condition,
        n_new=int(final.is_new.sum()),
    )


def _faded(sources: Sources, outcome: Round, options: JointOptions) -> npt.NDArray[np.bool_]:
    """New sources that the solve itself left fainter than a detection: artefacts of what was still wrong."""
    sigma = np.sqrt(np.diag(outcome.solution.covariance)[: outcome.unknowns.n_blends])
    faded = sources.is_new.copy()
    blend = outcome.unknowns.blend
    faded[outcome.solved] &= (outcome.apparent / sigma)[blend] < options.new_source_snr - 1.0
    return faded


def _remainder_sigma(state: _State) -> float:
    """What a linear step leaves out, in sigma: A |shift|^2 |curvature| / 2, the worst of all sources."""
    outcome, residual = state.outcome, state.residual
    psf_y, psf_x = residual.psf_center
    centre = residual.psf[psf_y - 1 : psf_y + 2, psf_x - 1 : psf_x + 2].astype(np.float64)
    curvature = max(2.0 * centre[1, 1] - centre[1, 0] - centre[1, 2], 2.0 * centre[1, 1] - centre[0, 1] - centre[2, 1])
    n = outcome.unknowns.n_blends
    sigma = np.sqrt(np.diag(outcome.solution.covariance)[:n])
    return float(np.max(0.5 * np.abs(outcome.apparent) * np.sum(outcome.step**2, axis=0) * curvature / sigma))
