"""Both halves over one connection, for those who put an engine together by hand."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from attrs import evolve, frozen

from taskcast_redis.broadcast import RedisBroadcastProvider
from taskcast_redis.connection import RedisConnection
from taskcast_redis.options import RedisOptions
from taskcast_redis.short_term import RedisShortTermStore
from taskcast_redis.topology import Client


@frozen
class RedisAdapters:
    """What ``create_redis_adapters`` opens."""

    broadcast: RedisBroadcastProvider
    short_term_store: RedisShortTermStore


@asynccontextmanager
async def create_redis_adapters(
    url: str | None = None,
    *,
    client: Client | None = None,
    prefix: str | None = None,
    options: RedisOptions | None = None,
    **others: Any,
) -> AsyncIterator[RedisAdapters]:
    """A broadcast and a short-term store that share one connection, open until the block ends.

    Args:
        url: see RedisOptions; ``redis://localhost:6379/0`` if nothing is given.
        client: a caller's own ``redis.asyncio`` client (bytes, not decoded), used instead and left open at the end.
        prefix: what all keys begin with.
        options: everything else.
        **others: single fields of RedisOptions.

    Raises:
        StoreUnavailable: Redis cannot be reached. ConfigError: it cannot be worked with.
    """
    given = {"url": url, "prefix": prefix} | others
    chosen = evolve(options or RedisOptions(), **{name: value for name, value in given.items() if value is not None})
    connection = RedisConnection(chosen, client)
    async with (
        RedisBroadcastProvider(connection) as broadcast,
        RedisShortTermStore(connection) as store,
    ):
        yield RedisAdapters(broadcast, store)
