"""Catalogue files in and out: component CSV, survey exports, and the real NVSS file."""

import gzip
import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from astropy.io import fits
from astropy.table import Table
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from dsa110_assets.science.catalogue import CatalogueOptions
from dsa110_assets.science.components import Components
from dsa110_resources.archive import Archive
from dsa110_resources.catalogues import (
    build_catalogue,
    components_of_sources,
    export_sources,
    read_component_catalogue,
    read_sources,
    write_component_catalogue,
)
from dsa110_resources.errors import PermanentError
from dsa110_resources.simulated_truth import write_nvss_catalogue
from dsa110_resources.survey_files import SurveyInput, read_survey
from dsa110_resources.tables import connect, list_partitions

HEADER = "source_id,ra_deg,dec_deg,flux_jy,freq_ghz,spectral_index\n"

VIZIER_TSV = """#
#   VizieR Astronomical Server
#Column\t_RAJ2000\t(F10.6)\tRight ascension
_RAJ2000\t_DEJ2000\tRAJ2000\tDEJ2000\te_RAJ2000\te_DEJ2000\tS1.4\te_S1.4\tl_MajAxis\tMajAxis
deg\tdeg\t"h:m:s"\t"d:m:s"\ts\tarcsec\tmJy\tmJy\t \tarcsec
----------\t----------\t-----------\t-----------\t-----\t----\t-------\t------\t-\t-----
150.000000\t+60.000000\t10 00 00.00\t+60 00 00.0\t 0.10\t 0.9\t   12.0\t   0.6\t<\t 18.0
150.500000\t-10.000000\t10 02 00.00\t-10 00 00.0\t 0.04\t 0.6\t  312.5\t   9.4\t \t 21.0
151.000000\t+00.500000\t10 04 00.00\t+00 30 00.0\t    \t    \t    2.6\t    \t<\t 99.0
"""


@pytest.fixture
def archive(tmp_path: Path) -> Archive:
    return Archive(tmp_path / "archive")


def field(n: int = 60, seed: int = 4) -> Components:
    generator = np.random.default_rng(seed)
    ra, dec = generator.uniform(340.0, 347.0, n), generator.uniform(13.0, 20.0, n)
    names = np.array([f"FIELD {k:03d}" for k in range(n)])
    flux = 0.02 * (1.0 - generator.uniform(0.0, 1.0, n)) ** (-1.0 / 1.4)
    return Components(names, ra, dec, flux, np.full(n, 1.405), generator.normal(-0.7, 0.2, n))


@settings(max_examples=30, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    hnp.arrays(np.float64, 3, elements=st.floats(0.0, 360.0)),
    hnp.arrays(np.float64, 3, elements=st.floats(-90.0, 90.0)),
    hnp.arrays(np.float64, 3, elements=st.floats(1e-9, 1e4)),
)
def test_a_component_catalogue_comes_back_to_the_bit(
    tmp_path: Path, ra: np.ndarray, dec: np.ndarray, flux: np.ndarray
) -> None:
    names = np.array(["NVSS J1+2", "a, b", 'quoted "c"'])
    written = Components(names, ra, dec, flux, np.full(3, 1.4), np.array([-0.7, 0.0, 0.3]))
    write_component_catalogue(tmp_path / "c.csv", written)
    back = read_component_catalogue(tmp_path / "c.csv")
    for name in ("source_id", "ra_deg", "dec_deg", "flux_jy", "freq_ghz", "spectral_index"):
        np.testing.assert_array_equal(getattr(back, name), getattr(written, name))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "not a readable CSV"),
        ("source_id,ra_deg,dec_deg,flux_jy\nA,1,2,3\n", "lacks the columns freq_ghz, spectral_index"),
        (HEADER + "A,1,2,bright,1.4,0\n", "data row 1: flux_jy is 'bright', not a number"),
        (HEADER + "A,1,2,1,1.4,0\nB,1,2,1,1.4,\n", "data row 2: spectral_index is 'nan', not a number"),
        (HEADER + "A,361,2,1,1.4,0\n", "data row 1: ra_deg is not within"),
        (HEADER + "A,1,-91,1,1.4,0\n", "data row 1: dec_deg is not within"),
        (HEADER + "A,1,2,1,1.4,0\nA,3,2,1,1.4,0\n", "data row 2: source_id occurs twice"),
        (HEADER + "A,1,2,1,0,0\n", "data row 1: freq_ghz is not positive"),
    ],
)
def test_a_wrong_component_catalogue_says_where_and_what(tmp_path: Path, text: str, message: str) -> None:
    path = tmp_path / "c.csv"
    path.write_text(text)
    with pytest.raises(PermanentError, match=message) as caught:
        read_component_catalogue(path)
    assert caught.value.path == path
    assert caught.value.cure


def test_an_absent_catalogue_is_named(tmp_path: Path) -> None:
    with pytest.raises(PermanentError, match="no such catalogue"):
        read_component_catalogue(tmp_path / "none.csv")
    with pytest.raises(PermanentError, match="no such catalogue file"):
        read_survey(SurveyInput(tmp_path / "none.fits", "nvss"))


def test_a_vizier_export_is_read_with_its_units(tmp_path: Path) -> None:
    path = tmp_path / "nvss.tsv"
    path.write_text(VIZIER_TSV)
    nvss = read_survey(SurveyInput(path, "nvss"))
    np.testing.assert_allclose(nvss.ra_deg, [150.0, 150.5, 151.0])
    np.testing.assert_allclose(nvss.flux_jy, [0.012, 0.3125, 0.0026])
    np.testing.assert_allclose(nvss.flux_err_jy, [0.0006, 0.0094, np.nan])
    np.testing.assert_allclose(nvss.ra_err_arcsec, [0.1 * 15.0 * 0.5, 0.04 * 15.0 * np.cos(np.radians(10.0)), np.nan])
    np.testing.assert_allclose(nvss.dec_err_arcsec, [0.9, 0.6, np.nan])


def test_sexagesimal_positions_are_read_by_override(tmp_path: Path) -> None:
    path = tmp_path / "nvss.tsv.gz"
    path.write_bytes(gzip.compress(VIZIER_TSV.encode()))
    source = SurveyInput(path, "nvss", columns={"ra": "RAJ2000", "dec": "DEJ2000"})
    nvss = read_survey(source)
    np.testing.assert_allclose(nvss.ra_deg, [150.0, 150.5, 151.0], atol=1e-10)
    np.testing.assert_allclose(nvss.dec_deg, [60.0, -10.0, 0.5], atol=1e-10)


def test_rows_that_vlass_marks_as_poorer_copies_are_left_out(tmp_path: Path) -> None:
    path = tmp_path / "vlass.csv"
    path.write_text("RA,DEC,Total_flux,Duplicate_flag\n10,5,3.0,0\n10,5,3.1,2\n11,5,9.0,1\n12,5,8.0,\n")
    np.testing.assert_array_equal(read_survey(SurveyInput(path, "vlass", flux_unit="mjy")).ra_deg, [10.0, 11.0, 12.0])


@pytest.mark.parametrize(
    ("ra", "dec", "expected"),
    [
        ("10:02:03.5", "-00:30:36", (150.514583333, -0.51)),
        ("10h02m03.5s", "+89d59m59.99s", (150.514583333, 89.999997222)),
        ("23 59 59.99", "-89 00 00", (359.999958333, -89.0)),
    ],
)
def test_sexagesimal_forms(tmp_path: Path, ra: str, dec: str, expected: tuple[float, float]) -> None:
    path = tmp_path / "x.tsv"
    path.write_text(f"RA\tDEC\tflux\n{ra}\t{dec}\t100\nnone\tnone\t100\n")
    table = read_survey(SurveyInput(path, "nvss", flux_unit="mjy"))
    np.testing.assert_allclose((table.ra_deg[0], table.dec_deg[0]), expected, atol=1e-9)
    assert len(table) == 1


def test_a_declared_unit_that_the_file_contradicts_or_the_values_deny_stops(tmp_path: Path) -> None:
    path = tmp_path / "nvss.tsv"
    path.write_text(VIZIER_TSV)
    with pytest.raises(PermanentError, match="declared as jy, but the file says 'mJy'"):
        read_survey(SurveyInput(path, "nvss", flux_unit="jy"))
    bare = tmp_path / "bare.csv"
    bare.write_text("ra,dec,flux\n" + "".join(f"{10 + k},5,{3 + k}\n" for k in range(29)))
    with pytest.raises(PermanentError, match="declare jy, mjy or ujy"):
        read_survey(SurveyInput(bare, "nvss"))
    with pytest.raises(PermanentError, match="implausible fluxes in the unit declared: median 17 Jy"):
        read_survey(SurveyInput(bare, "nvss", flux_unit="jy"))
    np.testing.assert_allclose(read_survey(SurveyInput(bare, "nvss", flux_unit="mjy")).flux_jy[0], 0.003)


def test_a_short_list_of_calibrators_is_plausible_and_one_in_millijansky_is_not(
    archive: Archive, tmp_path: Path
) -> None:
    names, ones = np.array(["3C48", "3C147", "3C286"]), np.ones(3)
    fluxes = np.array([16.0, 22.0, 15.0])
    sky = Components(names, 30.0 * ones, np.array([33.0, 49.0, 30.0]), fluxes, 1.4 * ones, -0.7 * ones)
    write_component_catalogue(tmp_path / "c.csv", sky)
    assert build_catalogue(archive, [SurveyInput(tmp_path / "c.csv", "nvss")]).provenance["counts"]["sources"] == 3
    write_nvss_catalogue(tmp_path / "nvss.fits", sky)
    np.testing.assert_allclose(np.sort(read_survey(SurveyInput(tmp_path / "nvss.fits", "nvss")).flux_jy), [15, 16, 22])
    write_component_catalogue(tmp_path / "wrong.csv", sky.with_flux(fluxes * 1000.0))
    with pytest.raises(PermanentError, match="implausible fluxes"):
        build_catalogue(archive, [SurveyInput(tmp_path / "wrong.csv", "nvss")])


def test_votable_and_ascii_fits_exports_are_read(tmp_path: Path) -> None:
    rows = Table({"RAJ2000": [10.0, 11.0], "DEJ2000": [5.0, 6.0], "Fint": [3.5, 80.0], "Maj": [0.0, 7.5]})
    rows["Fint"].unit = "mJy"
    rows.write(tmp_path / "first.vot", format="votable")
    rows.write(tmp_path / "first.fits")
    for name in ("first.vot", "first.fits"):
        first = read_survey(SurveyInput(tmp_path / name, "first", flux_scale=1.1))
        np.testing.assert_allclose(first.flux_jy, [0.00385, 0.088])
        np.testing.assert_allclose(first.maj_arcsec, [0.0, 7.5])


def test_a_file_without_a_table_is_refused(tmp_path: Path) -> None:
    fits.PrimaryHDU(np.zeros((4, 4))).writeto(tmp_path / "image.fits")
    with pytest.raises(PermanentError, match=r"image\.fits.*has no table"):
        read_survey(SurveyInput(tmp_path / "image.fits", "nvss"))


def test_the_simulators_nvss_file_builds_sources_that_find_their_truth(archive: Archive, tmp_path: Path) -> None:
    truth = field()
    write_nvss_catalogue(tmp_path / "nvss.fits", truth)
    build = build_catalogue(archive, [SurveyInput(tmp_path / "nvss.fits", "nvss")])
    sources = read_sources(archive)
    assert build.version.startswith("0001-")
    order = np.lexsort((truth.ra_deg, truth.dec_deg))
    np.testing.assert_allclose(sources["ra_deg"], truth.ra_deg[order])
    expected = truth.flux_at(1.4e9)[order, 0]
    np.testing.assert_allclose(sources["s_nvss"], expected, rtol=1e-6)
    assert sources["source_id"].str.match(r"NVSS J\d{6}\.\d[+-]\d{6}$").all()


def test_a_component_csv_builds_sources_with_its_own_names_and_spectra(archive: Archive, tmp_path: Path) -> None:
    truth = field()
    write_component_catalogue(tmp_path / "c.csv", truth)
    build_catalogue(archive, [SurveyInput(tmp_path / "c.csv", "nvss")])
    model = components_of_sources(read_sources(archive))
    back = model.select(np.argsort(model.source_id))
    np.testing.assert_array_equal(back.source_id, truth.source_id)
    np.testing.assert_allclose(back.flux_at(1.405e9)[:, 0], truth.flux_jy, rtol=1e-12)
    np.testing.assert_allclose(back.spectral_index, truth.spectral_index)


def test_versions_are_numbered_repeatable_and_switch_the_views(archive: Archive, tmp_path: Path) -> None:
    write_component_catalogue(tmp_path / "c.csv", field())
    source = [SurveyInput(tmp_path / "c.csv", "nvss")]
    first = build_catalogue(archive, source)
    variable = tmp_path / "variables.csv"
    variable.write_text("source_id\nFIELD 000\nFIELD 001\n")
    options = CatalogueOptions(final_snr=200.0, good_snr=100.0)
    with connect(archive) as connection:
        count = "SELECT (SELECT count(*) FROM {0}), (SELECT count(*) FROM final_references)"
        assert connection.execute(count.format("sources")).fetchall() == [
            (60, first.provenance["counts"]["final_references"])
        ]
        second = build_catalogue(archive, source, options=options, known_variables=variable)
        counts = second.provenance["counts"]
        assert connection.execute(count.format("good_references")).fetchall() == [
            (counts["good_references"], counts["final_references"])
        ]
        assert connection.execute("SELECT count(*) FROM sources_history").fetchall() == [(120,)]
        listed = connection.execute("SELECT source_id FROM sources WHERE variable_flag ORDER BY 1").fetchall()
    assert listed == [("FIELD 000",), ("FIELD 001",)]
    assert counts["final_references"] < counts["good_references"] < 60
    assert build_catalogue(archive, source).version == first.version
    assert list_partitions(archive, "sources") == [first.version, second.version]
    assert json.loads((archive.catalogs / "sources.json").read_text())["version"] == first.version
    assert second.version.startswith("0002-")


def test_known_variables_may_be_given_by_position(archive: Archive, tmp_path: Path) -> None:
    truth = field()
    write_component_catalogue(tmp_path / "c.csv", truth)
    listed = tmp_path / "variables.csv"
    listed.write_text(f"ra_deg,dec_deg\n{truth.ra_deg[5]:.6f},{truth.dec_deg[5] + 5 / 3600:.6f}\n100,0\n")
    build_catalogue(archive, [SurveyInput(tmp_path / "c.csv", "nvss")], known_variables=listed)
    sources = read_sources(archive)
    assert sources.loc[sources["variable_flag"], "source_id"].tolist() == ["FIELD 005"]
    listed.write_text("name\nFIELD 001\n")
    with pytest.raises(PermanentError, match="no column source_id"):
        build_catalogue(archive, [SurveyInput(tmp_path / "c.csv", "nvss")], known_variables=listed)


def test_without_nvss_there_is_no_catalogue(archive: Archive, tmp_path: Path) -> None:
    (tmp_path / "nvss.tsv").write_text(VIZIER_TSV)
    with pytest.raises(PermanentError, match="no NVSS file among the inputs"):
        build_catalogue(archive, [SurveyInput(tmp_path / "nvss.tsv", "vlass")])
    with pytest.raises(PermanentError, match=r"there is no master catalogue.*materialise the asset"):
        read_sources(archive)


def test_the_catalogue_is_exported_whole(archive: Archive, tmp_path: Path) -> None:
    write_component_catalogue(tmp_path / "c.csv", field())
    build_catalogue(archive, [SurveyInput(tmp_path / "c.csv", "nvss")])
    assert export_sources(archive, tmp_path / "out.csv") == 60
    assert export_sources(archive, tmp_path / "out.parquet") == 60
    np.testing.assert_array_equal(
        pd.read_csv(tmp_path / "out.csv")["source_id"], pd.read_parquet(tmp_path / "out.parquet")["source_id"]
    )


def test_the_real_nvss_components_become_sources(archive: Archive, shared_data: Path) -> None:
    build = build_catalogue(archive, [SurveyInput(shared_data / "catalogs" / "NVSSVZ.FIT.gz", "nvss")])
    assert build.provenance["counts"]["sources"] == 125_309
    assert build.provenance["inputs"][0]["sha256"].startswith("e625f43b6c9a")
    sources = read_sources(archive)
    assert sources["source_id"].is_unique
    assert sources["s_nvss"].min() == pytest.approx(0.05, abs=1e-4)
    assert sources["s_nvss"].median() == pytest.approx(0.0952, abs=1e-4)
    blazar = sources[sources["source_id"] == "NVSS J225357.7+160853"]
    assert blazar["s_nvss"].item() == pytest.approx(12.68, abs=0.01)  # 3C454.3
    with pytest.raises(PermanentError, match="declared as mjy, but the file says 'JY/BEAM'"):
        read_survey(SurveyInput(shared_data / "catalogs" / "NVSSVZ.FIT.gz", "nvss", flux_unit="mjy"))
