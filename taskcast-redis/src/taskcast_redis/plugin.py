"""``redis`` for the configuration: broadcast and short-term store, which share a connection if their options agree."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from attrs import frozen

from taskcast_core.config.options import option
from taskcast_core.contracts.broadcast import Broadcast
from taskcast_core.contracts.task_log import TaskLog
from taskcast_core.hookspecs import hookimpl
from taskcast_core.registry import Registry
from taskcast_redis.options import RedisOptions


@frozen(kw_only=True)
class ConfiguredRedis(RedisOptions):
    """The options as a configuration gives them: who chooses Redis there says where it is."""

    url: str = option(env="TASKCAST_REDIS_URL", secret=True, help="where Redis is, see the adapter's page")


@hookimpl
def taskcast_broadcasts(registry: Registry) -> None:
    """``redis``."""
    registry.add(
        "redis", "taskcast_redis.plugin:open_broadcast", options=ConfiguredRedis, chosen_by="TASKCAST_REDIS_URL"
    )


@hookimpl
def taskcast_short_term_stores(registry: Registry) -> None:
    """``redis``."""
    registry.add(
        "redis", "taskcast_redis.plugin:open_short_term_store", options=ConfiguredRedis, chosen_by="TASKCAST_REDIS_URL"
    )


@asynccontextmanager
async def open_broadcast(options: RedisOptions) -> AsyncIterator[Broadcast]:
    """The broadcast of a configuration."""
    from taskcast_redis.broadcast import RedisBroadcastProvider
    from taskcast_redis.sharing import shared_connection

    async with RedisBroadcastProvider(shared_connection(options)) as broadcast:
        yield broadcast


@asynccontextmanager
async def open_short_term_store(options: RedisOptions) -> AsyncIterator[TaskLog]:
    """The short-term store of a configuration."""
    from taskcast_redis.sharing import shared_connection
    from taskcast_redis.short_term import RedisShortTermStore

    async with RedisShortTermStore(shared_connection(options)) as store:
        yield store
