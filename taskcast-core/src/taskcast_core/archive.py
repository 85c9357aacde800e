"""Between hot and cold: the archiver follows every log into the long-term store; release and restore move tasks.

Nothing leaves the hot store before the durable copy covers it, and nothing comes back but under a ticket (design,
section 4). At every point in between one of the two copies is whole, so a crash leaves nothing to repair but a lease to
wait for. (A crash just before a restored copy is opened looks like a loss to the next restore. That is harmless: a new
epoch changes the ids of later entries only.)
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Sequence
from typing import Literal

from attrs import evolve, frozen

from taskcast_core.backoff import Backoff, delay_s
from taskcast_core.contracts.cold import Cold
from taskcast_core.contracts.followers import Dirty, FollowerKind, Followers
from taskcast_core.contracts.long_term import ArchiveBatch, LongTermStore, Watermark
from taskcast_core.contracts.task_log import LogCopy, Segment, SeriesCopy, Stored, TaskLog
from taskcast_core.entries import Entry, Hole
from taskcast_core.errors import (
    StorageBusy,
    StorageIntegrityError,
    StoragePreconditionFailed,
    StoreUnavailable,
    TaskDeleting,
    TaskExists,
    TaskNotFound,
    TicketRefused,
)
from taskcast_core.followers import Host, Progress
from taskcast_core.ids import new_salt

_log = logging.getLogger(__name__)

GROUP = 64
"""Batches that travel to the long-term store in one transaction, at most."""
DISAGREEMENT_S = 60.0
"""So long is a log left alone that contradicts its archive."""


@frozen
class ArchiveSettings:
    """Bounds of archiving and restoring.

    Attributes:
        keep_last: so many of a task's newest items come back to the hot store with it.
        lease_ms: how long one restore may take. patience_s: how long a caller waits for somebody else's restore.
    """

    keep_last: int = 1000
    lease_ms: int = 30_000
    patience_s: float = 10.0


@frozen
class Released:
    """What became of a request to release a task."""

    task_id: str
    state: Literal["hot", "cold"]
    watermark: int
    released: bool


class Archiver:
    """The ``archive`` follower. What several lanes want to write at one time is one transaction."""

    kind: FollowerKind = "archive"

    def __init__(self, log: TaskLog, cold: LongTermStore) -> None:
        self._log, self._cold = log, cold
        self._queue: list[tuple[ArchiveBatch, asyncio.Future[None]]] = []
        self._writer: asyncio.Task[None] | None = None

    def attach(self, host: Host) -> None:
        """See Handler; everything that is needed came with the constructor."""

    async def handle(self, dirty: Dirty, stored: Stored | None, items: Sequence[Entry | Hole]) -> Progress:
        """See Handler. A deleted task has been deleted from the long-term store, too: there is nothing to write."""
        last = _last_of(items[-1]) if items else dirty.cursor
        if stored is not None:
            states = (await self._log.series(dirty.task_id, epoch=dirty.epoch)).states
            series = tuple(SeriesCopy(name, state) for name, state in states.items() if state.last_index <= last)
            batch = ArchiveBatch(dirty.task_id, stored.record, stored.rev, stored.segments, tuple(items), series)
            try:
                await self._write(batch)
            except StoreUnavailable as error:
                return self._later(dirty, delay_s(dirty.attempt + 1, first_s=0.5, most_s=5.0), error)
            except StorageIntegrityError as error:
                # The hot log is not what was archived: it was lost and grew anew with nobody there to notice. Nothing
                # is thrown away on either side; somebody has to decide.
                return self._later(dirty, DISAGREEMENT_S, error)
        return Progress(last)

    def _later(self, dirty: Dirty, wait_s: float, error: Exception) -> Progress:
        _log.warning("archiving %s waits: %s", dirty.task_id, error)
        return Progress(dirty.cursor, dirty.attempt + 1, self._log.now_ms() + round(wait_s * 1000))

    async def _write(self, batch: ArchiveBatch) -> None:
        done: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._queue.append((batch, done))
        if self._writer is None or self._writer.done():
            self._writer = asyncio.get_running_loop().create_task(self._drain())
        await done

    async def _drain(self) -> None:
        while self._queue:
            group, self._queue = self._queue[:GROUP], self._queue[GROUP:]
            try:
                await self._cold.write([batch for batch, _ in group])
            except Exception:  # noqa: BLE001 - each batch is tried alone, so that only the guilty one fails
                for batch, done in group:
                    await self._write_alone(batch, done)
            else:
                for _, done in group:
                    if not done.done():
                        done.set_result(None)

    async def _write_alone(self, batch: ArchiveBatch, done: asyncio.Future[None]) -> None:
        try:
            await self._cold.write([batch])
        except Exception as error:  # noqa: BLE001 - handed to whoever waits for this batch
            if not done.done():
                done.set_exception(error)
        else:
            if not done.done():
                done.set_result(None)


class HotCold:
    """Release and restore of single tasks."""

    def __init__(
        self, log: TaskLog, hot: Cold, followers: Followers, cold: LongTermStore, settings: ArchiveSettings
    ) -> None:
        self._log, self._hot, self._followers, self._cold = log, hot, followers, cold
        self.settings = settings

    async def release(self, task_id: str, expected_last_index: int, inactive_since: int) -> Released:
        """Drop the hot copy of a task that is as far as the caller thinks and was quiet since ``inactive_since`` (ms).

        Raises:
            TaskNotFound. StoragePreconditionFailed: it is not so. StorageBusy: not archived yet, or being moved.
        """
        stored = await self._log.get(task_id)
        if stored is None:
            mark = await self._cold.watermark(task_id)
            if mark is None:
                raise TaskNotFound(task_id)
            return Released(task_id, mark.state, mark.last_index, released=False)
        if stored.last_index != expected_last_index:
            raise StoragePreconditionFailed(f"the last event index is {stored.last_index}")
        if max(stored.last_timestamp, stored.task.updated_at) > inactive_since:
            raise StoragePreconditionFailed("the task was active since then")
        mark = Watermark(stored.epoch, stored.last_index, stored.rev)
        if not await self._followers.has_passed(task_id) or not await self._cold.set_state(task_id, mark, "cold"):
            raise StorageBusy(f"task {task_id} is not archived completely yet")
        if not await self._hot.release(task_id, mark.epoch, mark.last_index, mark.rev):
            await self._cold.set_state(task_id, evolve(mark, state="cold"), "hot")
            raise StorageBusy(f"task {task_id} has changed meanwhile")
        return Released(task_id, "cold", mark.last_index, released=True)

    async def restore(self, task_id: str) -> bool:
        """Bring a task back to the hot store; True when there is an open hot copy then, False when there is no task.

        Raises:
            StorageBusy: somebody else's restore took too long.
        """
        waits = Backoff(first_s=0.02, most_s=0.5)
        ends = asyncio.get_running_loop().time() + self.settings.patience_s
        while asyncio.get_running_loop().time() < ends:
            try:
                if await self._restore_once(task_id):
                    return True
            except TaskExists:
                return True
            except TaskDeleting:
                return False
            except TicketRefused:
                pass  # another node is at it, or was faster
            else:
                if await self._cold.get(task_id) is None:
                    return False
            await waits.wait()
        raise StorageBusy(f"task {task_id} is being restored")

    async def _restore_once(self, task_id: str) -> bool:
        mark = await self._cold.watermark(task_id)
        if mark is None:
            return False
        ticket = await self._hot.begin_restore(task_id, self.settings.lease_ms)
        copy = await self._cold.copy(task_id, self.settings.keep_last)
        if copy is None:
            return False
        if mark.state == "hot":
            # The cold row says that there is a hot copy, and there is none: it was lost with what it had beyond this.
            _log.warning("hot copy of %s was lost; it goes on from its archive", task_id)
            copy = _in_new_epoch(copy)
        await self._hot.restore(ticket, copy)
        if mark.state == "cold" and not await self._cold.set_state(task_id, mark, "hot"):
            return False  # the durable copy has moved on: begin again
        await self._hot.open(ticket)
        return True


def _in_new_epoch(copy: LogCopy) -> LogCopy:
    """What is left of a lost log: later entries, and so later ids, are of another epoch."""
    newest = copy.segments[-1]
    return evolve(copy, segments=(*copy.segments, Segment(copy.last_index + 1, newest.epoch + 1, new_salt())))


def _last_of(item: Entry | Hole) -> int:
    return item.index if isinstance(item, Entry) else item.last
