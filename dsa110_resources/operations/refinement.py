"""Which tiles are worth making again: their second bracketing gain table landed after they were made (DECISIONS 6)."""

from collections.abc import Iterable, Sequence

from dsa110_resources.operations.groups import Group
from dsa110_resources.operations.schema import GroupState
from dsa110_resources.operations.selection import CaltableRecord, find_bracket


def find_refinable(groups: Iterable[Group], gains: Sequence[CaltableRecord]) -> list[Group]:
    """Completed tiles, not refined yet, that now have gains on both sides, one of them newer than the tile.

    Parameters
    ----------
    groups
        Of the days in question.
    gains
        All G tables.
    """
    refinable = []
    for group in groups:
        if group.state is not GroupState.COMPLETED or group.refined or group.dec_deg is None:
            continue
        mid_mjd = 0.5 * (group.start_mjd + group.end_mjd)
        bracket = find_bracket(gains, dec_deg=group.dec_deg, mjd=mid_mjd)
        if bracket.before is None or bracket.after is None or group.completed_at is None:
            continue
        made = [record.created_at for record in (bracket.before, bracket.after) if record.created_at is not None]
        if any(moment > group.completed_at for moment in made):
            refinable.append(group)
    return refinable
