"""The short-term store that lives in this process: every contract of a hot store, and no promise beyond its end."""

from __future__ import annotations

import os
from bisect import bisect_left, insort
from collections import Counter
from collections.abc import Mapping, Sequence
from types import TracebackType
from typing import Self

from attrs import evolve

from taskcast_core import listing, machine
from taskcast_core.builtin.memory_duties import MemoryDuties
from taskcast_core.builtin.memory_lanes import LaneTable
from taskcast_core.builtin.memory_log import MemoryLog
from taskcast_core.builtin.memory_reads import MemoryReads
from taskcast_core.builtin.memory_replies import ReplyTable
from taskcast_core.builtin.memory_timers import TimerTable
from taskcast_core.builtin.memory_tombstones import TombstoneTable
from taskcast_core.builtin.memory_workers import WorkerTable
from taskcast_core.clock import Clock
from taskcast_core.contracts.cold import RestoreTicket
from taskcast_core.contracts.listing import ListPage, ListQuery
from taskcast_core.contracts.task_log import (
    Change,
    Committed,
    Head,
    Held,
    Key,
    LogCopy,
    Record,
    Segment,
    Stored,
    TrimRule,
)
from taskcast_core.errors import EpochChanged, NotHot, TaskDeleting, TaskExists, TicketRefused
from taskcast_core.ids import Noise, new_salt, new_ulid
from taskcast_core.models import Task, TaskStatus
from taskcast_core.values import define


@define
class _Hidden:
    """A deleted task that open streams and followers still read."""

    log: MemoryLog
    linger_until: int


@define
class _Restoring:
    """A ticket, and the copy that it has brought in."""

    token: str
    lease_until: int
    log: MemoryLog | None = None


class MemoryShortTermStore(MemoryReads, MemoryDuties):
    """TaskLog, Listing, Deadlines, Followers, Cold and Workers in this process' memory.

    No method awaits anything, so each is one atomic step of the event loop; use it from one loop only. What a call does
    depends on the calls before it, on ``clock`` and on ``noise`` alone: who repeats all three has the same store again.
    """

    is_shared = False
    durability = "kept in this process only; nothing survives its end"

    def __init__(self, clock: Clock | None = None, noise: Noise = os.urandom) -> None:
        self._clock, self._noise = clock or Clock(), noise
        self._logs: dict[str, MemoryLog] = {}
        self._hidden: dict[str, _Hidden] = {}
        self._restoring: dict[str, _Restoring] = {}
        self._order: list[listing.SortKey] = []  # of the open tasks, ascending
        self._tombstones = TombstoneTable(self._clock)
        self._replies = ReplyTable(self._clock)
        self._timers = TimerTable(self._clock)
        self._lanes = LaneTable(self._clock, self._find, noise)
        self._workers = WorkerTable(self._clock)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        return None

    def now_ms(self) -> int:
        """See TaskLog."""
        return self._clock.now_ms()

    # ── TaskLog ───────────────────────────────────────────────────────────────────────────────────────────────────

    async def reserve(self, key: Key, task_id: str) -> str:
        """See TaskLog."""
        return self._replies.reserve(key, task_id)

    async def create(self, record: Record, key: Key | None = None) -> Committed:
        """See TaskLog."""
        now = self.now_ms()
        if key is not None and (known := self._replies.known(key)) and known.stored:
            return Committed(known.stored, (), replayed=True)
        epoch = self._free_epoch(record.task.id)
        log = MemoryLog(machine.new_state(record, epoch=epoch, salt=new_salt(self._noise), now=now))
        self._show(log)
        self._lanes.mark(record.task.id, record.lanes)
        if key is not None:
            reply = machine.KeyRecord(key.name, key.body_hash, now + key.ttl_ms, epoch, 0, 0, log.stored)
            self._replies.keep(reply)
        return Committed(log.stored, ())

    async def load(self, copy: LogCopy, *, overwrite: bool = False) -> Stored:
        """See TaskLog."""
        task_id = copy.record.task.id
        old = self._logs.get(task_id)
        if old is not None and not overwrite:
            raise TaskExists(task_id)
        epoch = old.stored.epoch + 1 if old else self._free_epoch(task_id)
        # Imported ids are kept with the entries; the log itself continues in an epoch of its own.
        segments = (Segment(0, epoch, new_salt(self._noise)),)
        log = MemoryLog.from_copy(evolve(copy, segments=segments, rev=old.stored.rev + 1 if old else 1))
        if old is not None:
            self._hide(task_id)
            self._lanes.forget(task_id, old.stored.record.lanes)
        self._show(log)
        self._lanes.mark(task_id, copy.record.lanes)
        return log.stored

    async def get(self, task_id: str) -> Stored | None:
        """See TaskLog."""
        log = self._logs.get(task_id)
        return log.stored if log else None

    async def heads(self, held: Sequence[Held]) -> Sequence[Head | None]:
        """See TaskLog."""
        return [self._head(one) for one in held]

    def _head(self, held: Held) -> Head | None:
        hidden = self._hidden.get(held.task_id)
        log = self._logs.get(held.task_id) or (hidden.log if hidden else None)
        return None if log is None else log.head(held.index)

    async def commit(self, task_id: str, change: Change) -> Committed:
        """See TaskLog."""
        log = self._logs.get(task_id)
        key = change.key
        if key is not None and (known := self._replies.known(key) or (log and log.known_key(key, self.now_ms()))):
            known.check(key)
            if log is None:
                if known.stored is None:
                    raise NotHot(task_id)
                return Committed(known.stored, (), replayed=True)
            return log.replay(known)
        if log is None:
            raise NotHot(task_id)
        committed = log.commit(change, self._clock.now_ms())
        stored = committed.stored
        if change.record is not None:
            self._timers.set(task_id, stored.record.timers)
            self._workers.pending.place(stored.task)
            if key is not None and (made := log.known_key(key, self.now_ms())):
                self._replies.keep(made)
        if stored.record.lanes:
            self._lanes.mark(task_id, stored.record.lanes)
        return committed

    async def found_epoch(self, task_id: str, seen_epoch: int, floor: int) -> Stored | None:
        """See TaskLog."""
        log = self._logs.get(task_id)
        if log is None:
            return None
        if log.stored.epoch == seen_epoch:
            log.found_epoch(floor, seen_epoch + 1, new_salt(self._noise))
            self._lanes.cut(task_id, log.stored.record.lanes, floor)
        return log.stored

    async def delete(self, task_id: str, *, linger_ms: int) -> bool:
        """See TaskLog."""
        log = self._logs.get(task_id)
        if log is None:
            return False
        self._hide(task_id)
        until = self.now_ms() + linger_ms
        self._hidden[task_id] = _Hidden(log, until)
        self._timers.set(task_id, {"purge": until})
        self._lanes.mark(task_id, log.stored.record.lanes)
        return True

    async def purge(self, task_id: str, *, tombstone_ms: int) -> bool:
        """See TaskLog."""
        hidden = self._hidden.get(task_id)
        if hidden is None:
            return True
        if hidden.linger_until > self.now_ms() or not self._lanes.passed(hidden.log.stored):
            return False
        del self._hidden[task_id]
        self._lanes.forget(task_id, hidden.log.stored.record.lanes)
        self._timers.set(task_id, {})
        self._tombstones.put(task_id, hidden.log.stored.epoch, tombstone_ms)
        return True

    async def trim(self, task_id: str, epoch: int, rule: TrimRule, limit: int = 10_000) -> int:
        """See TaskLog."""
        log = self._open(task_id, epoch)
        return log.trim(rule, self._lanes.ceiling(log.stored), limit)

    # ── Listing ───────────────────────────────────────────────────────────────────────────────────────────────────

    async def list(self, query: ListQuery) -> ListPage:
        """See Listing."""
        at = len(self._order)
        if query.cursor is not None:
            at = bisect_left(self._order, listing.decode_cursor(query.cursor))
        tasks: list[Task] = []
        while at > 0:
            at -= 1
            task = self._logs[self._order[at][1]].stored.task
            if listing.matches(query, task):
                if len(tasks) == query.limit:
                    return ListPage(tuple(tasks), listing.encode_cursor(tasks[-1]))
                tasks.append(task)
        return ListPage(tuple(tasks), None)

    async def tally(self) -> Mapping[tuple[str | None, TaskStatus], int]:
        """See Listing."""
        return Counter((log.stored.task.type, log.stored.task.status) for log in self._logs.values())

    # ── Cold ──────────────────────────────────────────────────────────────────────────────────────────────────────

    async def shed(self, task_id: str, epoch: int, before: int, limit: int = 2_000) -> int:
        """See Cold."""
        log = self._open(task_id, epoch)
        return log.shed(before, self._lanes.ceiling(log.stored), limit)

    async def replace(self, task_id: str, epoch: int, copy: LogCopy) -> Stored | None:
        """See Cold."""
        old = self._logs.get(task_id)
        if old is None or old.stored.epoch != epoch:
            return None
        self._hide(task_id)
        log = old.replaced(copy)
        self._show(log)
        self._lanes.cut(task_id, log.stored.record.lanes, log.stored.last_index)
        return log.stored

    async def release(self, task_id: str, epoch: int, last_index: int, rev: int) -> bool:
        """See Cold."""
        log = self._logs.get(task_id)
        if log is None:
            return False
        stored = log.stored
        if (stored.epoch, stored.last_index, stored.rev) != (epoch, last_index, rev) or not self._lanes.passed(stored):
            return False
        self._hide(task_id)
        self._lanes.forget(task_id, stored.record.lanes)
        self._timers.set(task_id, {})
        return True

    async def begin_restore(self, task_id: str, lease_ms: int) -> RestoreTicket:
        """See Cold."""
        if task_id in self._logs:
            raise TaskExists(task_id)
        if task_id in self._hidden:
            raise TaskDeleting(task_id)
        now = self.now_ms()
        running = self._restoring.get(task_id)
        if running is not None and running.lease_until > now:
            raise TicketRefused("the restore of this task")
        token = new_ulid(now, self._noise)
        self._restoring[task_id] = _Restoring(token, now + lease_ms)
        return RestoreTicket(task_id, token)

    async def restore(self, ticket: RestoreTicket, copy: LogCopy) -> None:
        """See Cold."""
        restoring = self._ticketed(ticket)
        tombstone = self._tombstones.epoch(ticket.task_id)
        if tombstone is not None and copy.segments[-1].epoch <= tombstone:
            raise TicketRefused("an epoch that was not deleted")
        restoring.log = MemoryLog.from_copy(copy)

    async def open(self, ticket: RestoreTicket) -> Stored:
        """See Cold."""
        restoring = self._ticketed(ticket)
        if restoring.log is None:
            raise TicketRefused("a restored copy")
        del self._restoring[ticket.task_id]
        self._show(restoring.log)
        self._lanes.settle_at(restoring.log.stored)
        return restoring.log.stored

    def _ticketed(self, ticket: RestoreTicket) -> _Restoring:
        restoring = self._restoring.get(ticket.task_id)
        is_held = restoring is not None and restoring.token == ticket.token and restoring.lease_until > self.now_ms()
        if restoring is None or not is_held or ticket.task_id in self._logs:
            raise TicketRefused("the restore ticket")
        return restoring

    # ── Inside ────────────────────────────────────────────────────────────────────────────────────────────────────

    def _open(self, task_id: str, epoch: int | None) -> MemoryLog:
        log = self._logs.get(task_id)
        if log is None:
            raise NotHot(task_id)
        if epoch is not None and epoch != log.stored.epoch:
            raise EpochChanged(task_id, log.stored.epoch)
        return log

    def _readable(self, task_id: str, epoch: int | None) -> MemoryLog:
        """The open log, or the hidden one for a reader that names its epoch."""
        hidden = self._hidden.get(task_id)
        if hidden is not None and hidden.log.stored.epoch == epoch:
            return hidden.log
        return self._open(task_id, epoch)

    def _find(self, task_id: str) -> tuple[Stored, bool] | None:
        log = self._logs.get(task_id)
        if log is not None:
            return log.stored, False
        hidden = self._hidden.get(task_id)
        return (hidden.log.stored, True) if hidden else None

    def _free_epoch(self, task_id: str) -> int:
        """The epoch in which a new log of this id begins."""
        if task_id in self._logs or task_id in self._restoring:
            raise TaskExists(task_id)
        if task_id in self._hidden:
            raise TaskDeleting(task_id)
        return (self._tombstones.epoch(task_id) or 0) + 1

    def _show(self, log: MemoryLog) -> None:
        task = log.stored.task
        self._logs[task.id] = log
        insort(self._order, listing.sort_key(task))
        self._timers.set(task.id, log.stored.record.timers)
        self._workers.pending.place(task)

    def _hide(self, task_id: str) -> None:
        log = self._logs.pop(task_id)
        self._workers.pending.remove(task_id)
        del self._order[bisect_left(self._order, listing.sort_key(log.stored.task))]
