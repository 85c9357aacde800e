"""The stores that engine tests run on."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from taskcast_core.builtin.memory_store import MemoryShortTermStore
from taskcast_core.builtin.sqlite.options import SqliteOptions
from taskcast_core.builtin.sqlite.store import SqliteShortTermStore
from taskcast_core.clock import Clock

STORES = ("memory", "sqlite")

AnyStore = MemoryShortTermStore | SqliteShortTermStore


@asynccontextmanager
async def open_store(kind: str, directory: Path, clock: Clock | None = None) -> AsyncIterator[AnyStore]:
    """An empty store of a kind; SQLite writes without waiting for the disk, which is not what is tested here."""
    if kind == "memory":
        async with MemoryShortTermStore(clock) as memory:
            yield memory
    else:
        async with SqliteShortTermStore(SqliteOptions(path=directory / "tasks.db", synchronous="OFF"), clock) as sqlite:
            yield sqlite
