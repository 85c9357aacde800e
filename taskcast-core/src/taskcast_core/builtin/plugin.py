"""Core's own plugins, registered like everybody's: memory and SQLite."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from taskcast_core.builtin.sqlite.options import SqliteOptions
from taskcast_core.config import option
from taskcast_core.contracts.broadcast import Broadcast
from taskcast_core.contracts.task_log import TaskLog
from taskcast_core.hookspecs import hookimpl
from taskcast_core.registry import Registry
from taskcast_core.values import frozen


@frozen
class SqliteBroadcastOptions:
    """The SQLite file belongs to one process, so its bells ring in memory; the path is accepted for symmetry."""

    path: Path | None = option(None, help="not needed")


@hookimpl
def taskcast_broadcasts(registry: Registry) -> None:
    """``memory``, and the same under the name ``sqlite``."""
    registry.add("memory", "taskcast_core.builtin.plugin:open_memory_broadcast")
    registry.add("sqlite", "taskcast_core.builtin.plugin:open_memory_broadcast", options=SqliteBroadcastOptions)


@hookimpl
def taskcast_short_term_stores(registry: Registry) -> None:
    """``memory`` and ``sqlite``."""
    registry.add("memory", "taskcast_core.builtin.plugin:open_memory_store")
    registry.add("sqlite", "taskcast_core.builtin.plugin:open_sqlite_store", options=SqliteOptions)


@asynccontextmanager
async def open_memory_broadcast() -> AsyncIterator[Broadcast]:
    """A broadcast for this process."""
    from taskcast_core.builtin.memory_broadcast import MemoryBroadcastProvider

    yield MemoryBroadcastProvider()


@asynccontextmanager
async def open_memory_store() -> AsyncIterator[TaskLog]:
    """A store in this process' memory."""
    from taskcast_core.builtin.memory_store import MemoryShortTermStore

    async with MemoryShortTermStore() as store:
        yield store


@asynccontextmanager
async def open_sqlite_store(options: SqliteOptions) -> AsyncIterator[TaskLog]:
    """A store in a file of this process."""
    from taskcast_core.builtin.sqlite.store import SqliteShortTermStore

    async with SqliteShortTermStore(options) as store:
        yield store
