"""The short-term store in Redis: every contract of a hot store, shared by any number of processes."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Coroutine, Mapping, Sequence
from types import TracebackType
from typing import Any, Self

from taskcast_core.contracts.cold import RestoreTicket
from taskcast_core.contracts.followers import Backlog, DeadLetter, Dirty, Due, FollowerKind
from taskcast_core.contracts.listing import ListPage, ListQuery
from taskcast_core.contracts.log_reader import Page, SeriesPage
from taskcast_core.contracts.task_log import (
    Change,
    Committed,
    Head,
    Held,
    Key,
    LogCopy,
    Record,
    Stored,
    TimerKind,
    TrimRule,
)
from taskcast_core.contracts.workers import Assignment
from taskcast_core.filters import View
from taskcast_core.models import AssignMode, Task, TaskStatus, Worker
from taskcast_redis.cold import Copies
from taskcast_redis.connection import RedisConnection
from taskcast_redis.diagnosis import diagnose
from taskcast_redis.failures import COMMAND
from taskcast_redis.listing import TaskList
from taskcast_redis.log import LogWriter
from taskcast_redis.looks import LookQueue
from taskcast_redis.pending import Pending
from taskcast_redis.reader import LogLooks
from taskcast_redis.workers import WorkerTable


class RedisShortTermStore:
    """TaskLog, Listing, Deadlines, Followers, Cold and Workers in one Redis (or Sentinel group, or Cluster).

    Every change is one script call; see the folder ``lua``. Use it as a context manager.
    """

    is_shared = True

    def __init__(self, connection: RedisConnection) -> None:
        self.connection = connection
        self._queue = LookQueue(connection)
        self._log = LogWriter(connection, self._queue)
        self._looks = LogLooks(connection, self._queue)
        self._list = TaskList(connection)
        self._pending = Pending(connection)
        self._copies = Copies(connection)
        self._workers = WorkerTable(connection)

    async def __aenter__(self) -> Self:
        await self.connection.__aenter__()
        self.connection.stores += 1
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._log.close()
        await self._queue.close()
        self.connection.stores -= 1
        await self.connection.__aexit__(kind, error, trace)

    @property
    def durability(self) -> str:
        """See TaskLog."""
        replicas = self.connection.options.wait_replicas
        copies = f"; acknowledged once {replicas} replicas have it" if replicas else ""
        return self.connection.persistence + copies

    @property
    def looked_at(self) -> int:
        """Entries that ``count`` and ``seek`` had to look at so far; for tests of the bounds."""
        return self._looks.looked_at

    def dependency_checks(self) -> Mapping[str, Callable[[], Awaitable[None]]]:
        """What this store needs outside of this process: functions that raise StoreUnavailable while it is away."""
        return {COMMAND: self.connection.check}

    async def diagnose(self) -> Mapping[str, Any]:
        """What this Redis is like, for people who look for trouble. Raises StoreUnavailable."""
        return await diagnose(self.connection)

    def now_ms(self) -> int:
        """See TaskLog."""
        return self.connection.now_ms()

    # ── TaskLog ───────────────────────────────────────────────────────────────────────────────────────────────────────

    async def reserve(self, key: Key, task_id: str) -> str:
        """See TaskLog."""
        return await self._log.reserve(key, task_id)

    async def create(self, record: Record, key: Key | None = None) -> Committed:
        """See TaskLog."""
        return await self._log.create(record, key)

    async def load(self, copy: LogCopy, *, overwrite: bool = False) -> Stored:
        """See TaskLog."""
        return await self._copies.load(copy, overwrite=overwrite)

    async def get(self, task_id: str) -> Stored | None:
        """See TaskLog."""
        return await self._log.get(task_id)

    async def heads(self, held: Sequence[Held]) -> Sequence[Head | None]:
        """See TaskLog."""
        return await self._log.heads(held)

    def commit(self, task_id: str, change: Change) -> Coroutine[Any, Any, Committed]:
        """See TaskLog."""
        return self._log.commit(task_id, change)

    async def found_epoch(self, task_id: str, seen_epoch: int, floor: int) -> Stored | None:
        """See TaskLog."""
        return await self._log.found_epoch(task_id, seen_epoch, floor)

    async def delete(self, task_id: str, *, linger_ms: int) -> bool:
        """See TaskLog."""
        return await self._log.delete(task_id, linger_ms)

    async def purge(self, task_id: str, *, tombstone_ms: int) -> bool:
        """See TaskLog."""
        return await self._log.purge(task_id, tombstone_ms)

    async def trim(self, task_id: str, epoch: int, rule: TrimRule, limit: int = 10_000) -> int:
        """See TaskLog."""
        return await self._log.trim(task_id, epoch, rule, limit)

    # ── LogReader ─────────────────────────────────────────────────────────────────────────────────────────────────────

    async def read(
        self,
        task_id: str,
        *,
        epoch: int | None = None,
        after: int = -1,
        before: int | None = None,
        limit: int = 1000,
        reverse: bool = False,
    ) -> Page:
        """See LogReader."""
        return await self._looks.read(task_id, epoch, after, before, limit, reverse=reverse)

    async def series(self, task_id: str, *, epoch: int | None = None) -> SeriesPage:
        """See LogReader."""
        return await self._looks.series(task_id, epoch)

    async def fold(self, task_id: str, series_id: str, index: int, *, epoch: int | None = None) -> Any:
        """See LogReader."""
        return await self._looks.fold(task_id, series_id, index, epoch)

    async def count(self, task_id: str, view: View, before: int, *, epoch: int | None = None) -> int:
        """See LogReader."""
        return await self._looks.count(task_id, view, before, epoch)

    async def seek(self, task_id: str, view: View, position: int, *, epoch: int | None = None) -> int | None:
        """See LogReader."""
        return await self._looks.seek(task_id, view, position, epoch)

    async def seek_time(self, task_id: str, timestamp: int, *, epoch: int | None = None) -> int:
        """See LogReader."""
        return await self._looks.seek_time(task_id, timestamp, epoch)

    async def locate(self, task_id: str, event_id: str, *, epoch: int | None = None) -> int | None:
        """See LogReader."""
        return await self._looks.locate(task_id, event_id, epoch)

    # ── Listing ───────────────────────────────────────────────────────────────────────────────────────────────────────

    async def list(self, query: ListQuery) -> ListPage:
        """See Listing."""
        return await self._list.list(query)

    async def tally(self) -> Mapping[tuple[str | None, TaskStatus], int]:
        """See Listing."""
        return await self._list.tally()

    # ── Deadlines and followers ───────────────────────────────────────────────────────────────────────────────────────

    async def due(self, kind: TimerKind, limit: int, lease_ms: int) -> Sequence[Due]:
        """See Deadlines."""
        return await self._pending.due(kind, limit, lease_ms)

    async def next_due(self, kind: TimerKind) -> int | None:
        """See Deadlines."""
        return await self._pending.next_due(kind)

    async def claim_dirty(self, kind: FollowerKind, owner: str, limit: int, lease_ms: int) -> Sequence[Dirty]:
        """See Followers."""
        return await self._pending.claim_dirty(kind, owner, limit, lease_ms)

    async def renew(self, dirty: Dirty, lease_ms: int) -> None:
        """See Followers."""
        await self._pending.renew(dirty, lease_ms)

    async def ack(self, dirty: Dirty, last_index: int, rev: int) -> None:
        """See Followers."""
        await self._pending.ack(dirty, last_index, rev)

    async def defer(self, dirty: Dirty, last_index: int, attempt: int, until: int) -> None:
        """See Followers."""
        await self._pending.defer(dirty, last_index, attempt, until)

    async def has_passed(self, task_id: str) -> bool:
        """See Followers."""
        return await self._pending.has_passed(task_id)

    async def backlog(self, kind: FollowerKind) -> Backlog:
        """See Followers."""
        return await self._pending.backlog(kind)

    async def add_dead_letter(self, letter: DeadLetter) -> None:
        """See Followers."""
        await self._pending.add_dead_letter(letter)

    async def dead_letters(self, limit: int, after: str | None = None) -> Sequence[DeadLetter]:
        """See Followers."""
        return await self._pending.dead_letters(limit, after)

    async def take_dead_letter(self, letter_id: str) -> DeadLetter | None:
        """See Followers."""
        return await self._pending.take_dead_letter(letter_id)

    # ── Cold ──────────────────────────────────────────────────────────────────────────────────────────────────────────

    async def shed(self, task_id: str, epoch: int, before: int, limit: int = 2_000) -> int:
        """See Cold."""
        return await self._copies.shed(task_id, epoch, before, limit)

    async def replace(self, task_id: str, epoch: int, copy: LogCopy) -> Stored | None:
        """See Cold."""
        return await self._copies.replace(task_id, epoch, copy)

    async def release(self, task_id: str, epoch: int, last_index: int, rev: int) -> bool:
        """See Cold."""
        return await self._copies.release(task_id, epoch, last_index, rev)

    async def begin_restore(self, task_id: str, lease_ms: int) -> RestoreTicket:
        """See Cold."""
        return await self._copies.begin_restore(task_id, lease_ms)

    async def restore(self, ticket: RestoreTicket, copy: LogCopy) -> None:
        """See Cold."""
        await self._copies.restore(ticket, copy)

    async def open(self, ticket: RestoreTicket) -> Stored:
        """See Cold."""
        return await self._copies.open(ticket)

    # ── Workers ───────────────────────────────────────────────────────────────────────────────────────────────────────

    async def put_worker(self, worker: Worker) -> Worker:
        """See Workers."""
        return await self._workers.put(worker)

    async def get_worker(self, worker_id: str) -> Worker | None:
        """See Workers."""
        return await self._workers.get(worker_id)

    async def list_workers(self) -> Sequence[Worker]:
        """See Workers."""
        return await self._workers.all()

    async def remove_worker(self, worker_id: str) -> bool:
        """See Workers."""
        return await self._workers.remove(worker_id)

    async def heartbeat(self, worker_id: str, lease_ms: int) -> Worker | None:
        """See Workers."""
        return await self._workers.heartbeat(worker_id, lease_ms)

    async def queue(self, modes: frozenset[AssignMode], limit: int, after: str | None = None) -> Sequence[Task]:
        """See Workers."""
        last = await self._log.get(after) if after is not None else None
        return await self._workers.queue(modes, limit, last.task if last else None)

    async def reserve_slot(self, assignment: Assignment) -> bool:
        """See Workers."""
        return await self._workers.reserve(assignment)

    async def confirm(self, assignment_id: str) -> bool:
        """See Workers."""
        return await self._workers.confirm(assignment_id)

    async def extend(self, assignment_id: str, lease_ms: int) -> bool:
        """See Workers."""
        return await self._workers.extend(assignment_id, lease_ms)

    async def release_slot(self, assignment_id: str) -> Assignment | None:
        """See Workers."""
        return await self._workers.release(assignment_id)

    async def assignments(self, *, worker_id: str | None = None, task_id: str | None = None) -> Sequence[Assignment]:
        """See Workers."""
        return await self._workers.assignments(worker_id, task_id)

    async def expired(self, limit: int, lease_ms: int) -> Sequence[Assignment]:
        """See Workers."""
        return await self._workers.expired(limit, lease_ms)
