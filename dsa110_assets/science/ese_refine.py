"""Events between the grid points of the template bank: centre, width and shape of least chi squared."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy.optimize import minimize

from dsa110_assets.science.ese_filter import SHAPES, WINDOW_WIDTHS, Shape, lens_shape

Floats = npt.NDArray[np.float64]
FINE_SHAPES = tuple(
    (strength, fwhm)
    for strength in (0.4, 0.7, 1.0, 1.5, 2.2, 3.5, 5.0, 8.0, 14.0, 25.0, 50.0, 100.0)
    for fwhm in (0.2, 0.5, 0.9, 1.5, 3.0)
)
"""(strength, source FWHM) with which a candidate is described."""


@dataclass(frozen=True)
class Peak:
    """A template at a place: shape, full width and centre, amplitude in sigma and as a factor, epochs of the event."""

    shape: Shape
    width: float
    mid: float
    snr: float
    amplitude: float
    inside: npt.NDArray[np.bool_]


def refine_peak(residual: Floats, weight: Floats, mjd: Floats, peak: Peak, *, fine: bool = False) -> Peak:
    """Centre, width and shape of least chi squared near a peak, over the bank's shapes or a finer set."""
    near = np.abs(mjd - peak.mid) <= WINDOW_WIDTHS * peak.width

    def fit_one(parameters: Floats, shape: Shape) -> tuple[float, float]:
        """(-Z, amplitude) with a free constant."""
        change = shape.at(mjd[near] - parameters[0], float(np.exp(parameters[1])))
        w, r = weight[near], residual[near]
        change = change - np.sum(w * change) / np.sum(w)
        norm_squared = float(np.sum(w * change**2))
        product = float(np.sum(w * change * r))
        if norm_squared <= 1e-12 * float(np.sum(w)):
            return 0.0, 0.0
        return -product / np.sqrt(norm_squared), product / norm_squared

    best = peak
    start = np.array([peak.mid, np.log(peak.width)])
    simplex = start + np.array([[0.0, 0.0], [0.15 * peak.width, 0.0], [0.0, 0.3]])
    for shape in (lens_shape(*pair) for pair in (FINE_SHAPES if fine else SHAPES)):
        found = minimize(  # type: ignore[call-overload]  # the stubs do not know initial_simplex
            lambda p, lens: fit_one(p, lens)[0],
            start,
            args=(shape,),
            method="Nelder-Mead",
            options={"initial_simplex": simplex, "maxfev": 80},
        )
        mid, log_width = found.x
        amplitude = fit_one(found.x, shape)[1]
        moved = abs(mid - peak.mid) > 0.5 * peak.width or abs(log_width - start[1]) > np.log(2.0)
        if -found.fun > best.snr and not moved and 0.0 < amplitude <= 1.3:
            width = float(np.exp(log_width))
            inside = np.abs(mjd - mid) <= 0.5 * width
            best = Peak(shape, width, float(mid), float(-found.fun), amplitude, inside)
    return best
