"""What clients of a server see while its Redis is away: 503 and a code that says to try again; streams just wait."""

from __future__ import annotations

import asyncio
from typing import Any

import httpx
import pytest

from taskcast_core.errors import StoreUnavailable
from taskcast_server import create_taskcast_app
from tests.fixtures.eventually import eventually
from tests.fixtures.redis_server import RedisServer
from tests.redis.conftest import OpenNode, Proxied
from tests.server.app_server import Frames, serving

pytestmark = pytest.mark.anyio

EVENT = {"type": "t", "level": "info", "data": 1}


async def test_requests_are_refused_and_streams_go_on(
    redis_server: RedisServer, open_node: OpenNode, redis_proxy: Proxied, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO", "taskcast_redis.health")
    proxy = await redis_proxy(redis_server.port)
    node = await open_node(proxy.port)
    checks = {**node.adapters.broadcast.dependency_checks(), **node.adapters.short_term_store.dependency_checks()}
    async with (
        serving(create_taskcast_app(node.engine, checks=checks)) as url,
        httpx.AsyncClient(base_url=url, timeout=30, trust_env=False) as client,
    ):

        async def status_of(path: str) -> int:
            return (await client.get(path)).status_code

        task_id = (await client.post("/tasks", json={"type": "x"})).json()["id"]
        await client.patch(f"/tasks/{task_id}/status", json={"status": "running"})
        assert await status_of("/health/ready") == 200
        async with client.stream("GET", f"/tasks/{task_id}/events") as stream:
            frames = Frames(stream)
            assert (await frames.next()) is not None

            await proxy.refuse()
            proxy.cut()
            await eventually(lambda: changes(caplog, "redisCommand")[-1:] == ["reconnecting"], within_s=20)
            async with asyncio.timeout(20):
                refused = await client.post(f"/tasks/{task_id}/events", json=EVENT)
            assert refused.status_code == 503
            assert refused.json()["code"] == StoreUnavailable.code and StoreUnavailable.retryable
            assert int(refused.headers["Retry-After"]) > 0
            assert await status_of("/health/ready") == 503
            assert await status_of("/health") == 200

            await proxy.heal()
            await eventually(lambda: changes(caplog, "redisCommand")[-1:] == ["healthy"], within_s=20)
            await eventually(lambda: changes(caplog, "redisPubSub")[-1:] == ["healthy"], within_s=20)
            assert await status_of("/health/ready") == 200
            assert (await client.post(f"/tasks/{task_id}/events", json=EVENT)).status_code == 201
            await client.patch(f"/tasks/{task_id}/status", json={"status": "completed"})
            rest = await frames.rest()
    assert [frame["json"].get("rawIndex") for frame in rest] == [1, 2, None], "the same stream, to its end"


def changes(caplog: pytest.LogCaptureFixture, dependency: str) -> list[Any]:
    """The states that were logged."""
    facts = [record.__dict__["facts"] for record in caplog.records if "facts" in record.__dict__]
    return [each["to"] for each in facts if each["dependency"] == dependency]
