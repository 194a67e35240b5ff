"""Calibrators of the simulated sky, by the names the VLA list and the Perley-Butler scale give them."""

from dataclasses import dataclass

from dsa110_assets.science.components import Components, concatenate
from dsa110_assets.science.errors import UnknownSourceError
from dsa110_assets.science.simulation_field import calibrator_component


@dataclass(frozen=True)
class ListedCalibrator:
    """A row of the calibrator list: name, ICRS position (degrees), 20 cm flux density (Jy), name on the flux scale."""

    name: str
    ra_deg: float
    dec_deg: float
    flux_jy: float
    scale_name: str = ""

    def component(self) -> Components:
        """The calibrator as a component at 1.4 GHz, called by its name on the flux scale if it has one."""
        name = self.scale_name or self.name
        return calibrator_component(name, self.ra_deg, self.dec_deg, self.flux_jy, self.scale_name)


# VLA calibrator list, 20 cm; alternative names 3Cnnn are those of Perley & Butler 2017.
LISTED = (
    ListedCalibrator("0137+331", 24.4220810, 33.1597592, 16.5, "3C48"),
    ListedCalibrator("0204+152", 31.2100579, 15.2364010, 4.0),
    ListedCalibrator("0318+164", 49.7408444, 16.4757496, 7.81),
    ListedCalibrator("0437+296", 69.2682292, 29.6705056, 48.0, "3C123"),
    ListedCalibrator("0521+166", 80.2911918, 16.6394587, 8.47, "3C138"),
    ListedCalibrator("0542+498", 85.6505746, 49.8520093, 22.5, "3C147"),
    ListedCalibrator("0813+482", 123.4002158, 48.2172950, 13.9, "3C196"),
    ListedCalibrator("0834+555", 128.7287672, 55.5725197, 8.8),
    ListedCalibrator("1331+305", 202.7845333, 30.5091552, 15.0, "3C286"),
    ListedCalibrator("1411+522", 212.8360321, 52.2025392, 22.8, "3C295"),
    ListedCalibrator("1459+716", 224.7815994, 71.6721855, 7.6),
    ListedCalibrator("1829+487", 277.3824300, 48.7461558, 14.2, "3C380"),
    ListedCalibrator("2253+161", 343.4906164, 16.1482114, 10.0),
)


def find_calibrator(name: str) -> ListedCalibrator:
    """A calibrator by its list name or its name on the flux scale.

    Raises
    ------
    UnknownSourceError
        If neither list has it.
    """
    wanted = name.strip().upper().removeprefix("J")
    for entry in LISTED:
        if wanted in (entry.name.upper(), entry.scale_name.upper() or None):
            return entry
    raise UnknownSourceError(f"no calibrator {name!r}; known: {', '.join(e.name for e in LISTED)}")


def listed_components(min_flux_jy: float) -> tuple[Components, list[str]]:
    """Every listed calibrator above a flux density (Jy), and its name on the flux scale or an empty string."""
    entries = [e for e in LISTED if e.flux_jy >= min_flux_jy]
    return concatenate([e.component() for e in entries]), [e.scale_name for e in entries]
