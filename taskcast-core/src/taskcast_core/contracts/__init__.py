"""What a plugin implements: small Protocols whose docstrings are law, and the values that they exchange."""

from taskcast_core.contracts.auth import Authenticator, Connection, Principal, Scope
from taskcast_core.contracts.broadcast import ALL_TASKS, Bell, Broadcast, Listener
from taskcast_core.contracts.cold import Cold, RestoreTicket
from taskcast_core.contracts.followers import (
    Backlog,
    DeadLetter,
    Deadlines,
    Dirty,
    Due,
    FollowerKind,
    Followers,
    kind_of,
)
from taskcast_core.contracts.listing import Listing, ListPage, ListQuery
from taskcast_core.contracts.log_reader import LogReader, Page, SeriesPage
from taskcast_core.contracts.long_term import ArchiveBatch, LongTermStore, Refusal, Watermark
from taskcast_core.contracts.task_log import (
    Change,
    Committed,
    Guard,
    Head,
    Held,
    Key,
    LogCopy,
    LogLimits,
    Record,
    Segment,
    SeriesCopy,
    Stored,
    TaskLog,
    TimerKind,
    TrimRule,
)
from taskcast_core.contracts.workers import Assignment, Workers

__all__ = [
    "ALL_TASKS", "ArchiveBatch", "Assignment", "Authenticator", "Backlog", "Bell", "Broadcast", "Change", "Cold",
    "Committed", "Connection", "DeadLetter", "Deadlines", "Dirty", "Due", "FollowerKind", "Followers", "Guard", "Head",
    "Held", "Key", "ListPage", "ListQuery", "Listener", "Listing", "LogCopy", "LogLimits", "LogReader", "LongTermStore",
    "Page", "Principal", "Record", "Refusal", "RestoreTicket", "Scope", "Segment", "SeriesCopy", "SeriesPage", "Stored",
    "TaskLog", "TimerKind", "TrimRule", "Watermark", "Workers", "kind_of",
]  # fmt: skip
