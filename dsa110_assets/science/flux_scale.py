"""Flux-density scale of the primary calibrators."""

import numpy as np
import numpy.typing as npt

from dsa110_assets.science.errors import UnknownSourceError

PERLEY_BUTLER_2017: dict[str, tuple[float, ...]] = {
    "3C48": (1.3253, -0.7553, -0.1914, 0.0498),
    "3C138": (1.0088, -0.4981, -0.155, -0.010, 0.022),
    "3C147": (1.4516, -0.6961, -0.201, 0.064, -0.046, 0.029),
    "3C286": (1.2481, -0.4507, -0.1798, 0.0357),
    "3C295": (1.4701, -0.7658, -0.2780, -0.0347, 0.0399),
    "3C196": (1.2872, -0.8530, -0.153, -0.0200, 0.0201),
    "3C123": (1.8017, -0.7884, -0.1035, -0.0248, 0.0090),
    "3C380": (1.2320, -0.7910, 0.095, 0.098, -0.18, -0.16),
}
"""Polynomial coefficients a_i of log10 S[Jy] = sum a_i (log10 nu_GHz)^i (Perley & Butler 2017, ApJS 230, 7).

3C48 and 3C138 vary by per cent and are no 1 % anchors.
"""


def perley_butler_2017(name: str, frequency_ghz: npt.ArrayLike) -> npt.NDArray[np.float64]:
    """Flux density (Jy) of a primary calibrator at frequencies in GHz.

    Raises
    ------
    UnknownSourceError
        If the source is not one of the scale's.
    """
    try:
        coefficients = PERLEY_BUTLER_2017[name]
    except KeyError:
        known = ", ".join(PERLEY_BUTLER_2017)
        raise UnknownSourceError(f"{name} is not on the Perley-Butler 2017 scale here; known: {known}") from None
    log_nu = np.log10(np.asarray(frequency_ghz, dtype=np.float64))
    return np.asarray(10.0 ** np.polynomial.polynomial.polyval(log_nu, coefficients))


def power_law(
    flux_jy: npt.ArrayLike, freq0_ghz: npt.ArrayLike, alpha: npt.ArrayLike, freq_ghz: npt.ArrayLike
) -> npt.NDArray[np.float64]:
    """S = S0 (nu / nu0)^alpha, Jy; all arguments broadcast."""
    ratio = np.asarray(freq_ghz, dtype=np.float64) / np.asarray(freq0_ghz, dtype=np.float64)
    return np.asarray(np.asarray(flux_jy, dtype=np.float64) * ratio ** np.asarray(alpha, dtype=np.float64))
