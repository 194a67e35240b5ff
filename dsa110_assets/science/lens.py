"""Gaussian plasma lenses: how the flux of a compact source changes while one drifts through the line of sight.

The lens has the electron column N0 exp(-u^2); a ray that meets it at u reaches the observer at
u' = u (1 + a exp(-u^2)), in units of the lens scale.

References: Clegg, Fey & Lazio 1998, ApJ 496, 253; axisymmetric: Dong, Petropoulou & Giannios 2018, MNRAS 481, 2685.
"""

from __future__ import annotations

import numba
import numpy as np
import numpy.typing as npt
from scipy.special import ive

from dsa110_assets.science.errors import ScienceError

Floats = npt.NDArray[np.float64]

CAUSTIC_STRENGTH = 0.5 * float(np.exp(1.5))
"""Strength above which the one-dimensional lens has caustics: e^1.5 / 2 = 2.2408."""
_FWHM_TO_SIGMA = 1.0 / np.sqrt(8.0 * np.log(2.0))
_REACH = 8.5
"""Standard deviations of the source profile that are integrated (5e-17 of it lies beyond)."""
_GAUSS_NODES, _GAUSS_WEIGHTS = np.polynomial.legendre.leggauss(6)


@numba.njit(cache=True, nogil=True, error_model="numpy")
def _ray(target, low, high, strength):  # type: ignore[no-untyped-def]  # pragma: no cover
    """Ray u in [low, high] with u (1 + a exp(-u^2)) = target, an interval where that is monotonic (guarded Newton)."""
    rising = high * (1.0 + strength * np.exp(-high * high)) >= low * (1.0 + strength * np.exp(-low * low))
    u = 0.5 * (low + high)
    for _ in range(200):
        screen = strength * np.exp(-u * u)
        misfit = u * (1.0 + screen) - target
        if misfit == 0.0 or high - low <= 1e-15 * abs(u):
            break
        if (misfit > 0.0) == rising:
            high = u
        else:
            low = u
        slope = 1.0 + (1.0 - 2.0 * u * u) * screen
        step = u - misfit / slope if slope != 0.0 else low
        u = step if low < step < high else 0.5 * (low + high)
    return u


@numba.njit(cache=True, nogil=True, error_model="numpy")
def _turning_point(low, high, strength):  # type: ignore[no-untyped-def]  # pragma: no cover
    """Turning point u in [low, high], du'/du = 0, by bisection."""
    sign = 1.0 + (1.0 - 2.0 * low * low) * strength * np.exp(-low * low) > 0.0
    for _ in range(200):
        middle = 0.5 * (low + high)
        if middle in (low, high):
            break
        if (1.0 + (1.0 - 2.0 * middle * middle) * strength * np.exp(-middle * middle) > 0.0) == sign:
            low = middle
        else:
            high = middle
    return 0.5 * (low + high)


@numba.njit(cache=True, nogil=True, error_model="numpy")
def _image_gain(u, strength, axisymmetric):  # type: ignore[no-untyped-def]  # pragma: no cover
    screen = strength * np.exp(-u * u)
    gain = 1.0 / abs(1.0 + (1.0 - 2.0 * u * u) * screen)
    return gain / (1.0 + screen) if axisymmetric else gain


@numba.njit(cache=True, nogil=True, error_model="numpy")
def _point_gain(position, strength, inner, outer, axisymmetric, out):  # type: ignore[no-untyped-def]  # pragma: no cover
    """Sum over the one or three images; inner < outer are the turning points of u'(u), or 0 without caustics."""
    caustic_low = outer * (1.0 + strength * np.exp(-outer * outer))
    caustic_high = inner * (1.0 + strength * np.exp(-inner * inner))
    for k in range(position.size):
        target = abs(position[k])
        if not np.isfinite(target):
            out[k] = np.nan
        elif outer == 0.0:
            out[k] = _image_gain(_ray(target, 0.0, target, strength), strength, axisymmetric)
        else:
            total = 0.0
            if target <= caustic_high:
                total += _image_gain(_ray(target, 0.0, inner, strength), strength, axisymmetric)
            if caustic_low <= target <= caustic_high:
                total += _image_gain(_ray(target, inner, outer, strength), strength, axisymmetric)
            if target >= caustic_low:
                total += _image_gain(_ray(target, outer, max(target, outer), strength), strength, axisymmetric)
            out[k] = total


@numba.njit(cache=True, nogil=True, error_model="numpy")
def _spread_gain(position, landing, weight, sigma, reach, out):  # type: ignore[no-untyped-def]  # pragma: no cover
    """Gaussian average of rays (sorted by where they land) about every position."""
    norm = 1.0 / (np.sqrt(2.0 * np.pi) * sigma)
    for k in range(position.size):
        if not np.isfinite(position[k]):
            out[k] = np.nan
            continue
        first = np.searchsorted(landing, position[k] - reach * sigma)
        last = np.searchsorted(landing, position[k] + reach * sigma)
        total = 0.0
        for i in range(first, last):
            z = (landing[i] - position[k]) / sigma
            total += weight[i] * np.exp(-0.5 * z * z)
        out[k] = total * norm


def _turning_points(strength: float) -> tuple[float, float]:
    """(inner, outer) u > 0 at which du'/du = 0, or (0, 0) without caustics; the slope is least at u^2 = 3/2."""
    if strength <= CAUSTIC_STRENGTH:
        return 0.0, 0.0
    least = np.sqrt(1.5)
    far = least + np.sqrt(np.log(2.0 * strength)) + 2.0
    return float(_turning_point(0.0, least, strength)), float(_turning_point(least, far, strength))


def _require_parameters(strength: float, source_fwhm: float) -> None:
    if not (np.isfinite(strength) and strength >= 0.0):
        raise ScienceError(f"strength must be finite and >= 0 (a diverging lens), got {strength}")
    if not (np.isfinite(source_fwhm) and source_fwhm >= 0.0):
        raise ScienceError(f"source_fwhm must be finite and >= 0, got {source_fwhm}")


def _ray_nodes(strength: float, sigma: float, extent: float, start: float) -> tuple[Floats, Floats]:
    """Gauss-Legendre nodes u and weights on [start, extent], dense enough for u' to advance < sigma per panel."""
    step = min(0.05, 0.25 * sigma)
    u = np.linspace(start, extent, int(np.ceil((extent - start) / step)) + 1)
    advance = np.abs(1.0 + (1.0 - 2.0 * u**2) * strength * np.exp(-(u**2))) / sigma + 1.0 / 0.1
    length = np.concatenate([[0.0], np.cumsum(0.5 * (advance[1:] + advance[:-1]) * np.diff(u))])
    edges = np.interp(np.linspace(0.0, length[-1], int(np.ceil(length[-1])) + 1), length, u)
    half = 0.5 * np.diff(edges)
    nodes = (edges[:-1] + half)[:, None] + half[:, None] * _GAUSS_NODES
    return nodes.ravel(), (half[:, None] * _GAUSS_WEIGHTS).ravel()


def gaussian_lens_gain(u: npt.ArrayLike, strength: float, *, source_fwhm: float = 0.0) -> Floats:
    """Flux of a source behind a one-dimensional Gaussian plasma lens over its unlensed flux.

    Point source: I(u') = sum over the images u of |1 + (1 - 2 u^2) a exp(-u^2)|^-1, the solutions of
    u' = u (1 + a exp(-u^2)). A source with profile B: I(u') = integral du B(u' - u'(u)), which needs no roots.
    I(0) = 1 / (1 + a) and the integral of I - 1 over u' is 0.

    Parameters
    ----------
    u : array_like, any shape
        Position u' of the observer, in lens scales (v (t - t0) / size).
    strength : float
        a >= 0; proportional to wavelength^2 N0 D / size^2, so to nu^-2.
    source_fwhm : float
        FWHM of a Gaussian source in the same units; 0 is a point source.

    Returns
    -------
    array of float, the shape of ``u``
        Gain; infinite on the caustics of a point source, NaN where ``u`` is not finite.

    Raises
    ------
    ScienceError
        If ``strength`` or ``source_fwhm`` is negative or not finite.

    References
    ----------
    Clegg, A. W., Fey, A. L. & Lazio, T. J. W. 1998, ApJ 496, 253, eqs 10-24.
    """
    _require_parameters(strength, source_fwhm)
    position = np.asarray(u, dtype=np.float64)
    flat = np.ascontiguousarray(position.ravel())
    out = np.empty_like(flat)
    if source_fwhm == 0.0 or flat.size == 0:
        _point_gain(flat, float(strength), *_turning_points(strength), False, out)
        return out.reshape(position.shape)
    sigma = source_fwhm * _FWHM_TO_SIGMA
    finite = flat[np.isfinite(flat)]
    extent = float(np.abs(finite).max(initial=0.0)) + _REACH * sigma  # |u'| >= |u|: no ray lands nearer than it left
    nodes, weights = _ray_nodes(strength, sigma, extent, -extent)
    landing = nodes * (1.0 + strength * np.exp(-(nodes**2)))
    order = np.argsort(landing)
    _spread_gain(flat, landing[order], weights[order], sigma, _REACH, out)
    return out.reshape(position.shape)


def axisymmetric_lens_gain(
    u: npt.ArrayLike, strength: float, *, impact: float = 0.0, source_fwhm: float = 0.0
) -> Floats:
    """Flux of a source behind a round Gaussian plasma lens over its unlensed flux.

    r' = hypot(u', b) = r (1 + a exp(-r^2)); each image counts |(1 + (1 - 2 r^2) a exp(-r^2)) (1 + a exp(-r^2))|^-1, so
    I(0) = 1 / (1 + a)^2. The impact parameter decides between the four classes of light curve.

    Parameters
    ----------
    u : array_like, any shape
        Position along the track, in lens scales.
    strength : float
        a >= 0.
    impact : float
        Impact parameter b of the track, in lens scales.
    source_fwhm : float
        FWHM of a round Gaussian source; 0 is a point source.

    Returns
    -------
    array of float, the shape of ``u``

    References
    ----------
    Dong, L., Petropoulou, M. & Giannios, D. 2018, MNRAS 481, 2685.
    """
    _require_parameters(strength, source_fwhm)
    radius = np.hypot(np.asarray(u, dtype=np.float64), impact)
    flat = np.ascontiguousarray(radius.ravel())
    out = np.empty_like(flat)
    if source_fwhm == 0.0 or flat.size == 0:
        _point_gain(flat, float(strength), *_turning_points(strength), True, out)
        return out.reshape(radius.shape)
    sigma = source_fwhm * _FWHM_TO_SIGMA
    extent = float(flat[np.isfinite(flat)].max(initial=0.0)) + _REACH * sigma
    nodes, weights = _ray_nodes(strength, sigma, extent, 0.0)
    landing = nodes * (1.0 + strength * np.exp(-(nodes**2)))
    for start in range(0, flat.size, 256):  # ring integral: I0 carries the angle between ray and observer
        r = flat[start : start + 256, None]
        kernel = np.exp(-0.5 * ((r - landing) / sigma) ** 2) * ive(0, r * landing / sigma**2)
        out[start : start + 256] = (kernel @ (nodes * weights)) / sigma**2
    return out.reshape(radius.shape)


def find_caustics(strength: float) -> tuple[float, float] | None:
    """|u'| of the inner and outer caustic of a point source behind a lens, in lens scales.

    Parameters
    ----------
    strength : float
        a >= 0.

    Returns
    -------
    (inner, outer) or None
        None below a = e^1.5 / 2, where there is one image everywhere.
    """
    _require_parameters(strength, 0.0)
    inner, outer = _turning_points(strength)
    if outer == 0.0:
        return None
    landing = [turn * (1.0 + strength * np.exp(-(turn**2))) for turn in (outer, inner)]
    return float(landing[0]), float(landing[1])


def strength_at_frequency(strength: npt.ArrayLike, from_ghz: float, to_ghz: npt.ArrayLike) -> Floats:
    """Lens strength at another frequency: a proportional to nu^-2 (x 1.31 from 1.50 to 1.31 GHz)."""
    return np.asarray(strength, np.float64) * (from_ghz / np.asarray(to_ghz, np.float64)) ** 2


def crossing_time_days(size_au: float, velocity_km_s: float) -> float:
    """Full width of a lens, 2 size / v, in days (69 d for 1 au at 50 km/s)."""
    astronomical_unit_km = 149597870.7  # IAU 2012 resolution B2
    return 2.0 * size_au * astronomical_unit_km / velocity_km_s / 86400.0
