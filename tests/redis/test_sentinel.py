"""A master that dies: Sentinels choose its replica, and everybody goes on there."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack

import pytest
from attrs import evolve

from taskcast_core.engine import TaskEngine
from taskcast_redis import RedisOptions, create_redis_adapters
from tests.fixtures.eventually import eventually
from tests.redis.conftest import FAST, Node, Reader
from tests.redis.groups import SentinelGroup, running_sentinels
from tests.redis.test_faults import assert_whole, finish, publish_through, started

pytestmark = [pytest.mark.anyio, pytest.mark.timeout(400)]


@pytest.fixture
def group() -> Iterator[SentinelGroup]:
    with running_sentinels() as group:
        yield group


@pytest.fixture
async def nodes(group: SentinelGroup, prefix: str) -> AsyncIterator[list[Node]]:
    async with AsyncExitStack() as stack:
        opened = []
        for _ in range(2):
            adapters = await stack.enter_async_context(
                create_redis_adapters(group.url, options=RedisOptions(prefix=prefix, wait_replicas=1, **FAST))
            )
            engine = TaskEngine(broadcast=adapters.broadcast, short_term_store=adapters.short_term_store)
            opened.append(Node(await stack.enter_async_context(engine), adapters))
        yield opened


async def test_a_failover(group: SentinelGroup, nodes: list[Node]) -> None:
    """Every write was acknowledged by the replica, so nothing of them is lost."""
    one, two = nodes
    task_id = await started(one)
    reader = Reader(two, task_id)
    reading = asyncio.create_task(reader.run())
    await eventually(lambda: bool(reader.indexes), within_s=20)
    for n in range(50):
        await publish_through(one, task_id, n)
    await asyncio.to_thread(group.master.kill)
    await eventually(lambda: not one.adapters.short_term_store.connection.health.is_healthy, within_s=20)
    await eventually(lambda: one.adapters.short_term_store.connection.health.is_healthy, within_s=40)
    assert one.adapters.short_term_store.durability.endswith("1 replicas have it")
    stored = await one.adapters.short_term_store.get(task_id)
    assert stored is not None and stored.last_index == 50
    await eventually(lambda: reader.indexes == list(range(51)), within_s=20)
    for node in nodes:  # there is no replica any more that could acknowledge
        node.adapters.short_term_store.connection.options = evolve(
            node.adapters.short_term_store.connection.options, wait_replicas=0
        )
    await publish_through(one, task_id, 50)
    await finish(two, task_id)
    async with asyncio.timeout(20):
        await reading
    assert_whole([reader], 52)
