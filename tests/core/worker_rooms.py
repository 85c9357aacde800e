"""Engines that share one store and one broadcast, as the nodes of a deployment do."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from contextvars import ContextVar
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from taskcast_core import TaskEngine
from taskcast_core.builtin.memory_broadcast import MemoryBroadcastProvider
from taskcast_core.contracts.broadcast import Broadcast
from taskcast_core.contracts.hot_store import ShortTermStore
from taskcast_core.models import Task, Worker
from taskcast_core.settings import EngineSettings
from taskcast_core.workers import Registration, WorkerLayer, WorkerSettings
from tests.core.stores import open_store
from tests.core.wrapping import is_awaited

QUICK = WorkerSettings(
    enabled=True,
    heartbeat_interval_ms=100,
    heartbeat_timeout_ms=400,
    offer_timeout_ms=300,
    disconnect_grace_ms=200,
    first_sign_ms=200,
)

KIND: ContextVar[str] = ContextVar("KIND", default="memory")
"""The kind of store that engines are opened over."""

Parts = tuple[Broadcast, ShortTermStore]
PARTS: ContextVar[Callable[[AsyncExitStack], Awaitable[Parts]] | None] = ContextVar("PARTS", default=None)
"""Opens a node's own way to a store that is elsewhere, in place of an embedded store that the nodes share."""


class Node:
    """An engine with workers."""

    def __init__(self, engine: TaskEngine) -> None:
        self.engine = engine
        assert engine.workers is not None
        self.workers: WorkerLayer = engine.workers

    async def task(self, **fields: Any) -> Task:
        return await self.engine.create_task(**{"assign_mode": "pull", **fields})

    async def now(self, task_id: str) -> Task:
        task = await self.engine.get_task(task_id)
        assert task is not None
        return task

    async def worker(self, worker_id: str, **fields: Any) -> Worker:
        return await self.workers.register(Registration(worker_id, **fields))

    async def slots(self, worker_id: str) -> int:
        return (await self.workers.roster.get(worker_id)).used_slots


class Stuttering:
    """A store each of whose verbs gives way once before and once after it is done, so that it can be left there."""

    def __init__(self, store: Any) -> None:
        self._store = store

    def __getattr__(self, name: str) -> Any:
        found = getattr(self._store, name)
        if not is_awaited(name, found):
            return found

        async def verb(*args: Any, **kwargs: Any) -> Any:
            await asyncio.sleep(0)
            result = await found(*args, **kwargs)
            await asyncio.sleep(0)
            return result

        return verb


async def embedded(stack: AsyncExitStack) -> Callable[[AsyncExitStack], Awaitable[Parts]]:
    """One store in this process, for all nodes."""
    directory = Path(stack.enter_context(TemporaryDirectory()))
    store = await stack.enter_async_context(open_store(KIND.get(), directory))
    broadcast = MemoryBroadcastProvider()

    async def parts(_: AsyncExitStack) -> Parts:
        return broadcast, store

    return parts


@asynccontextmanager
async def nodes(
    count: int = 1, settings: WorkerSettings = QUICK, *, stutters: bool = False, **others: Any
) -> AsyncIterator[list[Node]]:
    """Running engines over one store, of the kind that the test asks for."""
    async with AsyncExitStack() as stack:
        open_parts = PARTS.get() or await embedded(stack)
        made = []
        for _ in range(count):
            broadcast, store = await open_parts(stack)
            engine = TaskEngine(
                broadcast=broadcast,
                short_term_store=Stuttering(store) if stutters else store,
                settings=EngineSettings(workers=settings),
                **others,
            )
            made.append(Node(await stack.enter_async_context(engine)))
        yield made


@asynccontextmanager
async def node(settings: WorkerSettings = QUICK, **others: Any) -> AsyncIterator[Node]:
    """One of them."""
    async with nodes(1, settings, **others) as (only,):
        yield only
