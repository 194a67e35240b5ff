"""The failure catalogue: each fault, asked for by name, is in the files and nowhere else."""

import h5py
import numpy as np
import pandas as pd
import pytest

from dsa110_assets.science.instrument import array_configuration
from dsa110_assets.science.instrument_model import DEAD_AMPLITUDE, draw_instrument
from dsa110_assets.science.simulation_options import InstrumentOptions, SimulationOptions, SkyOptions
from dsa110_assets.science.simulation_schedule import plan_groups
from dsa110_resources.errors import PermanentError
from dsa110_resources.faults import (
    FAULTS,
    Fault,
    disturb_instrument,
    disturb_names,
    disturb_schedule,
    parse_faults,
)
from dsa110_resources.telescope import simulate

HEALTHY = InstrumentOptions(rfi=False, sefd_jy=0.0, n_dead_antennas=0, n_dead_receptors=0, rogue_delays_ns=())
START_JD = 2461066.4


def observe(tmp_path, *faults, n_groups=1):
    options = SimulationOptions(
        n_groups=n_groups, faults=faults, name_skew=False, sky=SkyOptions(density_per_deg2=0.0), instrument=HEALTHY
    )
    return simulate(options, tmp_path)


def planned(n_groups=4):
    return plan_groups(START_JD, 0.3, n_groups=n_groups, n_days=1, n_integrations=8, restart_cadence=False)


def gap_seconds(groups):
    return np.diff([g.times_jd[0] for g in groups]) * 86400.0


def subbands(paths):
    return sorted(int(p.stem[-2:]) for p in paths)


def path_of(observation, subband, group=0):
    return next(p for p in observation.groups[group][1] if p.name.endswith(f"sb{subband:02d}.hdf5"))


def test_specifications_are_read_and_spread_over_the_groups_after_the_first():
    faults = parse_faults(["missing", "truncated:0", "zero_byte:2:7"], n_groups=3, seed=1)
    assert [(f.kind, f.group) for f in faults] == [("missing", 1), ("truncated", 0), ("zero_byte", 2)]
    assert faults[2] == Fault("zero_byte", 2, 7, is_explicit=True)
    assert parse_faults(["missing"], n_groups=1, seed=1)[0].group == 0
    assert parse_faults(["missing"], n_groups=3, seed=1) == parse_faults(["missing"], n_groups=3, seed=1)


@pytest.mark.parametrize("text", ["nonsense", "missing:9", "missing:0:16", "missing:x", "missing:0:1:2", "missing:-1"])
def test_what_cannot_be_understood_is_refused_with_a_cure(text):
    with pytest.raises(PermanentError, match="Cure"):
        parse_faults([text], n_groups=3, seed=1)


def test_missing_subbands_never_arrive(tmp_path):
    observation = observe(tmp_path, "missing:0:5", "missing_many:1:0", n_groups=2)
    assert subbands(observation.groups[0][1]) == [k for k in range(16) if k != 5]
    assert subbands(observation.groups[1][1]) == [k for k in range(16) if k not in (0, 3, 6, 9, 12)]
    assert len(list(tmp_path.glob("*.hdf5"))) == 15 + 11
    groups = pd.read_parquet(observation.truth_dir / "groups.parquet")
    assert list(groups.faults) == ["missing:0:5", "missing_many:1:0"]


def test_damaged_files(tmp_path):
    observation = observe(
        tmp_path, "truncated:0:1", "zero_byte:0:2", "wrong_shape:0:3", "foreign:0:4", "unreadable:0:6", "incomplete:0:7"
    )
    whole = path_of(observation, 0).stat().st_size
    assert path_of(observation, 1).stat().st_size == int(whole * 0.67)
    with pytest.raises(OSError, match="truncated"):
        h5py.File(path_of(observation, 1))
    assert path_of(observation, 2).stat().st_size == 0
    with h5py.File(path_of(observation, 3)) as file:
        assert file["Header/Nblts"][()] == 8 * 528
        assert file["Data/visdata"].shape[0] == file["Data/flags"].shape[0] == 7 * 528
    with h5py.File(path_of(observation, 4)) as file:
        assert file["Header/telescope_name"][()] == b"ATA"
    assert path_of(observation, 6).stat().st_mode & 0o777 == 0
    assert subbands(observation.groups[0][1]) == [k for k in range(16) if k != 7]
    assert [p.name[-19:] for p in tmp_path.glob("*incomplete*")] == ["b07_incomplete.hdf5"]


def test_duplicate_group_has_other_names_and_the_same_content(tmp_path):
    observation = observe(tmp_path, "duplicate", "zero_byte_flood")
    paths = observation.groups[0][1]
    assert len(paths) == 48
    names = [p.name.split("_sb")[0] for p in paths]
    assert (np.datetime64(names[16]) - np.datetime64(names[0])).astype(int) == 7
    assert paths[0].read_bytes() == paths[16].read_bytes()
    assert all(p.stat().st_size == 0 and "T01:00:00_sb" in p.name for p in paths[32:])


def test_mjd_55000_in_all_headers_or_in_the_named_one(tmp_path):
    observation = observe(tmp_path, "mjd55000:0", "mjd55000:1:9", n_groups=2)

    def start_mjd(path):
        with h5py.File(path) as file:
            return file["Header/time_array"][0] - 2400000.5

    assert all(55000.0 <= start_mjd(p) < 55000.01 for p in observation.groups[0][1])
    struck = [p for p in observation.groups[1][1] if start_mjd(p) < 55001.0]
    assert subbands(struck) == [9]
    assert observation.groups[0][0].startswith("2026-01-25")


def test_late_node_and_wrong_clock_change_names_only():
    group = planned()[2]
    late = disturb_names(group, [Fault("late", 2, 5)], seed=1)
    seconds = (late.name_times_jd - group.name_times_jd) * 86400.0
    assert 59 <= round(seconds[5]) <= 82
    assert not np.delete(seconds, 5).any()
    assert late.times_jd is group.times_jd
    fast = disturb_names(group, [Fault("clock", 0, 3)], seed=1)
    np.testing.assert_allclose((fast.name_times_jd - group.name_times_jd)[3] * 86400.0, 60.0, atol=1e-3)


def test_zero_delays_strike_the_header_of_an_active_antenna(tmp_path):
    observation = observe(tmp_path, "zero_delays:1", n_groups=2)
    zeros = []
    for _, paths in observation.groups:
        with h5py.File(paths[0]) as file:
            delays = np.array(file["Header/extra_keywords/applied_delays_ns"][()].split(), dtype=int).reshape(117, 2)
            active = np.unique(file["Header/ant_1_array"][:])
        zeros.append(int((delays[active] == 0).all(axis=1).sum()))
        assert (delays % 2 == 0).all()
        assert np.abs(np.diff(delays[active], axis=1)).max() <= 2
    assert zeros == [0, 1]


def test_receptors_die_and_delays_go_rogue_from_their_group_on():
    instrument = draw_instrument(array_configuration("small").antenna_order + 1, HEALTHY, 1)
    faults = [Fault("dead_antenna", 2, 1), Fault("dead_polarization", 1, 1), Fault("rogue_delay", 3, 1)]
    states = [disturb_instrument(instrument, faults, group, seed=1) for group in range(5)]
    assert [int(s.dead.sum()) for s in states] == [0, 1, 3, 3, 3]
    assert states[1].dead[:, 1].any()
    assert states[4].noise_scale.min() == DEAD_AMPLITUDE
    assert [int((np.abs(s.delay_s) > 3e-7).all(axis=1).sum()) for s in states] == [0, 0, 0, 1, 1]
    np.testing.assert_array_equal(states[3].dead, states[4].dead)


def test_restart_and_outage_move_the_groups_after_them():
    restarted = disturb_schedule(planned(), [Fault("restart", 2, 0)])
    np.testing.assert_allclose(gap_seconds(restarted), [309.24, 708.6, 309.24], atol=0.05)
    lead = (restarted[2].times_jd[0] - restarted[2].name_times_jd[0]) * 86400.0
    assert lead == pytest.approx(102.0, abs=1e-3)
    out = gap_seconds(disturb_schedule(planned(), [Fault("outage", 1, 0)]))
    assert out[0] > 6 * 3600.0
    np.testing.assert_allclose(out[1:], 309.24, atol=0.01)


def test_pointing_change_moves_beam_and_phase_centre_but_a_stale_table_only_the_beam():
    changed = disturb_schedule(planned(), [Fault("pointing_change", 2, 0)])
    offsets = np.degrees([[g.pointing_dec_rad - 0.3, g.phase_dec_rad - 0.3] for g in changed])
    np.testing.assert_allclose(offsets, [[0, 0], [0, 0], [2, 2], [2, 2]], atol=1e-9)
    stale = disturb_schedule(planned(), [Fault("stale_fringestop", 1, 0)])
    offsets = np.degrees([[g.pointing_dec_rad - 0.3, g.phase_dec_rad - 0.3] for g in stale])
    np.testing.assert_allclose(offsets, [[0, 0], [1, 0], [1, 0], [1, 0]], atol=1e-9)


def test_stale_fringe_table_leaves_the_old_declination_in_the_header_and_dims_the_calibrator(tmp_path):
    observation = observe(tmp_path, "stale_fringestop:0")
    groups = pd.read_parquet(observation.truth_dir / "groups.parquet").iloc[0]
    assert groups.pointing_dec_deg - groups.phase_dec_deg == pytest.approx(1.0, abs=1e-9)
    with h5py.File(observation.groups[0][1][0]) as file:
        dec = np.degrees(file["Header/extra_keywords/phase_center_dec"][()])
    assert dec == pytest.approx(groups.phase_dec_deg, abs=1e-12)
    fluxes = pd.read_parquet(observation.truth_dir / "fluxes.parquet").set_index("source_id")
    assert fluxes.primary_beam["2253+161"] == pytest.approx(0.68, abs=0.02)


def test_every_fault_of_the_catalogue_can_be_written(tmp_path):
    """All at once, on three groups: the telescope writes on and the truth names each."""
    observation = observe(tmp_path, *[f"{kind}:1" for kind in FAULTS], n_groups=3)
    groups = pd.read_parquet(observation.truth_dir / "groups.parquet")
    named = {text.split(":")[0] for text in groups.faults[1].split(",")}
    assert named == set(FAULTS)
    assert len(observation.groups[2][1]) == 16
