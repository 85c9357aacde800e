"""Fixtures of engine tests: a store of each kind, and engines on it."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import pytest

from taskcast_core.builtin.memory_broadcast import MemoryBroadcastProvider
from taskcast_core.engine import TaskEngine
from taskcast_core.testing import ManualClock
from tests.core.stores import STORES, AnyStore, open_store

OpenEngine = Callable[..., Any]


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock()


@pytest.fixture(params=STORES)
async def store(request: pytest.FixtureRequest, tmp_path: Path, clock: ManualClock) -> AsyncIterator[AnyStore]:
    """A store whose time stands still until the test moves it."""
    async with open_store(request.param, tmp_path, clock) as opened:
        yield opened


@pytest.fixture
async def open_engine(store: AnyStore, clock: ManualClock) -> AsyncIterator[OpenEngine]:
    """Opens engines on the store; they share one broadcast unless told otherwise, and are closed at the end."""
    broadcast = MemoryBroadcastProvider()
    async with AsyncExitStack() as stack:

        async def opened(**arguments: Any) -> TaskEngine:
            given = {"broadcast": broadcast, "short_term_store": store, "clock": clock, **arguments}
            return await stack.enter_async_context(TaskEngine(**given))

        yield opened


@pytest.fixture
async def engine(open_engine: OpenEngine) -> TaskEngine:
    opened: TaskEngine = await open_engine()
    return opened
