"""The master catalogue from surveys whose truth is known."""

import numpy as np
import pandas as pd
import pytest

from dsa110_assets.science.catalogue import (
    CatalogueOptions,
    SurveyTable,
    build_sources,
    fit_spectra,
    is_covered,
    select_references,
)
from dsa110_assets.science.catalogue_columns import (
    CatalogueError,
    find_columns,
    flux_unit_of,
    require_plausible_fluxes,
    require_positions,
)
from dsa110_assets.science.errors import UnknownSourceError
from dsa110_assets.science.surveys import SURVEYS, find_surveys, require_survey

ARCSEC = 1.0 / 3600.0


def table(survey: str, ra: object, dec: object, flux: object, **columns: object) -> SurveyTable:
    """Return a survey of the given sources; what is not given is unknown."""
    n = len(np.atleast_1d(np.asarray(ra)))
    names = ("flux_err_jy", "ra_err_arcsec", "dec_err_arcsec", "maj_arcsec", "min_arcsec", "pa_deg")
    values = {name: np.broadcast_to(np.asarray(columns.get(name, np.nan), dtype=float), n) for name in names}
    positions = (np.broadcast_to(np.asarray(value, dtype=float), n) for value in (ra, dec, flux))
    extra = {name: columns[name] for name in ("source_id", "alpha") if name in columns}
    return SurveyTable(require_survey(survey), *positions, **values, **extra)


def scattered(n: int = 400, seed: int = 3) -> tuple[np.ndarray, np.ndarray]:
    """Return positions in a 6° × 6° field at least 60″ apart."""
    generator = np.random.default_rng(seed)
    grid = np.stack(np.meshgrid(np.arange(20), np.arange(20)), axis=-1).reshape(-1, 2)[:n]
    offsets = (grid * 0.3 + generator.uniform(-0.1, 0.1, (n, 2))).T
    return 150.0 + offsets[0], 13.0 + offsets[1]


def test_matches_carry_fluxes_separations_and_counts() -> None:
    ra, dec = scattered()
    nvss = table("nvss", ra, dec, 0.1)
    vlass = table("vlass", ra[:100], dec[:100] + 2.0 * ARCSEC, 0.05)
    sources = build_sources(nvss, {"vlass": vlass})
    np.testing.assert_array_equal(sources["s_vlass"], np.where(np.arange(400) < 100, 0.05, np.nan))
    np.testing.assert_allclose(sources["sep_vlass_arcsec"][:100], 2.0, atol=1e-6)
    assert sources["s_first"].isna().all()
    assert sources["n_first"].isna().all()
    assert sources["resolved_flag"].isna().all()


def test_spectral_index_and_error_follow_the_two_point_formula() -> None:
    ra, dec = scattered(3)
    nvss = table("nvss", ra, dec, 0.100, flux_err_jy=0.005)
    vlass = table("vlass", ra, dec, 0.05865, flux_err_jy=0.003)
    sources = build_sources(nvss, {"vlass": vlass})
    np.testing.assert_allclose(sources["alpha"], np.log(0.05865 / 0.1) / np.log(3.0 / 1.4), rtol=1e-12)
    np.testing.assert_allclose(sources["alpha"], -0.700, atol=5e-4)
    np.testing.assert_allclose(sources["alpha_err"], 0.094, atol=5e-4)
    assert (sources["alpha_surveys"] == "nvss,vlass").all()


def test_three_frequencies_give_the_weighted_line() -> None:
    freq = np.array([0.8875, 1.4, 3.0])
    generator = np.random.default_rng(5)
    error = np.broadcast_to([0.002, 0.001, 0.0005], (5000, 3))
    flux = 0.1 * freq**-0.8 + error * generator.standard_normal((5000, 3))
    alpha, alpha_err = fit_spectra(freq, flux, error)
    assert abs(np.mean(alpha) + 0.8) < 4 * alpha_err.mean() / np.sqrt(5000)
    assert np.std((alpha + 0.8) / alpha_err) == pytest.approx(1.0, abs=0.04)
    slope = np.polyfit(np.log(freq), np.log(flux[0]), 1, w=flux[0] / error[0])[0]
    assert alpha[0] == pytest.approx(slope, rel=1e-10)


def test_frequencies_that_are_too_near_give_no_spectral_index() -> None:
    ra, dec = scattered(4)
    sources = build_sources(table("nvss", ra, dec, 0.1), {"racs": table("racs_mid", ra, dec, 0.102)})
    assert sources["alpha"].isna().all()
    assert sources["alpha_surveys"].isna().all()
    np.testing.assert_array_equal(sources["racs_freq_ghz"], 1.3675)


def test_first_at_the_frequency_of_nvss_does_not_bend_the_spectrum() -> None:
    ra, dec = scattered(4)
    others = {"vlass": table("vlass", ra, dec, 0.06), "first": table("first", ra, dec, 0.02)}
    alone = build_sources(table("nvss", ra, dec, 0.1), {"vlass": others["vlass"]})
    np.testing.assert_array_equal(build_sources(table("nvss", ra, dec, 0.1), others)["alpha"], alone["alpha"])


def test_what_a_survey_does_not_cover_is_not_a_non_detection() -> None:
    ra, dec = scattered()
    nvss = table("nvss", np.append(ra, 250.0), np.append(dec, 15.0), 0.1)
    field = np.random.default_rng(8).uniform(0.0, 5.7, (2, 3000))
    first = table("first", 150.0 + field[0], 13.0 + field[1], 0.003)
    sources = build_sources(nvss, {"first": first}, options=CatalogueOptions(match_radius_arcsec=1.0))
    assert pd.isna(sources["n_first"].iloc[-1])
    assert (sources["n_first"].iloc[:-1].dropna() == 0).mean() > 0.9
    assert sources["n_first"].iloc[:-1].notna().mean() > 0.95
    south = is_covered(table("racs_low", [150.0] * 5, [45.0] * 5, 0.1), [150.0], [45.0])
    assert not south.any()


def test_sizes_make_sources_resolved_and_unknown_stays_unknown() -> None:
    ra, dec = scattered(3)
    first = table("first", ra[:2], dec[:2], 0.1, maj_arcsec=[2.0, 9.0], min_arcsec=[1.0, 3.0], pa_deg=[10.0, 80.0])
    sources = build_sources(table("nvss", ra, dec, 0.1), {"first": first})
    assert sources["resolved_flag"].tolist()[:2] == [False, True]
    assert pd.isna(sources["resolved_flag"].iloc[2])
    assert sources["first_size_pa_deg"].iloc[1] == 80.0


def test_several_matches_and_near_neighbours_confuse() -> None:
    ra, dec = scattered(4)
    vlass = table("vlass", ra[[0, 0]], dec[[0, 0]] + np.array([-2.0, 2.0]) * ARCSEC, 0.05)
    nvss = table("nvss", np.append(ra, ra[3]), np.append(dec, dec[3] + 40.0 * ARCSEC), 0.1)
    sources = build_sources(nvss, {"vlass": vlass})
    assert sources["confusion_flag"].tolist() == [True, False, False, True, True]


def test_references_are_bright_usual_compact_alone_and_steady() -> None:
    ra, dec = scattered(7)
    flux = np.array([0.1, 0.0036, 0.1, 0.1, 0.1, 0.1, 0.1])
    vlass = table("vlass", ra[[0, 2]], dec[[0, 2]], [0.058, 0.3])
    first = table("first", ra[[3]], dec[[3]], 0.1, maj_arcsec=20.0)
    nvss = table("nvss", np.append(ra, ra[4]), np.append(dec, dec[4] + 20 * ARCSEC), np.append(flux, 0.1))
    names = build_sources(nvss)["source_id"]
    sources = build_sources(nvss, {"vlass": vlass, "first": first}, known_variables=[names[5]])
    good = select_references(sources, final=False)
    final = select_references(sources)
    assert sources["snr_nvss"].iloc[1] == pytest.approx(8.0)
    assert good.tolist() == [True, True, False, False, False, False, True, False]
    assert final.tolist() == [True, False, False, False, False, False, True, False]


def test_a_fixed_list_replaces_the_rule_but_admits_no_known_variable() -> None:
    ra, dec = scattered(3)
    names = build_sources(table("nvss", ra, dec, 0.0005))["source_id"].tolist()
    sources = build_sources(table("nvss", ra, dec, 0.0005), known_variables=names[:1])
    options = CatalogueOptions(reference_ids=tuple(names[:2]))
    assert select_references(sources, options=options).tolist() == [False, True, False]
    with pytest.raises(CatalogueError, match="1 fixed references are not in the catalogue: NVSS J0"):
        select_references(sources, options=CatalogueOptions(reference_ids=("NVSS J0",)))


def test_errors_of_nvss_are_modelled_when_the_file_has_none() -> None:
    sources = build_sources(table("nvss", [10.0, 20.0], [5.0, 5.0], [0.0045, 1.0]))
    np.testing.assert_allclose(sources["s_nvss_err"], np.hypot(0.00045, 0.03 * np.array([0.0045, 1.0])))
    np.testing.assert_allclose(sources["snr_nvss"], [10.0, 1.0 / 0.00045])
    np.testing.assert_allclose(sources["dec_err_arcsec"], np.hypot(0.56, [2.25, 22.5 * 0.00045]))


def test_a_scale_error_in_the_file_does_not_bound_the_signal_to_noise_ratio() -> None:
    sources = build_sources(table("nvss", [10.0], [5.0], 1.0, flux_err_jy=np.hypot(0.03, 0.0005)))
    assert sources["snr_nvss"].iloc[0] == pytest.approx(2000.0, rel=1e-6)
    assert sources["s_nvss_err"].iloc[0] == pytest.approx(np.hypot(0.03, 0.0005))


def test_the_master_catalogue_is_built_from_nvss_only() -> None:
    with pytest.raises(CatalogueError, match="not from first"):
        build_sources(table("first", [1.0], [1.0], 0.1))


@pytest.mark.parametrize(
    ("names", "ra", "flux"),
    [
        (["RA(2000)", "DEC(2000)", "PEAK INT", "QUAL"], "RA(2000)", "PEAK INT"),
        (["_RAJ2000", "_DEJ2000", "NVSS", "RAJ2000", "DEJ2000", "S1.4", "e_S1.4"], "_RAJ2000", "S1.4"),
        (["RAJ2000", "DEJ2000", "Fpeak", "Fint", "Rms", "Maj", "Min", "PA", "fMaj"], "RAJ2000", "Fint"),
        (["Component_name", "RA", "DEC", "Total_flux", "Peak_flux", "DC_Maj", "Maj"], "RA", "Total_flux"),
        (["source_id", "ra_deg", "dec_deg", "flux_jy", "freq_ghz"], "ra_deg", "flux_jy"),
    ],
)
def test_columns_of_known_files_are_recognised(names: list[str], ra: str, flux: str) -> None:
    found = find_columns(names)
    assert (found["ra"], found["flux"]) == (ra, flux)
    if "DC_Maj" in names:
        assert found["maj"] == "DC_Maj"


def test_an_unknown_column_is_asked_for_and_an_override_wins() -> None:
    with pytest.raises(CatalogueError, match=r"no column recognised as flux among RA, DEC, S1400"):
        find_columns(["RA", "DEC", "S1400"])
    assert find_columns(["RA", "DEC", "S1400", "Fint"], override={"flux": "S1400"})["flux"] == "S1400"
    with pytest.raises(CatalogueError, match="no column 'S14'"):
        find_columns(["RA", "DEC", "S1400"], override={"flux": "S14"})
    with pytest.raises(CatalogueError, match="'brightness' is not a role"):
        find_columns(["RA", "DEC", "S1400"], override={"brightness": "S1400"})


def test_units_are_declared_or_written_never_guessed() -> None:
    assert flux_unit_of("JY/BEAM", None) == "jy"
    assert flux_unit_of("mJy", "mjy") == "mjy"
    assert flux_unit_of("", "ujy") == "ujy"
    with pytest.raises(CatalogueError, match="declared as jy, but the file says 'mJy/beam'"):
        flux_unit_of("mJy/beam", "jy")
    with pytest.raises(CatalogueError, match="declare jy, mjy or ujy"):
        flux_unit_of(None, None)


@pytest.mark.parametrize("wrong_by", [1e-6, 1e-3, 1e3, 1e6])
def test_a_unit_wrong_by_a_thousand_stops_the_build(wrong_by: float) -> None:
    nvss_like = 0.0034 * (1.0 - np.random.default_rng(2).uniform(0.0, 1.0, 2000)) ** (-1.0 / 1.3)
    limits = {"name": "nvss", "median_range_jy": (3e-4, 1.0), "max_jy": 5000.0}
    require_plausible_fluxes(nvss_like, **limits)
    with pytest.raises(CatalogueError, match="nvss: implausible fluxes in the unit declared: median"):
        require_plausible_fluxes(nvss_like * wrong_by, **limits)


def test_values_that_are_no_numbers_or_no_positions_stop_the_build() -> None:
    with pytest.raises(CatalogueError, match="2 of 3 fluxes are not numbers"):
        require_plausible_fluxes(np.array([0.1, np.nan, np.nan]), name="x", median_range_jy=(0, 1), max_jy=1)
    with pytest.raises(CatalogueError, match=r"row 2 has the position \(10\.0, 95\.0\)"):
        require_positions(np.array([1.0, 10.0]), np.array([2.0, 95.0]), name="x")


def test_the_surveys_that_cover_a_declination_come_deepest_first() -> None:
    assert [survey.name for survey in find_surveys(16.27)][:2] == ["vlass", "first"]
    assert {survey.name for survey in find_surveys(70.0)} == {"nvss", "vlass", "tgss"}
    assert {survey.name for survey in find_surveys(-60.0)} == {"racs_low", "racs_mid", "racs_high"}
    assert [survey.name for survey in find_surveys(16.27, flux_mjy=3.0, freq_ghz=1.4)][-1] == "nvss"
    assert "tgss" not in {survey.name for survey in find_surveys(16.27, flux_mjy=3.0, freq_ghz=1.4)}
    with pytest.raises(UnknownSourceError, match="there are nvss, first"):
        require_survey("wenss")
    assert {name: survey.freq_ghz for name, survey in SURVEYS.items()}["racs_low"] == 0.8875
