"""Writing a task's log, and the values that stores and engine exchange about it.

What a change means is defined once, by ``taskcast_core.machine.apply``; stores reproduce it in their own language.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Literal, Protocol

from attrs import field

from taskcast_core.contracts.log_reader import LogReader
from taskcast_core.entries import Entry, Hole
from taskcast_core.models import EventDraft, EventFilter, Level, Task, TaskStatus
from taskcast_core.series import SeriesState
from taskcast_core.values import frozen, value

TimerKind = Literal["ttl", "resume", "cleanup", "purge", "retry", "cold"]
"""``ttl``: execution deadline. ``resume``: wake a blocked task. ``cleanup``: next retention step of an ended one.
``purge``: finish a deletion. ``retry``: return to the queue after a failed attempt. ``cold``: idle long enough to move.
"""


@frozen
class Record:
    """What a store keeps of a task besides its log; replaced as a whole.

    Attributes:
        timers: when (store's ms) something is due; set anew with every record.
        lanes: the follower lanes to mark with every commit: ``archive``, ``settle``, ``webhook:0`` …
        cleaned: names the set of cleanup rules of which those that were due have been applied.
    """

    task: Task
    timers: Mapping[TimerKind, int] = field(factory=dict)
    lanes: tuple[str, ...] = ()
    cleaned: str | None = None


@frozen
class Segment:
    """The entries from ``first`` on have ids of this epoch and salt (until the next segment begins)."""

    first: int
    epoch: int
    salt: int


@value
class Stored:
    """A task as the store has it.

    Attributes:
        segments: the log's epochs, oldest first. rev: +1 with each new record, from 1; publishing does not touch it.
        last_index: −1 while the log is empty. first_index: the oldest index that is still hot.
    """

    record: Record
    segments: tuple[Segment, ...]
    rev: int
    last_index: int
    last_timestamp: int
    first_index: int = 0

    @property
    def task(self) -> Task:
        """The task itself."""
        return self.record.task

    @property
    def epoch(self) -> int:
        """The epoch of the entries to come."""
        return self.segments[-1].epoch


@value
class Guard:
    """What must be true for a change to be made; None asks nothing.

    Attributes:
        statuses: of the current record (changes that only append). rev: the revision that a new record was computed
        from. assignment_id: the assignment the caller acts for.
    """

    statuses: frozenset[TaskStatus] | None = None
    rev: int | None = None
    assignment_id: str | None = None


@frozen
class LogLimits:
    """Bounds of one task's log. Series and distinct event types are what a store keeps state for."""

    max_events: int = 10_000_000
    max_bytes: int = 16 << 30
    max_series: int = 10_000
    max_types: int = 1_000


@frozen
class Key:
    """An idempotency key.

    Attributes:
        name: unique per principal, verb, task and caller's key. body_hash: of the request, to tell a repeat from a
        reuse. ttl_ms: how long it is remembered.
    """

    name: str
    body_hash: str
    ttl_ms: int


@value
class Change:
    """One change to one task: all of it or none of it.

    Attributes:
        record: replaces the task's record; the guard then names the ``rev`` it was computed from.
        keep_reply: remember the new task under the key (transitions); otherwise the reply is rebuilt from the log.
    """

    events: tuple[EventDraft, ...] = ()
    record: Record | None = None
    guard: Guard = Guard()
    key: Key | None = None
    limits: LogLimits = LogLimits()

    @property
    def keep_reply(self) -> bool:
        """Whether a repeat is answered with the record of the first time (else with its entries)."""
        return self.record is not None


@value
class Committed:
    """What a commit did.

    Attributes:
        stored: the task after it (for a repeated transition: with the record of the first time).
        entries: what it appended, in order. replayed: an idempotency key made this the reply of an earlier commit.
    """

    stored: Stored
    entries: tuple[Entry, ...]
    replayed: bool = field(default=False, kw_only=True)


@value
class Held:
    """A position that somebody holds."""

    task_id: str
    index: int


@value
class Head:
    """Where a log stands. ``id_at``: the id of the entry at the held index, None when there is none."""

    task_id: str
    epoch: int
    last_index: int
    status: TaskStatus
    id_at: str | None


@frozen
class TrimRule:
    """Which entries cleanup removes; all that is given must hold.

    Attributes:
        series_modes: of entries that belong to a series, only those of these modes; plain ones are not asked.
        older_than: only entries with a smaller timestamp (ms).
        keep_series_ends: keep the newest entry of every series that loses entries (else series may go whole).
    """

    types: tuple[str, ...] | None = None
    levels: tuple[Level, ...] | None = None
    series_modes: tuple[str, ...] | None = None
    older_than: int | None = None
    keep_series_ends: bool = True

    @classmethod
    def of(cls, event_filter: EventFilter | None, completed_at: int) -> TrimRule:
        """The rule that a cleanup rule's event filter means for a task that ended at ``completed_at`` (ms)."""
        if event_filter is None:
            return cls(keep_series_ends=False)
        modes = event_filter.series_mode
        older = event_filter.older_than_ms
        return cls(
            types=event_filter.types,
            levels=event_filter.levels,
            series_modes=(modes,) if isinstance(modes, str) else modes,
            older_than=None if older is None else completed_at - older,
        )


@frozen
class SeriesCopy:
    """A series as it travels between tiers: its state, and the whole text of each run that is still asked for."""

    series_id: str
    state: SeriesState
    texts: Mapping[int, str] = field(factory=dict)


@frozen
class LogCopy:
    """A task with its log, as it is restored or imported.

    Attributes:
        items: entries and holes from ``first_index`` on; may be iterated over several times.
        base_counts: entries per (type, level) before them.
        series: every series that has a state, as of ``last_index``.
    """

    record: Record
    rev: int
    segments: tuple[Segment, ...]
    items: Sequence[Entry | Hole]
    first_index: int = 0
    last_index: int = -1
    last_timestamp: int = 0
    base_counts: Mapping[tuple[str, Level], int] = field(factory=dict)
    series: tuple[SeriesCopy, ...] = ()


class TaskLog(LogReader, Protocol):
    """The authoritative, hot copy of tasks. Every verb is atomic and safe against callers in other processes."""

    @property
    def is_shared(self) -> bool:
        """Whether other processes may work on the same tasks at the same time."""

    @property
    def durability(self) -> str:
        """What an acknowledgement means: what the change survives, in a few words for people."""

    def now_ms(self) -> int:
        """The store's time (Unix ms), without I/O; what records and timers are computed with."""

    async def reserve(self, key: Key, task_id: str) -> str:
        """Bind a creation's idempotency key to a task id, once: the id that the key is bound to.

        Raises:
            IdempotencyConflict: bound for another body.
        """

    async def create(self, record: Record, key: Key | None = None) -> Committed:
        """Make a task with an empty log. A repeat with the same ``key`` returns the first record (``replayed``).

        Raises:
            TaskExists: the id is taken here. TaskDeleting: its former owner is not gone yet.
        """

    async def load(self, copy: LogCopy, *, overwrite: bool = False) -> Stored:
        """Make a task with a log, all or nothing; overwriting begins a new epoch.

        Raises:
            TaskExists: and ``overwrite`` was not asked for. TaskDeleting: see ``create``.
        """

    async def get(self, task_id: str) -> Stored | None:
        """The task; None when there is no open hot copy (or it is being deleted).

        Never older than what any read that ended before has shown, acknowledged or not: the archiver takes a log that
        is behind a page of it for one that was rewound.
        """

    async def heads(self, held: Sequence[Held]) -> Sequence[Head | None]:
        """Where these logs stand, one round trip per shard; None where there is no hot copy. Deleted ones count."""

    async def commit(self, task_id: str, change: Change) -> Committed:
        """Make one change, all of it or none of it.

        Appended events get consecutive indexes and timestamps that never decrease; series advance; the record's
        timers, lanes and listing entries are replaced with it; lanes are marked dirty. A repeat with the same key is
        looked up before any guard: it returns the first result and changes nothing.

        Raises:
            NotHot: no open hot copy. GuardFailed: with the task as it is. IdempotencyConflict, ReplyExpired.
            LimitExceeded: by ``change.limits``. StoreUnavailable: outcome unknown; safe to repeat with the same key.
        """

    async def found_epoch(self, task_id: str, seen_epoch: int, floor: int) -> Stored | None:
        """Begin a new epoch after ``floor``, if the log still is in ``seen_epoch`` (else: the task as it is).

        Entries beyond ``floor`` are dropped, those up to it keep their ids. Exactly one caller's call takes effect.
        None when there is no hot copy to continue.
        """

    async def delete(self, task_id: str, *, linger_ms: int) -> bool:
        """Hide a task at once; False when there is none. Open streams may read its epoch on for ``linger_ms``.

        Its timers make way for ``purge``, due when that time is over. Until ``purge`` has removed the data, creating
        the id anew raises TaskDeleting.
        """

    async def purge(self, task_id: str, *, tombstone_ms: int) -> bool:
        """Remove a deleted task's data; False while its linger time is not over or a follower has not passed it.

        A tombstone keeps late writes and restores of its epochs out for ``tombstone_ms``; the id's next log begins
        in a later epoch.
        """

    async def trim(self, task_id: str, epoch: int, rule: TrimRule, limit: int = 10_000) -> int:
        """Turn entries that match into holes, oldest first, at most ``limit``: how many were removed.

        Never passes the slowest follower lane. Raises as LogReader's verbs do.
        """
