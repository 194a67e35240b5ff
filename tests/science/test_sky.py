"""The true sky: counts, spectra, variability and the catalogue's errors."""

import numpy as np
import pytest

from dsa110_assets.science.calibrators import find_calibrator
from dsa110_assets.science.components import Components
from dsa110_assets.science.errors import ScienceError, UnknownSourceError
from dsa110_assets.science.flux_scale import perley_butler_2017
from dsa110_assets.science.geometry import separation_deg
from dsa110_assets.science.instrument import REFERENCE_FREQUENCY_HZ
from dsa110_assets.science.lens import gaussian_lens_gain
from dsa110_assets.science.simulation_campaign import plan_campaign
from dsa110_assets.science.simulation_field import (
    Region,
    draw_field,
    make_variable,
    perturb_catalogue,
    steady_sky,
)
from dsa110_assets.science.simulation_options import SimulationOptions, SkyOptions
from dsa110_assets.science.sky import iau_name

FREQUENCIES = np.linspace(1.3114e9, 1.4986e9, 128)


def strip(ra_deg, dec_deg, radius_deg):
    ra = np.atleast_1d(np.asarray(ra_deg, dtype=float))
    return Region(ra, np.full(len(ra), float(dec_deg)), radius_deg)


def test_field_has_the_density_and_the_counts_of_the_nvss():
    region = strip(np.arange(100.0, 160.0, 1.0), 20.0, 5.0)
    field = draw_field(region, 10.0, seed=4)
    span = 60.0 * np.cos(np.radians(20.0))
    area = 10.0 * span + np.pi * 25.0
    density = len(field) / area
    assert density == pytest.approx(10.0, rel=0.05)
    for flux, per_deg2 in ((0.05, 3.698), (0.1, 1.747), (0.3, 0.403)):
        n = int(np.sum(field.flux_jy > flux))
        expected = per_deg2 * area - 0.0189 * area
        assert abs(n - expected) < 4.0 * np.sqrt(expected) + 0.03 * expected


def test_field_is_the_same_sky_in_overlapping_regions_and_across_zero_hours():
    wide = draw_field(strip([358.0, 0.0, 2.0], 54.6, 4.0), 8.0, seed=2)
    narrow = draw_field(strip([359.0], 54.6, 2.0), 8.0, seed=2)
    assert set(narrow.source_id) <= set(wide.source_id)
    near = separation_deg(wide.ra_deg, wide.dec_deg, 359.0, 54.6) <= 2.0
    assert set(wide.source_id[near]) == set(narrow.source_id)
    assert np.any(wide.ra_deg > 355)
    assert np.any(wide.ra_deg < 5)
    assert len(set(draw_field(strip([359.0], 54.6, 2.0), 8.0, seed=3).source_id) & set(narrow.source_id)) == 0


def test_spectral_indices_have_the_observed_median_and_spread():
    field = draw_field(strip(np.arange(0.0, 60.0), 30.0, 5.0), 10.0, seed=1)
    assert np.median(field.spectral_index) == pytest.approx(-0.72, abs=0.03)
    assert 0.05 < np.mean(field.spectral_index > -0.3) < 0.2


def test_primary_calibrator_follows_the_perley_butler_polynomial_not_its_power_law():
    campaign = plan_campaign(SimulationOptions(start="transit:3C286"))
    row = int(np.flatnonzero(campaign.sky.components.source_id == "3C286")[0])
    flux = campaign.sky.flux_jy(FREQUENCIES, 61066.0)[row]
    np.testing.assert_allclose(flux, perley_butler_2017("3C286", FREQUENCIES / 1e9), rtol=1e-12)
    catalogued = campaign.sky.components.flux_at(FREQUENCIES)[row]
    assert np.abs(catalogued / flux - 1.0).max() < 2e-3
    assert perley_butler_2017("3C286", 1.405)[()] == pytest.approx(15.0569, abs=1e-4)


def test_calibrators_are_found_by_any_of_their_names():
    assert find_calibrator("3C48") == find_calibrator("0137+331") == find_calibrator("j0137+331")
    with pytest.raises(UnknownSourceError, match="9999"):
        find_calibrator("9999+999")


def test_a_start_that_is_no_time_is_refused():
    with pytest.raises(ScienceError, match="tomorrow"):
        plan_campaign(SimulationOptions(start="tomorrow"))


def test_lensed_source_follows_the_chromatic_gaussian_lens_with_date():
    components = Components(
        np.array(["a", "b"]), np.array([10.0, 10.2]), np.array([16.0, 16.1]), np.array([0.5, 0.3]),
        np.array([1.4, 1.4]), np.array([0.0, 0.0]),
    )  # fmt: skip
    options = SkyOptions(n_lensed=0, lensed=("b",), lens_strength=5.0, lens_source_fwhm=0.3, flickering_fraction=0.0)
    sky = make_variable(steady_sky(components), strip([10.0], 16.0, 2.0), options, mid_mjd=60000.0, seed=1)
    assert list(sky.kind) == ["steady", "lensed"]
    for mjd in (60000.0, 60030.0, 60000.0 + 40.0 * 2.4, 60400.0):
        flux = sky.flux_jy(FREQUENCIES, mjd)
        np.testing.assert_allclose(flux[0], 0.5, rtol=1e-12)
        for k in (0, 64, 127):
            strength = 5.0 * (REFERENCE_FREQUENCY_HZ / FREQUENCIES[k]) ** 2
            gain = gaussian_lens_gain(np.array([(mjd - 60000.0) / 40.0]), strength, source_fwhm=0.3)[0]
            assert flux[1, k] == pytest.approx(0.3 * gain, rel=2e-3)
    middle = sky.flux_jy(FREQUENCIES, 60000.0)[1]
    assert middle[0] < middle[-1] < 0.1


def test_flickering_sources_have_their_modulation_and_time_scale():
    region = strip(np.arange(0.0, 20.0), 16.0, 2.0)
    options = SkyOptions(n_lensed=0, flickering_fraction=0.5, flicker_modulation=0.1)
    sky = make_variable(steady_sky(draw_field(region, 8.0, 5)), region, options, mid_mjd=0.0, seed=5)
    flickers = sky.kind == "flickering"
    assert np.mean(flickers) == pytest.approx(0.5, abs=0.06)
    days = 60000.0 + np.arange(0.0, 400.0, 2.0)
    logs = np.log(np.stack([sky.flux_jy(REFERENCE_FREQUENCY_HZ, d)[:, 0] for d in days]))
    assert np.median(logs[:, flickers].std(axis=0)) == pytest.approx(0.1, rel=0.1)
    assert np.ptp(logs[:, ~flickers], axis=0).max() == 0.0
    step = np.sqrt(np.mean((logs[1:, flickers] - logs[:-1, flickers]) ** 2))
    assert step == pytest.approx(0.054, rel=0.15)  # red spectrum of 5-50 d at a lag of 2 d


def test_blazar_calibrator_varies_over_months_while_a_primary_one_does_not():
    def curve(name, days):
        options = SimulationOptions(start=f"transit:{name}", sky=SkyOptions(blazar_modulation=0.15))
        sky = plan_campaign(options).sky
        row = int(np.flatnonzero(sky.components.source_id == name)[0])
        return np.array([sky.flux_jy(1.405e9, d)[row, 0] for d in days]), str(sky.kind[row])

    days = 61000.0 + np.arange(0.0, 3000.0, 10.0)
    blazar, kind = curve("2253+161", days)
    assert kind == "blazar"
    assert np.log(blazar).std() == pytest.approx(0.15, rel=0.35)
    assert np.std(np.diff(np.log(blazar))) == pytest.approx(0.037, rel=0.4)  # periods of 80-500 d at a lag of 10 d
    primary, kind = curve("3C48", days)
    assert kind == "calibrator"
    assert np.ptp(primary) == 0.0


def test_catalogue_errors_are_as_asked_for_and_spare_calibrators():
    region = strip(np.arange(0.0, 40.0), 16.0, 3.0)
    sky = steady_sky(draw_field(region, 10.0, 7))
    kind = sky.kind.copy()
    kind[0] = "calibrator"
    options = SkyOptions(catalogue_position_error_arcsec=1.0, catalogue_flux_error=0.15, uncatalogued_fraction=0.1)
    wrong = perturb_catalogue(type(sky)(**{**vars(sky), "kind": kind}), options, seed=7)
    known = np.flatnonzero(wrong.catalogue_row >= 0)
    assert 1.0 - len(known) / len(sky) == pytest.approx(0.1, abs=0.025)
    believed, true = wrong.catalogue.select(wrong.catalogue_row[known]), wrong.components.select(known)
    d_dec = (believed.dec_deg - true.dec_deg) * 3600.0
    d_ra = (believed.ra_deg - true.ra_deg) * 3600.0 * np.cos(np.radians(true.dec_deg))
    for shift in (d_ra[1:], d_dec[1:]):
        assert shift.std() == pytest.approx(1.0, rel=0.06)
        assert abs(shift.mean()) < 0.1
    assert np.std(np.log(believed.flux_jy[1:] / true.flux_jy[1:])) == pytest.approx(0.15, rel=0.06)
    assert d_ra[0] == d_dec[0] == 0.0
    assert believed.flux_jy[0] == true.flux_jy[0]
    assert believed.source_id[5] == true.source_id[5] == iau_name(believed.ra_deg[5], believed.dec_deg[5])


@pytest.mark.parametrize(
    ("ra", "dec", "name"),
    [
        (188.736250, 42.0533334, "NVSS J123456.7+420312"),
        (0.0, -0.5, "NVSS J000000.0-003000"),
        (359.99999, 71.7, "NVSS J235959.9+714200"),
    ],
)
def test_iau_names_are_truncated(ra, dec, name):
    assert iau_name(ra, dec) == name
