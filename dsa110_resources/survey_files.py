"""Survey catalogues as users have them: FITS tables, CSV, TSV, VizieR exports and VOTables."""

from __future__ import annotations

import csv
import gzip
import warnings
from collections.abc import Mapping
from dataclasses import dataclass, field
from io import StringIO
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pandas as pd
from astropy.io import fits
from astropy.io.votable import parse_single_table

from dsa110_assets.science.catalogue import CatalogueOptions, SurveyTable
from dsa110_assets.science.catalogue_columns import (
    JY_PER_UNIT,
    CatalogueError,
    FluxUnit,
    Role,
    find_columns,
    flux_unit_of,
    require_plausible_fluxes,
    require_positions,
)
from dsa110_assets.science.surveys import require_survey
from dsa110_resources.errors import PermanentError

Floats = npt.NDArray[np.float64]

_UNIT_OF_AXIS_ERROR = {"s": 15.0, "arcsec": 1.0, "deg": 3600.0, "mas": 1e-3, "degree": 3600.0}
_DUPLICATE_FLAGS = frozenset({"dupflag", "duplicateflag"})
_POORER_COPY = 2
_NULL_WORDS = ["", " ", "null", "NULL", "nan", "NaN", "--", "N/A"]


@dataclass(frozen=True)
class SurveyInput:
    """One survey file and what the user says of it.

    Parameters
    ----------
    path : Path
        The file.
    survey : str
        ``nvss``, ``vlass``, ``first``, ``racs_low``, ``racs_mid`` or ``racs_high``.
    flux_unit : FluxUnit, optional
        ``jy``, ``mjy`` or ``ujy``; None: as the file's header says (and an error if it does not).
    columns : mapping of str to str
        Role → column, where detection by name is not wanted.
    flux_scale : float
        Factor on the fluxes (VLASS quick-look peak fluxes are about 10 % low: 1.1).
    """

    path: Path
    survey: str
    flux_unit: FluxUnit | None = None
    columns: Mapping[str, str] = field(default_factory=dict)
    flux_scale: float = 1.0


@dataclass(frozen=True)
class RawTable:
    """Columns of a file with the units that it states."""

    frame: pd.DataFrame
    units: Mapping[str, str]


def read_survey(source: SurveyInput, *, options: CatalogueOptions | None = None) -> SurveyTable:
    """Read a survey's file.

    Parameters
    ----------
    source : SurveyInput
        The file and what is said of it.
    options : CatalogueOptions, optional
        Plausible fluxes.

    Returns
    -------
    SurveyTable
        Rows with a position and a flux; others are left out.

    Raises
    ------
    PermanentError
        When the file cannot be read, a column cannot be found, or the fluxes cannot be in the declared unit.
    """
    opts = options or CatalogueOptions()
    raw = read_raw_table(source.path)
    try:
        return _survey_table(source, raw, opts)
    except CatalogueError as error:
        raise PermanentError(
            str(error), path=source.path, cure="declare the flux unit and the columns of this file"
        ) from error


def read_raw_table(path: Path) -> RawTable:
    """Read a table file by its content: FITS, VOTable, or text with commas, semicolons, tabs or bars.

    Raises
    ------
    PermanentError
        When it is absent or none of these.
    """
    if not path.is_file():
        raise PermanentError("no such catalogue file", path=path, cure="give the path of the file")
    opener = gzip.open if path.suffix.lower() == ".gz" else open
    with opener(path, "rb") as handle:
        head = handle.read(2048)
    try:
        if head.startswith(b"SIMPLE"):
            return _read_fits(path)
        if b"<VOTABLE" in head:
            return _read_votable(path)
        with opener(path, "rb") as handle:
            return _read_text(handle.read().decode("utf-8"))
    except (OSError, ValueError, IndexError, pd.errors.ParserError) as error:
        raise PermanentError(
            f"cannot read the catalogue: {error}", path=path, cure="export it as FITS, CSV or TSV"
        ) from error


def without_duplicates(raw: RawTable) -> RawTable:
    """Leave out rows that a survey itself marks as the poorer copy of another (VLASS: duplicate flag 2)."""
    flag = next((name for name in raw.frame.columns if name.lower().replace("_", "") in _DUPLICATE_FLAGS), None)
    if flag is None:
        return raw
    is_copy = pd.to_numeric(raw.frame[flag], errors="coerce") >= _POORER_COPY
    return RawTable(raw.frame[~is_copy].reset_index(drop=True), raw.units)


def _read_fits(path: Path) -> RawTable:
    with fits.open(path) as hdus:
        tables = [hdu for hdu in hdus if isinstance(hdu, fits.BinTableHDU | fits.TableHDU)]
        if not tables:
            msg = "the FITS file has no table"
            raise ValueError(msg)
        table = max(tables, key=lambda hdu: len(hdu.data))
        scalar = [column for column in table.columns if table.data[column.name].ndim == 1]
        columns = {column.name: _native(table.data[column.name]) for column in scalar}
        units = {column.name: (column.unit or "").strip() for column in scalar}
    return RawTable(pd.DataFrame(columns), units)


def _read_votable(path: Path) -> RawTable:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the archives' own departures from the standard
        table = parse_single_table(path)
    names = [item.name for item in table.fields]
    columns = {name: _native(np.ma.filled(table.array[item.ID], _fill(table.array[item.ID])))
               for name, item in zip(names, table.fields, strict=True)}  # fmt: skip
    return RawTable(pd.DataFrame(columns), {item.name: str(item.unit or "") for item in table.fields})


def _read_text(text: str) -> RawTable:
    """Text with one header line; VizieR's lines of units and dashes are recognised by the dashes."""
    lines = [line for line in text.splitlines() if line.strip() and not line.startswith("#")]
    separator = max("\t;|,", key=lines[0].count)
    rows = list(csv.reader(lines[:3], delimiter=separator))
    names = [name.strip() for name in rows[0]]
    units = dict.fromkeys(names, "")
    skip = 1
    if len(rows) > 2 and all(set(cell.strip()) <= {"-"} for cell in rows[2]) and any(rows[2]):
        units = {name: unit.strip() for name, unit in zip(names, rows[1], strict=False)}
        skip = 3
    body = StringIO("\n".join(lines[skip:]))
    frame = pd.read_csv(
        body, sep=separator, names=names, skipinitialspace=True, na_values=_NULL_WORDS, low_memory=False
    )
    return RawTable(frame, units)


def _native(values: npt.NDArray[np.generic]) -> npt.NDArray[np.generic]:
    """The same values in the machine's byte order; fixed-width text as stripped objects."""
    if values.dtype.kind in "SU":
        return np.char.strip(values.astype(str)).astype(object)
    return values.astype(values.dtype.newbyteorder("="))


def _fill(values: npt.NDArray[np.generic]) -> float | None:
    return np.nan if values.dtype.kind == "f" else None


def _survey_table(source: SurveyInput, raw: RawTable, options: CatalogueOptions) -> SurveyTable:
    survey = require_survey(source.survey)
    raw = without_duplicates(raw)
    roles = find_columns(list(raw.frame.columns), override=source.columns)
    ra_deg = _angle(raw, roles["ra"], is_hours=True)
    dec_deg = _angle(raw, roles["dec"], is_hours=False)
    unit = flux_unit_of(_stated_flux_unit(raw, roles["flux"]), source.flux_unit)
    factor = JY_PER_UNIT[unit] * source.flux_scale
    flux_jy = _numbers(raw, roles["flux"]) * factor
    require_plausible_fluxes(
        flux_jy,
        name=survey.name,
        median_range_jy=options.plausible_median_jy,
        max_jy=options.plausible_max_jy,
    )
    whole = np.isfinite(ra_deg) & np.isfinite(dec_deg) & np.isfinite(flux_jy)
    require_positions(ra_deg[whole], dec_deg[whole], name=survey.name)

    def optional(role: Role, scale: float | Floats = 1.0) -> Floats:
        values = _numbers(raw, roles[role]) * scale if role in roles else np.full(len(whole), np.nan)
        return values[whole]

    names = raw.frame[roles["source_id"]].to_numpy(dtype=str)[whole] if "source_id" in roles else None
    return SurveyTable(
        survey=survey,
        ra_deg=ra_deg[whole] % 360.0,
        dec_deg=dec_deg[whole],
        flux_jy=flux_jy[whole],
        flux_err_jy=optional("flux_err", factor),
        ra_err_arcsec=optional("ra_err", _axis_error_scale(raw, roles, "ra_err", dec_deg)),
        dec_err_arcsec=optional("dec_err", _axis_error_scale(raw, roles, "dec_err", dec_deg)),
        maj_arcsec=optional("maj"),
        min_arcsec=optional("min"),
        pa_deg=optional("pa"),
        source_id=names,
        alpha=optional("alpha") if "alpha" in roles else None,
    )


def _numbers(raw: RawTable, column: str) -> Floats:
    """A column as numbers; upper limits such as ``<12.3`` and text are NaN."""
    return pd.to_numeric(raw.frame[column], errors="coerce").to_numpy(dtype=np.float64, na_value=np.nan)


def _stated_flux_unit(raw: RawTable, column: str) -> str | None:
    by_name = {"_jy": "jy", "_mjy": "mjy", "_ujy": "ujy"}
    ending = next((unit for end, unit in by_name.items() if column.lower().endswith(end)), None)
    return raw.units.get(column) or ending


def _angle(raw: RawTable, column: str, *, is_hours: bool) -> Floats:
    """Degrees of a column that holds degrees, radians or sexagesimal text (hours for right ascension)."""
    values = raw.frame[column]
    stated = raw.units.get(column, "").lower()
    if pd.api.types.is_numeric_dtype(values):
        degrees = values.to_numpy(dtype=np.float64, na_value=np.nan)
        return np.degrees(degrees) if stated in {"rad", "radian", "radians"} else degrees
    numbers = pd.to_numeric(values, errors="coerce")
    if numbers.notna().sum() * 2 > len(values):
        return numbers.to_numpy(dtype=np.float64)
    degrees_or_hours = _sexagesimal(values.astype(str))
    return degrees_or_hours * 15.0 if is_hours else degrees_or_hours


def _sexagesimal(texts: pd.Series) -> Floats:
    """Numbers of texts such as ``10 02 03.4``, ``-10:02:03.4`` or ``10h02m03.4s``; NaN where it is none."""
    parts = texts.str.extract(r"^\s*([+-]?)(\d{1,3})[\s:hd°]+(\d{1,2})[\s:m']+(\d{1,2}(?:\.\d*)?)")
    first, minutes, seconds = (pd.to_numeric(parts[column]).to_numpy(dtype=np.float64) for column in (1, 2, 3))
    sign = np.where(parts[0].to_numpy(dtype=object) == "-", -1.0, 1.0)
    number: Floats = sign * (first + minutes / 60.0 + seconds / 3600.0)
    return number


def _axis_error_scale(raw: RawTable, roles: Mapping[Role, str], role: Role, dec_deg: Floats) -> float | Floats:
    """Arcsec on the sky per unit of a position error; seconds of time become 15″ cos Dec."""
    stated = raw.units.get(roles[role], "").lower() if role in roles else ""
    scale = _UNIT_OF_AXIS_ERROR.get(stated, 1.0)
    return scale * np.cos(np.radians(dec_deg)) if stated == "s" else scale
