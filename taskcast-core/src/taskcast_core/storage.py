"""Where an engine's tasks are: hot, cold, or on the way between the two."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import TypeVar

from taskcast_core.archive import ArchiveSettings, HotCold, Rebuilt, Released
from taskcast_core.contracts.followers import Backlog, Due
from taskcast_core.contracts.hot_store import ShortTermStore, is_cold_capable
from taskcast_core.contracts.listing import ListPage, ListQuery
from taskcast_core.contracts.log_reader import LogReader
from taskcast_core.contracts.long_term import LongTermStore
from taskcast_core.contracts.task_log import Held, Stored
from taskcast_core.errors import Conflict, EpochChanged, NotHot, StorageReleaseUnsupported, TaskNotFound
from taskcast_core.listing import encode_cursor, sort_key
from taskcast_core.log_events import tell_storage
from taskcast_core.models import Task
from taskcast_core.observers import Observers
from taskcast_core.tiers import TieredReader

T = TypeVar("T")

READ_TRIES = 5
"""So often a log that changes hands while it is read is read anew."""


class Storage:
    """Both stores as one, and the moves between them, which observers and the log of the process hear of.

    Attributes:
        hot: the short-term store. cold: the long-term one, if there is one. reader: logs, wherever they are.
    """

    def __init__(
        self, hot: ShortTermStore, cold: LongTermStore | None, observers: Observers, settings: ArchiveSettings
    ) -> None:
        self.hot, self.cold, self._observers = hot, cold, observers
        self.reader: LogReader = hot if cold is None else TieredReader(hot, cold)
        self._moves: HotCold | None = None
        if cold is not None and is_cold_capable(hot):
            self._moves = HotCold(hot, hot, hot, cold, settings)

    # ── Reading ────────────────────────────────────────────────────────────────────────────────────────────────────

    async def find(self, task_id: str) -> Stored | None:
        """The task, hot or cold; one that is being deleted is not found."""
        stored = await self.hot.get(task_id)
        if stored is not None or self.cold is None:
            return stored
        return await self.cold.get(task_id)

    async def existing(self, task_id: str) -> Stored:
        """The same of a task that has to be there.

        Raises:
            TaskNotFound.
        """
        stored = await self.find(task_id)
        if stored is None:
            raise TaskNotFound(task_id)
        return stored

    async def list(self, query: ListQuery) -> ListPage:
        """One page over both tiers; where both know a task, the hot copy is the true one. Raises as Listing.list."""
        near = await self.hot.list(query)
        if self.cold is None:
            return near
        far = await self.cold.list(query)
        known = await self.hot.heads([Held(task.id, -1) for task in far.tasks])
        only_far = [task for task, head in zip(far.tasks, known, strict=True) if head is None]
        merged: list[Task] = sorted((*near.tasks, *only_far), key=sort_key, reverse=True)
        page = tuple(merged[: query.limit])
        # A tier whose page is full may know tasks between its last one and the other's: those come with the next page.
        edges = [sort_key(one.tasks[-1]) for one in (near, far) if one.next_cursor is not None]
        if edges:
            page = tuple(task for task in page if sort_key(task) >= max(edges))
        has_more = bool(edges) or len(merged) > len(page)
        last = page[-1] if page else None
        return ListPage(page, encode_cursor(last) if has_more and last is not None else None)

    async def read_whole(self, task_id: str, read: Callable[[Stored], Awaitable[T]]) -> T:
        """Read a task's log as a whole; again, when it was cut or moved meanwhile.

        Raises:
            TaskNotFound. Conflict: it changed every time.
        """
        for _ in range(READ_TRIES):
            stored = await self.existing(task_id)
            with suppress(NotHot, EpochChanged):
                return await read(stored)
        raise Conflict(f"the log of {task_id} changed again and again while it was read")

    # ── Moving ─────────────────────────────────────────────────────────────────────────────────────────────────────

    async def release(self, task_id: str, expected_last_index: int, inactive_since: int) -> Released:
        """See ``TaskEngine.release_task``."""
        if self._moves is None:
            raise StorageReleaseUnsupported("the configured stores cannot move tasks to cold storage")
        released = await self._moves.release(task_id, expected_last_index, inactive_since)
        if released.released:
            tell_storage("storage_release", taskId=task_id, archiveWatermark=released.watermark)
            if self._observers.task_released:
                self._observers.task_released(task_id=task_id)
        return released

    async def on_cold(self, due: Due) -> None:
        """An ended task has been hot for long enough."""
        stored = await self.hot.get(due.task_id)
        if stored is not None:
            await self.release(due.task_id, stored.last_index, self.hot.now_ms())

    async def rehydrate(self, task_id: str) -> bool:
        """Bring a cold task back; False when there is no such task.

        Raises:
            StorageBusy: somebody else has been at it for too long.
        """
        if self._moves is None or not await self._moves.restore(task_id):
            return False
        tell_storage("storage_rehydrate", taskId=task_id)
        if self._observers.task_rehydrated:
            stored = await self.hot.get(task_id)
            self._observers.task_rehydrated(task=stored.task if stored else None)
        return True

    async def rebuild(self) -> Rebuilt:
        """See ``TaskEngine.rebuild``."""
        if self._moves is None:
            raise StorageReleaseUnsupported("the configured stores cannot bring tasks back")
        return await self._moves.rebuild()

    async def archive_lag(self) -> Backlog | None:
        """See ``TaskEngine.archive_lag``."""
        return None if self.cold is None else await self.hot.backlog("archive")
