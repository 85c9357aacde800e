"""Reading a task wherever it is: hot if it can be, cold else, and one log to the reader either way."""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable, Mapping
from functools import partial
from typing import TypeVar

from attrs import evolve

from taskcast_core.contracts.log_reader import LogReader, Page, SeriesPage
from taskcast_core.contracts.long_term import LongTermStore
from taskcast_core.contracts.task_log import TaskLog
from taskcast_core.entries import Entry, Hole
from taskcast_core.errors import NotHot, NotRetained
from taskcast_core.filters import View
from taskcast_core.log_events import tell_storage
from taskcast_core.models import JsonValue
from taskcast_core.series import SeriesState

T = TypeVar("T")


def _tell_read(task_id: str, after: int, page: Page) -> None:
    tell_storage("storage_history_read", logging.DEBUG, taskId=task_id, after=after, entries=len(page.items))


class TieredReader:
    """LogReader over both copies. The durable copy is a prefix of the hot log, so the seam is wherever hot begins.

    Below the seam the cold copy is asked for its own epoch: it may not have heard of the hot one's yet.
    """

    def __init__(self, hot: TaskLog, cold: LongTermStore) -> None:
        self._hot, self._cold = hot, cold

    async def _either(self, epoch: int | None, read: Callable[[LogReader, int | None], Awaitable[T]]) -> T:
        try:
            return await read(self._hot, epoch)
        except NotHot:
            return await read(self._cold, epoch)
        except NotRetained:
            return await read(self._cold, None)

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
        if reverse:
            return await self._read_backwards(task_id, epoch, after, before, limit)
        try:
            return await self._hot.read(task_id, epoch=epoch, after=after, before=before, limit=limit)
        except NotHot:
            page = await self._cold.read(task_id, epoch=epoch, after=after, before=before, limit=limit)
            _tell_read(task_id, after, page)
            return page
        except NotRetained as older:
            seam = older.index if before is None else min(before, older.index)
            page = await self._below(
                task_id, epoch, partial(self._cold.read, task_id, after=after, before=seam, limit=limit)
            )
            _tell_read(task_id, after, page)
            return page

    async def _read_backwards(
        self, task_id: str, epoch: int | None, after: int, before: int | None, limit: int
    ) -> Page:
        try:
            page = await self._hot.read(task_id, epoch=epoch, after=after, before=before, limit=limit, reverse=True)
        except NotHot:
            page = None
        if page is not None and (page.items or page.last <= 0):
            return page
        read = partial(self._cold.read, task_id, after=after, before=before, limit=limit, reverse=True)
        return await read(epoch=epoch) if page is None else await self._below(task_id, epoch, read)

    async def _below(self, task_id: str, epoch: int | None, read: Callable[[], Awaitable[Page]]) -> Page:
        """A page from below the seam, as part of the hot log.

        A value of a latest series that the hot log has replaced is a hole, though the cold copy has not heard of it.
        """
        page = await read()
        now = await self._hot.series(task_id, epoch=epoch)
        gone = _replaced(page, now.states)
        if gone:
            archived = {state.last_index for state in (await self._cold.series(task_id)).states.values()}
            if not gone <= archived:
                page = await read()  # the cold copy has heard of it meanwhile
            gone &= archived
        items = tuple(_hole_of(item) if isinstance(item, Entry) and item.index in gone else item for item in page.items)
        return evolve(page, items=items, epoch=now.epoch, log_last=now.log_last)

    async def series(self, task_id: str, *, epoch: int | None = None) -> SeriesPage:
        """See LogReader."""
        return await self._either(epoch, lambda tier, of: tier.series(task_id, epoch=of))

    async def fold(self, task_id: str, series_id: str, index: int, *, epoch: int | None = None) -> JsonValue:
        """See LogReader."""
        return await self._either(epoch, lambda tier, of: tier.fold(task_id, series_id, index, epoch=of))

    async def count(self, task_id: str, view: View, before: int, *, epoch: int | None = None) -> int:
        """See LogReader."""
        return await self._either(epoch, lambda tier, of: tier.count(task_id, view, before, epoch=of))

    async def seek(self, task_id: str, view: View, position: int, *, epoch: int | None = None) -> int | None:
        """See LogReader."""
        return await self._either(epoch, lambda tier, of: tier.seek(task_id, view, position, epoch=of))

    async def seek_time(self, task_id: str, timestamp: int, *, epoch: int | None = None) -> int:
        """See LogReader."""
        return await self._either(epoch, lambda tier, of: tier.seek_time(task_id, timestamp, epoch=of))

    async def locate(self, task_id: str, event_id: str, *, epoch: int | None = None) -> int | None:
        """See LogReader."""
        found = await self._either(epoch, lambda tier, of: tier.locate(task_id, event_id, epoch=of))
        if found is not None:
            return found
        try:
            return await self._cold.locate(task_id, event_id)
        except NotHot:
            return None


def _replaced(page: Page, states: Mapping[str, SeriesState]) -> set[int]:
    """Values of latest series on a page that are not the newest ones, if nothing but such values came behind them."""
    return {
        item.index
        for item in page.items
        if isinstance(item, Entry)
        and item.series_mode == "latest"
        and (state := states.get(item.series_id or "")) is not None
        and state.mode == "latest"
        and state.last_index > item.index
    }


def _hole_of(entry: Entry) -> Hole:
    at = entry.timestamp
    return Hole(entry.index, entry.index, at, at, {(entry.type, entry.level): 1})
