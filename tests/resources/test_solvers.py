"""Both solvers against the injected gains and against each other, and what applying their tables gives."""

import numpy as np
import pytest
from simulated_set import copy_set, corrected, make_set, make_sets

from dsa110_assets.science.delay import measure_delays
from dsa110_assets.science.gain_options import BandpassOptions, GainOptions
from dsa110_assets.science.gains import GainTable
from dsa110_assets.science.model import ModelPredictor
from dsa110_assets.science.solution_qa import check_bandpass, check_solver_agreement, is_usable
from dsa110_resources.caltables import read_caltable, write_caltable
from dsa110_resources.casa import CasaSession
from dsa110_resources.errors import MissingCalibrationError, PermanentError
from dsa110_resources.flagging import FlaggingOptions, flag_measurement_set
from dsa110_resources.measurement_set import has_column, marker_path, read_column, read_layout
from dsa110_resources.solvers import apply_tables, create_solver

FLUX_JY = 10.0
SUFFIXES = ("bpcal", "kcal", "prebp", "gpcal")


@pytest.fixture(scope="module")
def clean(tmp_path_factory):
    """Two groups with gains and noise, one dead antenna, one dead receptor and a rogue delay; no interference."""
    return make_sets(tmp_path_factory.mktemp("clean"), n_groups=2, rfi=False)


@pytest.fixture(scope="module")
def solved(clean, tmp_path_factory):
    folder = tmp_path_factory.mktemp("native")
    out = {suffix: folder / f"group.{suffix}" for suffix in SUFFIXES}
    solver = create_solver("native")
    return solver.solve_bandpass(clean[0].ms, clean[0].components, options=BandpassOptions(), out=out)


@pytest.fixture(scope="module")
def gain(clean, solved, tmp_path_factory):
    path = tmp_path_factory.mktemp("gain") / "group.gpcal"
    solver = create_solver("native")
    bandpass = solved.tables["bpcal"]
    return solver.solve_gains(clean[1].ms, clean[1].components, bandpass, options=GainOptions(calmode="ap"), out=path)


@pytest.fixture(scope="module")
def by_casa(clean, solved, tmp_path_factory):
    folder = tmp_path_factory.mktemp("casa")
    out = {suffix: folder / f"group.{suffix}" for suffix in SUFFIXES}
    options = BandpassOptions(refant=solved.refant)
    return create_solver("casa", scratch=folder).solve_bandpass(
        clean[0].ms, clean[0].components, options=options, out=out
    )


def scatter(values):
    finite = values[np.isfinite(values)]
    return 1.4826 * np.median(np.abs(finite - np.median(finite)))


def require_thermal(simulated, table: GainTable):
    """Section 1.9: errors within 1.1 of thermal, median bias below 0.1 % and 0.1 deg."""
    ratio = simulated.ratio(table)
    phase = np.degrees(np.angle(ratio))
    phase[simulated.names.index(table.refant)] = np.nan
    thermal = simulated.thermal(FLUX_JY)
    assert scatter(np.abs(ratio)) < 1.1 * thermal
    assert scatter(phase) < 1.1 * np.sqrt(2) * np.degrees(thermal)
    assert abs(np.nanmedian(np.abs(ratio)) - 1) < 1e-3
    assert abs(np.nanmedian(phase)) < 0.1


def test_bandpass_is_the_injected_one(clean, solved):
    require_thermal(clean[0], read_caltable(solved.tables["bpcal"]))


def test_dead_receptors_and_rogue_delays_are_named(clean, solved):
    dead = {f"{clean[0].names[a]} {'XX' if p == 0 else 'YY'}" for a, p in np.argwhere(clean[0].dead)}
    assert set(solved.dead_receptors) == dead
    assert solved.n_receptors == 64 - len(dead)
    rogue = clean[0].names[int(np.argmax(np.abs(clean[0].delay_ns[:, 0])))]
    assert list(solved.rogue_delays_ns) == [rogue]
    assert solved.rogue_delays_ns[rogue] == pytest.approx(-199.0, abs=15)
    assert solved.flagged_fraction == 0.0


def test_delays_are_the_injected_ones(clean, solved):
    table = read_caltable(solved.tables["kcal"]).for_antennas(clean[0].names)
    reference = clean[0].names.index(table.refant)
    working = ~clean[0].dead
    error = (table.delays_ns[0] - (clean[0].delay_ns - clean[0].delay_ns[reference]))[working]
    assert scatter(error) < 1.5  # the injected bandpass has phases of 8 deg, part of which is a slope
    # against the slope of the whole injected response it is as good as the noise lets it be
    whole = clean[0].gains.mean(axis=0)
    truth, _ = measure_delays(
        whole * np.conj(whole[reference]), np.zeros(whole.shape, bool), read_layout(clean[0].ms).frequencies_hz
    )
    assert scatter((table.delays_ns[0] - truth)[working]) < 0.03


def test_a_solved_bandpass_passes_its_checks(solved):
    table = read_caltable(solved.tables["bpcal"])
    assert is_usable(check_bandpass(table))
    assert table.n_observed == 32
    assert table.refant == solved.refant


def test_gains_of_a_later_group_complete_its_bandpass(clean, solved, gain):
    bandpass, table = read_caltable(solved.tables["bpcal"]), read_caltable(gain.tables["gpcal"])
    product = bandpass.gains[0] * table.gains[0]
    whole = GainTable(**{**bandpass.__dict__, "gains": product[None], "flags": bandpass.flags | table.flags})
    ratio = clean[1].ratio(GainTable(**{**whole.__dict__, "refant": table.refant}))
    phase = np.degrees(np.angle(ratio * np.conj(ratio[clean[1].names.index(table.refant)])[None]))
    thermal = clean[0].thermal(FLUX_JY)
    assert scatter(phase) < 1.1 * np.sqrt(2) * np.degrees(thermal)
    assert scatter(np.abs(ratio)) < 1.1 * thermal
    # the common amplitude is not in the table: it is the flux ratio
    assert np.nanmedian(np.abs(ratio)) ** 2 * gain.flux_ratio == pytest.approx(1.0, abs=4e-3)
    assert np.median(np.abs(table.gains[~table.flags])) == pytest.approx(1.0, abs=2e-3)


def test_gains_per_minute_follow_the_phases(clean, solved, tmp_path):
    path = tmp_path / "minute.gpcal"
    options = GainOptions(solint_s=26.0, refant=solved.refant)
    create_solver("native").solve_gains(
        clean[0].ms, clean[0].components, solved.tables["bpcal"], options=options, out=path
    )
    table = read_caltable(path).for_antennas(clean[0].names)
    layout = read_layout(clean[0].ms)
    np.testing.assert_allclose(table.times_mjd, layout.times_mjd.reshape(4, 2).mean(axis=1), atol=1e-8)
    phases = clean[0].gains[:, :, 64] / np.where(clean[0].gains[:, :, 64] == 0, 1, np.abs(clean[0].gains[:, :, 64]))
    reference = clean[0].names.index(table.refant)
    phases = phases * np.conj(phases[:, [reference]])
    truth = phases.reshape(4, 2, *phases.shape[1:]).mean(axis=1) * np.conj(phases.mean(axis=0))
    error = np.degrees(np.angle(table.gains[:, :, 0] * np.conj(truth)))[np.broadcast_to(~clean[0].dead, truth.shape)]
    assert scatter(error) < 0.2


def test_flagged_interference_changes_nothing(tmp_path):
    hit = make_set(tmp_path, rfi=True)
    flag_measurement_set(hit.ms, options=FlaggingOptions())
    out = {"bpcal": tmp_path / "t.bpcal"}
    create_solver("native").solve_bandpass(hit.ms, hit.components, options=BandpassOptions(), out=out)
    table = read_caltable(out["bpcal"])
    require_thermal(hit, table)
    assert set(hit.dead[:, 0]) == {True, False}


def test_solving_twice_gives_the_same_table(clean, solved, tmp_path):
    out = {"bpcal": tmp_path / "t.bpcal"}
    create_solver("native").solve_bandpass(clean[0].ms, clean[0].components, options=BandpassOptions(), out=out)
    np.testing.assert_array_equal(read_caltable(out["bpcal"]).gains, read_caltable(solved.tables["bpcal"]).gains)


def test_fast_preset_differs_by_less_than_the_noise(clean, solved, tmp_path):
    out = {"bpcal": tmp_path / "t.bpcal"}
    options = BandpassOptions(preset="fast", refant=solved.refant)
    create_solver("native").solve_bandpass(clean[0].ms, clean[0].components, options=options, out=out)
    fast, full = read_caltable(out["bpcal"]), read_caltable(solved.tables["bpcal"])
    good = ~fast.flags & ~full.flags
    ratio = fast.gains[good] / full.gains[good]
    thermal = clean[0].thermal(FLUX_JY)
    # against the full solve: 3/4 of its noise is averaged away, so they differ by about the noise, not more
    assert scatter(np.abs(ratio)) < 1.1 * thermal
    assert abs(np.median(np.abs(ratio)) - 1) < 2e-3
    # against the truth it beats the full solve's noise, rogue delay (decorrelated in 5.9 MHz) left aside
    error = clean[0].ratio(fast)
    error[int(np.argmax(np.abs(clean[0].delay_ns[:, 0])))] = np.nan
    assert scatter(np.abs(error)) < thermal


def test_fast_gains_are_the_full_ones_phases(clean, solved, gain, tmp_path):
    path = tmp_path / "fast.gpcal"
    options = GainOptions(preset="fast", calmode="ap", refant=gain.refant)
    create_solver("native").solve_gains(
        clean[1].ms, clean[1].components, solved.tables["bpcal"], options=options, out=path
    )
    fast, full = read_caltable(path), read_caltable(gain.tables["gpcal"])
    good = ~fast.flags & ~full.flags
    np.testing.assert_allclose(np.abs(fast.gains[good]), 1.0, rtol=1e-6)
    assert np.degrees(scatter(np.angle(fast.gains[good] * np.conj(full.gains[good])))) < 0.3


def test_uvrange_takes_baselines_away(clean, tmp_path):
    out = {"bpcal": tmp_path / "t.bpcal"}
    options = BandpassOptions(uvrange=">1klambda")
    report = create_solver("native").solve_bandpass(clean[0].ms, clean[0].components, options=options, out=out)
    ratio = np.abs(clean[0].ratio(read_caltable(out["bpcal"])))
    assert report.n_receptors == 61
    assert clean[0].thermal(FLUX_JY) < scatter(ratio) < 3 * clean[0].thermal(FLUX_JY)
    with pytest.raises(PermanentError, match="leaves no baseline"):
        create_solver("native").solve_bandpass(
            clean[0].ms, clean[0].components, options=BandpassOptions(uvrange=">100klambda"), out=out
        )


def test_a_field_too_faint_is_refused_before_it_is_solved(clean, tmp_path):
    faint = clean[0].components.with_flux(clean[0].components.flux_jy * 0.01)
    out = {"bpcal": tmp_path / "t.bpcal"}
    with pytest.raises(PermanentError, match="allows an SNR of") as caught:
        create_solver("native").solve_bandpass(clean[0].ms, faint, options=BandpassOptions(), out=out)
    assert "calibrator transit" in caught.value.cure
    assert not out["bpcal"].exists()


def test_unknown_products_are_refused(clean, tmp_path):
    for out in ({"gpcal": tmp_path / "x"}, {"bpcal": tmp_path / "x", "2G": tmp_path / "y"}):
        with pytest.raises(PermanentError, match="cannot write"):
            create_solver("native").solve_bandpass(clean[0].ms, clean[0].components, options=BandpassOptions(), out=out)
    assert list(tmp_path.iterdir()) == []


def test_the_gain_of_the_calibrator_group_is_unity_within_noise(solved, by_casa):
    for report in (solved, by_casa):
        table = read_caltable(report.tables["gpcal"])
        gains = table.gains[~table.flags]
        assert np.abs(gains - 1).max() < 5e-3
        assert report.flux_ratio == pytest.approx(1.0, abs=1e-3)


def test_casa_agrees_with_the_injected_gains_and_with_native(clean, solved, by_casa):
    casa, native = read_caltable(by_casa.tables["bpcal"]), read_caltable(solved.tables["bpcal"])
    require_thermal(clean[0], casa)
    good = ~casa.flags & ~native.flags
    ratio = casa.gains[good] / native.gains[good]
    thermal = clean[0].thermal(FLUX_JY)
    assert scatter(np.abs(ratio)) < 0.2 * thermal
    assert scatter(np.angle(ratio)) < 0.2 * thermal
    assert abs(np.median(np.abs(ratio)) - 1) < 1e-3
    assert all(check.passed for check in check_solver_agreement(native, casa))
    assert by_casa.refant == solved.refant
    delays = read_caltable(by_casa.tables["kcal"]).delays_ns - read_caltable(solved.tables["kcal"]).delays_ns
    assert np.nanmedian(np.abs(delays)) < 0.05


def test_casa_gains_agree_with_native_ones(clean, solved, gain, tmp_path):
    path = tmp_path / "casa.gpcal"
    options = GainOptions(calmode="ap", refant=gain.refant)
    report = create_solver("casa", scratch=tmp_path).solve_gains(
        clean[1].ms, clean[1].components, solved.tables["bpcal"], options=options, out=path
    )
    casa, native = read_caltable(path), read_caltable(gain.tables["gpcal"])
    good = ~casa.flags & ~native.flags
    ratio = casa.gains[good] / native.gains[good]
    assert np.count_nonzero(good) == gain.n_receptors
    assert np.degrees(np.abs(np.angle(ratio))).max() < 0.3
    assert np.abs(np.abs(ratio) - 1).max() < 5e-3
    assert report.flux_ratio == pytest.approx(gain.flux_ratio, rel=2e-3)
    assert [p.name for p in tmp_path.iterdir()] == ["casa.gpcal"]  # nothing of the working copy is left


def test_applycal_of_casa_equals_our_own(clean, solved, gain, tmp_path):
    ms = copy_set(clean[1], tmp_path)
    tables = [solved.tables["bpcal"], gain.tables["gpcal"]]
    delayed = {suffix: tmp_path / f"k.{suffix}" for suffix in ("bpcal", "kcal")}
    create_solver("native").solve_bandpass(
        clean[0].ms, clean[0].components, options=BandpassOptions(apply_delay=True), out=delayed
    )
    cases = [(tables, None), ([delayed["kcal"], delayed["bpcal"], tables[1]], delayed["kcal"])]
    with CasaSession() as casa:
        for chain, delay in cases:
            apply_tables(ms, chain[-2], chain[-1], delay=delay)
            ours, flags = corrected(ms)
            casa.run(
                "applycal", vis=ms, gaintable=chain, interp=["nearest"] * len(chain), calwt=False, flagbackup=False
            )
            theirs, their_flags = corrected(ms)
            np.testing.assert_array_equal(flags, their_flags)
            np.testing.assert_allclose(ours[~flags], theirs[~flags], rtol=5e-6)


def test_corrected_data_are_the_sky(clean, solved, gain, tmp_path):
    ms = copy_set(clean[1], tmp_path)
    report = apply_tables(ms, solved.tables["bpcal"], gain.tables["gpcal"], partition="p")
    data, flags = corrected(ms)
    layout = read_layout(ms)
    model = ModelPredictor.from_layout(clean[1].components, layout).predict()
    residual = (data - model[..., None])[~flags]
    noise = 6500.0 / np.sqrt(2 * layout.channel_width_hz * layout.interval_s)
    # the flux scale is not in G: at most a per cent of 10 Jy remains, far below the noise
    assert residual.real.std() == pytest.approx(noise, rel=0.03)
    assert np.isfinite(data).all()
    medians = [np.median(np.abs(data[t][~flags[t]])) for t in (0, 4)]
    assert report.median_amplitude_jy == pytest.approx(np.median(medians), rel=0.01)
    assert report.newly_flagged_fraction == pytest.approx(np.mean(clean[1].dead[:, 0]) * 2, abs=0.08)
    assert not marker_path(ms).exists()


def test_gains_between_two_tables_are_interpolated(clean, solved, gain, tmp_path):
    ms = copy_set(clean[1], tmp_path)
    layout = read_layout(ms)
    table = read_caltable(gain.tables["gpcal"])
    turn = np.exp(1j * np.radians(20))
    names = []
    for name, hours, factor in (("before", -1, np.conj(turn)), ("after", 1, turn)):
        gains = np.where(
            np.arange(len(table.antenna_names))[None, :, None, None] == 1, table.gains * factor, table.gains
        )
        shifted = GainTable(**{**table.__dict__, "gains": gains, "times_mjd": np.array([layout.mid_mjd + hours / 24])})
        names.append(tmp_path / f"{name}.gpcal")
        write_caltable(names[-1], shifted, ms=ms)
    apply_tables(ms, solved.tables["bpcal"], names)
    between, _ = corrected(ms)
    apply_tables(ms, solved.tables["bpcal"], gain.tables["gpcal"])
    single, flags = corrected(ms)
    layout = read_layout(ms)
    here = np.flatnonzero(((layout.antenna1 == 1) ^ (layout.antenna2 == 1)) & ~flags.all(axis=(0, 2, 3)))
    others = np.setdiff1d(np.flatnonzero(~flags.all(axis=(0, 2, 3))), here)
    np.testing.assert_allclose(between[:, others], single[:, others], rtol=1e-5, atol=1e-5)
    angle = np.degrees(np.angle(between[:, here] * np.conj(single[:, here])))
    expected = 20 * (layout.times_mjd - layout.mid_mjd) * 24
    sign = np.where(layout.antenna1[here] == 1, -1, 1)
    use = ~flags[:, here]
    difference = angle - (expected[:, None] * sign[None])[:, :, None, None]
    np.testing.assert_allclose(difference[use], 0, atol=0.01)


def test_wrong_tables_are_refused_in_the_operators_words(clean, solved, gain, tmp_path):
    ms = copy_set(clean[1], tmp_path)
    with pytest.raises(MissingCalibrationError, match="gone"):
        apply_tables(ms, tmp_path / "no.bpcal", None, partition="2026-01-25T22:30")
    with pytest.raises(PermanentError, match="kind G was given where B"):
        apply_tables(ms, gain.tables["gpcal"], None)
    with pytest.raises(PermanentError, match="holds the delays already"):
        apply_tables(ms, solved.tables["bpcal"], None, delay=solved.tables["kcal"])
    table = read_caltable(solved.tables["bpcal"])
    foreign = GainTable(**{**table.__dict__, "frequencies_hz": table.frequencies_hz + 1e9})
    write_caltable(tmp_path / "foreign.bpcal", foreign, ms=ms)
    with pytest.raises(MissingCalibrationError, match="no solution for the antennas and channels"):
        apply_tables(ms, tmp_path / "foreign.bpcal", None)
    assert not has_column(ms, "CORRECTED_DATA")
    assert not marker_path(ms).exists()


def test_flags_of_the_data_are_kept(clean, solved, tmp_path):
    ms = copy_set(clean[1], tmp_path)
    before = read_column(ms, "FLAG")
    apply_tables(ms, solved.tables["bpcal"], None)
    _, after = corrected(ms)
    assert np.all(after[before])
    assert after.sum() > before.sum()


@pytest.mark.truth
def test_a_full_calibrator_group_is_thermal_with_interference(tmp_path):
    """Section 1.9 on the full array: 96 antennas, 768 channels, dead receptors, a rogue delay, interference flagged."""
    full = make_set(tmp_path, array="full", rfi=True)
    flag_measurement_set(full.ms, options=FlaggingOptions())
    out = {suffix: tmp_path / f"full.{suffix}" for suffix in SUFFIXES}
    report = create_solver("native").solve_bandpass(full.ms, full.components, options=BandpassOptions(), out=out)
    require_thermal(full, read_caltable(out["bpcal"]))
    dead = {f"{full.names[a]} {'XX' if p == 0 else 'YY'}" for a, p in np.argwhere(full.dead)}
    assert set(report.dead_receptors) == dead
    assert is_usable(check_bandpass(read_caltable(out["bpcal"])))
    fast = {"bpcal": tmp_path / "fast.bpcal"}
    options = BandpassOptions(preset="fast")
    create_solver("native").solve_bandpass(full.ms, full.components, options=options, out=fast)
    ratio = full.ratio(read_caltable(fast["bpcal"]))
    assert scatter(np.abs(ratio)) < full.thermal(FLUX_JY)
    assert abs(np.nanmedian(np.abs(ratio)) - 1) < 3e-3
