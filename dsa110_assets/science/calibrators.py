"""Which calibrators there are, when they transit in the beam, and what their flux densities rest on."""

import csv
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cache
from importlib import resources
from typing import Literal

import numpy as np

from dsa110_assets.science.beam import airy_power
from dsa110_assets.science.components import Components, concatenate
from dsa110_assets.science.errors import UnknownSourceError
from dsa110_assets.science.flux_scale import perley_butler_2017
from dsa110_assets.science.geometry import icrs_to_itrs, separation_deg
from dsa110_assets.science.instrument import LONGITUDE_DEG, REFERENCE_FREQUENCY_HZ
from dsa110_assets.science.transit import SIDEREAL_DAY_D, apparent_declination_deg, transit_times_mjd

FluxAnchor = Literal["perley_butler_2017", "vla_catalogue", "catalogue_field", "field_ensemble"]
LIST_FREQUENCY_GHZ = 1.4
MATCH_ARCSEC = 15.0
"""A catalogue source this near a calibrator is the calibrator: a third of the NVSS beam."""
_SLOPE_STEP = 0.05
_DEC_MARGIN_DEG = 2.5


@dataclass(frozen=True)
class Calibrator:
    """A row of the calibrator list.

    Attributes
    ----------
    name
        VLA name, such as ``2253+161``.
    ra_deg, dec_deg
        ICRS, degrees.
    flux_jy
        20 cm flux density of the list, Jy; decades old, and most of these sources vary.
    quality
        Closure-error code of the D, else of the C configuration: P, S, W or X.
    scale_name
        Name on the Perley-Butler 2017 scale, or empty.
    """

    name: str
    ra_deg: float
    dec_deg: float
    flux_jy: float
    quality: str
    alt_name: str
    scale_name: str


@dataclass(frozen=True)
class CalibratorTransit:
    """A calibrator that crosses the meridian in the beam.

    Attributes
    ----------
    transit_mjd
        MJD, UTC.
    response
        Primary-beam response at transit, 0 to 1.
    """

    calibrator: Calibrator
    transit_mjd: float
    response: float

    @property
    def apparent_jy(self) -> float:
        """Flux density of the list times the beam, Jy."""
        return self.calibrator.flux_jy * self.response


@cache
def read_calibrators() -> tuple[Calibrator, ...]:
    """Read the calibrator list that ships with the package."""
    text = resources.files("dsa110_assets.science").joinpath("data/vla_calibrators.csv").read_text()
    rows = csv.DictReader(line for line in text.splitlines() if not line.startswith("#"))
    return tuple(
        Calibrator(
            name=row["name"],
            ra_deg=float(row["ra_deg"]),
            dec_deg=float(row["dec_deg"]),
            flux_jy=float(row["flux_jy"]),
            quality=row["quality_d"] if row["quality_d"] not in ("", "X") else row["quality_c"],
            alt_name=row["alt_name"],
            scale_name=row["scale_name"],
        )
        for row in rows
    )


def find_calibrator(name: str) -> Calibrator:
    """A calibrator by its VLA name, another name, or its name on the flux scale.

    Raises
    ------
    UnknownSourceError
        If the list has no such name.
    """
    wanted = name.strip().upper().removeprefix("J").replace(" ", "")
    for entry in read_calibrators():
        if wanted in {entry.name, entry.alt_name.upper(), entry.scale_name.upper()} - {""}:
            return entry
    raise UnknownSourceError(
        f"no calibrator {name!r} in the list of {len(read_calibrators())}; use a name like 2253+161"
    )


def find_transits(
    start_mjd: float,
    end_mjd: float,
    dec_app_deg: float,
    *,
    min_flux_jy: float = 1.0,
    min_response: float = 0.5,
    calibrators: Iterable[Calibrator] | None = None,
) -> list[CalibratorTransit]:
    """Calibrators that cross the meridian within a span of time and within the beam, the best first.

    Parameters
    ----------
    start_mjd, end_mjd
        MJD, UTC.
    dec_app_deg
        Apparent declination of the pointing, degrees.
    min_flux_jy
        Faintest taken, Jy.
    min_response
        Least primary-beam response at transit.
    calibrators
        Default: the list of the package.

    Returns
    -------
    list of CalibratorTransit
        Primary (Perley-Butler) calibrators first, then by apparent flux density; sources whose closure code is X in
        the short configurations come after all others of their kind.
    """
    found = []
    listed = read_calibrators() if calibrators is None else calibrators
    # precession moves a position by up to 0.15 deg since 2000, hence the margin before the exact place
    bright = [c for c in listed if c.flux_jy >= min_flux_jy and abs(c.dec_deg - dec_app_deg) <= _DEC_MARGIN_DEG]
    for entry in _near_meridian(bright, start_mjd, end_mjd):
        for transit_mjd in transit_times_mjd(entry.ra_deg, entry.dec_deg, start_mjd, end_mjd):
            offset = apparent_declination_deg(entry.ra_deg, entry.dec_deg, float(transit_mjd)) - dec_app_deg
            response = float(airy_power(np.radians(offset), REFERENCE_FREQUENCY_HZ))
            if response >= min_response:
                found.append(CalibratorTransit(entry, float(transit_mjd), response))
    return sorted(found, key=lambda t: (t.calibrator.scale_name == "", t.calibrator.quality == "X", -t.apparent_jy))


def _near_meridian(calibrators: list[Calibrator], start_mjd: float, end_mjd: float) -> list[Calibrator]:
    """Those whose hour angle at mid-time lets them transit in a span, with a degree to spare."""
    half_deg = 180.0 * (end_mjd - start_mjd) / SIDEREAL_DAY_D + 1.0
    if not calibrators or half_deg >= 180.0:
        return calibrators
    mid_jd = 0.5 * (start_mjd + end_mjd) + 2400000.5
    places = icrs_to_itrs([c.ra_deg for c in calibrators], [c.dec_deg for c in calibrators], [mid_jd])[0]
    hour_angle = (LONGITUDE_DEG - np.degrees(np.arctan2(places[:, 1], places[:, 0])) + 180.0) % 360.0 - 180.0
    return [c for c, angle in zip(calibrators, hour_angle, strict=True) if abs(angle) <= half_deg]


def calibrator_component(calibrator: Calibrator) -> Components:
    """The calibrator as a component at 1.4 GHz: Perley-Butler flux and local slope, else the list's flux, flat."""
    flux, slope = calibrator.flux_jy, 0.0
    if calibrator.scale_name:
        steps = LIST_FREQUENCY_GHZ * np.array([1.0 - _SLOPE_STEP, 1.0, 1.0 + _SLOPE_STEP])
        below, flux, above = perley_butler_2017(calibrator.scale_name, steps).tolist()
        slope = float(np.log(above / below) / np.log(steps[2] / steps[0]))
    one = np.ones(1)
    return Components(
        source_id=np.array([calibrator.scale_name or calibrator.name]),
        ra_deg=calibrator.ra_deg * one,
        dec_deg=calibrator.dec_deg * one,
        flux_jy=flux * one,
        freq_ghz=LIST_FREQUENCY_GHZ * one,
        spectral_index=slope * one,
    )


def anchor_components(
    calibrator: Calibrator, field: Components, *, trust_catalogue: bool
) -> tuple[Components, FluxAnchor]:
    """Sky model of a calibrator field and what its flux scale rests on (DECISIONS 11).

    A primary calibrator gets its Perley-Butler flux density; any other keeps the catalogue's where the catalogue holds
    it and is trusted (a list that the user gave as sky model), else the calibrator list's.

    Parameters
    ----------
    calibrator
        The source solved on.
    field
        Catalogue components of the field; the calibrator's own entry, if any, is replaced.
    trust_catalogue
        Whether the catalogue is of the epoch, or a survey decades old.

    Returns
    -------
    components, anchor
    """
    distance = separation_deg(field.ra_deg, field.dec_deg, calibrator.ra_deg, calibrator.dec_deg)
    same = distance * 3600.0 <= MATCH_ARCSEC
    if not calibrator.scale_name and trust_catalogue and same.any():
        return field, "catalogue_field"
    others = field.select(~same)
    anchor: FluxAnchor = "perley_butler_2017" if calibrator.scale_name else "vla_catalogue"
    return concatenate([calibrator_component(calibrator), others]), anchor
