"""The master catalogue of reference sources, one partition per catalogue version."""

from __future__ import annotations

from dsa110_assets.science.schema.columns import (
    Column,
    TableSchema,
    count,
    flag,
    number,
    position,
    source_id,
    text,
)

_FLUX = "phot.flux.density;em.radio"
_FLUX_ERROR = "stat.error;phot.flux.density;em.radio"


def _survey(name: str, title: str) -> tuple[Column, Column]:
    return (
        number(f"s_{name}", "Jy", _FLUX, f"{title} flux density; null when there is no match"),
        number(f"s_{name}_err", "Jy", _FLUX_ERROR, f"1σ error of s_{name}"),
    )


_SOURCES: tuple[Column, ...] = (
    source_id(),
    *position("", "the source"),
    number("ra_err_arcsec", "arcsec", "stat.error;pos.eq.ra", "1σ position error along RA, × cos Dec"),
    number("dec_err_arcsec", "arcsec", "stat.error;pos.eq.dec", "1σ position error along Dec"),
    *_survey("nvss", "NVSS, 1.4 GHz,"),
    number("snr_nvss", "", "stat.snr", "s_nvss over its error"),
    *_survey("vlass", "VLASS, 3.0 GHz,"),
    *_survey("first", "FIRST, 1.4 GHz,"),
    *_survey("racs", "RACS"),
    number("racs_freq_ghz", "GHz", "em.freq", "Frequency of s_racs"),
    number("sep_vlass_arcsec", "arcsec", "pos.angDistance", "Separation of the VLASS match"),
    number("sep_first_arcsec", "arcsec", "pos.angDistance", "Separation of the FIRST match"),
    number("sep_racs_arcsec", "arcsec", "pos.angDistance", "Separation of the RACS match"),
    count("n_vlass", "VLASS components within the match radius; null where VLASS does not cover"),
    count("n_first", "FIRST components within the match radius; null where FIRST does not cover"),
    count("n_racs", "RACS components within the match radius; null where RACS does not cover"),
    number("alpha", "", "spect.index;em.radio", "Spectral index; null when no pair of surveys gives one"),
    number("alpha_err", "", "stat.error;spect.index", "1σ error of alpha"),
    text("alpha_surveys", "Surveys behind alpha, joined by commas", ucd="meta.bib"),
    flag("resolved_flag", "Extended in FIRST; null where FIRST has no match"),
    flag("confusion_flag", "Several matches within the radius, or a near neighbour in NVSS"),
    flag("variable_flag", "In the list of known variables: never a reference"),
    number("first_size_maj_arcsec", "arcsec", "phys.angSize.smajAxis;src", "FIRST deconvolved major FWHM"),
    number("first_size_min_arcsec", "arcsec", "phys.angSize.sminAxis;src", "FIRST deconvolved minor FWHM"),
    number("first_size_pa_deg", "deg", "pos.posAng;src", "FIRST position angle east of north"),
    text("catalogue_version", "Version of the catalogue", ucd="meta.version", required=True),
)

SOURCES = TableSchema(
    name="sources",
    partition="catalogue",
    key=("source_id",),
    sort_by=("dec_deg", "ra_deg"),
    description="Master catalogue of reference sources (NVSS with its matches in other surveys)",
    columns=_SOURCES,
)

FINAL_REFERENCES_TABLE = TableSchema(
    name="final_references_table",
    partition="catalogue",
    key=("source_id",),
    sort_by=("dec_deg", "ra_deg"),
    description="Reference sources frozen when the catalogue version was built",
    columns=(
        source_id(),
        *position("", "the source"),
        number("s_nvss", "Jy", _FLUX, "NVSS flux density, 1.4 GHz"),
        number("snr_nvss", "", "stat.snr", "s_nvss over its error"),
        number("alpha", "", "spect.index;em.radio", "Spectral index, or null"),
        text("reason", "rule (the thresholds) or listed (named by the operator)", ucd="meta.code.class"),
        text("catalogue_version", "Version of the catalogue", ucd="meta.version", required=True),
    ),
)

CATALOGUE_TABLES = (SOURCES, FINAL_REFERENCES_TABLE)
