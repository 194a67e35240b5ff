"""The schema against the standards it names and against the customer's column lists."""

import astropy.units as u
import numpy as np
import pytest
from astropy.io.votable.ucd import check_ucd
from hypothesis import given
from hypothesis import strategies as st

from dsa110_assets.science.flags import BAD_FOR_LIGHT_CURVES, PhotometryFlag, flag_names, is_flagged
from dsa110_assets.science.schema import OPERATIONS, TABLES, SchemaError, require_table

ALL = {**TABLES, **OPERATIONS}

KEY_COLUMNS = {
    "ms_index": "path group_id start_mjd end_mjd mid_mjd status stage cal_applied field_name pointing_ra_deg "
    "pointing_dec_deg n_rows n_antennas n_channels flagged_fraction",
    "images": "path ms_path type beam_major_arcsec beam_minor_arcsec beam_pa_deg noise_jy dynamic_range pbcor "
    "center_ra_deg center_dec_deg imsize_x imsize_y cellsize_arcsec freq_ghz bandwidth_mhz integration_sec mid_mjd",
    "photometry": "source_id image_path method ra_deg dec_deg nvss_flux_mjy peak_jyb peak_err_jyb flux_jy flux_err_jy "
    "err_rms err_cal local_rms_jyb snr measured_at mjd sep_from_center_deg pb_response flags group_id apparent_jyb "
    "err_stat_jyb err_total_jyb chi2 freq_ghz subband_fluxes_jyb table_set quality",
    "photometry_timeseries": "source_id mjd flux_jy flux_err_jy normalized_flux_jy normalized_flux_err_jy "
    "correction_factor correction_err n_references image_path flags",
    "variability_stats": "source_id ra_deg dec_deg nvss_flux_mjy n_obs mean_flux_mjy median_flux_mjy std_flux_mjy "
    "min_flux_mjy max_flux_mjy chi2_nu eta v vs_max m_max sigma_deviation p_value significance ese_score "
    "last_measured_at last_mjd updated_at chi2_reduced fractional_variability n_epochs eta_metric",
    "ese_candidates": "candidate_id source_id mjd_start mjd_end depth timescale_days asymmetry lens_strength ese_score "
    "significance false_alarm_probability flag_type flagged_at flagged_by first_detection_at last_detection_at "
    "max_sigma_dev vetoes",
    "spectral_indices": "source_id ra_deg dec_deg spectral_index spectral_index_err freq1_ghz freq2_ghz flux1_mjy "
    "flux2_mjy flux1_err_mjy flux2_err_mjy catalog1 catalog2 match_separation_arcsec n_frequencies fit_quality "
    "catalogue_version calculated_at",
    "mosaics": "path name start_mjd end_mjd integration_sec n_images center_ra_deg center_dec_deg dec_min_deg "
    "dec_max_deg noise_jy beam_major_arcsec beam_minor_arcsec beam_pa_deg n_sources thumbnail_path method",
    "calibration_monitoring": "calibrator_name ms_path observed_flux_jy catalog_flux_jy flux_ratio frequency_ghz mjd "
    "phase_rms_deg amp_rms flagged_fraction flux_anchor",
    "pointing_history": "mjd ra_deg dec_deg alt_deg az_deg lst_hours field_name",
    "performance_metrics": "group_id conversion_time flagging_time k_solve_time bp_solve_time g_solve_time apply_time "
    "imaging_time photometry_time total_time peak_memory_gb",
    "qa_artifacts": "group_id name path type category",
    "sources": "source_id ra_deg dec_deg s_nvss snr_nvss s_vlass s_first s_racs alpha resolved_flag confusion_flag "
    "first_size_maj_arcsec first_size_min_arcsec first_size_pa_deg",
    "ensemble_correction": "epoch correction err n_refs held_out",
}


@pytest.mark.parametrize("table", sorted(KEY_COLUMNS))
def test_the_key_columns_of_every_product_are_declared(table: str) -> None:
    declared = {column.name for column in TABLES[table].view_columns}
    assert set(KEY_COLUMNS[table].split()) - declared == set()


@pytest.mark.parametrize("table", sorted(ALL))
def test_units_ucds_and_descriptions_are_of_the_standards(table: str) -> None:
    for column in ALL[table].view_columns:
        if column.unit:
            u.Unit(column.unit, format="vounit", parse_strict="raise")
        assert check_ucd(column.ucd, check_controlled_vocabulary=True), (column.name, column.ucd)
        assert len(column.description) > 2, column.name


@pytest.mark.parametrize("table", sorted(ALL))
def test_names_and_field_ids_are_unique_and_keys_are_required_columns(table: str) -> None:
    schema = ALL[table]
    names = [column.name for column in schema.view_columns]
    assert len(set(names)) == len(names)
    assert len({column.field_id for column in schema.columns}) == len(schema.columns)
    assert set(schema.key) <= set(schema.names)
    assert set(schema.sort_by) <= set(schema.names)
    if table in TABLES:
        assert all(schema.column(name).required for name in schema.key)


UNITS = [
    ("_jy", "Jy"),
    ("_mjy", "mJy"),
    ("_deg", "deg"),
    ("_per_deg", "deg-1"),
    ("_arcsec", "arcsec"),
    ("_mjd", "d"),
    ("_ghz", "GHz"),
    ("_sec", "s"),
    ("_hours", "h"),
]


@pytest.mark.parametrize(("ending", "unit"), UNITS)
def test_a_unit_in_a_name_is_the_declared_unit(ending: str, unit: str) -> None:
    shown = [column for schema in ALL.values() for column in schema.view_columns]
    inverse = "_per" in ending
    found = [column for column in shown if column.name.endswith(ending) and ("_per_" in column.name) is inverse]
    assert found
    for column in found:
        declared = u.Unit(column.unit, format="vounit")
        assert declared in (u.Unit(unit), u.Unit(unit) / u.beam), column.name


def test_stored_fluxes_are_jansky_and_millijansky_only_in_views() -> None:
    stored = [column.name for schema in TABLES.values() for column in schema.columns if column.unit.startswith("mJy")]
    assert stored == []


def test_images_do_not_shadow_what_a_join_with_photometry_selects() -> None:
    shown = {column.name for column in TABLES["images"].view_columns}
    assert shown & {"mjd", "peak_jyb", "peak_err_jyb", "snr", "source_id", "image_path"} == set()


def test_an_unknown_table_or_column_is_named_with_what_there_is() -> None:
    with pytest.raises(SchemaError, match=r"no table is called 'fotometry'.*photometry"):
        require_table("fotometry")
    with pytest.raises(SchemaError, match=r"mosaics has no column 'noise'.*noise_jy"):
        TABLES["mosaics"].column("noise")


def test_flag_bits_keep_their_stored_values() -> None:
    assert [flag.value for flag in PhotometryFlag] == [1 << n for n in range(len(PhotometryFlag))]
    assert PhotometryFlag.NOT_NORMALISED == 2048
    assert flag_names(int(PhotometryFlag.EDGE | PhotometryFlag.BLENDED)) == ("edge", "blended")
    assert flag_names(1 << 40) == ("bit_40",)


@given(st.lists(st.integers(0, 2**20 - 1), min_size=1))
def test_is_flagged_is_the_bitwise_and(values: list[int]) -> None:
    expected = [bool(value & int(BAD_FOR_LIGHT_CURVES)) for value in values]
    np.testing.assert_array_equal(is_flagged(values, BAD_FOR_LIGHT_CURVES), expected)
