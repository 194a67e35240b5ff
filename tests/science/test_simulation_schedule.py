"""When groups are observed and how their files are named."""

import numpy as np
import pytest

from dsa110_assets.science.geometry import icrs_to_itrs, local_sidereal_time_deg, meridian_direction
from dsa110_assets.science.simulation_campaign import plan_campaign
from dsa110_assets.science.simulation_options import SimulationOptions
from dsa110_assets.science.simulation_schedule import (
    accumulate_times,
    apparent_dec_deg,
    find_transit_jd,
    jd_of_iso,
    plan_groups,
    skew_names,
)
from dsa110_assets.science.subbands import group_id_of

START = jd_of_iso("2026-01-25T22:26:05")


def test_repeated_addition_gives_the_header_step_of_real_files():
    times = accumulate_times(2460951.992331495, 24)
    np.testing.assert_allclose(np.diff(times) * 86400.0, 12.884903, atol=5e-7)
    assert times[23] == pytest.approx(2460951.995761504, abs=1e-9)


def test_iso_start_is_the_group_id():
    assert group_id_of(START) == "2026-01-25T22:26:05"
    assert jd_of_iso("2026-01-25T22:26:05Z") == START
    groups = plan_campaign(SimulationOptions(start="2026-01-25T22:26:05", dec_deg=16.27)).groups
    assert group_id_of(groups[0].times_jd[0]) == "2026-01-25T22:26:05"
    assert np.degrees(groups[0].phase_dec_rad) == pytest.approx(16.27)


@pytest.mark.parametrize("name", ["2253+161", "3C48", "1459+716"])
def test_transit_start_puts_the_source_on_the_meridian_amid_the_first_group(name):
    campaign = plan_campaign(SimulationOptions(array="full", start=f"transit:{name}@2026-02-03"))
    group = campaign.groups[0]
    assert group_id_of(group.times_jd[0]).startswith("2026-02-0")
    rows = campaign.sky.components.source_id == name
    calibrator = campaign.sky.components.select(rows)
    middle = group.mid_mjd + 2400000.5
    direction = icrs_to_itrs(calibrator.ra_deg, calibrator.dec_deg, [middle])[0, 0]
    assert np.degrees(np.linalg.norm(direction - meridian_direction(group.phase_dec_rad))) * 3600 < 0.05


def test_transit_time_repeats_after_a_sidereal_day():
    first = find_transit_jd(343.49, 16.148, START)
    second = find_transit_jd(343.49, 16.148, first + 0.5)
    assert (second - first) * 86400.0 == pytest.approx(86164.09, abs=0.3)
    assert apparent_dec_deg(343.4906164, 16.1482114, first) == pytest.approx(16.287, abs=0.002)


def test_groups_follow_every_309_seconds_also_in_the_small_array():
    groups = plan_groups(START, 0.3, n_groups=5, n_days=1, n_integrations=8, restart_cadence=False)
    starts = np.array([g.times_jd[0] for g in groups])
    np.testing.assert_allclose(np.diff(starts) * 86400.0, 309.2377, atol=1e-3)
    assert all(len(g.times_jd) == 8 for g in groups)


def test_restart_cadence_reproduces_the_measured_start_to_start_times():
    groups = plan_groups(START, 0.3, n_groups=23, n_days=1, n_integrations=24, restart_cadence=True)
    names = np.array([g.name_times_jd[0] for g in groups])
    gaps = np.diff(names) * 86400.0
    assert gaps[0] == pytest.approx(411.2, abs=0.2)
    np.testing.assert_allclose(gaps[1:10], 309.24, atol=0.01)
    assert gaps[10] == pytest.approx(606.6, abs=0.2)
    data = np.array([g.times_jd[0] for g in groups])
    assert (data[11] - data[0]) * 86400.0 == pytest.approx(3801.0, abs=1e-3)
    assert (data[0] - names[0]) * 86400.0 == pytest.approx(102.0, abs=1e-3)


def test_days_repeat_the_same_sidereal_time():
    groups = plan_groups(START, 0.3, n_groups=2, n_days=40, n_integrations=8, restart_cadence=False)
    sidereal = local_sidereal_time_deg([g.times_jd[0] for g in groups if g.index % 2 == 0])
    assert len(groups) == 80
    assert groups[79].day == 39
    np.testing.assert_allclose(sidereal, sidereal[0], atol=0.005)


def test_name_skew_has_the_measured_distribution():
    group = plan_groups(START, 0.3, n_groups=1, n_days=1, n_integrations=8, restart_cadence=False)[0]
    spreads = []
    for seed in range(2000):
        names = skew_names(group, seed, is_restart=False).name_times_jd
        spreads.append(round(np.ptp(names) * 86400.0))
    spreads = np.array(spreads)
    assert np.mean(spreads == 1) == pytest.approx(0.92, abs=0.02)
    assert np.mean(spreads > 2) == pytest.approx(0.005, abs=0.005)
    assert spreads[spreads > 2].min() >= 59
    assert spreads.max() <= 82
    restart = [np.ptp(skew_names(group, s, is_restart=True).name_times_jd) * 86400.0 for s in range(200)]
    assert min(restart) >= 9.9
    assert max(restart) <= 22.1
