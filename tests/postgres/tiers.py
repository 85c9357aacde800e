"""Engines on a hot store of any kind and PostgreSQL."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path

from taskcast_core import MemoryBroadcastProvider
from taskcast_core.contracts import Broadcast
from taskcast_core.contracts.hot_store import ColdCapableStore
from taskcast_core.settings import EngineSettings
from taskcast_postgres import PostgresLongTermStore, PostgresOptions
from taskcast_redis import create_redis_adapters
from tests.core.stores import STORES, open_store
from tests.core.tiers import SETTINGS, Tiers


class PostgresTiers(Tiers):
    """Tiers of which the cold one is known to be PostgreSQL."""

    cold: PostgresLongTermStore


@asynccontextmanager
async def open_tiers(
    kind: str, directory: Path, url: str, settings: EngineSettings = SETTINGS, prefix: str | None = None
) -> AsyncIterator[PostgresTiers]:
    """A running engine; ``kind``: ``memory``, ``sqlite`` or the URL of a Redis, where a prefix is made up."""
    async with AsyncExitStack() as stack:
        hot: ColdCapableStore
        broadcast: Broadcast = MemoryBroadcastProvider()
        if kind in STORES:
            hot = await stack.enter_async_context(open_store(kind, directory))
        else:
            adapters = await stack.enter_async_context(
                create_redis_adapters(kind, prefix=prefix or f"t{os.urandom(4).hex()}")
            )
            hot, broadcast = adapters.short_term_store, adapters.broadcast
        options = PostgresOptions(url=url, auto_migrate=True, connect_timeout_ms=20_000, max_connections=4)
        cold = await stack.enter_async_context(PostgresLongTermStore(options))
        tiers = PostgresTiers(hot, cold, broadcast, settings)
        await stack.enter_async_context(tiers.engine)
        yield tiers
