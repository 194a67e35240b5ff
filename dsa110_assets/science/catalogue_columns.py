"""Which column of a survey's file means what, in which unit, and whether its values can be true.

Detection goes by name only, in a stated order; anything else is for the user to say. Units are declared or written in
the file, never guessed from values; values outside a plausible range stop the build instead.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Literal

import numpy as np
import numpy.typing as npt

from dsa110_assets.science.errors import ScienceError

Floats = npt.NDArray[np.float64]
FluxUnit = Literal["jy", "mjy", "ujy"]
Role = Literal["ra", "dec", "ra_err", "dec_err", "flux", "flux_err", "maj", "min", "pa", "source_id", "alpha"]

JY_PER_UNIT: dict[FluxUnit, float] = {"jy": 1.0, "mjy": 1e-3, "ujy": 1e-6}

FEW_SOURCES = 20
BRIGHT_LIST_FACTOR = 30.0
"""A short list may be one of calibrators: its median may be brighter than a survey's by this factor."""

REQUIRED_ROLES: tuple[Role, ...] = ("ra", "dec", "flux")

KNOWN_NAMES: dict[Role, tuple[str, ...]] = {
    "ra": ("ra_deg", "_RAJ2000", "RAJ2000", "RA(2000)", "RA_ICRS", "RAdeg", "RA_J2000", "ALPHA_J2000", "RA"),
    "dec": ("dec_deg", "_DEJ2000", "DEJ2000", "DEC(2000)", "DE_ICRS", "DEdeg", "DEC_J2000", "DELTA_J2000", "DEC", "DE"),
    "ra_err": ("ra_err_arcsec", "e_RAJ2000", "E_RA", "e_RAdeg", "RA_err", "e_RA_ICRS"),
    "dec_err": ("dec_err_arcsec", "e_DEJ2000", "E_DEC", "e_DEdeg", "DEC_err", "e_DE_ICRS"),
    "flux": ("flux_jy", "S1.4", "S1_4", "Fint", "Ftot", "Total_flux", "Total_flux_Gaussian", "Flux_total", "FINT",
             "Stot", "Sint", "PEAK INT", "Fpeak", "Fpk", "Peak_flux", "Flux"),
    "flux_err": ("flux_err_jy", "e_S1.4", "e_S1_4", "e_Fint", "e_Ftot", "E_Total_flux", "E_Total_flux_Gaussian",
                 "e_Stot", "e_Sint", "e_Fpeak", "E_Peak_flux", "e_Flux", "Rms", "RMS"),
    "maj": ("DC_Maj", "DCMaj", "deMajAxis", "Maj_deconv", "Maj"),
    "min": ("DC_Min", "DCMin", "deMinAxis", "Min_deconv", "Min"),
    "pa": ("DC_PA", "DCPA", "dePA", "PA_deconv", "PA"),
    "source_id": ("source_id",),
    "alpha": ("spectral_index", "alpha"),
}  # fmt: skip
"""Names of each role, the preferred first (deconvolved sizes before fitted ones, integrated before peak fluxes)."""


class CatalogueError(ScienceError):
    """A catalogue file whose columns, units or values cannot be what they are taken for."""


def find_columns(names: Sequence[str], *, override: Mapping[str, str] | None = None) -> dict[Role, str]:
    """Assign a file's columns to roles.

    Parameters
    ----------
    names : sequence of str
        Column names of the file.
    override : mapping of str to str, optional
        Role → column, said by the user; wins over detection.

    Returns
    -------
    dict of Role to str
        Columns found; optional roles may be absent.

    Raises
    ------
    CatalogueError
        When a required role has no column, or an override names a role or column that does not exist.
    """
    said = dict(override or {})
    for role, column in said.items():
        if role not in KNOWN_NAMES:
            msg = f"{role!r} is not a role of a column; there are {', '.join(KNOWN_NAMES)}"
            raise CatalogueError(msg)
        if column not in names:
            msg = f"the file has no column {column!r} (said to be the {role}); it has {', '.join(names)}"
            raise CatalogueError(msg)
    by_folded = {_folded(name): name for name in reversed(list(names))}
    found: dict[Role, str] = {}
    for role, known in KNOWN_NAMES.items():
        hits = [said[role]] if role in said else [by_folded[_folded(k)] for k in known if _folded(k) in by_folded]
        if hits:
            found[role] = hits[0]
    missing = [role for role in REQUIRED_ROLES if role not in found]
    if missing:
        msg = f"no column recognised as {', '.join(missing)} among {', '.join(names)}; say which, e.g. flux=S1400"
        raise CatalogueError(msg)
    return found


def flux_unit_of(written: str | None, declared: FluxUnit | None) -> FluxUnit:
    """Unit of a flux column from what the user declared and what the file says.

    Parameters
    ----------
    written : str or None
        Unit in the file's header (``mJy``, ``JY/BEAM``, …), or None.
    declared : FluxUnit or None
        Unit the user declared, or None.

    Raises
    ------
    CatalogueError
        When both are there and differ, or neither is.
    """
    read = _UNIT_WORDS.get(re.sub(r"(/beam|\s|beam-?1|\.?beam\^?-1)", "", (written or "").lower()))
    if declared is None and read is None:
        msg = f"the flux unit is not known (the file says {written!r}): declare jy, mjy or ujy"
        raise CatalogueError(msg)
    if declared is not None and read is not None and declared != read:
        msg = f"the flux unit was declared as {declared}, but the file says {written!r}"
        raise CatalogueError(msg)
    return declared or read or "jy"


def require_plausible_fluxes(
    flux_jy: Floats, *, name: str, median_range_jy: tuple[float, float], max_jy: float
) -> None:
    """Stop when fluxes cannot be in the unit they were declared in.

    A unit wrong by 10³ moves the median of any radio survey out of the range.

    Parameters
    ----------
    flux_jy : ndarray, shape (n,)
        Fluxes, Jy.
    name : str
        Survey, for the message.
    median_range_jy : tuple of float
        Range of a plausible median of a survey, Jy; wider for a short list.
    max_jy : float
        No source is brighter than this, Jy (Cas A had 2.4 kJy at 1.4 GHz).

    Raises
    ------
    CatalogueError
        When the median, the maximum or more than half of the values are implausible.
    """
    good = flux_jy[np.isfinite(flux_jy)]
    if len(good) * 2 < len(flux_jy) or not len(good):
        msg = f"{name}: {len(flux_jy) - len(good)} of {len(flux_jy)} fluxes are not numbers"
        raise CatalogueError(msg)
    median, largest = float(np.median(good)), float(good.max())
    low, high = median_range_jy
    if len(good) < FEW_SOURCES:
        high *= BRIGHT_LIST_FACTOR
    if not low <= median <= high or largest > max_jy:
        msg = (
            f"{name}: implausible fluxes in the unit declared: median {median:.3g} Jy (plausible {low:g}…{high:g}), "
            f"largest {largest:.3g} Jy (plausible ≤ {max_jy:g})"
        )
        raise CatalogueError(msg)


def require_positions(ra_deg: Floats, dec_deg: Floats, *, name: str) -> None:
    """Stop when positions (degrees, shape (n,)) are not on the sphere."""
    bad = ~(np.isfinite(ra_deg) & np.isfinite(dec_deg) & (ra_deg >= 0) & (ra_deg <= 360) & (np.abs(dec_deg) <= 90))
    if bad.any():
        row = int(np.flatnonzero(bad)[0])
        msg = f"{name}: row {row + 1} has the position ({ra_deg[row]}, {dec_deg[row]}), which is not in degrees"
        raise CatalogueError(msg)


def _folded(name: str) -> str:
    return re.sub(r"[^a-z0-9_]", "", name.lower())


_UNIT_WORDS: dict[str, FluxUnit] = {"jy": "jy", "mjy": "mjy", "ujy": "ujy", "µjy": "ujy", "microjy": "ujy"}
