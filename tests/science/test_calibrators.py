"""The calibrator list, its flux anchors and the choice by transit."""

import csv

import numpy as np
import pytest

from dsa110_assets.science.calibrators import (
    anchor_components,
    calibrator_component,
    find_calibrator,
    find_transits,
    read_calibrators,
)
from dsa110_assets.science.components import Components
from dsa110_assets.science.errors import UnknownSourceError
from dsa110_assets.science.flux_scale import PERLEY_BUTLER_2017, perley_butler_2017
from dsa110_assets.science.instrument import GROUP_SPACING_S
from dsa110_assets.science.transit import apparent_declination_deg, transit_time_mjd


def field(*rows):
    ra, dec, flux = (np.array(column, dtype=float) for column in zip(*rows, strict=True))
    n = len(ra)
    return Components(np.array([f"S{k}" for k in range(n)]), ra, dec, flux, np.full(n, 1.4), np.full(n, -0.7))


def test_the_list_is_the_vla_one(shared_data):
    with (shared_data / "catalogs" / "vla_20cm_calibrators_derived.csv").open() as stream:
        rows = {row["name"]: row for row in csv.DictReader(stream)}
    ours = {c.name: c for c in read_calibrators()}
    assert set(rows) <= set(ours)
    for name, row in rows.items():
        assert ours[name].ra_deg == pytest.approx(float(row["ra_deg"]), abs=1e-6)
        assert ours[name].dec_deg == pytest.approx(float(row["dec_deg"]), abs=1e-6)
        assert ours[name].flux_jy == pytest.approx(float(row["flux_20cm_jy"]), rel=1e-6)


def test_every_primary_source_is_in_the_list_where_it_should_be():
    names = {c.scale_name: c for c in read_calibrators() if c.scale_name}
    assert set(names) == set(PERLEY_BUTLER_2017)
    for scale, (ra, dec) in {
        "3C48": (24.42208, 33.15976),
        "3C286": (202.78453, 30.50916),
        "3C123": (69.26823, 29.67050),
        "3C196": (123.40022, 48.21729),
    }.items():
        assert (names[scale].ra_deg, names[scale].dec_deg) == pytest.approx((ra, dec), abs=2e-4)


@pytest.mark.parametrize("name", ["2253+161", "3C454.3", "3c454.3", "J2253+161"])
def test_a_calibrator_has_many_names(name):
    assert find_calibrator(name).name == "2253+161"


def test_an_unknown_name_is_told():
    with pytest.raises(UnknownSourceError, match="9999"):
        find_calibrator("9999+999")


@pytest.mark.parametrize("scale", sorted(PERLEY_BUTLER_2017))
def test_a_primary_component_follows_its_scale_over_the_band(scale):
    component = calibrator_component(find_calibrator(scale))
    frequencies = np.array([1.311e9, 1.405e9, 1.499e9])
    np.testing.assert_allclose(
        component.flux_at(frequencies)[0], perley_butler_2017(scale, frequencies / 1e9), rtol=1e-3
    )
    assert component.flux_at(1.405e9)[0, 0] == pytest.approx(perley_butler_2017(scale, 1.405), rel=2e-5)


def test_the_calibrator_of_a_group_is_the_one_that_transits_in_it():
    entry = find_calibrator("2253+161")
    transit = transit_time_mjd(entry.ra_deg, entry.dec_deg, 61065.9)
    dec = apparent_declination_deg(entry.ra_deg, entry.dec_deg, transit)
    length = GROUP_SPACING_S / 86400
    found = find_transits(transit - 0.3 * length, transit + 0.7 * length, dec)
    assert found[0].calibrator == entry
    assert found[0].transit_mjd == pytest.approx(transit, abs=1e-8)
    assert found[0].response == pytest.approx(1.0, abs=1e-9)
    assert found[0].apparent_jy == pytest.approx(10.0)
    assert not any(t.calibrator == entry for t in find_transits(transit + 0.1 * length, transit + length, dec))


def test_the_beam_decides_and_primaries_come_first():
    day = (61000.0, 61000.9972)
    found = find_transits(*day, 33.1)
    assert found[0].calibrator.scale_name == "3C48"
    assert all(t.response >= 0.5 for t in found)
    assert all(t.calibrator.flux_jy >= 1.0 for t in found)
    fluxes = [t.apparent_jy for t in found if not t.calibrator.scale_name and t.calibrator.quality != "X"]
    assert fluxes == sorted(fluxes, reverse=True)
    # half power is 1.36 deg at 1405 MHz: 3C48 is lost 1.5 deg away
    assert "3C48" not in {t.calibrator.scale_name for t in find_transits(*day, 34.8)}
    assert find_transits(*day, -75.0) == []


def test_anchor_of_a_primary_is_the_scale_whatever_the_catalogue_says():
    entry = find_calibrator("3C286")
    sky = field((entry.ra_deg, entry.dec_deg + 3 / 3600, 99.0), (entry.ra_deg + 0.5, entry.dec_deg, 0.3))
    model, anchor = anchor_components(entry, sky, trust_catalogue=True)
    assert anchor == "perley_butler_2017"
    assert len(model) == 2
    assert model.flux_at(1.405e9)[:, 0].max() == pytest.approx(15.0569, rel=1e-4)


def test_anchor_of_a_blazar_is_the_list_or_a_catalogue_of_the_epoch():
    entry = find_calibrator("2253+161")
    sky = field((entry.ra_deg, entry.dec_deg, 12.7), (entry.ra_deg + 0.5, entry.dec_deg, 0.3))
    model, anchor = anchor_components(entry, sky, trust_catalogue=False)
    assert anchor == "vla_catalogue"
    assert model.flux_jy.max() == 10.0
    assert len(model) == 2
    model, anchor = anchor_components(entry, sky, trust_catalogue=True)
    assert anchor == "catalogue_field"
    assert model.flux_jy.max() == 12.7
    lonely, anchor = anchor_components(entry, field((10.0, 10.0, 1.0)), trust_catalogue=True)
    assert anchor == "vla_catalogue"
    assert len(lonely) == 2
