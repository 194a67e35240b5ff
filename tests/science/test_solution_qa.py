"""Which tables are refused, and why: made-up ones, and the real ones of 2025."""

import tarfile
from dataclasses import replace

import numpy as np
import pytest
from gain_truth import make_table

from dsa110_assets.science.delay import east_north_m
from dsa110_assets.science.errors import SolveError
from dsa110_assets.science.gain_change import measure_change
from dsa110_assets.science.instrument import TELESCOPE_ITRF_M, read_stations
from dsa110_assets.science.solution_qa import (
    SolutionLimits,
    check_bandpass,
    check_delays,
    check_flux_ratio,
    check_gain,
    check_solver_agreement,
    is_usable,
)
from dsa110_resources.caltables import read_caltable

STATIONS = read_stations()
POSITIONS = STATIONS.positions_m[STATIONS.active] + TELESCOPE_ITRF_M
N_ANT = len(POSITIONS)
FREQUENCIES = 1311.387e6 + 244140.625 * np.arange(768)


def make_bandpass(delays_ns=None, *, noise=0.01, seed=1):
    """A bandpass of the full array with given delays, (n_ant,), and thermal noise."""
    random = np.random.default_rng(seed)
    delays = random.normal(0, 5, N_ANT) if delays_ns is None else delays_ns
    phase = 2e-9 * np.pi * FREQUENCIES[None, :, None] * delays[:, None, None] + random.uniform(0, 6, (N_ANT, 1, 2))
    gains = 0.067 * np.exp(1j * phase)
    gains = gains * (1 + noise * (random.standard_normal(gains.shape) + 1j * random.standard_normal(gains.shape)))
    return make_table(
        n_ant=N_ANT,
        n_chan=768,
        gains=gains[None],
        frequencies_hz=FREQUENCIES,
        channel_widths_hz=np.full(768, 244140.625),
        antenna_positions_m=POSITIONS,
        antenna_names=tuple(str(n) for n in STATIONS.numbers[STATIONS.active]),
    )


def verdicts(checks):
    return {check.name: check.passed for check in checks}


def test_a_good_bandpass_passes_everything():
    checks = check_bandpass(make_bandpass(), previous=make_bandpass())
    assert all(verdicts(checks).values()), [c.message for c in checks if not c.passed]
    assert is_usable(checks)


def test_a_phase_centre_half_a_degree_off_is_refused_with_its_numbers():
    gradient = np.radians(0.5) / 0.299792458
    delays = east_north_m(POSITIONS) @ np.array([0.0, gradient])
    plane = next(c for c in check_delays(make_bandpass(delays)) if c.name == "delay_plane")
    assert not plane.passed
    assert plane.value == pytest.approx(gradient, rel=1e-3)
    assert plane.severity == "ERROR"
    assert "(0.50 deg on the sky)" in plane.message
    assert "phase centre" in plane.message


def test_a_rogue_delay_is_named_and_only_warned_of():
    delays = np.zeros(N_ANT)
    delays[30] = -199.0
    checks = check_bandpass(make_bandpass(delays))
    rogues = next(c for c in checks if c.name == "rogue_delays")
    assert rogues.message.startswith("antennas more than 50 ns off the plane: 35 (199 ns)")
    assert not rogues.passed
    assert is_usable(checks)


def test_phases_of_noise_are_refused():
    random = np.random.default_rng(0)
    table = make_bandpass()
    noise = np.exp(2j * np.pi * random.uniform(size=table.gains.shape))
    failed = {c.name for c in check_bandpass(replace(table, gains=noise)) if not c.passed}
    assert {"coherence", "smoothness", "delay_plane"} <= failed


def test_fractions_are_of_working_receptors():
    table = make_bandpass()
    table.flags[:, :40] = True  # forty dead antennas
    table.flags[:, 40:, :77] = True  # and a tenth of the channels of the others
    fraction, working = check_bandpass(table)[:2]
    assert fraction.value == pytest.approx(1 - 77 / 768)
    assert fraction.passed
    assert working.value == pytest.approx(56 / 96)
    assert working.passed
    sparse = check_bandpass(replace(table, n_observed=117))[1]
    assert not sparse.passed
    assert sparse.value == pytest.approx(56 / 117)
    assert "without any solution: 1, 2, 3" in sparse.message


def test_change_knows_no_common_phase_and_no_plane():
    table = make_bandpass(noise=0.0)
    ground = east_north_m(POSITIONS)
    tau = 1e-9 * (ground @ np.array([0.011, -0.007]))
    turn = np.exp(2j * np.pi * FREQUENCIES[None, None, :, None] * tau[None, :, None, None])
    moved = replace(table, gains=table.gains * turn * np.exp(1j * np.array([2.0, -1.3])))
    change = measure_change(moved, table)
    assert change.phase_rms_deg < 1e-3
    assert change.amplitude_rms < 1e-6


def test_real_changes_are_measured():
    random = np.random.default_rng(9)
    table = make_bandpass(noise=0.0)
    turn = np.radians(12.0) * random.standard_normal((N_ANT, 1, 2))
    factor = 1.05 * (1 + 0.03 * random.standard_normal((N_ANT, 1, 2)))
    change = measure_change(replace(table, gains=table.gains * factor * np.exp(1j * turn)), table)
    assert change.phase_rms_deg == pytest.approx(12.0, rel=0.15)
    assert change.amplitude_rms == pytest.approx(0.03, rel=0.15)
    assert change.amplitude_ratio == pytest.approx(1.05, rel=0.01)


def test_random_phases_warn_of_a_change_and_new_deaths_are_named():
    table, other = make_bandpass(), make_bandpass(seed=7)
    table.flags[:, 50, :, 1] = True
    checks = {c.name: c for c in check_bandpass(table, previous=other)}
    assert not checks["phase_change"].passed
    assert checks["phase_change"].severity == "WARN"
    assert checks["phase_change"].value > 90
    name = table.antenna_names[50]
    assert checks["newly_dead"].message.endswith(f"{name} Y")


def test_phase_steps_across_180_degrees_are_small():
    table = make_table("G", n_ant=20, n_chan=1, gains=np.full((1, 20, 1, 2), np.exp(1j * np.radians(179.5))))
    later = replace(table, gains=np.full((1, 20, 1, 2), np.exp(-1j * np.radians(179.5))))
    change = measure_change(later, table)
    assert change.phase_rms_deg < 1e-6
    assert np.all((change.phase_deg >= -180) & (change.phase_deg < 180))


def test_tables_without_anything_in_common_are_told():
    table = make_table()
    with pytest.raises(SolveError, match="no antenna and channel in common"):
        measure_change(table, replace(table, antenna_names=tuple(f"x{i}" for i in range(12))))


def test_flux_ratio_of_another_strip_warns():
    assert check_flux_ratio(0.97).passed
    refused = check_flux_ratio(0.06)
    assert not refused.passed
    assert refused.limit == 0.8
    assert [c.name for c in check_gain(make_table("G"), flux_ratio=1.0)][-1] == "flux_ratio"


def test_solvers_that_agree_and_that_do_not():
    table = make_bandpass()
    random = np.random.default_rng(6)
    near = replace(table, gains=table.gains * (1 + 1e-3 * random.standard_normal(table.gains.shape)))
    assert all(verdicts(check_solver_agreement(near, table)).values())
    turned = replace(table, gains=1.03 * table.gains * np.exp(0.1j * random.standard_normal((1, N_ANT, 1, 2))))
    assert verdicts(check_solver_agreement(turned, table)) == {
        "solver_phases": False,
        "solver_amplitudes": True,
        "solver_scale": False,
    }


def test_limits_are_settings():
    strict = SolutionLimits(max_gradient_ns_m=1e-9)
    delays = east_north_m(POSITIONS) @ np.array([0.001, 0.0])
    plane = next(c for c in check_delays(make_bandpass(delays, noise=1e-3), limits=strict) if c.name == "delay_plane")
    assert not plane.passed


@pytest.fixture(scope="module")
def real_tables(shared_data, tmp_path_factory):
    root = tmp_path_factory.mktemp("tables")
    with tarfile.open(shared_data / "real_caltables" / "real_caltables_2025.tar.gz") as archive:
        archive.extractall(root, filter="data")
    return root


def test_the_table_of_2025_10_13_is_refused_for_its_phase_centre(real_tables):
    folder = real_tables / "scratch" / "ms" / "central_cal"
    bandpass = read_caltable(folder / "2025-10-13T13:28:03_all_bpcal")
    gain = read_caltable(folder / "2025-10-13T13:28:03_all_gpcal")
    checks = {c.name: c for c in check_bandpass(bandpass, gain=gain)}
    assert {name for name, check in checks.items() if not check.passed} == {"delay_plane", "rogue_delays"}
    plane = checks["delay_plane"]
    assert plane.value == pytest.approx(np.hypot(0.053, 0.475), abs=0.004)
    assert "+0.052 ns/m east, +0.477 ns/m north" in plane.message
    assert "residual 5.1 ns rms" in plane.message
    assert "71 (200 ns), 93 (426 ns), 101 (2049 ns)" in checks["rogue_delays"].message
    assert checks["coherence"].value == pytest.approx(0.987, abs=0.002)
    alone = {c.name: c for c in check_bandpass(bandpass)}
    assert not alone["delay_plane"].passed  # without its gains, each window's phase is free: the plane still shows


@pytest.mark.parametrize(
    ("path", "reasons"),
    [
        ("cal_tables/2025-09-05T03:23:14_sb00_bandpass.table", {"working_receptors"}),
        ("cal_tables/2025-09-05T03:23:14_sb02_bandpass.table", {"solution_fraction", "working_receptors"}),
        ("ms_stage1/2025-09-05T03:23:14_calibrated.ms.B0", {"solution_fraction", "working_receptors", "coherence"}),
        ("ms_stage2/2025-09-05T03:23:14_calibrated.ms.B0", {"solution_fraction", "working_receptors", "coherence"}),
        ("data/cal_tables/test_calibration_bandpass.table", {"coherence", "smoothness"}),
    ],
)
def test_tables_of_no_calibrator_are_refused(real_tables, path, reasons):
    checks = check_bandpass(read_caltable(real_tables / path))
    assert not is_usable(checks)
    assert reasons <= {c.name for c in checks if not c.passed and c.severity == "ERROR"}
