"""The master catalogue of reference sources, built from survey files as users have them."""

from pathlib import Path

import dagster as dg

from dsa110_assets.defs.failures import typed_failures
from dsa110_assets.defs.metadata import (
    OWNERS,
    Check,
    Finding,
    check_results,
    check_specs,
    column_schema,
    numeric_metadata,
)
from dsa110_assets.defs.platform import Platform
from dsa110_resources.catalogues import CatalogueBuild, build_catalogue
from dsa110_resources.errors import PermanentError
from dsa110_resources.settings import Settings
from dsa110_resources.survey_files import SurveyInput

CHECKS = (Check("references_exist", "some sources are fit to be references of the ensemble", blocking=False),)


@dg.asset(
    group_name="catalogues",
    kinds={"parquet"},
    owners=OWNERS,
    tags={"stage": "catalogues"},
    metadata=column_schema("sources"),
    check_specs=check_specs("sources", CHECKS),
)
def sources(context: dg.AssetExecutionContext, platform: Platform) -> dg.MaterializeResult:
    """Reference sources: NVSS (or the user's component file) with their matches in VLASS, FIRST and RACS."""
    with typed_failures(context):
        built = build_catalogue(
            platform.archive,
            survey_inputs(platform.settings),
            known_variables=platform.settings.known_variables,
        )
    return dg.MaterializeResult(
        metadata=catalogue_metadata(built),
        data_version=dg.DataVersion(built.version),
        check_results=check_results("sources", [check_references(built)]),
    )


def survey_inputs(settings: Settings) -> list[SurveyInput]:
    """The survey files of a deployment, NVSS first.

    Raises
    ------
    PermanentError
        If neither NVSS nor a component file is named.
    """
    first = settings.catalogue or settings.nvss_catalogue
    if first is None:
        raise PermanentError(
            "no catalogue is named", cure="set DSA110_NVSS_CATALOGUE to an NVSS file or DSA110_CATALOGUE to a CSV"
        )
    optional: list[tuple[Path | None, str, str]] = [
        (settings.vlass_catalogue, "vlass", "vlass_flux_unit"),
        (settings.first_catalogue, "first", "first_flux_unit"),
        (settings.racs_catalogue, settings.racs_survey, "racs_flux_unit"),
    ]
    inputs = [SurveyInput(path=first, survey="nvss", flux_unit=settings.nvss_flux_unit)]
    inputs += [SurveyInput(path=p, survey=name, flux_unit=getattr(settings, unit)) for p, name, unit in optional if p]
    return inputs


def check_references(built: CatalogueBuild) -> Finding:
    """Whether the ensemble will have references."""
    n_references = int(built.provenance["counts"]["final_references"])
    return Finding(
        "references_exist",
        n_references > 0,
        n_references,
        1,
        is_error=False,
        message="if red, the thresholds or the flux unit of an input are wrong",
    )


def catalogue_metadata(built: CatalogueBuild) -> dict[str, dg.MetadataValue]:
    """Counts and provenance."""
    counts = {f"n_{name}": int(value) for name, value in built.provenance["counts"].items()}
    return numeric_metadata({**counts, "version": built.version, "inputs": built.provenance["inputs"]})
