"""What every asset shows: owners, column schema, numbers worth a plot, and checks with value and limit."""

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from numbers import Integral, Real
from pathlib import Path

import dagster as dg
import numpy as np

from dsa110_assets.science.schema import require_table

OWNERS = ["team:continuum"]


@dataclass(frozen=True)
class Check:
    """A declared check: named as the fact it asserts, and what to do when it is red."""

    name: str
    description: str
    blocking: bool = False


@dataclass(frozen=True)
class Finding:
    """The outcome of one check.

    Attributes
    ----------
    name
        Of a declared :class:`Check`.
    passed
        Whether the fact holds.
    value, limit
        What was measured and what is allowed; NaN where it could not be measured.
    is_error
        ERROR (stops what is downstream if the check is blocking) or WARN.
    message
        What was seen and what to do, for the operator.
    """

    name: str
    passed: bool
    value: float = math.nan
    limit: float = math.nan
    is_error: bool = True
    message: str = ""


def check_specs(asset: str, checks: Iterable[Check]) -> list[dg.AssetCheckSpec]:
    """Declare an asset's checks."""
    return [
        dg.AssetCheckSpec(check.name, asset=asset, description=check.description, blocking=check.blocking)
        for check in checks
    ]


def check_results(asset: str, findings: Iterable[Finding]) -> list[dg.AssetCheckResult]:
    """Findings as Dagster check results with value and limit as metadata."""
    return [
        dg.AssetCheckResult(
            asset_key=asset,
            check_name=finding.name,
            passed=bool(finding.passed),
            severity=dg.AssetCheckSeverity.ERROR if finding.is_error else dg.AssetCheckSeverity.WARN,
            description=finding.message or None,
            metadata=numeric_metadata({"value": finding.value, "limit": finding.limit}),
        )
        for finding in findings
    ]


def worst_quality(findings: Iterable[Finding]) -> str:
    """Return ``good``, ``warn`` or ``bad``: what a product says of itself."""
    failed = [finding for finding in findings if not finding.passed]
    if any(finding.is_error for finding in failed):
        return "bad"
    return "warn" if failed else "good"


def numeric_metadata(values: Mapping[str, object]) -> dict[str, dg.MetadataValue]:
    """Metadata of plain values: finite numbers as numbers (plotted by the UI), the rest as text; None is left out."""
    out: dict[str, dg.MetadataValue] = {}
    for name, value in values.items():
        if value is None:
            continue
        if isinstance(value, bool | np.bool_):
            out[name] = dg.MetadataValue.bool(bool(value))
        elif isinstance(value, Integral):
            out[name] = dg.MetadataValue.int(int(value))
        elif isinstance(value, Real):
            number = float(value)
            out[name] = dg.MetadataValue.float(number) if math.isfinite(number) else dg.MetadataValue.text(str(number))
        elif isinstance(value, Path):
            out[name] = dg.MetadataValue.path(value)
        elif isinstance(value, dict | list | tuple):
            out[name] = dg.MetadataValue.json(value)
        else:
            out[name] = dg.MetadataValue.text(str(value))
    return out


def column_schema(table: str) -> dict[str, dg.TableSchema]:
    """Definition metadata of an asset that writes a table: its columns with type, unit and description."""
    schema = require_table(table)
    columns = [
        dg.TableColumn(
            name=c.name, type=c.dtype, description=f"{c.description} [{c.unit}]" if c.unit else c.description
        )
        for c in schema.columns
    ]
    return {"dagster/column_schema": dg.TableSchema(columns=columns)}
