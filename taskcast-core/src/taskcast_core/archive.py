"""Between hot and cold: release and restore move tasks.

Nothing leaves the hot store before the durable copy covers it, and nothing comes back but under a ticket (design,
section 4). At every point in between one of the two copies is whole, so a crash leaves nothing to repair but a lease to
wait for. (A crash just before a restored copy is opened looks like a loss to the next restore. That is harmless: a new
epoch changes the ids of later entries only.)
"""

from __future__ import annotations

import asyncio
import logging
from typing import Literal

from attrs import evolve

from taskcast_core.backoff import Backoff
from taskcast_core.contracts.cold import Cold
from taskcast_core.contracts.followers import Followers
from taskcast_core.contracts.listing import ListQuery
from taskcast_core.contracts.long_term import LongTermStore, Watermark
from taskcast_core.contracts.task_log import Held, LogCopy, Segment, TaskLog
from taskcast_core.errors import (
    StorageBusy,
    StoragePreconditionFailed,
    TaskDeleting,
    TaskExists,
    TaskNotFound,
    TicketRefused,
)
from taskcast_core.ids import new_salt
from taskcast_core.states import LIVE
from taskcast_core.values import frozen

_log = logging.getLogger(__name__)

REBUILT_AT_ONCE = 16
"""Tasks that a rebuild brings back side by side."""


@frozen
class ArchiveSettings:
    """Bounds of archiving and restoring.

    Attributes:
        page: items of a log that are archived at once, at most.
        keep_last: so many of a task's newest items come back to the hot store with it.
        keep_hot: about so many of the newest archived entries of every task stay in the hot store; None: all of them.
        lease_ms: how long one restore may take. patience_s: how long a caller waits for somebody else's restore.
    """

    page: int = 1_000
    keep_last: int = 1_000
    keep_hot: int | None = 10_000
    lease_ms: int = 30_000
    patience_s: float = 10.0


@frozen
class Released:
    """What became of a request to release a task."""

    task_id: str
    state: Literal["hot", "cold"]
    watermark: int
    released: bool


@frozen
class Rebuilt:
    """What a rebuild found: live tasks that it brought back, that were there, that had been released, and those that
    others were bringing back without an end.
    """

    restored: int = 0
    there: int = 0
    released: int = 0
    busy: int = 0


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
        if not await self._followers.has_passed(task_id) or not await self._say_cold(task_id, mark):
            raise StorageBusy(f"task {task_id} is not archived completely yet")
        if not await self._hot.release(task_id, mark.epoch, mark.last_index, mark.rev):
            await self._cold.set_state(task_id, evolve(mark, state="cold"), "hot")
            raise StorageBusy(f"task {task_id} has changed meanwhile")
        return Released(task_id, "cold", mark.last_index, released=True)

    async def _say_cold(self, task_id: str, mark: Watermark) -> bool:
        """Whether the cold row says *cold* now; somebody who did not end may have said so before."""
        if await self._cold.set_state(task_id, mark, "cold"):
            return True
        return await self._cold.watermark(task_id) == evolve(mark, state="cold")

    async def rebuild(self) -> Rebuilt:
        """Bring every live task back that the hot store has lost; those that were released stay where they are."""
        query, done = ListQuery(statuses=LIVE, limit=REBUILT_AT_ONCE), Rebuilt()
        while True:
            page = await self._cold.list(query)
            heads = await self._log.heads([Held(task.id, -1) for task in page.tasks])
            missing = [task.id for task, head in zip(page.tasks, heads, strict=True) if head is None]
            marks = await asyncio.gather(*map(self._cold.watermark, missing))
            lost = [task_id for task_id, mark in zip(missing, marks, strict=True) if mark and mark.state == "hot"]
            restored = sum(await asyncio.gather(*map(self._bring_back, lost)))
            done = Rebuilt(
                done.restored + restored,
                done.there + len(page.tasks) - len(missing),
                done.released + len(missing) - len(lost),
                done.busy + len(lost) - restored,
            )
            if page.next_cursor is None:
                return done
            query = evolve(query, cursor=page.next_cursor)

    async def _bring_back(self, task_id: str) -> bool:
        try:
            return await self.restore(task_id)
        except StorageBusy as busy:
            _log.warning("%s", busy)
            return False

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
            copy = in_new_epoch(copy)
        await self._hot.restore(ticket, copy)
        if mark.state == "cold" and not await self._cold.set_state(task_id, mark, "hot"):
            return False  # the durable copy has moved on: begin again
        await self._hot.open(ticket)
        return True


def in_new_epoch(copy: LogCopy, beyond: int = 0) -> LogCopy:
    """What is left of a lost log: later entries, and so later ids, are of another epoch (behind ``beyond``)."""
    epoch = max(copy.segments[-1].epoch, beyond) + 1
    return evolve(copy, segments=(*copy.segments, Segment(copy.last_index + 1, epoch, new_salt())))
