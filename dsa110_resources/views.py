"""SQL of the views: every table and every name the customer knows, over the stored Parquet columns.

Pure text: each function returns a SELECT. ``store.TABLE`` stands for all rows of a Parquet table,
``store.TABLE_current`` for those of its latest partition, ``operations.TABLE`` for a copied database table.
"""

# ruff: noqa: S608 (names come from the schema, values are bound or are numbers of our own)
from __future__ import annotations

from collections.abc import Iterable

from dsa110_assets.science.schema import OPERATIONS, TABLES, Column, TableSchema

DUCKDB_TYPES: dict[str, str] = {
    "string": "VARCHAR",
    "float64": "DOUBLE",
    "float32": "FLOAT",
    "int64": "BIGINT",
    "int32": "INTEGER",
    "bool": "BOOLEAN",
    "timestamp": "TIMESTAMP WITH TIME ZONE",
    "list<float64>": "DOUBLE[]",
}
"""Logical types of the schema as stored types."""

VIEW_TYPES: dict[str, str] = {**DUCKDB_TYPES, "timestamp": "TIMESTAMP"}
"""The same as the views show them: time stamps are UTC without a zone."""

AS_OF_DAY = ("variability_stats", "spectral_indices", "source_positions", "injection_recovery")
"""Tables of which the view shows the latest day only."""

CURRENT_VERSION = ("sources", "final_references_table")
"""Tables of which the view shows the current catalogue version only."""

REFERENCE_RULE: dict[str, float] = {"good_snr": 7.0, "final_snr": 10.0, "alpha_min": -1.5, "alpha_max": 0.5}
"""Thresholds of the reference views."""

_NOT_A_REFERENCE = "coalesce(resolved_flag, false) OR coalesce(confusion_flag, false) OR coalesce(variable_flag, false)"

GOOD_REFERENCES_SQL = (
    "SELECT * FROM main.sources WHERE snr_nvss >= {good_snr} "
    "AND (alpha IS NULL OR alpha BETWEEN {alpha_min} AND {alpha_max}) "
    f"AND NOT ({_NOT_A_REFERENCE})"
)

_TRIAGE_SQL = """
    SELECT candidate_id,
           arg_max(status, ("when", id)) AS status,
           arg_max(note, ("when", id)) AS note,
           max("when") FILTER (status = 'investigated') AS investigated_at,
           max("when") FILTER (status = 'dismissed') AS dismissed_at,
           min("when") AS first_at,
           arg_min(who, ("when", id)) AS first_by
    FROM main.candidate_triage GROUP BY candidate_id
"""

USER_CANDIDATE = "user:"
"""A candidate that a person raised exists in the triage table alone, as ``user:SOURCE`` or ``user:SOURCE:REMARK``."""


def _described() -> str:
    """Rows of every declared column as an SQL VALUES list."""
    rows = []
    for table, schema in {**TABLES, **OPERATIONS}.items():
        for number, column in enumerate(schema.view_columns, start=1):
            shown = (table, column.name, VIEW_TYPES[column.dtype], column.unit, column.ucd, column.description)
            rows.append(f"({number}, " + ", ".join("'" + text.replace("'", "''") + "'" for text in shown) + ")")
    return ",\n".join(rows)


COLUMN_DESCRIPTIONS = f"""
    CREATE VIEW main.column_descriptions AS SELECT * FROM (VALUES {_described()})
        AS t(position, table_name, column_name, type, unit, ucd, description)
"""
"""A view that tells of each column its unit, UCD and meaning."""


def quote(name: str) -> str:
    """A name as an SQL identifier."""
    return '"' + name.replace('"', '""') + '"'


def select_columns(schema: TableSchema, source: str, *, where: str = "") -> str:
    """Select every stored and alias column of a table, in the declared order.

    Parameters
    ----------
    schema : TableSchema
        The table.
    source : str
        Relation with the stored columns.
    where : str
        Condition, or empty.
    """
    shown = [_shown(column) for column in schema.columns]
    shown += [f"CAST({alias.expression} AS {VIEW_TYPES[alias.column.dtype]}) AS {quote(alias.column.name)}"
              for alias in schema.aliases]  # fmt: skip
    condition = f" WHERE {where}" if where else ""
    return f"SELECT {', '.join(shown)} FROM {source}{condition}"


def select_nothing(columns: Iterable[Column], types: dict[str, str] | None = None) -> str:
    """Select no rows with the columns' names and types."""
    kinds = types or DUCKDB_TYPES
    shown = ", ".join(f"CAST(NULL AS {kinds[column.dtype]}) AS {quote(column.name)}" for column in columns)
    return f"SELECT {shown} WHERE false"


def select_files(schema: TableSchema, variable: str) -> str:
    """Select the stored columns from the Parquet files listed in a session variable.

    Columns are found by field id, so that files written before a column was added show it as null and no file has to
    be opened to plan a query.
    """
    fields = ", ".join(
        f"{column.field_id}: {{name: '{column.name}', type: '{DUCKDB_TYPES[column.dtype]}', default_value: NULL}}"
        for column in schema.columns
    )
    return f"SELECT * FROM read_parquet(getvariable('{variable}'), schema = MAP {{{fields}}})"


def science_views(default_method: str) -> dict[str, str]:
    """Views over the Parquet tables, in an order in which each finds those it rests on.

    Parameters
    ----------
    default_method : str
        Photometry method that the ``photometry`` view shows.
    """
    views: dict[str, str] = {}
    for name, schema in TABLES.items():
        latest = name in AS_OF_DAY + CURRENT_VERSION
        views[name] = select_columns(schema, f"store.{name}_current" if latest else f"store.{name}")
        if latest or schema.partition == "day":
            views[f"{name}_history"] = select_columns(schema, f"store.{name}")
    photometry = TABLES["photometry"]
    views["photometry_history"] = views["photometry"]
    views["photometry"] = select_columns(photometry, "store.photometry", where=f"method = '{default_method}'")
    views["ese_candidates"] = _candidates()
    return views


def reference_views(good_snr: float, final_snr: float, alpha_min: float, alpha_max: float) -> dict[str, str]:
    """Views of the reference sources.

    ``final_references`` is the list frozen with the catalogue version where there is one, else the rule.

    Parameters
    ----------
    good_snr, final_snr : float
        Smallest catalogue signal-to-noise ratios.
    alpha_min, alpha_max : float
        Range of the spectral index; an unknown one is allowed.
    """
    rule = GOOD_REFERENCES_SQL.format(good_snr=good_snr, alpha_min=alpha_min, alpha_max=alpha_max)
    frozen = "main.final_references_table"
    return {
        "good_references": rule,
        "final_references": (
            f"SELECT * FROM main.sources WHERE source_id IN (SELECT source_id FROM {frozen}) "
            f"UNION ALL SELECT * FROM main.good_references WHERE snr_nvss >= {final_snr} "
            f"AND NOT EXISTS (SELECT 1 FROM {frozen})"
        ),
    }


def _shown(column: Column) -> str:
    name = quote(column.name)
    if column.dtype == "timestamp":
        return f"CAST({name} AT TIME ZONE 'UTC' AS TIMESTAMP) AS {name}"
    return name


def _candidates() -> str:
    """One current row per candidate, joined with what people last decided of it; then those that people raised."""
    latest = (
        "SELECT * FROM store.ese_candidates QUALIFY row_number() OVER (PARTITION BY candidate_id ORDER BY day DESC) = 1"
    )
    rows = select_columns(TABLES["ese_candidates"], f"({latest})")
    return f"""
        WITH t AS ({_TRIAGE_SQL})
        SELECT c.* REPLACE (coalesce(t.note, c.notes) AS notes), coalesce(t.status, 'active') AS status,
               t.investigated_at, t.dismissed_at
        FROM ({rows}) c LEFT JOIN t USING (candidate_id)
        UNION ALL BY NAME
        SELECT candidate_id, split_part(candidate_id, ':', 2) AS source_id, 'user' AS flag_type, first_at AS flagged_at,
               first_by AS flagged_by, note AS notes, status, investigated_at, dismissed_at
        FROM t WHERE starts_with(candidate_id, '{USER_CANDIDATE}')
               AND candidate_id NOT IN (SELECT candidate_id FROM store.ese_candidates)
    """
