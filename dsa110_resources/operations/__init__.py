"""The operations database: what people and the live stream write (SQLite file or PostgreSQL by URL)."""

from dsa110_resources.operations.alerts import Alerts, FluxAlert, SentAlert
from dsa110_resources.operations.arrivals import ArrivalBook
from dsa110_resources.operations.engine import Database
from dsa110_resources.operations.groups import Arrival, Group, Registration, RejectedFile
from dsa110_resources.operations.ledger import Ledger
from dsa110_resources.operations.periods import Period, Periods
from dsa110_resources.operations.registry import RegistrationReport, Registry, measure_checksum
from dsa110_resources.operations.schema import GroupState
from dsa110_resources.operations.selection import Bracket, CaltableRecord, TableChoice, validity_mjd
from dsa110_resources.operations.store import OperationsStore
from dsa110_resources.operations.triage import Triage, TriageEntry

__all__ = [
    "Alerts",
    "Arrival",
    "ArrivalBook",
    "Bracket",
    "CaltableRecord",
    "Database",
    "FluxAlert",
    "Group",
    "GroupState",
    "Ledger",
    "OperationsStore",
    "Period",
    "Periods",
    "Registration",
    "RegistrationReport",
    "Registry",
    "RejectedFile",
    "SentAlert",
    "TableChoice",
    "Triage",
    "TriageEntry",
    "measure_checksum",
    "validity_mjd",
]
