"""The contract kit, for every capability that the store has."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from taskcast_example_store.store import JournalStore

from taskcast_core.contracts import ListQuery
from taskcast_core.testing import (
    ColdContract,
    DeadlinesContract,
    DurableContract,
    FollowersContract,
    ListingContract,
    ManualClock,
    OpenSpec,
    TaskLogContract,
    WorkersContract,
)
from taskcast_core.testing.portrait import line


class TestJournalStore(
    TaskLogContract, ListingContract, DeadlinesContract, FollowersContract, ColdContract, WorkersContract
):
    @pytest.fixture
    def clock(self) -> ManualClock:
        return ManualClock()

    @pytest.fixture
    async def store(self, clock: ManualClock, tmp_path: Path) -> AsyncIterator[JournalStore]:
        path = tmp_path / "journal"
        async with JournalStore(path, clock=clock) as store:
            yield store
            before = await everything(store)
        async with JournalStore(path, clock=clock) as again:
            assert await everything(again) == before

    @pytest.fixture
    def examples(self) -> int:
        return 4


async def everything(store: JournalStore) -> list[Any]:
    """What a reopened store has to have, too."""
    found: list[Any] = [await store.assignments(), await store.list_workers(), await store.dead_letters(1000)]
    for task in (await store.list(ListQuery(limit=1000))).tasks:
        stored = await store.get(task.id)
        assert stored is not None
        page = await store.read(task.id, after=stored.first_index - 1)
        found += [stored, *map(line, page.items), await store.series(task.id), await store.has_passed(task.id)]
    return found


def open_store(path: str) -> JournalStore:
    """What the processes open that the kit kills."""
    return JournalStore(Path(path))


class TestJournalStoreIsDurable(DurableContract):
    @pytest.fixture
    def durable_store(self, tmp_path: Path) -> OpenSpec:
        return OpenSpec(f"{__name__}:open_store", {"path": str(tmp_path / "journal")})

    @pytest.fixture
    def kills(self) -> int:
        return 2
