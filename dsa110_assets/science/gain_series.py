"""Gain solutions of several groups as one table: an hour's gains."""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from dsa110_assets.science.errors import SolveError
from dsa110_assets.science.gains import GainTable


def join_gain_tables(tables: Sequence[GainTable]) -> GainTable:
    """Join solutions of different times into one table, in order of time.

    Antennas are matched by name to the first table's; phases keep their own reference antennas if the tables agree on
    it, else all are referred to the first table's reference.

    Parameters
    ----------
    tables
        G tables of the same channels and polarizations.

    Raises
    ------
    SolveError
        Without tables, or when one of them is no G table, has other channels, or no solution for the reference.
    """
    if not tables:
        raise SolveError("there are no gain solutions to join")
    ordered = sorted(tables, key=lambda table: float(table.times_mjd[0]))
    first = ordered[0]
    matched = [_refer(table.for_antennas(first.antenna_names), first) for table in ordered]
    return replace(
        first,
        gains=np.concatenate([table.gains for table in matched]),
        flags=np.concatenate([table.flags for table in matched]),
        snr=np.concatenate([table.snr for table in matched]),
        times_mjd=np.concatenate([table.times_mjd for table in matched]),
    )


def _refer(table: GainTable, first: GainTable) -> GainTable:
    if table.kind != "G" or table.gains.shape[2:] != first.gains.shape[2:]:
        raise SolveError(f"a {table.kind} table of shape {table.gains.shape} cannot join gains {first.gains.shape}")
    if table.refant == first.refant:
        return table
    index = first.antenna_names.index(first.refant)
    reference, flagged = table.gains[:, index], table.flags[:, index]
    if flagged.any():
        raise SolveError(f"antenna {first.refant} has no solution in all tables: they cannot share a phase reference")
    gains = table.gains * np.exp(-1j * np.angle(reference))[:, None]
    return replace(table, gains=np.where(table.flags, table.gains, gains), refant=first.refant)
