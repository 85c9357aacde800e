"""LogReader over logs in memory, wherever they are kept."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Any

from taskcast_core.builtin.memory_log import MemoryLog
from taskcast_core.contracts.log_reader import Page, SeriesPage
from taskcast_core.filters import View


class MemoryReads(ABC):
    """The verbs of LogReader; which log they are about is the store's to say."""

    @abstractmethod
    def _readable(self, task_id: str, epoch: int | None) -> MemoryLog:
        """The log to read. Raises as LogReader's verbs do."""

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
        return self._readable(task_id, epoch).read(after, before, limit, reverse=reverse)

    async def series(self, task_id: str, *, epoch: int | None = None) -> SeriesPage:
        """See LogReader."""
        return self._readable(task_id, epoch).series_page()

    async def fold(self, task_id: str, series_id: str, index: int, *, epoch: int | None = None) -> Any:
        """See LogReader."""
        return self._readable(task_id, epoch).fold(series_id, index)

    async def count(self, task_id: str, view: View, before: int, *, epoch: int | None = None) -> int:
        """See LogReader."""
        return self._readable(task_id, epoch).count(view, before)

    async def seek(self, task_id: str, view: View, position: int, *, epoch: int | None = None) -> int | None:
        """See LogReader."""
        return self._readable(task_id, epoch).seek(view, position)

    async def seek_time(self, task_id: str, timestamp: int, *, epoch: int | None = None) -> int:
        """See LogReader."""
        return self._readable(task_id, epoch).seek_time(timestamp)

    async def locate(self, task_id: str, event_id: str, *, epoch: int | None = None) -> int | None:
        """See LogReader."""
        return self._readable(task_id, epoch).locate(event_id)
