"""Catalogue files: the component CSV of the command line, and surveys as users have them (FITS, CSV, TSV)."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd

from dsa110_assets.science.components import Components
from dsa110_resources.archive import atomic_file
from dsa110_resources.errors import PermanentError

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


_HEADER_CURE = f"the header must be {','.join(COMPONENT_COLUMNS)}"


def _numbers(frame: pd.DataFrame, name: str, path: Path) -> np.ndarray:
    values = pd.to_numeric(frame[name], errors="coerce")
    bad = ~np.isfinite(values.to_numpy(dtype=float))
    if bad.any():
        row = int(np.flatnonzero(bad)[0])
        raise PermanentError(
            f"data row {row + 1}: {name} is {frame[name].iloc[row]!r}, not a number", path=path, cure="correct that row"
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
