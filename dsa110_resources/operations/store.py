"""The operations database as one object with its parts."""

from collections.abc import Sequence
from typing import Any

import sqlalchemy as sa
from alembic import command
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory

from dsa110_resources.errors import PermanentError
from dsa110_resources.operations.alerts import Alerts
from dsa110_resources.operations.arrivals import ArrivalBook
from dsa110_resources.operations.engine import Database
from dsa110_resources.operations.groups import Group
from dsa110_resources.operations.ledger import Ledger
from dsa110_resources.operations.periods import Period, Periods
from dsa110_resources.operations.refinement import find_refinable
from dsa110_resources.operations.registry import Registry
from dsa110_resources.operations.schema import METADATA, GroupState
from dsa110_resources.operations.triage import Triage


class OperationsStore:
    """Ledger, calibration registry, alerts and triage of one deployment.

    Parameters
    ----------
    url
        SQLAlchemy URL of the database; nothing is opened before the first call.

    Attributes
    ----------
    ledger : Ledger
        Life of groups and questions about them.
    arrivals : ArrivalBook
        What the subband sensor reads and writes.
    periods : Periods
        Closed hours and days.
    registry : Registry
        Calibration tables.
    alerts : Alerts
        Alerts and their acknowledgement.
    triage : Triage
        Decisions on candidates.
    """

    def __init__(self, url: str) -> None:
        self.database = Database(url)
        self.ledger = Ledger(self.database)
        self.arrivals = ArrivalBook(self.database)
        self.periods = Periods(self.database)
        self.registry = Registry(self.database)
        self.alerts = Alerts(self.database)
        self.triage = Triage(self.database)

    def migrate(self) -> None:
        """Bring the schema up to date; harmless when it is, and under several processes at once."""
        if self.schema_version() == ScriptDirectory.from_config(_alembic_config()).get_current_head():
            return
        with self.database.writing() as connection:
            config = _alembic_config()
            config.attributes["connection"] = connection
            command.upgrade(config, "head")

    def schema_version(self) -> str | None:
        """Revision of the schema in the database; None if it is empty."""
        with self.database.reading() as connection:
            return MigrationContext.configure(connection).get_current_revision()

    def read_rows(self, table: str) -> tuple[list[str], list[Sequence[Any]]]:
        """Columns and all rows of one operations table (what `dsa110 sql` shows).

        Raises
        ------
        PermanentError
            If there is no such table.
        """
        if table not in METADATA.tables:
            raise PermanentError(f"no operations table {table!r}", cure=f"one of {', '.join(sorted(METADATA.tables))}")
        with self.database.reading() as connection:
            result = connection.execute(sa.select(METADATA.tables[table]))
            return list(result.keys()), [tuple(row) for row in result]

    def close(self) -> None:
        """Give back pooled connections."""
        self.database.close()

    # -- the questions that most callers ask ------------------------------------------------------------------------

    def latest_group_end(self) -> float | None:
        """The data clock, MJD (UTC): see :meth:`Ledger.latest_group_end`."""
        return self.ledger.latest_group_end()

    def groups_between(
        self, start_mjd: float, end_mjd: float, states: Sequence[GroupState | str] | None = None
    ) -> list[Group]:
        """Groups that start in [start_mjd, end_mjd): see :meth:`Ledger.groups_between`."""
        return self.ledger.groups_between(start_mjd, end_mjd, states)

    def groups_to_refine(self, start_mjd: float, end_mjd: float) -> list[Group]:
        """Tiles that a later gain table would improve: see :func:`find_refinable`; mark them once made again."""
        groups = self.ledger.groups_between(start_mjd, end_mjd, [GroupState.COMPLETED])
        return find_refinable(groups, self.registry.tables("G", active_only=True))

    def closed_hours(self, **options: Any) -> list[Period]:
        """Hours whose groups are settled: see :meth:`Periods.closed`."""
        return self.periods.closed_hours(**options)

    def closed_days(self, **options: Any) -> list[Period]:
        """Days whose groups are settled: see :meth:`Periods.closed`."""
        return self.periods.closed_days(**options)


def _alembic_config() -> Config:
    config = Config()
    config.set_main_option("script_location", "dsa110_resources:migrations")
    config.set_main_option("path_separator", "os")
    return config
