"""Optional download of survey catalogues from VizieR through astroquery, for machines that have a network."""

from __future__ import annotations

from importlib import import_module
from pathlib import Path
from typing import Any

from dsa110_assets.science.surveys import require_survey
from dsa110_resources.archive import atomic_file
from dsa110_resources.errors import ExternalToolMissingError, PermanentError, TransientError

VIZIER_TABLES: dict[str, str] = {
    "nvss": "VIII/65/nvss",
    "first": "VIII/92/first14",
    "vlass": "J/ApJS/255/30/comp",
    "racs_low": "J/other/PASA/38.58/gausscut",
    "racs_mid": "J/other/PASA/41.3/sourcesm",
    "racs_high": "J/other/PASA/42.38/sourcesh",
    "tgss": "J/A+A/598/A78/table3",
}
"""VizieR table of each survey."""


def download_survey(
    survey: str, path: Path, *, dec_range_deg: tuple[float, float] | None = None, timeout_s: float = 600.0
) -> int:
    """Download a survey's catalogue as a VOTable that :func:`read_survey` reads.

    Parameters
    ----------
    survey : str
        One of :data:`VIZIER_TABLES`.
    path : Path
        File to write (``.vot``).
    dec_range_deg : tuple of float, optional
        Only these declinations, degrees.
    timeout_s : float
        Wall-clock limit of the query, seconds.

    Returns
    -------
    int
        Rows written.

    Raises
    ------
    ExternalToolMissingError
        When astroquery is not installed.
    TransientError
        When the archive cannot be reached.
    PermanentError
        When it answers with nothing.
    """
    table = VIZIER_TABLES[require_survey(survey).name]
    vizier = _vizier(table, timeout_s)
    limits = {} if dec_range_deg is None else {"DEJ2000": f"{dec_range_deg[0]:+.6f}..{dec_range_deg[1]:+.6f}"}
    try:
        found = vizier.query_constraints(catalog=table, **limits)
    except OSError as error:  # requests' errors are OSErrors
        raise TransientError(
            f"VizieR could not be reached for {table}: {error}",
            path=path,
            cure="check the network, or fetch the file on another machine and name it in the settings",
        ) from error
    if not found or not len(found[0]):
        raise PermanentError(f"VizieR has no rows of {table} there", path=path, cure="widen the declinations")
    with atomic_file(path) as staged:
        found[0].write(staged, format="votable")
    return len(found[0])


def _vizier(table: str, timeout_s: float) -> Any:
    try:
        vizier = import_module("astroquery.vizier")
    except ImportError as error:
        raise ExternalToolMissingError(
            f"astroquery is not installed, {table} cannot be downloaded",
            cure="pip install astroquery, or fetch the table from VizieR yourself and name the file in the settings",
        ) from error
    return vizier.Vizier(columns=["_RAJ2000", "_DEJ2000", "*", "e_*"], row_limit=-1, timeout=timeout_s)
