"""The stores that live in the process, against the contract kit."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from taskcast_core.builtin.memory_broadcast import MemoryBroadcastProvider
from taskcast_core.builtin.memory_store import MemoryShortTermStore
from taskcast_core.testing import (
    BroadcastContract,
    ColdContract,
    DeadlinesContract,
    FollowersContract,
    ListingContract,
    ManualClock,
    TaskLogContract,
    WorkersContract,
)
from tests.fixtures.scale import Scale


class TestMemoryShortTermStore(
    TaskLogContract, ListingContract, DeadlinesContract, FollowersContract, ColdContract, WorkersContract
):
    @pytest.fixture
    def clock(self) -> ManualClock:
        return ManualClock()

    @pytest.fixture
    async def store(self, clock: ManualClock) -> AsyncIterator[MemoryShortTermStore]:
        async with MemoryShortTermStore(clock=clock) as store:
            yield store

    @pytest.fixture
    def examples(self, scale: Scale) -> int:
        return scale(15, 800)


class TestMemoryBroadcast(BroadcastContract):
    @pytest.fixture
    def broadcast(self) -> MemoryBroadcastProvider:
        return MemoryBroadcastProvider()
