"""Is a dip deeper than the source's own wandering? The same measurement at every other place of the curve.

Refractive scintillation and slow intrinsic variation make dips of their own. A dip's depth is measured against a local
line through what surrounds it, and so is that of placebos all along the rest of the curve. Their scatter is known from
as many values as there are independent placebos, few for a long event; a prior scatter, worth some values more, stands
for what compact sources do at 1.4 GHz. Student's t then says how rare the real dip is.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from scipy.stats import t as student

Floats = npt.NDArray[np.float64]

_MIN_PLACEBOS = 6
"""Independent placebos wanted: in short curves they are made narrower than the event to have as many."""
PRIOR_SCATTER = 0.03
"""Fractional scatter on the time scale of an event of up to 60 d that a compact source may have without its curve
showing it yet; it grows with the root of the width beyond, as red variation does."""
PRIOR_VALUES = 6.0
"""How many independent placebos that prior is worth."""
_TRIALS_PER_WIDTH = 5.0
"""Independent shapes, widths and phases tried per event width."""


def placebo_false_alarm(
    mjd: Floats, residual: Floats, weight: Floats, model: Floats, *, mid: float, width: float
) -> float:
    """Look-elsewhere probability that the source's own variation makes a dip this deep.

    Parameters
    ----------
    mjd, residual, weight : (n,)
        Times (ascending), fractional residuals and 1 / sigma^2.
    model : (n,)
        Fitted event; what it has outside (the shoulders of a lens) is taken out of the surroundings.
    mid, width : float
        Centre and full width of the event, days.

    Returns
    -------
    float
        1 when there are not enough epochs to say.
    """
    event = np.abs(mjd - mid) <= 0.5 * width
    cleaned = np.where(event, residual, residual - model)
    depth = _depth_at(mid, width, mjd, cleaned, weight)
    time, value, w = mjd[~event], cleaned[~event], weight[~event]
    if len(time) < _MIN_PLACEBOS or not np.isfinite(depth):
        return 1.0
    spacing = float(np.median(np.diff(mjd)))
    free = len(time) * spacing  # days that hold data outside the event
    narrow = float(np.clip(free / _MIN_PLACEBOS, 3.0 * spacing, width))
    centres = np.arange(time[0], time[-1] + 0.25 * narrow, 0.25 * narrow)
    others = np.array([_depth_at(centre, narrow, time, value, w) for centre in centres])
    others = others[np.isfinite(others)]
    independent = min(free / narrow, 0.5 * len(others))
    degrees = independent + PRIOR_VALUES
    prior = PRIOR_VALUES * PRIOR_SCATTER**2 * max(1.0, width / 60.0)
    variance = (independent * float(np.mean(others**2)) if others.size else 0.0) + prior
    trials = _TRIALS_PER_WIDTH * max(float(mjd[-1] - mjd[0]) / width, 1.0)
    return float(min(1.0, trials * student.sf(depth / np.sqrt(variance / degrees), df=degrees - 1.0)))


def _depth_at(centre: float, width: float, time: Floats, value: Floats, weight: Floats) -> float:
    """Local line through what surrounds a window (Gaussian weights of its width), minus the mean of its core."""
    away = np.abs(time - centre)
    core, around = away <= 0.25 * width, (away > 0.5 * width) & (away < 3.5 * width)
    if core.sum() < 2 or around.sum() < 4:
        return float("nan")
    near = weight[around] * np.exp(-0.5 * ((away[around] - 0.5 * width) / width) ** 2)
    x, r = (time[around] - centre) / width, value[around]
    s0, s1, s2 = float(np.sum(near)), float(np.sum(near * x)), float(np.sum(near * x * x))
    b0, b1 = float(np.sum(near * r)), float(np.sum(near * x * r))
    both_sides = bool((x < 0).sum() >= 3 and (x > 0).sum() >= 3)
    determinant = s0 * s2 - s1 * s1
    line = (s2 * b0 - s1 * b1) / determinant if both_sides and determinant > 1e-9 * s0 * s2 else b0 / s0
    return line - float(np.average(value[core], weights=weight[core]))
