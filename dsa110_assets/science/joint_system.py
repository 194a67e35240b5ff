"""The linear system of the joint solve: point spread functions at the offsets between sources, and its solution.

With t_k the response to a unit source at x_k, the unknowns are the flux corrections dA_k and, for some, A_k times the
shift in x and y. Matched against the t_k and their derivatives, a residual image d obeys (B the PSF, k, l sources)

    d(x_k)     = sum_l B(kl) dA_l   + Bx(lk) p_l   + By(lk) q_l
    d,x(x_k)   = sum_l Bx(kl) dA_l  - Bxx(kl) p_l  - Bxy(kl) q_l        (and the same in y)

a symmetric matrix M; for natural weights M / sigma^2 is the Fisher matrix. Noise of the left-hand sides has the same
form N with the noise's autocorrelation C in place of B (DECISIONS 14).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy.linalg import LinAlgError, lu_factor, lu_solve

from dsa110_assets.science.band_limited import read_pair_offsets
from dsa110_assets.science.errors import SolveError

Floats = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Unknowns:
    """What is solved for.

    Attributes
    ----------
    shares : (n_source, n_blend) float
        Part of each blend's flux in each source; columns sum to 1. Without blends the identity.
    moving : (n_moving,) int
        Blends with position terms.
    """

    shares: Floats
    moving: npt.NDArray[np.int64]

    @property
    def n_blends(self) -> int:
        """Number of flux unknowns."""
        return int(self.shares.shape[1])

    @property
    def blend(self) -> npt.NDArray[np.int64]:
        """Blend of every source, (n_source,)."""
        return np.asarray(np.argmax(self.shares > 0, axis=1), np.int64)

    def first(self, per_source: Floats) -> Floats:
        """A value per source (n_source,) -> that of the brightest member of every blend (n_blend,)."""
        return np.asarray(per_source[np.argmax(self.shares, axis=0)])

    def project(self, per_source: Floats) -> Floats:
        """(3, n_source) value, x and y gradient -> vector of the system's left-hand sides."""
        blends = per_source @ self.shares
        return np.concatenate([blends[0], blends[1][self.moving], blends[2][self.moving]])


@dataclass(frozen=True)
class Solution:
    """Corrections and their covariance.

    Attributes
    ----------
    flux : (n_blend,) float
        dA, Jy/beam.
    moment_x, moment_y : (n_moving,) float
        A times shift, Jy/beam pixels.
    covariance : (n_blend + 2 n_moving, same) float
        Of all unknowns.
    condition : float
        Condition number of the flux block.
    """

    flux: Floats
    moment_x: Floats
    moment_y: Floats
    covariance: Floats
    condition: float


def build_matrix(psf: npt.NDArray[np.floating], x: Floats, y: Floats, unknowns: Unknowns) -> Floats:
    """The symmetric matrix M (or N) of a PSF for sources at pixel positions whose differences are the offsets."""
    terms = read_pair_offsets(psf, x, y)
    shares, moving = unknowns.shares, unknowns.moving
    if unknowns.n_blends != len(x) or not np.array_equal(shares, np.eye(len(x))):
        terms = np.stack([shares.T @ term @ shares for term in terms])
    value, slope_x, slope_y, xx, xy, yy = terms
    if not moving.size:
        return np.asarray(value)
    square = np.ix_(moving, moving)
    gradient = np.concatenate([slope_x[moving], slope_y[moving]])
    curvature = -np.block([[xx[square], xy[square]], [xy[square].T, yy[square]]])
    return np.asarray(np.block([[value, gradient.T], [gradient, curvature]]))


def solve_system(
    matrix: Floats, noise: Floats, data: Floats, prior: Floats, expected: Floats, n_blends: int
) -> Solution:
    """Solve (M + L) v = d + L v0 with a Gaussian prior, and propagate the noise.

    Covariance: (M + L)^-1 (N + L) (M + L)^-T; L is diagonal, in the units of M (noise variance over prior variance).

    Parameters
    ----------
    matrix, noise : (n, n)
        M, and the covariance N of ``data``, (Jy/beam)^2.
    data : (n,)
        Left-hand sides.
    prior : (n, 2)
        Diagonal L, and L times L's own variance times L (what the prior adds to the covariance of the data).
    expected : (n,)
        Prior means v0.
    n_blends : int
        Number of flux unknowns, which come first.

    Raises
    ------
    SolveError
        If the matrix is singular or the data are not finite.
    """
    if not np.isfinite(data).all():
        raise SolveError("the residual image is not finite at a source position")
    full = matrix + np.diag(prior[:, 0])
    try:
        factors = lu_factor(full, check_finite=True)
    except (LinAlgError, ValueError) as error:
        raise SolveError(f"the joint system of {len(data)} unknowns cannot be factored: {error}") from error
    values = lu_solve(factors, data + prior[:, 0] * expected)
    half = lu_solve(factors, noise + np.diag(prior[:, 1]))
    covariance = lu_solve(factors, half.T)
    if not (np.isfinite(values).all() and np.isfinite(covariance).all()):
        raise SolveError(f"the joint system of {len(data)} unknowns is singular: two sources share one position")
    n_moving = (len(data) - n_blends) // 2
    return Solution(
        flux=values[:n_blends],
        moment_x=values[n_blends : n_blends + n_moving],
        moment_y=values[n_blends + n_moving :],
        covariance=0.5 * (covariance + covariance.T),
        condition=float(np.linalg.cond(matrix[:n_blends, :n_blends])),
    )
