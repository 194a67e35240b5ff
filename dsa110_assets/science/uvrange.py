"""CASA's ``uvrange`` strings: which baselines a solve uses."""

import re

import numpy as np
import numpy.typing as npt

from dsa110_assets.science.beam import SPEED_OF_LIGHT_M_S
from dsa110_assets.science.errors import ScienceError

_NUMBER = r"(\d+(?:\.\d*)?|\.\d+)"
_UNIT = r"\s*(klambda|lambda|km|m)?"
_PATTERNS = (
    re.compile(rf"^(?P<sign>[<>])\s*{_NUMBER}{_UNIT}$"),
    re.compile(rf"^{_NUMBER}\s*~\s*{_NUMBER}{_UNIT}$"),
)
_SCALE = {"klambda": 1e3, "lambda": 1.0, "km": 1e3, "m": 1.0, None: 1.0}


def parse_uvrange(text: str, frequency_hz: float) -> tuple[float, float]:
    """Smallest and largest baseline length, metres.

    Parameters
    ----------
    text
        ``''`` (all), ``'>1klambda'``, ``'<500m'`` or ``'0.2~5klambda'``; units m (default), km, lambda, klambda.
    frequency_hz
        Frequency that turns wavelengths into metres.

    Raises
    ------
    ScienceError
        If it is none of these.
    """
    stripped = text.strip()
    if not stripped:
        return 0.0, float("inf")
    single, both = (pattern.match(stripped) for pattern in _PATTERNS)
    match = single or both
    if match is None:
        raise ScienceError(f"uvrange {text!r} is not understood; write '', '>1klambda', '<500m' or '0.2~5klambda'")
    unit = match.groups()[-1]
    scale = _SCALE[unit] * (SPEED_OF_LIGHT_M_S / frequency_hz if unit in ("klambda", "lambda") else 1.0)
    if single is not None:
        limit = float(match.group(2)) * scale
        return (limit, float("inf")) if match.group("sign") == ">" else (0.0, limit)
    return float(match.group(1)) * scale, float(match.group(2)) * scale


def select_baselines(text: str, uvw_m: npt.NDArray[np.float64], frequency_hz: float) -> npt.NDArray[np.bool_]:
    """Which baselines of shape (n_bl, 3) have a projected length within the range."""
    low, high = parse_uvrange(text, frequency_hz)
    length = np.hypot(uvw_m[:, 0], uvw_m[:, 1])
    return np.asarray((length >= low) & (length <= high))
