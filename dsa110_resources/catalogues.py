"""Catalogues of the archive: the component CSV of the command line, and the master catalogue `sources`."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from dsa110_assets.science.catalogue import (
    CatalogueOptions,
    SurveyTable,
    build_sources,
    select_references,
)
from dsa110_assets.science.catalogue_columns import (
    BRIGHT_LIST_FACTOR,
    CatalogueError,
    require_plausible_fluxes,
)
from dsa110_assets.science.components import Components
from dsa110_assets.science.crossmatch import ConeIndex
from dsa110_assets.science.flux_scale import power_law
from dsa110_assets.science.surveys import require_survey
from dsa110_resources.archive import Archive, atomic_file
from dsa110_resources.errors import PermanentError
from dsa110_resources.query import CURRENT_CATALOGUE, read_current_version
from dsa110_resources.survey_files import SurveyInput, read_raw_table, read_survey
from dsa110_resources.tables import list_partitions, read_partition, write_partition

COMPONENT_COLUMNS = ("source_id", "ra_deg", "dec_deg", "flux_jy", "freq_ghz", "spectral_index")
"""Header of a component catalogue: ICRS, one point source per row."""


def read_component_catalogue(path: Path) -> Components:
    """Read a component catalogue (CSV, header :data:`COMPONENT_COLUMNS`, ``#`` comments allowed).

    Parameters
    ----------
    path : Path
        The file.

    Returns
    -------
    Components

    Raises
    ------
    PermanentError
        When the file is absent, lacks a column, or holds an impossible value (the row is named).
    """
    try:
        frame = pd.read_csv(path, comment="#", dtype={"source_id": str}, skipinitialspace=True)
    except FileNotFoundError as error:
        raise PermanentError("no such catalogue", path=path, cure="give the path of a component CSV") from error
    except (pd.errors.ParserError, pd.errors.EmptyDataError, UnicodeDecodeError) as error:
        raise PermanentError(f"not a readable CSV: {error}", path=path, cure=_HEADER_CURE) from error
    missing = [name for name in COMPONENT_COLUMNS if name not in frame.columns]
    if missing:
        raise PermanentError(f"lacks the columns {', '.join(missing)}", path=path, cure=_HEADER_CURE)
    values = {name: _numbers(frame, name, path) for name in COMPONENT_COLUMNS[1:]}
    _require_plausible_components(frame["source_id"], values, path)
    return Components(source_id=frame["source_id"].to_numpy(dtype=str), **values)


def write_component_catalogue(path: Path, components: Components) -> None:
    """Write a component catalogue that :func:`read_component_catalogue` reads back exactly."""
    frame = pd.DataFrame({name: getattr(components, name) for name in COMPONENT_COLUMNS})
    with atomic_file(path) as staged:
        frame.to_csv(staged, index=False, float_format="%.17g")


@dataclass(frozen=True)
class CatalogueBuild:
    """A version of the master catalogue.

    Attributes
    ----------
    version : str
        ``NNNN-HASH``: a running number, and a hash of the inputs and options. The same inputs give the same version.
    provenance : dict
        Inputs with checksums and row counts, options, and counts of what was built.
    """

    version: str
    provenance: dict[str, Any]


def build_catalogue(
    archive: Archive,
    inputs: Sequence[SurveyInput],
    *,
    options: CatalogueOptions | None = None,
    known_variables: Path | None = None,
) -> CatalogueBuild:
    """Build `sources` and `final_references_table` from survey files and make them the current version.

    Parameters
    ----------
    archive : Archive
        The archive.
    inputs : sequence of SurveyInput
        NVSS, and VLASS, FIRST and one of RACS if there are such files. A CSV with the header
        :data:`COMPONENT_COLUMNS` may stand for NVSS: names, spectral indices and fluxes (brought to 1.4 GHz) are kept.
    options : CatalogueOptions, optional
        Radii, limits, and a fixed list of references.
    known_variables : Path, optional
        CSV with ``source_id``, or ``ra_deg`` and ``dec_deg``: sources that are never references.

    Returns
    -------
    CatalogueBuild

    Raises
    ------
    PermanentError
        When an input cannot be what it is taken for (the file and the cure are named).
    """
    opts = options or CatalogueOptions()
    tables = {_slot_of(item.survey): _read_input(item, opts) for item in inputs}
    if "nvss" not in tables:
        raise PermanentError("no NVSS file among the inputs", cure="set DSA110_NVSS_CATALOGUE or give a component CSV")
    nvss = tables.pop("nvss")
    try:
        sources = build_sources(nvss, tables, options=opts)
        sources["variable_flag"] = _is_listed(sources, known_variables, opts)
        references = select_references(sources, options=opts)
        good = select_references(sources, options=opts, final=False)
    except CatalogueError as error:
        raise PermanentError(str(error), cure="correct the options or the list of references") from error
    provenance: dict[str, Any] = {
        "inputs": [_describe(item, len(tables.get(_slot_of(item.survey), nvss))) for item in inputs],
        "known_variables": None if known_variables is None else _checksum(known_variables),
        "options": opts.model_dump(mode="json"),
        "counts": _counts(sources, good, references),
    }
    version = _version_of(archive, provenance)
    write_partition(archive, "sources", version, sources)
    frozen = sources.loc[references, ["source_id", "ra_deg", "dec_deg", "s_nvss", "snr_nvss", "alpha"]]
    reason = "rule" if opts.reference_ids is None else "listed"
    write_partition(archive, "final_references_table", version, frozen.assign(reason=reason))
    provenance = {"version": version, **provenance}
    for name in (f"sources-{version}.json", CURRENT_CATALOGUE):
        with atomic_file(archive.catalogs / name) as staged:
            staged.write_text(json.dumps(provenance, indent=2) + "\n", encoding="utf-8")
    return CatalogueBuild(version, provenance)


def read_sources(archive: Archive, version: str | None = None) -> pd.DataFrame:
    """Rows of the master catalogue, of the current version when none is named.

    Raises
    ------
    PermanentError
        When no catalogue was built, or not that version.
    """
    chosen = version or read_current_version(archive)
    frame = None if chosen is None else read_partition(archive, "sources", chosen)
    if frame is None:
        raise PermanentError(
            f"there is no master catalogue {chosen or ''}".rstrip(), cure="materialise the asset `sources`"
        )
    return frame


def components_of_sources(sources: pd.DataFrame, *, default_alpha: float = -0.7) -> Components:
    """Rows of the master catalogue as a sky model at 1.4 GHz; ``default_alpha`` where none is known."""
    alpha = sources["alpha"].to_numpy(dtype=np.float64)
    return Components(
        source_id=sources["source_id"].to_numpy(dtype=str),
        ra_deg=sources["ra_deg"].to_numpy(dtype=np.float64),
        dec_deg=sources["dec_deg"].to_numpy(dtype=np.float64),
        flux_jy=sources["s_nvss"].to_numpy(dtype=np.float64),
        freq_ghz=np.full(len(sources), require_survey("nvss").freq_ghz),
        spectral_index=np.where(np.isfinite(alpha), alpha, default_alpha),
    )


def export_sources(archive: Archive, path: Path, *, version: str | None = None) -> int:
    """Write the master catalogue as CSV or Parquet (by the file's ending); returns the number of rows."""
    frame = read_sources(archive, version)
    with atomic_file(path) as staged:
        if path.suffix == ".parquet":
            frame.to_parquet(staged, index=False)
        else:
            frame.to_csv(staged, index=False)
    return len(frame)


_HEADER_CURE = f"the header must be {','.join(COMPONENT_COLUMNS)}"


def _numbers(frame: pd.DataFrame, name: str, path: Path) -> np.ndarray:
    values = pd.to_numeric(frame[name], errors="coerce")
    bad = ~np.isfinite(values.to_numpy(dtype=float))
    if bad.any():
        row = int(np.flatnonzero(bad)[0])
        raise PermanentError(
            f"data row {row + 1}: {name} is {str(frame[name].iloc[row])!r}, not a number",
            path=path,
            cure="correct that row",
        )
    return values.to_numpy(dtype=float)


def _require_plausible_components(names: pd.Series, values: dict[str, np.ndarray], path: Path) -> None:
    checks = {
        "source_id is empty": names.isna().to_numpy(),
        "source_id occurs twice": names.duplicated().to_numpy(),
        "ra_deg is not within 0…360": (values["ra_deg"] < 0) | (values["ra_deg"] > 360),
        "dec_deg is not within −90…90": np.abs(values["dec_deg"]) > 90,
        "freq_ghz is not positive": values["freq_ghz"] <= 0,
        "spectral_index is beyond ±5": np.abs(values["spectral_index"]) > 5,
    }
    for message, bad in checks.items():
        if bad.any():
            row = int(np.flatnonzero(bad)[0])
            raise PermanentError(f"data row {row + 1}: {message}", path=path, cure="correct that row")


def _slot_of(survey: str) -> str:
    return "racs" if survey.startswith("racs") else survey


def _read_input(item: SurveyInput, options: CatalogueOptions) -> SurveyTable:
    if _slot_of(item.survey) == "nvss" and _is_component_catalogue(item.path):
        return _survey_of_components(read_component_catalogue(item.path), item.path, options)
    return read_survey(item, options=options)


def _is_component_catalogue(path: Path) -> bool:
    if path.suffix.lower() != ".csv" or not path.is_file():
        return False
    return set(COMPONENT_COLUMNS) <= set(read_raw_table(path).frame.columns)


def _survey_of_components(components: Components, path: Path, options: CatalogueOptions) -> SurveyTable:
    nvss = require_survey("nvss")
    flux = power_law(components.flux_jy, components.freq_ghz, components.spectral_index, nvss.freq_ghz)
    try:
        # the header says jansky, and a sky may be as faint or as bright as its author likes: only absurd values stop
        bright_jy = options.plausible_median_jy[1] * BRIGHT_LIST_FACTOR
        require_plausible_fluxes(
            flux, name=path.name, median_range_jy=(0.0, bright_jy), max_jy=options.plausible_max_jy
        )
    except CatalogueError as error:
        raise PermanentError(str(error), path=path, cure="give flux_jy in jansky") from error
    unknown = np.full(len(components), np.nan)
    return SurveyTable(
        survey=nvss,
        ra_deg=components.ra_deg % 360.0,
        dec_deg=components.dec_deg,
        flux_jy=flux,
        flux_err_jy=unknown,
        ra_err_arcsec=unknown,
        dec_err_arcsec=unknown,
        maj_arcsec=unknown,
        min_arcsec=unknown,
        pa_deg=unknown,
        source_id=components.source_id,
        alpha=components.spectral_index,
    )


def _is_listed(sources: pd.DataFrame, path: Path | None, options: CatalogueOptions) -> np.ndarray:
    """Which sources are in a list of known variables (by name, or by position within the match radius)."""
    listed = np.zeros(len(sources), dtype=bool)
    if path is None:
        return listed
    frame = read_raw_table(path).frame
    if "source_id" in frame.columns:
        listed |= sources["source_id"].isin(frame["source_id"].astype(str)).to_numpy(dtype=bool)
    elif {"ra_deg", "dec_deg"} <= set(frame.columns):
        index = ConeIndex(frame["ra_deg"].to_numpy(dtype=float), frame["dec_deg"].to_numpy(dtype=float))
        listed |= index.match(
            sources["ra_deg"], sources["dec_deg"], radius_arcsec=options.match_radius_arcsec
        ).is_matched
    else:
        raise PermanentError("no column source_id, nor ra_deg and dec_deg", path=path, cure="add one of them")
    return listed


def _describe(item: SurveyInput, n_rows: int) -> dict[str, Any]:
    return {
        "survey": item.survey,
        "file": item.path.name,
        "sha256": _checksum(item.path),
        "n_rows": n_rows,
        "flux_unit": item.flux_unit,
        "flux_scale": item.flux_scale,
        "columns": dict(item.columns),
    }


def _counts(sources: pd.DataFrame, good: np.ndarray, references: np.ndarray) -> dict[str, int]:
    counts = {"sources": len(sources), "good_references": int(good.sum()), "final_references": int(references.sum())}
    counts |= {f"matched_{name}": int(sources[f"s_{name}"].notna().sum()) for name in ("vlass", "first", "racs")}
    counts |= {name: int(sources[name].fillna(value=False).sum()) for name in ("confusion_flag", "resolved_flag")}
    counts["with_alpha"] = int(sources["alpha"].notna().sum())
    counts["known_variables"] = int(sources["variable_flag"].sum())
    return counts


def _checksum(path: Path) -> str:
    with path.open("rb") as handle:
        return hashlib.file_digest(handle, "sha256").hexdigest()


def _version_of(archive: Archive, provenance: Mapping[str, Any]) -> str:
    """Name of the version with these inputs: the old one if they were built before, else the next number."""
    digest = hashlib.sha256(json.dumps(provenance, sort_keys=True).encode()).hexdigest()[:10]
    known = list_partitions(archive, "sources")
    same = [version for version in known if version.endswith(f"-{digest}")]
    if same:
        return same[-1]
    numbers = [int(found.group(1)) for version in known if (found := re.match(r"(\d{4})-", version))]
    return f"{max(numbers, default=0) + 1:04d}-{digest}"
