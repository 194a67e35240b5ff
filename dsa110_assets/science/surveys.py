"""Radio surveys that reference catalogues are built from: frequency, beam, depth and declinations covered."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from dsa110_assets.science.errors import UnknownSourceError


@dataclass(frozen=True)
class Survey:
    """One survey.

    Attributes
    ----------
    name : str
        Short name, as in ``catalog1`` and ``catalog2`` of ``spectral_indices``.
    freq_ghz : float
        Frequency of its fluxes, GHz.
    beam_arcsec : float
        Beam FWHM, arcsec.
    rms_mjy : float
        Typical rms, mJy/beam.
    calibration_error : float
        Fractional error of the flux scale.
    dec_min_deg, dec_max_deg : float
        Declinations covered, degrees.
    is_whole_band : bool
        Whether every right ascension of those declinations is covered.
    reference : str
        Where the figures are from.
    """

    name: str
    freq_ghz: float
    beam_arcsec: float
    rms_mjy: float
    calibration_error: float
    dec_min_deg: float
    dec_max_deg: float
    is_whole_band: bool
    reference: str


SURVEYS: dict[str, Survey] = {
    survey.name: survey
    for survey in (
        Survey("nvss", 1.4, 45.0, 0.45, 0.03, -40.0, 90.0, True, "Condon+98, AJ 115, 1693"),
        Survey("first", 1.4, 5.4, 0.15, 0.05, -11.5, 64.7, False, "Becker+95, ApJ 450, 559; Helfand+15, ApJ 801, 26"),
        Survey("vlass", 3.0, 2.5, 0.14, 0.10, -40.0, 90.0, True, "Lacy+20, PASP 132, 035001; Gordon+21, ApJS 255, 30"),
        Survey("racs_low", 0.8875, 25.0, 0.30, 0.07, -90.0, 41.0, True, "McConnell+20; Hale+21, PASA 38, e058"),
        Survey("racs_mid", 1.3675, 10.1, 0.20, 0.06, -90.0, 49.0, True, "Duchesne+23, PASA 40, e034"),
        Survey("racs_high", 1.6555, 11.8, 0.19, 0.06, -90.0, 48.0, True, "Duchesne+25, PASA 42, e038"),
        Survey("tgss", 0.150, 25.0, 3.5, 0.10, -53.0, 90.0, True, "Intema+17, A&A 598, A78"),
    )
}
"""The surveys by name. NVSS is the one every source of the master catalogue comes from."""

COVERAGE_RADIUS_DEG = 0.5
"""A position is covered by a survey's catalogue if enough of its sources lie within this distance."""

COVERAGE_NEIGHBOURS = 3
"""How many. (FIRST has 80 sources per square degree, RACS-low 70, VLASS 50: 40 and more within half a degree.)"""


def require_survey(name: str) -> Survey:
    """Facts of a survey.

    Raises
    ------
    UnknownSourceError
        When the name is not one of :data:`SURVEYS`.
    """
    try:
        return SURVEYS[name.lower()]
    except KeyError:
        msg = f"no survey is called {name!r}; there are {', '.join(SURVEYS)}"
        raise UnknownSourceError(msg) from None


def find_surveys(dec_deg: float, *, freq_ghz: float | None = None, flux_mjy: float | None = None) -> list[Survey]:
    """Surveys that cover a declination, the deepest first.

    A survey that does not cover a source says nothing of it: that is not a non-detection.

    Parameters
    ----------
    dec_deg : float
        Declination, degrees.
    freq_ghz : float, optional
        Rank by the depth reached at this frequency for α = −0.7 instead of at each survey's own.
    flux_mjy : float, optional
        Only surveys in which a source of this flux at ``freq_ghz`` (at the survey's frequency when None) has ≥ 5σ.

    Returns
    -------
    list of Survey
    """

    def depth_mjy(survey: Survey) -> float:
        return survey.rms_mjy * (1.0 if freq_ghz is None else (survey.freq_ghz / freq_ghz) ** 0.7)

    covering = [survey for survey in SURVEYS.values() if survey.dec_min_deg <= dec_deg <= survey.dec_max_deg]
    deep = [survey for survey in covering if flux_mjy is None or flux_mjy >= 5.0 * depth_mjy(survey)]
    return sorted(deep, key=depth_mjy)


def covers_declination(survey: Survey, dec_deg: npt.ArrayLike) -> npt.NDArray[np.bool_]:
    """Whether declinations (degrees, shape (n,)) lie within the survey's limits."""
    dec = np.asarray(dec_deg, dtype=np.float64)
    inside: npt.NDArray[np.bool_] = (dec >= survey.dec_min_deg) & (dec <= survey.dec_max_deg)
    return inside
