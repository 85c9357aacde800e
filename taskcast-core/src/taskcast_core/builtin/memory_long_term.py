"""A long-term store in this process' memory: for tests, and as the model of what a durable one has to do."""

from __future__ import annotations

from collections.abc import Sequence
from types import TracebackType
from typing import Literal, Self

from attrs import evolve

from taskcast_core import listing, machine
from taskcast_core.builtin.memory_log import MemoryLog
from taskcast_core.builtin.memory_reads import MemoryReads
from taskcast_core.clock import Clock
from taskcast_core.contracts.followers import Due
from taskcast_core.contracts.listing import ListPage, ListQuery
from taskcast_core.contracts.long_term import ArchiveBatch, Watermark
from taskcast_core.contracts.task_log import LogCopy, Stored, TimerKind, TrimRule
from taskcast_core.entries import Entry, Hole
from taskcast_core.errors import EpochChanged, NotHot, StorageIntegrityError
from taskcast_core.models import WorkerAudit
from taskcast_core.values import define


@define
class _Kept:
    """One archived task."""

    log: MemoryLog
    state: Literal["hot", "cold"] = "hot"

    @property
    def watermark(self) -> Watermark:
        stored = self.log.stored
        return Watermark(stored.epoch, stored.last_index, stored.rev, self.state)


class MemoryLongTermStore(MemoryReads):
    """LongTermStore without I/O; every method is one atomic step of the event loop."""

    def __init__(self, clock: Clock | None = None) -> None:
        self._clock = clock or Clock()
        self._kept: dict[str, _Kept] = {}
        self._tombstones: dict[str, int] = {}
        self._audit: dict[str, WorkerAudit] = {}

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        return None

    # ── Writing ────────────────────────────────────────────────────────────────────────────────────────────────────

    async def write(self, batches: Sequence[ArchiveBatch]) -> Sequence[Watermark]:
        """See LongTermStore."""
        for batch in batches:
            self._check(batch)
        return [self._write(batch) for batch in batches]

    def _check(self, batch: ArchiveBatch) -> None:
        """Refuse a batch that contradicts, or does not follow on, what is here."""
        kept = self._kept.get(batch.task_id)
        last = kept.log.stored.last_index if kept else -1
        first = _first_of(batch.items[0]) if batch.items else last + 1
        if first > last + 1 and not self._is_out(batch):
            raise StorageIntegrityError(f"{batch.task_id}: index {last + 1} is missing before {first}")
        for item in batch.items:
            here = kept.log.entry(item.index) if kept and isinstance(item, Entry) else None
            if here is not None and isinstance(item, Entry) and (here.id, here.text) != (item.id, item.text):
                raise StorageIntegrityError(f"{batch.task_id}: another event stands at index {item.index}")

    def _is_out(self, batch: ArchiveBatch) -> bool:
        return batch.segments[-1].epoch <= self._tombstones.get(batch.task_id, 0)

    def _write(self, batch: ArchiveBatch) -> Watermark:
        epoch = batch.segments[-1].epoch
        if self._is_out(batch):
            return Watermark(epoch, -1, 0)
        kept = self._kept.get(batch.task_id)
        if kept is None:
            log = MemoryLog(machine.new_state(batch.record, epoch=epoch, salt=batch.segments[0].salt, now=0))
            log.state.stored = evolve(log.stored, segments=batch.segments, rev=batch.rev)
            kept = self._kept[batch.task_id] = _Kept(log)
        log, stored = kept.log, kept.log.stored
        fresh = _behind(log, batch.items)
        for item in fresh:
            log.absorb(item)
        log.state.series.update({one.series_id: one.state for one in batch.series} if fresh else {})
        last = fresh[-1] if fresh else None
        stored = log.stored
        if (epoch, batch.rev) >= (stored.epoch, stored.rev):
            stored = evolve(stored, record=batch.record, segments=batch.segments, rev=batch.rev)
        if last is not None:
            stored = evolve(stored, last_index=_last_of(last), last_timestamp=_time_of(last))
        log.state.stored = stored
        return kept.watermark

    async def set_state(self, task_id: str, expected: Watermark, state: Literal["hot", "cold"]) -> bool:
        """See LongTermStore."""
        kept = self._kept.get(task_id)
        if kept is None or kept.watermark != expected:
            return False
        kept.state = state
        return True

    async def trim(self, task_id: str, epoch: int, rule: TrimRule, limit: int = 10_000) -> int:
        """See LongTermStore."""
        log = self._readable(task_id, epoch)
        return log.trim(rule, log.stored.last_index, limit)

    async def delete(self, task_id: str, epoch: int) -> None:
        """See LongTermStore."""
        self._kept.pop(task_id, None)
        self._tombstones[task_id] = max(epoch, self._tombstones.get(task_id, 0))

    # ── Reading ────────────────────────────────────────────────────────────────────────────────────────────────────

    async def get(self, task_id: str) -> Stored | None:
        """See LongTermStore."""
        kept = self._kept.get(task_id)
        return kept.log.stored if kept else None

    async def watermark(self, task_id: str) -> Watermark | None:
        """See LongTermStore."""
        kept = self._kept.get(task_id)
        return kept.watermark if kept else None

    async def list(self, query: ListQuery) -> ListPage:
        """See LongTermStore."""
        before = listing.decode_cursor(query.cursor) if query.cursor is not None else None
        tasks = sorted((kept.log.stored.task for kept in self._kept.values()), key=listing.sort_key, reverse=True)
        found = [
            task
            for task in tasks
            if (before is None or listing.sort_key(task) < before) and listing.matches(query, task)
        ]
        page = tuple(found[: query.limit])
        return ListPage(page, listing.encode_cursor(page[-1]) if len(found) > len(page) else None)

    async def copy(self, task_id: str, keep_last: int) -> LogCopy | None:
        """See LongTermStore."""
        kept = self._kept.get(task_id)
        return kept.log.newest(keep_last) if kept else None

    async def due(self, kind: TimerKind, limit: int) -> Sequence[Due]:
        """See LongTermStore."""
        now = self._clock.now_ms()
        due = [
            Due(task_id, kind, at)
            for task_id, kept in self._kept.items()
            if kept.state == "cold" and (at := kept.log.stored.record.timers.get(kind, now + 1)) <= now
        ]
        return sorted(due, key=lambda one: one.due_at)[:limit]

    def _readable(self, task_id: str, epoch: int | None) -> MemoryLog:
        kept = self._kept.get(task_id)
        if kept is None:
            raise NotHot(task_id)
        if epoch is not None and epoch != kept.log.stored.epoch:
            raise EpochChanged(task_id, kept.log.stored.epoch)
        return kept.log

    # ── Audit ──────────────────────────────────────────────────────────────────────────────────────────────────────

    async def write_audit(self, entries: Sequence[WorkerAudit]) -> None:
        """See LongTermStore."""
        for entry in entries:
            self._audit.setdefault(entry.id, entry)

    async def read_audit(self, worker_id: str, limit: int, before: str | None = None) -> Sequence[WorkerAudit]:
        """See LongTermStore."""
        newest = sorted((one for one in self._audit.values() if one.worker_id == worker_id), key=lambda one: one.id)
        return [one for one in reversed(newest) if before is None or one.id < before][:limit]


def _behind(log: MemoryLog, items: Sequence[Entry | Hole]) -> list[Entry | Hole]:
    """The items that are not here yet; of a hole that reaches across the watermark, the part behind it."""
    last = log.stored.last_index
    fresh = [item for item in items if _last_of(item) > last]
    if fresh and isinstance(hole := fresh[0], Hole) and hole.first <= last:
        here = log.counts_within(hole.first, last)
        left = {kind: more for kind, n in hole.counts.items() if (more := n - here.get(kind, 0)) > 0}
        start = max(hole.first_timestamp, log.stored.last_timestamp)
        fresh[0] = evolve(hole, first=last + 1, first_timestamp=start, counts=left)
    return fresh


def _first_of(item: Entry | Hole) -> int:
    return item.index if isinstance(item, Entry) else item.first


def _last_of(item: Entry | Hole) -> int:
    return item.index if isinstance(item, Entry) else item.last


def _time_of(item: Entry | Hole) -> int:
    return item.timestamp if isinstance(item, Entry) else item.last_timestamp
