"""The Redis store and broadcast, against the contract kit."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager

import pytest

from taskcast_core.testing import (
    BroadcastContract,
    ColdContract,
    DeadlinesContract,
    FollowersContract,
    ListingContract,
    TaskLogContract,
    WorkersContract,
)
from taskcast_redis import RedisBroadcastProvider, RedisOptions, RedisShortTermStore
from taskcast_redis.connection import RedisConnection
from tests.fixtures.redis_server import RedisServer
from tests.fixtures.scale import Scale


def options_at(url: str) -> RedisOptions:
    """Keys of its own, and patience with a busy machine: no reply is given up here."""
    return RedisOptions(
        url=url,
        prefix=f"t{os.urandom(4).hex()}",
        connect_timeout_ms=60_000,
        command_timeout_ms=60_000,
        heartbeat_timeout_ms=60_000,
    )


def options_of(server: RedisServer) -> RedisOptions:
    return options_at(server.url)


class TestRedisShortTermStore(
    TaskLogContract, ListingContract, DeadlinesContract, FollowersContract, ColdContract, WorkersContract
):
    @pytest.fixture
    def options(self, redis_server: RedisServer) -> RedisOptions:
        return options_of(redis_server)

    @pytest.fixture
    async def store(self, options: RedisOptions) -> AsyncIterator[RedisShortTermStore]:
        async with RedisShortTermStore(RedisConnection(options)) as store:
            yield store

    @pytest.fixture
    def open_again(self, options: RedisOptions) -> Callable[[], AbstractAsyncContextManager[RedisShortTermStore]]:
        return lambda: RedisShortTermStore(RedisConnection(options))

    @pytest.fixture
    def examples(self, scale: Scale) -> int:
        return scale(15, 300)


class TestRedisBroadcast(BroadcastContract):
    @pytest.fixture
    def options(self, redis_server: RedisServer) -> RedisOptions:
        return options_of(redis_server)

    @pytest.fixture
    async def broadcast(self, options: RedisOptions) -> AsyncIterator[RedisBroadcastProvider]:
        async with RedisBroadcastProvider(RedisConnection(options)) as broadcast:
            yield broadcast

    @pytest.fixture
    def open_again(self, options: RedisOptions) -> Callable[[], AbstractAsyncContextManager[RedisBroadcastProvider]]:
        return lambda: RedisBroadcastProvider(RedisConnection(options))
