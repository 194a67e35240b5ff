"""A campaign to simulate: the sky, the groups to observe and the telescope that observes them."""

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np

from dsa110_assets.science.calibrators import calibrator_component, find_calibrator
from dsa110_assets.science.components import Components, concatenate
from dsa110_assets.science.errors import ScienceError
from dsa110_assets.science.geometry import meridian_icrs, separation_deg
from dsa110_assets.science.instrument import ArrayConfiguration, array_configuration
from dsa110_assets.science.instrument_model import Instrument, draw_instrument
from dsa110_assets.science.simulation_field import (
    Region,
    draw_field,
    join_skies,
    listed_calibrators,
    make_variable,
    perturb_catalogue,
    steady_sky,
)
from dsa110_assets.science.simulation_options import SimulationOptions
from dsa110_assets.science.simulation_schedule import (
    PlannedGroup,
    apparent_dec_deg,
    find_transit_jd,
    jd_of_iso,
    plan_groups,
)
from dsa110_assets.science.sky import TrueSky

Disturbance = Callable[[list[PlannedGroup]], list[PlannedGroup]]

DEFAULT_DATE = "2026-01-25"
"""Day of a ``transit:NAME`` start without a date (the observatory's canary day)."""
DEFAULT_DEC_DEG = 16.27
LENSING_DAYS = 20
_TRANSIT = "transit:"
_SAME_SOURCE_DEG = 30.0 / 3600.0


@dataclass(frozen=True)
class Campaign:
    """Everything that a run of the simulator is about.

    Attributes
    ----------
    options
        As asked for.
    array
        The configuration.
    instrument
        Receptors in correlator order.
    sky
        The true sky of the strip.
    groups
        What to observe, without name skew or faults.
    """

    options: SimulationOptions
    array: ArrayConfiguration
    instrument: Instrument
    sky: TrueSky
    groups: tuple[PlannedGroup, ...]


def plan_campaign(
    options: SimulationOptions, catalogue: Components | None = None, *, disturb: Disturbance | None = None
) -> Campaign:
    """Draw the sky and the telescope, and plan the groups.

    Parameters
    ----------
    options
        What to simulate.
    catalogue
        The whole sky, if given; else it is drawn.
    disturb
        Moves groups in time or declination: restarts, outages, pointing changes.

    Raises
    ------
    ScienceError
        If the start cannot be understood.
    """
    array = array_configuration(options.array)
    target = _transit_target(options.start, catalogue)
    start_jd, dec_rad = _resolve_start(options, target, array.n_integrations)
    groups = plan_groups(
        start_jd,
        dec_rad,
        n_groups=options.n_groups,
        n_days=options.n_days,
        n_integrations=array.n_integrations,
        restart_cadence=options.restart_cadence,
    )
    groups = groups if disturb is None else disturb(groups)
    region = _region_of(groups, options.sky.radius_deg)
    mid_mjd = (groups[0].mid_mjd + groups[-1].mid_mjd) / 2.0
    n_lensed = int(options.n_days >= LENSING_DAYS) if options.sky.n_lensed is None else options.sky.n_lensed
    if catalogue is None:
        varying = options.sky.model_copy(update={"n_lensed": n_lensed})
        sky = make_variable(_draw_sky(options, region), region, varying, mid_mjd=mid_mjd, seed=options.seed)
    else:
        still = options.sky.model_copy(update={"n_lensed": 0, "flickering_fraction": 0.0})
        sky = make_variable(_catalogue_sky(catalogue, target), region, still, mid_mjd=mid_mjd, seed=options.seed)
    return Campaign(
        options=options,
        array=array,
        instrument=draw_instrument(array.antenna_order + 1, options.instrument, options.seed),
        sky=perturb_catalogue(sky, options.sky, options.seed),
        groups=tuple(groups),
    )


def _transit_target(start: str, catalogue: Components | None) -> Components | None:
    """The source whose transit starts the campaign, from the catalogue if it is there; None for a UTC start."""
    if not start.startswith(_TRANSIT):
        return None
    name = start.removeprefix(_TRANSIT).partition("@")[0]
    if catalogue is not None and np.any(catalogue.source_id == name):
        return catalogue.select(np.flatnonzero(catalogue.source_id == name)[:1])
    return calibrator_component(find_calibrator(name))


def _resolve_start(options: SimulationOptions, target: Components | None, n_integrations: int) -> tuple[float, float]:
    """Header time of the first integration (JD) and apparent declination (radians)."""
    if target is None:
        dec_deg = DEFAULT_DEC_DEG if options.dec_deg is None else options.dec_deg
        return jd_of_iso(options.start), float(np.radians(dec_deg))
    date = options.start.partition("@")[2] or DEFAULT_DATE
    ra, dec = float(target.ra_deg[0]), float(target.dec_deg[0])
    transit = find_transit_jd(ra, dec, jd_of_iso(date))
    dec_deg = apparent_dec_deg(ra, dec, transit) if options.dec_deg is None else options.dec_deg
    first = plan_groups(
        transit, 0.0, n_groups=1, n_days=1, n_integrations=n_integrations, restart_cadence=False
    )[0].times_jd  # fmt: skip
    return transit - float(first[-1] - first[0]) / 2.0, float(np.radians(dec_deg))


def _region_of(groups: list[PlannedGroup], radius_deg: float) -> Region:
    """The strip that the groups' meridian points sweep, the first and last integration of each group on it."""
    if not groups:
        raise ScienceError("a campaign needs at least one group")
    tracks = [meridian_icrs(g.pointing_dec_rad, g.times_jd[[0, -1]]) for g in groups]
    ra, dec = (np.concatenate(axis) for axis in zip(*tracks, strict=True))
    kept = np.unique(np.round(np.stack([ra, dec]) / 0.02).astype(np.int64), axis=1, return_index=True)[1]
    return Region(ra[kept], dec[kept], radius_deg)


def _draw_sky(options: SimulationOptions, region: Region) -> TrueSky:
    calibrators, names = listed_calibrators(options.sky.calibrator_min_jy)
    inside = region.holds(calibrators.ra_deg, calibrators.dec_deg) & options.sky.calibrators
    field = draw_field(region, options.sky.density_per_deg2, options.seed)
    return join_skies(calibrators.select(inside), names[inside], field)


def _catalogue_sky(catalogue: Components, target: Components | None) -> TrueSky:
    """The catalogue as the whole sky; the source whose transit was asked for is its calibrator and joins if absent."""
    if target is None:
        return steady_sky(catalogue)
    distance = separation_deg(catalogue.ra_deg, catalogue.dec_deg, target.ra_deg, target.dec_deg)
    if not np.any(distance < _SAME_SOURCE_DEG):
        catalogue = concatenate([target, catalogue])
        distance = np.concatenate([[0.0], distance])
    sky = steady_sky(catalogue)
    return replace(sky, kind=np.where(distance < _SAME_SOURCE_DEG, "calibrator", sky.kind))
