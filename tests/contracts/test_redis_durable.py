"""The Redis store, whose processes are killed: what it acknowledged is there for the next one."""

from __future__ import annotations

import os

import pytest

from taskcast_core.testing import DurableContract, OpenSpec
from taskcast_redis import RedisOptions, RedisShortTermStore
from taskcast_redis.connection import RedisConnection
from tests.fixtures.redis_server import RedisServer
from tests.fixtures.scale import Scale


def open_redis(url: str, prefix: str) -> RedisShortTermStore:
    """How a child process opens the store."""
    return RedisShortTermStore(RedisConnection(RedisOptions(url=url, prefix=prefix)))


class TestRedisDurability(DurableContract):
    @pytest.fixture
    def durable_store(self, redis_server: RedisServer) -> OpenSpec:
        arguments = {"url": redis_server.url, "prefix": f"t{os.urandom(4).hex()}"}
        return OpenSpec("tests.contracts.test_redis_durable:open_redis", arguments)

    @pytest.fixture
    def kills(self, scale: Scale) -> int:
        return scale(3, 40)
