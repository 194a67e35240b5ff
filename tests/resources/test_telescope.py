"""The simulated telescope on disk: what a pipeline would find, against the truth beside it."""

import os
import shutil

import h5py
import numpy as np
import pandas as pd
import pytest
from astropy.io import fits

from dsa110_assets.science.beam import airy_power
from dsa110_assets.science.components import Components
from dsa110_assets.science.geometry import icrs_to_itrs, meridian_direction
from dsa110_assets.science.instrument import array_configuration
from dsa110_assets.science.simulation_options import InstrumentOptions, SimulationOptions, SkyOptions
from dsa110_assets.science.simulation_schedule import apparent_dec_deg
from dsa110_resources.catalogues import read_component_catalogue, write_component_catalogue
from dsa110_resources.errors import DiskFullError
from dsa110_resources.telescope import Pace, simulate

SMALL = array_configuration("small")
EMPTY_SKY = SkyOptions(density_per_deg2=0.0)
PERFECT = InstrumentOptions(gains=False, sefd_jy=0.0, rfi=False, n_dead_antennas=0, n_dead_receptors=0)


@pytest.fixture(scope="module")
def observed(tmp_path_factory):
    """Three consecutive groups with everything on."""
    return simulate(SimulationOptions(n_groups=3, seed=5), tmp_path_factory.mktemp("sky"))


def read_raw(paths):
    """Visibilities (time, baseline, channel descending, pol), frequencies, times and antenna rows of a group."""
    parts, frequency = [], []
    for path in sorted(paths, key=lambda p: p.name.split("_sb")[1]):
        with h5py.File(path) as file:
            parts.append(file["Data/visdata"][:, 0].reshape(8, 528, 8, 2))
            frequency.append(file["Header/freq_array"][0])
            times = file["Header/time_array"][:].reshape(8, 528)[:, 0]
            antennas = file["Header/ant_1_array"][:528], file["Header/ant_2_array"][:528]
            dec = file["Header/extra_keywords/phase_center_dec"][()]
    return np.concatenate(parts, axis=2), np.concatenate(frequency), times, antennas, dec


def calibrated(observation, group, components):
    """Raw data over true gains, rotated to a source: its mean is the source's apparent flux."""
    group_id, paths = observation.groups[group]
    vis, frequency, times, (first, second), dec = read_raw(paths)
    truth = np.load(observation.truth_dir / "instrument" / f"{group_id.replace('T', '_').replace(':', '_')}.npz")
    row = {int(s) - 1: k for k, s in enumerate(truth["stations"])}
    one, two = np.array([row[a] for a in first]), np.array([row[a] for a in second])
    gains = truth["gains"][:, :, None] * truth["bandpass"][None, :, ::-1]
    np.testing.assert_allclose(truth["frequencies_hz"][::-1], frequency)
    np.testing.assert_allclose(truth["times_mjd"] + 2400000.5, times)
    offset = icrs_to_itrs(components.ra_deg[:1], components.dec_deg[:1], times)[:, 0] - meridian_direction(dec)
    baseline = SMALL.antenna_positions_m[second] - SMALL.antenna_positions_m[first]
    phase = np.exp(2j * np.pi * (baseline @ offset.T).T[..., None] * frequency / 299792458.0)
    rogue = np.abs(truth["delay_ns"]).max(axis=1) > 50.0
    good = (first != second) & ~(truth["dead"].any(axis=1) | rogue)[one] & ~(truth["dead"].any(axis=1) | rogue)[two]
    corrected = vis / (gains[:, one].conj() * gains[:, two]) * phase.conj()[..., None]
    return corrected[:, good], (first, second)


def test_sixteen_files_a_group_named_by_the_wall_clock_and_none_left_incomplete(observed):
    assert len(observed.groups) == 3
    for group_id, paths in observed.groups:
        assert sorted(p.name[-9:] for p in paths) == [f"sb{k:02d}.hdf5" for k in range(16)]
        names = {p.name.split("_sb")[0] for p in paths}
        assert all(abs((np.datetime64(n) - np.datetime64(group_id)).astype(int)) <= 82 for n in names)
    everything = sorted(p.name for p in observed.truth_dir.parent.glob("*.hdf5"))
    assert everything == sorted(p.name for _, paths in observed.groups for p in paths)
    assert not any("incomplete" in name for name in everything)


def test_header_time_is_bit_identical_in_a_group_and_steps_by_repeated_addition(observed):
    starts = []
    for _, paths in observed.groups:
        times = []
        for path in paths:
            with h5py.File(path) as file:
                times.append(file["Header/time_array"][:].tobytes())
        assert len(set(times)) == 1
        starts.append(np.frombuffer(times[0])[0])
    np.testing.assert_allclose(np.diff(starts) * 86400.0, 24 * 12.884903, atol=1e-4)
    clock = starts[0]
    for _ in range(24):
        clock += 96 * 0.134217728 / 86400.0
    assert clock == starts[1]


def test_calibrator_stands_at_its_flux_and_place_in_the_raw_data(observed):
    """conj(A) B with +2 pi (x_B - x_A).s: ten janskys at 2253+161, nothing in the imaginary part."""
    catalogue = read_component_catalogue(observed.catalogue_path)
    calibrator = catalogue.select(np.flatnonzero(catalogue.source_id == "2253+161"))
    corrected, _ = calibrated(observed, 0, calibrator)
    fluxes = pd.read_parquet(observed.truth_dir / "fluxes.parquet")
    mine = fluxes[(fluxes.group_id == observed.groups[0][0]) & (fluxes.source_id == "2253+161")].iloc[0]
    rfi = pd.read_parquet(observed.truth_dir / "rfi.parquet")
    clean = np.setdiff1d(np.arange(128), rfi[rfi.group_id == mine.group_id].channel)
    samples = corrected[:, :, 127 - clean]
    median = np.median(samples.real)
    assert median == pytest.approx(mine.flux_jy * mine.primary_beam, abs=0.08)
    assert abs(np.median(samples.imag)) < 0.05


def test_consecutive_groups_share_the_gains_truth_and_the_sky(observed):
    files = sorted((observed.truth_dir / "instrument").glob("*.npz"))
    first, second = (np.load(f) for f in files[:2])
    np.testing.assert_array_equal(first["bandpass"], second["bandpass"])
    turn = np.degrees(np.angle(second["gains"][0] * first["gains"][-1].conj()))
    assert 0.0 < np.abs(turn).max() < 8.0
    fluxes = pd.read_parquet(observed.truth_dir / "fluxes.parquet")
    steady = fluxes[fluxes.kind == "steady"].groupby("source_id").flux_jy
    assert (steady.max() == steady.min()).all()
    groups = pd.read_parquet(observed.truth_dir / "groups.parquet")
    assert list(groups.group_id) == [g for g, _ in observed.groups]
    assert groups.n_sources.min() > 150


def test_true_fluxes_are_given_per_subband_too(observed):
    """Subband 0 is the highest: a steep source is faintest there."""
    fluxes = pd.read_parquet(observed.truth_dir / "fluxes.parquet").set_index("source_id")
    sources = pd.read_parquet(observed.truth_dir / "sources.parquet").set_index("source_id")
    steady = fluxes[(fluxes.group_id == observed.groups[0][0]) & (fluxes.kind == "steady")]
    spectra = np.stack(steady.subband_fluxes_jy)
    assert spectra.shape == (len(steady), 16)
    alpha = np.log(spectra[:, 0] / spectra[:, 15]) / np.log(1492.9058837890625 / 1317.1246337890625)
    np.testing.assert_allclose(alpha, sources.spectral_index[steady.index], rtol=1e-6, atol=1e-9)


def test_sources_table_holds_true_and_believed_positions(observed):
    sources = pd.read_parquet(observed.truth_dir / "sources.parquet")
    catalogue = read_component_catalogue(observed.catalogue_path)
    assert sources.is_catalogued.all()
    np.testing.assert_array_equal(sources.catalogue_ra_deg, catalogue.ra_deg)
    assert (sources.kind == "calibrator").sum() >= 1


def test_same_options_write_the_same_bytes_of_data(tmp_path):
    options = SimulationOptions(seed=3, sky=SkyOptions(density_per_deg2=1.0))
    one, two = (simulate(options, tmp_path / name) for name in "ab")
    vis = [read_raw(o.groups[0][1])[0] for o in (one, two)]
    np.testing.assert_array_equal(*vis)
    other = simulate(options.model_copy(update={"seed": 4}), tmp_path / "c")
    assert not np.array_equal(vis[0], read_raw(other.groups[0][1])[0])


def test_nvss_file_has_the_columns_of_the_real_one(observed, shared_data):
    with fits.open(observed.nvss_path) as mine, fits.open(shared_data / "catalogs" / "NVSSVZ.FIT.gz") as real:
        assert [c.name for c in mine[1].columns] == [c.name.strip() for c in real[1].columns]
        assert [c.format for c in mine[1].columns] == [c.format for c in real[1].columns]
        assert [(c.unit or "").strip() for c in mine[1].columns] == [(c.unit or "").strip() for c in real[1].columns]
        assert mine[1].name.strip() == real[1].name.strip()
        assert mine[1].header["REF_FREQ"] == real[1].header["REF_FREQ"]


def test_nvss_file_holds_the_catalogue_at_1400_mhz(observed):
    catalogue = read_component_catalogue(observed.catalogue_path)
    with fits.open(observed.nvss_path) as file:
        table = file[1].data
        order = np.argsort(catalogue.ra_deg, kind="stable")
        np.testing.assert_array_equal(table["RA(2000)"], catalogue.ra_deg[order])
        np.testing.assert_allclose(table["PEAK INT"], catalogue.flux_at(1.4e9)[order, 0], rtol=1e-6)
        assert (table["QUAL"] == 0).all()


def one_source(**changes):
    values = {"ra_deg": 10.0, "dec_deg": 37.5, "flux_jy": 2.0, "freq_ghz": 1.4, "spectral_index": -0.7} | changes
    return Components(np.array(["mine"]), *(np.array([v]) for v in values.values()))


def test_catalogue_is_the_whole_sky_and_its_sources_can_start_a_transit(tmp_path):
    write_component_catalogue(tmp_path / "mine.csv", one_source())
    options = SimulationOptions(
        start="transit:mine@2025-11-02", catalogue=tmp_path / "mine.csv", sky=SkyOptions(), instrument=PERFECT
    )
    observation = simulate(options, tmp_path / "out")
    sources = pd.read_parquet(observation.truth_dir / "sources.parquet")
    assert list(sources.source_id) == ["mine"]
    corrected, _ = calibrated(observation, 0, one_source())
    frequency = np.concatenate([SMALL.frequencies_hz(s) for s in range(16)])
    offset = np.radians((np.arange(8) - 3.5) * 193.8 / 3600.0 * np.cos(np.radians(37.6)))
    expected = one_source().flux_at(frequency)[0] * airy_power(offset[:, None], frequency).mean(axis=0)
    np.testing.assert_allclose(corrected.mean(axis=(0, 1, 3)).real, expected, rtol=3e-4)
    assert np.abs(corrected.imag).max() < 0.02


def test_named_calibrator_joins_a_catalogue_that_lacks_it(tmp_path):
    write_component_catalogue(tmp_path / "mine.csv", one_source(ra_deg=343.0, dec_deg=16.0))
    options = SimulationOptions(catalogue=tmp_path / "mine.csv", instrument=PERFECT)
    observation = simulate(options, tmp_path / "out")
    assert list(read_component_catalogue(observation.catalogue_path).source_id) == ["2253+161", "mine"]


def test_wider_beam_and_pointing_are_really_in_the_data(tmp_path):
    source = one_source(dec_deg=38.6)
    write_component_catalogue(tmp_path / "mine.csv", source)
    flux = {}
    for factor in (1.0, 1.03):
        options = SimulationOptions(
            start="transit:mine", dec_deg=37.6, catalogue=tmp_path / "mine.csv",
            instrument=PERFECT.model_copy(update={"beam_width_factor": factor}),
        )  # fmt: skip
        observation = simulate(options, tmp_path / str(factor))
        beam = pd.read_parquet(observation.truth_dir / "fluxes.parquet").primary_beam.iloc[0]
        flux[factor] = calibrated(observation, 0, source)[0][:, :, 60].real.mean()
        assert flux[factor] == pytest.approx(beam * source.flux_at(1.41e9)[0, 0], rel=0.02)
    offset = np.radians(apparent_dec_deg(10.0, 38.6, 2461066.0) - 37.6)
    expected = airy_power(offset, 1.41e9, diameter_m=4.65 / 1.03) / airy_power(offset, 1.41e9)
    assert flux[1.03] / flux[1.0] == pytest.approx(expected, abs=1e-3)


def test_days_write_one_field_at_the_same_sidereal_time(tmp_path):
    options = SimulationOptions(n_days=3, sky=EMPTY_SKY, instrument=PERFECT)
    observation = simulate(options, tmp_path)
    starts = [np.datetime64(group_id) for group_id, _ in observation.groups]
    assert set(np.diff(starts).astype(int)) <= {86164, 86165}
    catalogue = read_component_catalogue(observation.catalogue_path)
    for day in range(3):
        corrected, _ = calibrated(observation, day, catalogue.select(np.flatnonzero(catalogue.flux_jy == 10.0)))
        assert np.median(corrected.real) == pytest.approx(10.0, rel=0.01)


def test_watch_publishes_groups_in_scaled_time_the_late_node_last(tmp_path):
    now, seen = [0.0], []

    def sleep(seconds):
        seen.append((now[0], len(list(tmp_path.glob("*_sb??.hdf5")))))
        now[0] += seconds

    options = SimulationOptions(n_groups=2, sky=EMPTY_SKY, instrument=PERFECT, faults=("late:1:4",), name_skew=False)
    simulate(options, tmp_path, pace=Pace(speed=60.0, sleep=sleep, clock=lambda: now[0]))
    group_s = 8 * 12.884903
    assert [n for _, n in seen] == list(range(32))
    starts = [t for t, n in seen if n in (1, 17)]
    assert group_s / 60.0 <= starts[0] <= (group_s + 15.0) / 60.0
    assert (309.2377 + group_s) / 60.0 <= starts[1] <= (309.2377 + group_s + 15.0) / 60.0
    assert (309.2377 + group_s + 59.0) / 60.0 <= now[0] <= (309.2377 + group_s + 97.1) / 60.0


def test_a_disk_too_small_is_refused_before_anything_is_written(tmp_path, monkeypatch):
    usage = shutil.disk_usage(tmp_path)._replace(free=10**9)
    monkeypatch.setattr("dsa110_resources.telescope.shutil.disk_usage", lambda path: usage)
    with pytest.raises(DiskFullError, match=r"2\.3 GB are needed and 1\.0 GB are free"):
        simulate(SimulationOptions(array="full"), tmp_path)
    assert not list(tmp_path.iterdir())


@pytest.mark.truth
def test_cost_of_a_full_group_of_two_hundred_sources(tmp_path):
    """Under 30 CPU-seconds and 2.33 GB; a small group, compiled code loaded, under 3."""
    for array, limit_s in (("small", 6.0), ("small", 3.0), ("full", 30.0)):
        before = os.times()
        observation = simulate(SimulationOptions(array=array), tmp_path / array)
        after = os.times()
        assert after.user + after.system - before.user - before.system < limit_s
    assert 180 < pd.read_parquet(observation.truth_dir / "groups.parquet").n_sources[0] < 230
    assert sum(p.stat().st_size for p in observation.groups[0][1]) == pytest.approx(2_325_577_600, rel=1e-4)
