"""When groups are observed, what their headers say and how the files are named."""

from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from dsa110_assets.science.errors import ScienceError
from dsa110_assets.science.geometry import icrs_to_itrs, meridian_direction
from dsa110_assets.science.instrument import (
    CORRELATOR_RESTART_S,
    GROUPS_PER_RESTART,
    INTEGRATION_S,
    INTEGRATIONS_PER_GROUP,
    N_SUBBANDS,
)
from dsa110_assets.science.wander import seeded_generator

Floats = npt.NDArray[np.float64]

SIDEREAL_DAY_S = 86164.0905
RESTART_NAME_LEAD_S = 102.0
"""The first files after a restart are named before their data begin (arrivals of 2026-02)."""
MJD_ZERO_JD = 2400000.5
# Spread of the names within a group and its frequency (6276 real names, 2026-02-11 to 27), restart groups apart.
_SPREADS_S = ((0, 0, 0.021), (1, 1, 0.919), (2, 2, 0.055), (59, 82, 0.005))
_RESTART_SPREAD_S = (10, 22)


@dataclass(frozen=True)
class PlannedGroup:
    """One group to observe.

    Attributes
    ----------
    index, day
        Number of the group within the campaign and of its day.
    times_jd : (n_time,) float
        Header times: middle of each integration, JD UTC.
    pointing_dec_rad, phase_dec_rad
        Apparent declination that the dishes look at and that the correlator stops fringes at, radians.
    name_times_jd : (16,) float
        Wall clock of the nodes when they open their files, JD UTC.
    """

    index: int
    day: int
    times_jd: Floats
    pointing_dec_rad: float
    phase_dec_rad: float
    name_times_jd: Floats

    @property
    def mid_mjd(self) -> float:
        """Middle of the group, MJD UTC."""
        return float(np.mean(self.times_jd)) - MJD_ZERO_JD

    def shifted(self, seconds: float) -> "PlannedGroup":
        """The same group at another time."""
        days = seconds / 86400.0
        return replace(self, times_jd=self.times_jd + days, name_times_jd=self.name_times_jd + days)


def jd_of_iso(text: str) -> float:
    """JD (UTC) of an ISO 8601 time without zone or with a trailing Z.

    Raises
    ------
    ScienceError
        If it is not one.
    """
    try:
        stamp = np.datetime64(text.strip().removesuffix("Z").removesuffix("+00:00"), "us")
    except ValueError:
        raise ScienceError(f"{text!r} is not a UTC time like 2026-01-25T22:26:05") from None
    return float(stamp.astype(np.int64)) / 86400e6 + 40587.0 + MJD_ZERO_JD


def accumulate_times(start_jd: float, n: int) -> Floats:
    """Header times by repeated addition in float64, as the writer does (steps of 12.884903 s after rounding)."""
    times = np.empty(n)
    times[0] = start_jd
    for k in range(1, n):
        times[k] = times[k - 1] + INTEGRATION_S / 86400.0
    return times


def find_transit_jd(ra_deg: float, dec_deg: float, after_jd: float) -> float:
    """First upper transit (apparent hour angle 0) of an ICRS position after a time, JD UTC."""

    def hour_angle_deg(time_jd: float) -> float:
        x, y, _ = icrs_to_itrs([ra_deg], [dec_deg], [time_jd])[0, 0]
        east = np.degrees(np.arctan2(y, x))
        meridian = meridian_direction(0.0)
        return float((np.degrees(np.arctan2(meridian[1], meridian[0])) - east + 180.0) % 360.0 - 180.0)

    time = after_jd + (-hour_angle_deg(after_jd) % 360.0) / 360.0 * SIDEREAL_DAY_S / 86400.0
    for _ in range(3):
        time -= hour_angle_deg(time) / 360.0 * SIDEREAL_DAY_S / 86400.0
    return time


def apparent_dec_deg(ra_deg: float, dec_deg: float, time_jd: float) -> float:
    """Apparent declination of an ICRS position, degrees."""
    return float(np.degrees(np.arcsin(icrs_to_itrs([ra_deg], [dec_deg], [time_jd])[0, 0, 2])))


def plan_groups(
    start_jd: float, dec_rad: float, *, n_groups: int, n_days: int, n_integrations: int, restart_cadence: bool
) -> list[PlannedGroup]:
    """Consecutive groups on consecutive sidereal days, named without skew.

    Parameters
    ----------
    start_jd
        Middle of the first integration, JD UTC.
    dec_rad
        Apparent declination, radians.
    n_groups
        Groups a day, 309.24 s apart whatever ``n_integrations`` is.
    n_days
        Days, each 86164.09 s after the last.
    n_integrations
        Integrations in a file.
    restart_cadence
        The correlator restarts every 3801 s: 11 groups, then a gap.
    """
    groups: list[PlannedGroup] = []
    for day in range(n_days):
        first = start_jd + day * SIDEREAL_DAY_S / 86400.0
        for k in range(n_groups):
            cycle, place = divmod(k, GROUPS_PER_RESTART) if restart_cadence else (0, k)
            restart = first + cycle * CORRELATOR_RESTART_S / 86400.0
            times = accumulate_times(restart, place * INTEGRATIONS_PER_GROUP + n_integrations)[-n_integrations:]
            lead = RESTART_NAME_LEAD_S if restart_cadence and place == 0 else 0.0
            names = np.full(N_SUBBANDS, times[0] - lead / 86400.0)
            groups.append(PlannedGroup(len(groups), day, times, dec_rad, dec_rad, names))
    return groups


def skew_names(group: PlannedGroup, seed: int, *, is_restart: bool) -> PlannedGroup:
    """Let the nodes open their files at different seconds, spread as measured.

    91 % of real groups are spread by 0-2 s, restart groups by 10-22 s, 0.5 % by 59-82 s.
    """
    generator = seeded_generator(seed, "names", group.index)
    low, high, _ = _SPREADS_S[generator.choice(len(_SPREADS_S), p=[p for *_, p in _SPREADS_S])]
    if is_restart:
        low, high = _RESTART_SPREAD_S
    spread = int(generator.integers(low, high + 1))
    late = generator.integers(0, 2, N_SUBBANDS) * spread
    late[generator.permutation(N_SUBBANDS)[:2]] = (0, spread)
    return replace(group, name_times_jd=group.name_times_jd + late / 86400.0)
