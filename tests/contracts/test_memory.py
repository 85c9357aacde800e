"""The stores that live in the process, against the contract kit."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import nullcontext

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
from taskcast_core.testing.contract import OpenAgain
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
        return scale(15, 500)


class TestMemoryOnTheSystemsClock(DeadlinesContract):
    """As stores with a server's time are tested: the cases wait until it has passed."""

    @pytest.fixture
    async def store(self) -> AsyncIterator[MemoryShortTermStore]:
        async with MemoryShortTermStore() as store:
            yield store

    @pytest.fixture
    def open_again(self, store: MemoryShortTermStore) -> OpenAgain:
        return lambda: nullcontext(store)


class TestMemoryBroadcast(BroadcastContract):
    @pytest.fixture
    def broadcast(self) -> MemoryBroadcastProvider:
        return MemoryBroadcastProvider()
