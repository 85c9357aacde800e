"""Logs on their way from a hot store to a long-term one, as the archiver writes them."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import ClassVar

import pytest

from taskcast_core.builtin.memory_store import MemoryShortTermStore
from taskcast_core.contracts import ArchiveBatch, LongTermStore, SeriesCopy, Watermark
from taskcast_core.testing.contract import Contract, StoreTime
from taskcast_core.testing.making import current, whole_log


async def batch_of(hot: MemoryShortTermStore, task_id: str, after: int = -1) -> ArchiveBatch:
    """What the archiver would write now of a task, from behind an index on."""
    stored = await current(hot, task_id)
    states = (await hot.series(task_id)).states
    return ArchiveBatch(
        task_id, stored.record, stored.rev, stored.segments, tuple(await whole_log(hot, task_id, after=after)),
        tuple(SeriesCopy(name, state) for name, state in states.items()),
    )  # fmt: skip


async def archived(store: LongTermStore, hot: MemoryShortTermStore, task_id: str, after: int = -1) -> Watermark:
    """Write a task as it is."""
    (mark,) = await store.write([await batch_of(hot, task_id, after)])
    return mark


class Durable(Contract):
    """The hot log that the archived tasks come from is a memory store."""

    capability: ClassVar[str] = "LongTermStore"

    @pytest.fixture
    async def hot(self) -> AsyncIterator[MemoryShortTermStore]:
        """Where tasks are made."""
        async with MemoryShortTermStore() as hot:
            yield hot

    @pytest.fixture
    def time(self, hot: MemoryShortTermStore) -> StoreTime:
        """The hot store's time: a long-term store does not tell its own."""
        return StoreTime(hot, None)
