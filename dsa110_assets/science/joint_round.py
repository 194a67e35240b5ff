"""One round of the joint solve: from a residual image to corrected fluxes and positions."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components
from scipy.spatial import cKDTree

from dsa110_assets.science.band_limited import TAPS, read_band_limited
from dsa110_assets.science.errors import SolveError
from dsa110_assets.science.joint_options import JointOptions
from dsa110_assets.science.joint_state import Sources
from dsa110_assets.science.joint_system import Solution, Unknowns, build_matrix, solve_system
from dsa110_assets.science.residual import ResidualImage

Floats = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Where:
    """Where the sources lie in a residual image, at their present positions.

    Attributes
    ----------
    x, y, offset_x, offset_y : (n,) float
        Pixels, and coordinates whose differences are PSF offsets.
    primary_beam, rms : (n,) float
        Response and local rms (Jy/beam); NaN outside the image.
    covered : (n,) bool
        Far enough inside to be read, on pixels that are known.
    """

    x: Floats
    y: Floats
    offset_x: Floats
    offset_y: Floats
    primary_beam: Floats
    rms: Floats
    covered: npt.NDArray[np.bool_]

    @classmethod
    def of(cls, sources: Sources, residual: ResidualImage, rms: npt.NDArray[np.floating]) -> Where:
        """Look the sources up in an image and its rms map."""
        present = sources.present(residual.wcs)
        x, y = residual.pixels(present.ra_deg, present.dec_deg)
        offset_x, offset_y = residual.offset_pixels(present.ra_deg, present.dec_deg)
        ny, nx = residual.image.shape
        margin = TAPS // 2
        with np.errstate(invalid="ignore"):
            inside = (x >= margin) & (y >= margin) & (x < nx - margin) & (y < ny - margin)
        column, row = (np.where(inside, np.rint(v), 0.0).astype(np.int64) for v in (x, y))
        response = np.where(inside, residual.primary_beam[row, column], np.nan).astype(np.float64)
        noise = np.where(inside, rms[row, column], np.nan).astype(np.float64)
        safe_x, safe_y = np.where(inside, x, 0.0), np.where(inside, y, 0.0)
        known = np.isfinite(read_band_limited(residual.image, safe_x, safe_y)[0])
        return cls(x, y, offset_x, offset_y, response, noise, inside & known & (noise > 0))


@dataclass(frozen=True)
class Round:
    """Outcome of one solve.

    Attributes
    ----------
    where : Where
        Positions before the solve.
    solved : (n_solved,) int
        Components that were solved.
    unknowns : Unknowns
        Blends and moving blends among them.
    solution : Solution
        The corrections.
    subtracted : (n_solved,) float
        Apparent flux that had been subtracted, Jy/beam.
    apparent : (n_blend,) float
        New apparent flux, Jy/beam.
    step : (2, n_blend) float
        Shift made in this round, pixels.
    change_sigma : (n_blend,) float
        Change of flux or position against the round before, in its own sigma.
    """

    where: Where
    solved: npt.NDArray[np.int64]
    unknowns: Unknowns
    solution: Solution
    subtracted: Floats
    apparent: Floats
    step: Floats
    change_sigma: Floats


def solve_round(
    sources: Sources,
    subtracted_jy: Floats,
    residual: ResidualImage,
    rms: npt.NDArray[np.floating],
    *,
    options: JointOptions,
) -> tuple[Sources, Round]:
    """Solve all sources of a residual image once.

    Parameters
    ----------
    sources : Sources
        Present state; positions are those that were subtracted.
    subtracted_jy : (n,) float
        Flux densities that were subtracted, Jy at the image's frequency.
    residual : ResidualImage
        The image.
    rms : (ny, nx)
        Local rms, Jy/beam.
    options : JointOptions
        Settings.

    Returns
    -------
    sources, outcome
    """
    where = Where.of(sources, residual, rms)
    solved = np.flatnonzero(where.covered & (np.nan_to_num(where.primary_beam) >= options.min_primary_beam))
    if not solved.size:
        raise SolveError("no component lies within the image and the primary beam: nothing to solve")
    response, noise = where.primary_beam[solved], where.rms[solved]
    present = response * sources.flux_jy[solved]
    blend = _link_blends(where.x[solved], where.y[solved], options.blend_beams * residual.beam[0] / residual.cell_deg)
    expected_noise = _post_fit_noise(noise, residual.thermal_jyb)
    unknowns = _choose_unknowns(present, blend, sources, solved, expected_noise, options)
    data = unknowns.project(read_band_limited(residual.image, where.x[solved], where.y[solved])[:3])
    offsets = (where.offset_x[solved], where.offset_y[solved])
    matrix = build_matrix(residual.psf, *offsets, unknowns)
    covariance = matrix if residual.noise_psf is None else build_matrix(residual.noise_psf, *offsets, unknowns)
    before = present @ (unknowns.shares > 0)
    sigma = unknowns.first(noise)
    scale = np.concatenate([sigma, sigma[unknowns.moving], sigma[unknowns.moving]])
    prior, expected = _prior(sources, solved, before, unknowns.first(expected_noise), unknowns)
    solution = solve_system(
        matrix, covariance * np.outer(scale, scale), data, prior, expected, n_blends=unknowns.n_blends
    )
    subtracted = response * subtracted_jy[solved]
    after = subtracted @ (unknowns.shares > 0) + solution.flux
    step = _limited_step(solution, after, unknowns, options.max_shift_pixels)
    change = _change_sigma(solution, after - before, unknowns)
    outcome = Round(where, solved, unknowns, solution, subtracted, after, step, change)
    return _updated(sources, outcome, response), outcome


def _post_fit_noise(noise: Floats, thermal_jyb: float) -> Floats:
    """Noise that the solve will leave: the rms of a first residual is mostly what the solve takes out."""
    return np.minimum(noise, 1.5 * thermal_jyb) if np.isfinite(thermal_jyb) and thermal_jyb > 0 else noise


def _link_blends(x: Floats, y: Floats, distance: float) -> npt.NDArray[np.int64]:
    """Number of the blend of every source: connected sets of pairs closer than a distance."""
    pairs = cKDTree(np.stack([x, y], axis=1)).query_pairs(distance, output_type="ndarray")
    links = coo_array((np.ones(len(pairs)), (pairs[:, 0], pairs[:, 1])), shape=(x.size, x.size))
    return np.asarray(connected_components(links, directed=False)[1], np.int64)


def _choose_unknowns(
    present: Floats,
    blend: npt.NDArray[np.int64],
    sources: Sources,
    solved: npt.NDArray[np.int64],
    noise: Floats,
    options: JointOptions,
) -> Unknowns:
    """Shares by present flux (equal when that is not positive), and position terms for the bright and the new."""
    weight = np.maximum(present, 1e-3 * noise)
    shares = np.zeros((len(blend), int(blend.max()) + 1))
    shares[np.arange(len(blend)), blend] = weight / np.bincount(blend, weight)[blend]
    bright = np.bincount(blend, present) > options.position_snr * np.bincount(blend, noise) / np.bincount(blend)
    new = np.bincount(blend, sources.is_new[solved]) > 0
    moved = np.bincount(blend, np.any(sources.shift[:, solved] != 0, axis=0)) > 0
    held = np.bincount(blend, ~sources.may_move[solved]) > 0
    return Unknowns(shares, np.flatnonzero((bright | new | moved) & ~held))


def _prior(
    sources: Sources, solved: npt.NDArray[np.int64], before: Floats, sigma: Floats, unknowns: Unknowns
) -> tuple[Floats, Floats]:
    """Diagonal prior (n, 2) and prior means: total shift 0 +- prior_pixels; fluxes have none."""
    moving = unknowns.moving
    flux = np.maximum(np.abs(before[moving]), sigma[moving])
    width = flux * unknowns.first(sources.prior_pixels[solved])[moving]
    strength = (sigma[moving] / width) ** 2
    none = np.zeros(unknowns.n_blends)
    diagonal = np.concatenate([none, strength, strength])
    variance = np.concatenate([none, sigma[moving] ** 2, sigma[moving] ** 2])
    shift = np.stack([unknowns.first(axis[solved])[moving] for axis in sources.shift])
    expected = np.concatenate([none, -flux * shift[0], -flux * shift[1]])
    return np.stack([diagonal, diagonal * variance], axis=1), expected


def _limited_step(solution: Solution, after: Floats, unknowns: Unknowns, limit: float) -> Floats:
    """(2, n_blend) shifts in pixels: moment over new flux, at most ``limit`` per axis."""
    step = np.zeros((2, unknowns.n_blends))
    flux = after[unknowns.moving]
    safe = np.where(flux > 0, flux, np.inf)
    step[:, unknowns.moving] = np.clip(np.stack([solution.moment_x, solution.moment_y]) / safe, -limit, limit)
    return step


def _change_sigma(solution: Solution, change: Floats, unknowns: Unknowns) -> Floats:
    sigma = np.sqrt(np.diag(solution.covariance))
    n, m = unknowns.n_blends, len(unknowns.moving)
    largest = np.abs(change) / sigma[:n]
    if m:
        moved = np.maximum(np.abs(solution.moment_x) / sigma[n : n + m], np.abs(solution.moment_y) / sigma[n + m :])
        largest[unknowns.moving] = np.maximum(largest[unknowns.moving], moved)
    return largest


def _updated(sources: Sources, outcome: Round, response: Floats) -> Sources:
    """Blend fluxes and shifts given back to their members."""
    member = outcome.unknowns.blend
    flux, shift = sources.flux_jy.copy(), sources.shift.copy()
    share = outcome.unknowns.shares[np.arange(len(member)), member]
    flux[outcome.solved] = share * outcome.apparent[member] / response
    shift[:, outcome.solved] += outcome.step[:, member]
    return replace(sources, flux_jy=flux, shift=shift)
