"""Flagging of Measurement Sets made from simulated raw files, against the simulator's truth."""

import shutil
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from dsa110_assets.science.flagging import FlaggingOptions
from dsa110_assets.science.instrument import array_configuration
from dsa110_assets.science.simulation_options import InstrumentOptions, SimulationOptions, SkyOptions
from dsa110_resources.aoflagger import aoflagger_command, run_aoflagger
from dsa110_resources.casacore_tables import open_table
from dsa110_resources.conversion import convert_group
from dsa110_resources.errors import LockedError
from dsa110_resources.flagging import flag_measurement_set
from dsa110_resources.measurement_set import (
    Layout,
    read_column,
    read_layout,
    require_consistent,
    rewriting,
    write_column,
)
from dsa110_resources.telescope import simulate

SKY = SkyOptions(density_per_deg2=4.0)


@dataclass(frozen=True)
class Case:
    """A converted group and what is wrong with it."""

    ms: Path
    rfi: pd.DataFrame
    dead: set[str]

    def copy(self, folder: Path) -> Path:
        return Path(shutil.copytree(self.ms, folder / self.ms.name))


def make_case(folder: Path, instrument: InstrumentOptions, *, start: str = "transit:2253+161") -> Case:
    observed = simulate(SimulationOptions(start=start, sky=SKY, instrument=instrument, seed=3), folder / "raw")
    ms = folder / "group.ms"
    convert_group(observed.groups[0][1], ms)
    truth = np.load(next((observed.truth_dir / "instrument").glob("*.npz")))
    dead = {f"{truth['stations'][a]} {('XX', 'YY')[p]}" for a, p in np.argwhere(truth["dead"])}
    return Case(ms, pd.read_parquet(observed.truth_dir / "rfi.parquet"), dead)


@pytest.fixture(scope="module")
def noisy(tmp_path_factory: pytest.TempPathFactory) -> Case:
    """A calibrator group with interference and dead receptors."""
    return make_case(tmp_path_factory.mktemp("noisy"), InstrumentOptions(n_dead_antennas=1, n_dead_receptors=2))


@pytest.fixture(scope="module")
def clean(tmp_path_factory: pytest.TempPathFactory) -> Case:
    """The same instrument, the same calibrator, nothing wrong."""
    options = InstrumentOptions(n_dead_antennas=0, n_dead_receptors=0, rfi=False)
    return make_case(tmp_path_factory.mktemp("clean"), options)


def array_truth(case: Case, layout: Layout) -> np.ndarray:
    """(n_time, n_chan) of the array-wide tones."""
    truth = np.zeros((layout.n_times, layout.n_channels), bool)
    for row in case.rfi[case.rfi["scope"] == "array"].itertuples():
        truth[[bit == "1" for bit in row.integrations], row.channel] = True
    return truth


def local_truth(case: Case, layout: Layout) -> np.ndarray:
    """(n_time, n_bl, n_chan) of the baseline-local tones on living receptors."""
    array = array_configuration("small")
    names = [frozenset(array.antenna_names[a] for a in pair) for pair in zip(*array.baselines(), strict=True)]
    place = {
        frozenset((layout.antenna_names[a], layout.antenna_names[b])): k
        for k, (a, b) in enumerate(zip(layout.antenna1, layout.antenna2, strict=True))
    }
    truth = np.zeros((layout.n_times, layout.n_baselines, layout.n_channels), bool)
    for row in case.rfi[case.rfi["scope"] == "local"].itertuples():
        if len(names[row.baseline]) == 2:
            truth[[bit == "1" for bit in row.integrations], place[names[row.baseline]], row.channel] = True
    return truth


def living(layout: Layout, dead: set[str]) -> np.ndarray:
    """Cross-correlations of antennas without dead receptors."""
    gone = {name.split()[0] for name in dead}
    names = np.array(layout.antenna_names)
    return (
        ~layout.autocorrelations
        & ~np.isin(names[layout.antenna1], list(gone))
        & ~np.isin(names[layout.antenna2], list(gone))
    )


def test_array_wide_tones_and_dead_receptors_are_found(noisy: Case, tmp_path: Path) -> None:
    ms = noisy.copy(tmp_path)
    report = flag_measurement_set(ms, options=FlaggingOptions())
    layout = read_layout(ms)
    assert set(report.dead_receptors) == noisy.dead
    flags = read_column(layout, "FLAG")
    truth, alive = array_truth(noisy, layout), living(layout, noisy.dead)
    assert flags[:, alive][truth[:, None, :, None] & np.ones_like(flags[:, alive])].mean() == 1.0
    quiet = ~truth.any(axis=0)
    assert flags[:, alive][:, :, quiet].mean() < 2e-3
    assert flags[:, layout.autocorrelations].all()
    np.testing.assert_array_equal(flags.all(axis=(2, 3)), read_rows(layout))
    assert report.zero_fraction == pytest.approx(zero_share(layout), abs=1e-12)
    require_consistent(ms)


def read_rows(layout: Layout) -> np.ndarray:
    with open_table(layout.path) as table:
        return np.asarray(table.getcol("FLAG_ROW")).reshape(layout.n_times, layout.n_baselines)


def zero_share(layout: Layout) -> float:
    return float((read_column(layout, "DATA") == 0).mean())


def test_the_report_counts_what_was_written(noisy: Case, tmp_path: Path) -> None:
    ms = noisy.copy(tmp_path)
    report = flag_measurement_set(ms, options=FlaggingOptions())
    layout = read_layout(ms)
    flags = read_column(layout, "FLAG")
    cross = ~layout.autocorrelations
    assert report.flagged_fraction == pytest.approx(flags[:, cross].mean())
    np.testing.assert_allclose(
        report.per_subband, [part.mean() for part in np.array_split(flags[:, cross], 16, axis=2)]
    )
    name = layout.antenna_names[layout.antenna1[100]]
    mine = cross & ((layout.antenna1 == layout.antenna1[100]) | (layout.antenna2 == layout.antenna1[100]))
    assert report.per_antenna[name] == pytest.approx(flags[:, mine].mean())
    alive = living(layout, noisy.dead)
    assert report.flagged_fraction_working == pytest.approx(flags[:, alive].mean(), abs=2e-3)
    assert report.strategy == "array_wide"


def test_nothing_is_found_where_nothing_is_wrong(clean: Case, tmp_path: Path) -> None:
    report = flag_measurement_set(clean.copy(tmp_path), options=FlaggingOptions())
    assert report.dead_receptors == []
    assert report.zero_fraction == 0.0
    assert report.flagged_fraction < 2e-3


def test_twice_is_once_and_reset_forgets(noisy: Case, tmp_path: Path) -> None:
    ms = noisy.copy(tmp_path)
    first = flag_measurement_set(ms, options=FlaggingOptions())
    flags = read_column(ms, "FLAG")
    second = flag_measurement_set(ms, options=FlaggingOptions())
    np.testing.assert_array_equal(read_column(ms, "FLAG"), flags)
    assert first.flagged_fraction == second.flagged_fraction
    with rewriting(ms):
        write_column(ms, "FLAG", np.ones_like(flags))
    kept = flag_measurement_set(ms, options=FlaggingOptions(reset=False))
    assert kept.flagged_fraction == 1.0
    flag_measurement_set(ms, options=FlaggingOptions())
    np.testing.assert_array_equal(read_column(ms, "FLAG"), flags)


def test_zeros_and_nan_are_flagged_and_do_not_hide_tones(noisy: Case, tmp_path: Path) -> None:
    ms = noisy.copy(tmp_path)
    layout = read_layout(ms)
    data = read_column(layout, "DATA")
    zeros_before = (data == 0).mean()
    data[2, 40:90, 10:30] = 0
    data[5, 7, 3, 1] = np.nan
    with rewriting(ms):
        write_column(layout, "DATA", data)
    report = flag_measurement_set(ms, options=FlaggingOptions())
    flags = read_column(layout, "FLAG")
    assert flags[2, 40:90, 10:30].all()
    assert flags[5, 7, 3, 1]
    assert report.zero_fraction == pytest.approx(zeros_before + 50 * 20 / np.prod(data.shape[:3]), rel=0.01)
    assert flags[:, living(layout, noisy.dead)][np.broadcast_to(
        array_truth(noisy, layout)[:, None, :, None], flags[:, living(layout, noisy.dead)].shape
    )].all()  # fmt: skip


def test_missing_subbands_stay_flagged_and_are_no_zeros(tmp_path: Path) -> None:
    observed = simulate(
        SimulationOptions(sky=SKY, instrument=InstrumentOptions(n_dead_antennas=0, n_dead_receptors=0), seed=3),
        tmp_path / "raw",
    )
    paths = [path for path in observed.groups[0][1] if not path.name.endswith(("sb03.hdf5", "sb07.hdf5"))]
    ms = tmp_path / "partial.ms"
    convert_group(paths, ms)
    report = flag_measurement_set(ms, options=FlaggingOptions())
    layout = read_layout(ms)
    assert layout.missing_channels.sum() == 16
    assert read_column(layout, "FLAG")[:, :, layout.missing_channels].all()
    assert report.zero_fraction == 0.0
    assert report.flagged_fraction == pytest.approx(2 / 16 + 14 / 16 * report.flagged_fraction_working)
    assert report.flagged_fraction_working < 0.06
    np.testing.assert_array_equal(np.flatnonzero(report.per_subband == 1.0), [15 - 7, 15 - 3])


def test_baseline_strategy_catches_what_few_baselines_see(noisy: Case, tmp_path: Path) -> None:
    """Of the baseline-local tones (12 Jy, 11 sigma, amid a 10 Jy calibrator that may cancel them) more than half."""
    caught = {}
    for strategy in ("array_wide", "baseline"):
        folder = tmp_path / strategy
        folder.mkdir()
        ms = noisy.copy(folder)
        flag_measurement_set(ms, options=FlaggingOptions.model_validate({"strategy": strategy}))
        layout = read_layout(ms)
        flags = read_column(layout, "FLAG").all(axis=3)
        alive = living(layout, noisy.dead)
        local = local_truth(noisy, layout) & alive[:, None] & ~array_truth(noisy, layout)[:, None]
        caught[strategy] = flags[local].mean()
        quiet = ~array_truth(noisy, layout).any(axis=0)
        false = flags[:, alive][:, :, quiet] & ~local_truth(noisy, layout)[:, alive][:, :, quiet]
        assert false.mean() < 2e-3
    assert caught["array_wide"] < 0.05
    assert caught["baseline"] > 0.5


@pytest.mark.parametrize("way", ["program", "wheel"])
def test_aoflagger_adds_to_the_flags(noisy: Case, tmp_path: Path, way: str) -> None:
    if way == "program" and not shutil.which("aoflagger"):
        pytest.skip("the aoflagger program is not installed (Debian package aoflagger)")
    ms = noisy.copy(tmp_path)
    flag_measurement_set(ms, options=FlaggingOptions())
    before = read_column(ms, "FLAG")
    with rewriting(ms):
        assert run_aoflagger(ms, timeout_s=300, prefer_wheel=way == "wheel") == way
    layout = read_layout(ms)
    after = read_column(layout, "FLAG")
    local = local_truth(noisy, layout) & living(layout, noisy.dead)[:, None]
    assert after.all(axis=3)[local].mean() > 0.4
    assert not (before & ~after).any()
    gained = (after & ~before)[:, living(layout, noisy.dead)].mean()
    assert 0 < gained < 0.01


def test_aoflagger_strategy_keeps_earlier_flags(noisy: Case, tmp_path: Path) -> None:
    ms = noisy.copy(tmp_path)
    report = flag_measurement_set(ms, options=FlaggingOptions(strategy="aoflagger"))
    flags = read_column(ms, "FLAG")
    assert set(report.dead_receptors) == noisy.dead
    layout = read_layout(ms)
    assert flags[:, layout.autocorrelations].all()
    assert report.flagged_fraction == pytest.approx(flags[:, ~layout.autocorrelations].mean())


def test_flagdata_strategy(noisy: Case, tmp_path: Path) -> None:
    ms = noisy.copy(tmp_path)
    plain = flag_measurement_set(ms, options=FlaggingOptions())
    report = flag_measurement_set(ms, options=FlaggingOptions(strategy="flagdata"))
    assert plain.flagged_fraction < report.flagged_fraction < plain.flagged_fraction + 0.15
    flags = read_column(ms, "FLAG")
    np.testing.assert_array_equal(flags.all(axis=(2, 3)), read_rows(read_layout(ms)))
    assert not list(ms.parent.glob("*.flagversions"))


def test_a_busy_measurement_set_is_left_alone(noisy: Case, tmp_path: Path) -> None:
    ms = noisy.copy(tmp_path)
    before = read_column(ms, "FLAG")
    with rewriting(ms, step="other"), pytest.raises(LockedError):
        flag_measurement_set(ms, options=FlaggingOptions())
    np.testing.assert_array_equal(read_column(ms, "FLAG"), before)


def test_command_line_of_the_program(tmp_path: Path) -> None:
    command = aoflagger_command(tmp_path / "a.ms", tmp_path / "s.lua", 3)
    expected = ["aoflagger", "-j", "3", "-strategy", f"{tmp_path}/s.lua", "-column", "DATA", f"{tmp_path}/a.ms"]
    assert command == expected
