"""The stream of all tasks: those created after it was opened, on any node, each event at most once, with no cursor."""

from __future__ import annotations

import asyncio
from collections import OrderedDict, deque
from collections.abc import AsyncIterator, Callable
from types import TracebackType
from typing import Self

from taskcast_core.contracts.broadcast import Bell
from taskcast_core.contracts.log_reader import LogReader
from taskcast_core.deliveries import Batch, Delivery
from taskcast_core.entries import Entry
from taskcast_core.errors import StoreSignal, StoreUnavailable
from taskcast_core.filters import View
from taskcast_core.hub import Hub

WAITING = 10_000
"""Entries that may wait for a slow reader; beyond that the stream ends, and the reader opens a new one."""
_REMEMBERED = 65_536  # tasks whose newest delivered index is known, against bells that ring twice


class GlobalStream:
    """Batches of deliveries of many tasks; every position is 0."""

    def __init__(self, hub: Hub, reader: LogReader, view: View, may_see: Callable[[str], bool]) -> None:
        self._hub, self._reader, self._view, self._may_see = hub, reader, view, may_see
        self._opened_at = hub.now_ms()
        self._bells: deque[Bell] = deque()
        self._waiting = 0
        self._newest: OrderedDict[str, int] = OrderedDict()
        self._waiter: asyncio.Future[None] | None = None
        self._is_closed = False

    async def __aenter__(self) -> Self:
        await self._hub.join_firehose(self)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._is_closed = True
        await self._hub.leave_firehose(self)

    def offer(self, bell: Bell) -> None:
        """See FirehoseReader."""
        if bell.created_at < self._opened_at or self._is_closed or not self._may_see(bell.task_id):
            return
        self._bells.append(bell)
        self._waiting += max(1, len(bell.entries))
        if self._waiting > WAITING:
            self.close()
        self.wake()

    def close(self) -> None:
        """End the stream."""
        self._is_closed = True
        self.wake()

    def wake(self) -> None:
        """Let the reader look again; without news it is handed an empty batch."""
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)

    async def batches(self) -> AsyncIterator[Batch]:
        """What is new, as soon as there is something; an empty batch after a ``wake`` without news."""
        while not self._is_closed:
            if not self._bells:
                self._waiter = asyncio.get_running_loop().create_future()
                await self._waiter
            deliveries: list[Delivery] = []
            while self._bells:
                bell = self._bells.popleft()
                self._waiting -= max(1, len(bell.entries))
                deliveries += [Delivery(entry, 0) for entry in await self._fresh(bell)]
            if not self._is_closed:
                yield Batch(deliveries, -1, 0)

    async def _fresh(self, bell: Bell) -> list[Entry]:
        """The visible entries of a bell that have not been delivered yet; a bare bell's are read from the log."""
        seen = self._newest.pop(bell.task_id, -1)
        entries: list[Entry] = list(bell.entries)
        if not entries and bell.last_index >= bell.first_index:
            try:
                page = await self._reader.read(
                    bell.task_id, epoch=bell.epoch, after=max(seen, bell.first_index - 1), before=bell.last_index + 1
                )
                entries = [item for item in page.items if isinstance(item, Entry)]
            except (StoreSignal, StoreUnavailable):
                entries = []  # at most once, and without a cursor: what cannot be read now is left out
        self._newest[bell.task_id] = max(seen, bell.last_index)
        while len(self._newest) > _REMEMBERED:
            self._newest.popitem(last=False)
        return [entry for entry in entries if entry.index > seen and self._view.matches(entry.type, entry.level)]
