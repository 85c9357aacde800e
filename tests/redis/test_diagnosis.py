"""What a Redis says of itself to `taskcast doctor`."""

from __future__ import annotations

import pytest
from redis.asyncio import Redis

from taskcast_redis import create_redis_adapters
from tests.fixtures.redis_server import RedisServer

pytestmark = pytest.mark.anyio


async def test_persistence_and_eviction_policy_as_they_are_now(own_redis_server: RedisServer) -> None:
    async with create_redis_adapters(own_redis_server.url) as adapters:
        store = adapters.short_term_store
        before = await store.diagnose()
        assert (before["kind"], before["evictionPolicy"], before["nodes"]) == ("redis", "noeviction", 1)
        assert before["usedBytes"] > 0
        async with Redis.from_url(own_redis_server.url) as admin:
            await admin.config_set("maxmemory-policy", "allkeys-lru")
            await admin.config_set("save", "3600 1")
        after = await store.diagnose()
    assert after["evictionPolicy"] == "allkeys-lru"
    assert (before["snapshots"], after["snapshots"]) == (False, True)
