"""The durable history: tasks, events and series for years, always a prefix of the hot log (or all of it)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, Protocol

from attrs import field

from taskcast_core.contracts.followers import Due
from taskcast_core.contracts.listing import ListPage, ListQuery
from taskcast_core.contracts.log_reader import LogReader
from taskcast_core.contracts.task_log import LogCopy, Record, Segment, SeriesCopy, Stored, TimerKind, TrimRule
from taskcast_core.entries import Entry, Hole
from taskcast_core.models import WorkerAudit
from taskcast_core.values import frozen


@frozen
class Refusal:
    """An entry that the durable store cannot keep; a hole stands in its place. ``reason`` holds nothing of its data."""

    index: int
    reason: str


@frozen
class Watermark:
    """How far the durable copy goes: everything up to this is committed there.

    Attributes:
        refused: what a ``write`` could not keep of what it was given.
    """

    epoch: int
    last_index: int
    rev: int
    state: Literal["hot", "cold"] = "hot"
    refused: tuple[Refusal, ...] = field(default=(), eq=False)


@frozen
class ArchiveBatch:
    """A stretch of one task for the durable copy.

    Attributes:
        segments: all of the log. items: entries and holes from ``first_index`` on, contiguous.
        series: states as of the last item, with no text (the durable store folds from its own rows).
    """

    task_id: str
    record: Record
    rev: int
    segments: tuple[Segment, ...]
    items: tuple[Entry | Hole, ...]
    series: tuple[SeriesCopy, ...]


class LongTermStore(LogReader, Protocol):
    """What the archiver writes and cold reads are served from. Every verb is one transaction."""

    async def write(self, batches: Sequence[ArchiveBatch]) -> Sequence[Watermark]:
        """Upsert records, events and series and advance each watermark; repeating a write changes nothing.

        A record is replaced only by a newer (epoch, rev); a deleted task's tombstone keeps older epochs out. An entry
        that cannot be kept holds nothing up: it is ``refused``, and a hole stands in its place.

        Raises:
            StorageIntegrityError: an index or id exists with other content: the hot log has lost an epoch.
        """

    async def get(self, task_id: str) -> Stored | None:
        """The task as it is here; None when it is not known, or deleted."""

    async def watermark(self, task_id: str) -> Watermark | None:
        """How far the copy goes; None when there is none."""

    async def list(self, query: ListQuery) -> ListPage:
        """As Listing.list, over everything that is archived."""

    async def set_state(self, task_id: str, expected: Watermark, state: Literal["hot", "cold"]) -> bool:
        """Say where the open copy is, if the watermark still is the expected one; else False."""

    async def copy(self, task_id: str, keep_last: int) -> LogCopy | None:
        """What a restore needs: the record, segments, series with texts, and the last ``keep_last`` items."""

    async def due(self, kind: TimerKind, limit: int) -> Sequence[Due]:
        """Timers of cold tasks that have run out by the database's clock."""

    async def trim(self, task_id: str, epoch: int, rule: TrimRule, limit: int = 10_000) -> int:
        """Turn archived entries that match into holes, oldest first, at most ``limit``: how many were removed.

        Means what TaskLog.trim means, and is asked for when the copy has everything.

        Raises:
            NotHot: there is no copy. EpochChanged.
        """

    async def delete(self, task_id: str, epoch: int) -> None:
        """Forget the task and leave a tombstone for its epochs."""

    async def write_audit(self, entries: Sequence[WorkerAudit]) -> None:
        """Append to the workers' audit log; the same id twice is one entry."""

    async def read_audit(self, worker_id: str, limit: int, before: str | None = None) -> Sequence[WorkerAudit]:
        """A worker's audit log, newest first, before the given id."""
