"""The short-term store in one SQLite file: every contract of a hot store, and a promise beyond the process' end."""

from __future__ import annotations

import asyncio
import logging
import threading
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from taskcast_core.builtin.sqlite import cold, copies, followers, listing, log, reader, schema, shedding, workers
from taskcast_core.builtin.sqlite.lock import FileLock
from taskcast_core.builtin.sqlite.options import SqliteOptions
from taskcast_core.builtin.sqlite.pool import ReaderPool
from taskcast_core.builtin.sqlite.session import Published, Session
from taskcast_core.builtin.sqlite.wal import WalKeeper
from taskcast_core.builtin.sqlite.writer import Writer
from taskcast_core.clock import Clock
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

_log = logging.getLogger(__name__)

_OVERHEAD = 1_000  # bytes of a record in memory, beside what it holds

_DURABILITY = {
    "FULL": "on disk: survives a killed process and a power cut",
    "NORMAL": "in the file: survives a killed process; a power cut may take the newest changes",
    "OFF": "in the file: survives a killed process; a power cut may damage the file",
}


class SqliteShortTermStore:
    """TaskLog, Listing, Deadlines, Followers, Cold and Workers in one file, which this process owns while it is open.

    Use it as an async context manager, from one event loop. A verb that returns has been committed; what that outlives
    is said by ``SqliteOptions.synchronous``. Reads see all that has been acknowledged.

    Attributes:
        path: the file. meter: how many rows counting and seeking have looked at.
    """

    def __init__(self, options: SqliteOptions | None = None, clock: Clock | None = None) -> None:
        self._options = options or SqliteOptions()
        self._clock = clock or Clock()
        self.path = Path(self._options.path).resolve()
        self.meter = reader.Meter()
        self._lock = FileLock(self.path)
        self._now = 0
        self._now_lock = threading.Lock()
        self._known: OrderedDict[str, tuple[Stored, int]] = OrderedDict()
        self._known_bytes = 0

    # ── Opening and closing ───────────────────────────────────────────────────────────────────────────────────────

    async def __aenter__(self) -> Self:
        """Open the file, making it if there is none.

        Raises:
            StoreFileError: it is in use, of a newer layout, or not a store.
        """
        options = self._options
        # Not in a thread, which a cancelled start would leave behind with the file open.
        with ExitStack() as undo:
            self._lock.acquire()
            undo.callback(self._lock.release)
            self._connection = schema.open_writer(self.path, options)
            undo.callback(self._connection.close)
            self._session = Session(self._connection, self.now_ms, options.log_cache_bytes)
            self._wal = WalKeeper(self.path, options)
            undo.callback(self._wal.close, options.close_timeout_ms / 1000)
            self._readers = ReaderPool(self.path, options.readers)
            self._writer = Writer(self._connection, self._session, self._wal, options.queue_size, self._published)
            undo.pop_all()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Finish what has been handed over, within a bounded time, and close the file; also when cancelled."""
        await asyncio.shield(self._close())

    async def _close(self) -> None:
        timeout = self._options.close_timeout_ms / 1000
        await self._readers.close()
        has_ended = await self._writer.close(timeout)
        await asyncio.to_thread(self._wal.close, timeout)
        if not has_ended:
            # Its connection and the lock stay with the thread: nobody else may write while it still might.
            _log.error("sqlite: %s: the writer has not ended within %.1f s", self.path, timeout)
            return
        await asyncio.to_thread(self._connection.close)  # the last one to close copies the log, too
        self._lock.release()

    @property
    def is_shared(self) -> bool:
        """See TaskLog."""
        return False

    @property
    def durability(self) -> str:
        """See TaskLog."""
        return _DURABILITY[self._options.synchronous]

    def now_ms(self) -> int:
        """See TaskLog; never runs backwards while the store is open."""
        with self._now_lock:
            self._now = max(self._now, self._clock.now_ms())
            return self._now

    def _published(self, changed: Published) -> None:
        """Keep the records that were just written: they are read most, and then without I/O."""
        for task_id, known in changed.items():
            if before := self._known.pop(task_id, None):
                self._known_bytes -= before[1] + _OVERHEAD
            if known is not None:
                self._known[task_id] = known
                self._known_bytes += known[1] + _OVERHEAD
        while self._known_bytes > self._options.record_cache_bytes:
            _, (_, size) = self._known.popitem(last=False)
            self._known_bytes -= size + _OVERHEAD

    async def backup(self, path: Path) -> None:
        """Copy the store as it is now into a file of its own, while it goes on working; replaces ``path``.

        Raises:
            StoreFileError: it cannot be written there.
        """
        await self._readers.back_up(path, self.path)

    # ── TaskLog ───────────────────────────────────────────────────────────────────────────────────────────────────

    async def reserve(self, key: Key, task_id: str) -> str:
        """See TaskLog."""
        return await self._writer.run(partial(log.reserve, key=key, task_id=task_id))

    async def create(self, record: Record, key: Key | None = None) -> Committed:
        """See TaskLog."""
        return await self._writer.run(partial(log.create, record=record, key=key))

    async def load(self, copy: LogCopy, *, overwrite: bool = False) -> Stored:
        """See TaskLog."""
        return await self._writer.run(partial(log.load, copy=copy, overwrite=overwrite))

    async def get(self, task_id: str) -> Stored | None:
        """See TaskLog."""
        known = self._known.get(task_id)
        if known is not None and not self._writer.may_have_changed(task_id):  # else a page read before may be newer
            return known[0]
        return await self._readers.run(reader.get, task_id)

    async def heads(self, held: Sequence[Held]) -> Sequence[Head | None]:
        """See TaskLog."""
        return await self._readers.run(reader.heads, held)

    async def commit(self, task_id: str, change: Change) -> Committed:
        """See TaskLog."""
        return await self._writer.run(lambda session: log.commit(session, task_id, change))  # `partial` takes longer

    async def found_epoch(self, task_id: str, seen_epoch: int, floor: int) -> Stored | None:
        """See TaskLog."""
        return await self._writer.run(partial(copies.found_epoch, task_id=task_id, seen_epoch=seen_epoch, floor=floor))

    async def delete(self, task_id: str, *, linger_ms: int) -> bool:
        """See TaskLog."""
        return await self._writer.run(partial(log.delete, task_id=task_id, linger_ms=linger_ms))

    async def purge(self, task_id: str, *, tombstone_ms: int) -> bool:
        """See TaskLog."""
        return await self._writer.run(partial(log.purge, task_id=task_id, tombstone_ms=tombstone_ms))

    async def trim(self, task_id: str, epoch: int, rule: TrimRule, limit: int = 10_000) -> int:
        """See TaskLog."""
        return await self._writer.run(partial(copies.trim, task_id=task_id, epoch=epoch, rule=rule, limit=limit))

    # ── LogReader ─────────────────────────────────────────────────────────────────────────────────────────────────

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
        return await self._readers.run(partial(reader.read, reverse=reverse), task_id, epoch, after, before, limit)

    async def series(self, task_id: str, *, epoch: int | None = None) -> SeriesPage:
        """See LogReader."""
        return await self._readers.run(reader.series, task_id, epoch)

    async def fold(self, task_id: str, series_id: str, index: int, *, epoch: int | None = None) -> Any:
        """See LogReader."""
        return await self._readers.run(reader.fold, task_id, series_id, index, epoch)

    async def count(self, task_id: str, view: View, before: int, *, epoch: int | None = None) -> int:
        """See LogReader."""
        return await self._readers.run(reader.count, task_id, view, before, epoch, self.meter)

    async def seek(self, task_id: str, view: View, position: int, *, epoch: int | None = None) -> int | None:
        """See LogReader."""
        return await self._readers.run(reader.seek, task_id, view, position, epoch, self.meter)

    async def seek_time(self, task_id: str, timestamp: int, *, epoch: int | None = None) -> int:
        """See LogReader."""
        return await self._readers.run(reader.seek_time, task_id, timestamp, epoch)

    async def locate(self, task_id: str, event_id: str, *, epoch: int | None = None) -> int | None:
        """See LogReader."""
        return await self._readers.run(reader.locate, task_id, event_id, epoch)

    # ── Listing ───────────────────────────────────────────────────────────────────────────────────────────────────

    async def list(self, query: ListQuery) -> ListPage:
        """See Listing."""
        return await self._readers.run(listing.tasks, query)

    async def tally(self) -> Mapping[tuple[str | None, TaskStatus], int]:
        """See Listing."""
        return await self._readers.run(listing.tally)

    # ── Deadlines and followers ───────────────────────────────────────────────────────────────────────────────────

    async def due(self, kind: TimerKind, limit: int, lease_ms: int) -> Sequence[Due]:
        """See Deadlines."""
        return await self._writer.run(partial(followers.due, kind=kind, limit=limit, lease_ms=lease_ms))

    async def next_due(self, kind: TimerKind) -> int | None:
        """See Deadlines."""
        return await self._readers.run(followers.next_due, kind)

    async def claim_dirty(self, kind: FollowerKind, owner: str, limit: int, lease_ms: int) -> Sequence[Dirty]:
        """See Followers; one process needs no owner's name."""
        return await self._writer.run(partial(followers.claim_dirty, kind=kind, limit=limit, lease_ms=lease_ms))

    async def renew(self, dirty: Dirty, lease_ms: int) -> None:
        """See Followers."""
        await self._writer.run(partial(followers.renew, dirty=dirty, lease_ms=lease_ms))

    async def ack(self, dirty: Dirty, last_index: int, rev: int) -> None:
        """See Followers."""
        await self._writer.run(partial(followers.ack, dirty=dirty, last_index=last_index, rev=rev))

    async def defer(self, dirty: Dirty, last_index: int, attempt: int, until: int) -> None:
        """See Followers."""
        await self._writer.run(
            partial(followers.defer, dirty=dirty, last_index=last_index, attempt=attempt, until=until)
        )

    async def has_passed(self, task_id: str) -> bool:
        """See Followers."""
        return await self._readers.run(followers.has_passed, task_id)

    async def backlog(self, kind: FollowerKind) -> Backlog:
        """See Followers."""
        return await self._readers.run(followers.backlog, kind, self.now_ms())

    async def add_dead_letter(self, letter: DeadLetter) -> None:
        """See Followers."""
        await self._writer.run(partial(followers.add_dead_letter, letter=letter))

    async def dead_letters(self, limit: int, after: str | None = None) -> Sequence[DeadLetter]:
        """See Followers."""
        return await self._readers.run(followers.dead_letters, limit, after)

    async def take_dead_letter(self, letter_id: str) -> DeadLetter | None:
        """See Followers."""
        return await self._writer.run(partial(followers.take_dead_letter, letter_id=letter_id))

    # ── Cold ──────────────────────────────────────────────────────────────────────────────────────────────────────

    async def shed(self, task_id: str, epoch: int, before: int, limit: int = 2_000) -> int:
        """See Cold."""
        return await self._writer.run(partial(shedding.shed, task_id=task_id, epoch=epoch, before=before, limit=limit))

    async def replace(self, task_id: str, epoch: int, copy: LogCopy) -> Stored | None:
        """See Cold."""
        return await self._writer.run(partial(shedding.replace, task_id=task_id, epoch=epoch, copy=copy))

    async def release(self, task_id: str, epoch: int, last_index: int, rev: int) -> bool:
        """See Cold."""
        return await self._writer.run(
            partial(cold.release, task_id=task_id, epoch=epoch, last_index=last_index, rev=rev)
        )

    async def begin_restore(self, task_id: str, lease_ms: int) -> RestoreTicket:
        """See Cold."""
        return await self._writer.run(partial(cold.begin_restore, task_id=task_id, lease_ms=lease_ms))

    async def restore(self, ticket: RestoreTicket, copy: LogCopy) -> None:
        """See Cold."""
        await self._writer.run(partial(cold.restore, ticket=ticket, copy=copy))

    async def open(self, ticket: RestoreTicket) -> Stored:
        """See Cold."""
        return await self._writer.run(partial(cold.open_restored, ticket=ticket))

    # ── Workers ───────────────────────────────────────────────────────────────────────────────────────────────────

    async def put_worker(self, worker: Worker) -> Worker:
        """See Workers."""
        return await self._writer.run(partial(workers.put_worker, worker=worker))

    async def get_worker(self, worker_id: str) -> Worker | None:
        """See Workers."""
        return await self._readers.run(workers.get_worker, worker_id)

    async def list_workers(self) -> Sequence[Worker]:
        """See Workers."""
        return await self._readers.run(workers.list_workers)

    async def remove_worker(self, worker_id: str) -> bool:
        """See Workers."""
        return await self._writer.run(partial(workers.remove_worker, worker_id=worker_id))

    async def heartbeat(self, worker_id: str, lease_ms: int) -> Worker | None:
        """See Workers."""
        return await self._writer.run(partial(workers.heartbeat, worker_id=worker_id, lease_ms=lease_ms))

    async def queue(self, modes: frozenset[AssignMode], limit: int, after: str | None = None) -> Sequence[Task]:
        """See Workers."""
        return await self._readers.run(workers.queue, modes, limit, after)

    async def reserve_slot(self, assignment: Assignment) -> bool:
        """See Workers."""
        return await self._writer.run(partial(workers.reserve_slot, wanted=assignment))

    async def confirm(self, assignment_id: str) -> bool:
        """See Workers."""
        return await self._writer.run(partial(workers.confirm, assignment_id=assignment_id))

    async def extend(self, assignment_id: str, lease_ms: int) -> bool:
        """See Workers."""
        return await self._writer.run(partial(workers.extend, assignment_id=assignment_id, lease_ms=lease_ms))

    async def release_slot(self, assignment_id: str) -> Assignment | None:
        """See Workers."""
        return await self._writer.run(partial(workers.release_slot, assignment_id=assignment_id))

    async def assignments(self, *, worker_id: str | None = None, task_id: str | None = None) -> Sequence[Assignment]:
        """See Workers."""
        return await self._readers.run(workers.assignments, worker_id, task_id)

    async def expired(self, limit: int, lease_ms: int) -> Sequence[Assignment]:
        """See Workers."""
        return await self._writer.run(partial(workers.expired, limit=limit, lease_ms=lease_ms))
