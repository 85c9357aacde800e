"""Three nodes at once: who ends a task, and what a crowd that comes back costs."""

from __future__ import annotations

import asyncio
import time

import pytest

from taskcast_core.errors import TaskcastError
from taskcast_core.models import Task, TaskStatus
from tests.fixtures.eventually import eventually
from tests.fixtures.redis_server import RedisServer
from tests.fixtures.scale import FULL_SCALE, Scale
from tests.redis.conftest import OpenNode, Proxied, Within, sent
from tests.redis.test_faults import event, started

pytestmark = [pytest.mark.anyio, pytest.mark.timeout(1_800 if FULL_SCALE else 400)]

ENDS: tuple[TaskStatus, ...] = ("completed", "failed", "cancelled", "timeout")


async def test_one_of_sixteen_ends_wins(redis_server: RedisServer, open_node: OpenNode, scale: Scale) -> None:
    nodes = [await open_node(redis_server.port) for _ in range(3)]
    for _ in range(scale(25, 1_000)):
        task_id = await started(nodes[0])
        outcomes = await asyncio.gather(
            *(nodes[n % 3].engine.transition_task(task_id, ENDS[n % 4]) for n in range(16)), return_exceptions=True
        )
        won = [each for each in outcomes if isinstance(each, Task)]
        lost = [each for each in outcomes if not isinstance(each, Task)]
        assert len(won) == 1
        assert all(isinstance(each, TaskcastError) and each.code == "invalid_transition" for each in lost), lost
        history = await nodes[1].engine.get_history(task_id)
        assert [each.data["status"] for each in history] == ["running", won[0].status]


async def test_a_crowd_that_comes_back_at_once(
    redis_server: RedisServer, open_node: OpenNode, redis_proxy: Proxied, scale: Scale, within: Within
) -> None:
    """A node is lost, and its readers go to another one: they share what that has to read, and miss nothing."""
    proxy = await redis_proxy(redis_server.port)
    one, two = await open_node(redis_server.port), await open_node(proxy.port)
    tasks = [await started(one) for _ in range(10)]
    for n in range(50):
        await asyncio.gather(*(one.engine.publish_event(task_id, event(n)) for task_id in tasks))
    crowd = scale(300, 10_000)
    proxy.commands.clear()
    began = time.monotonic()
    resumed: list[float] = []
    read: dict[int, list[int]] = {}

    async def come_back(n: int) -> None:
        async for each in two.engine.subscribe(tasks[n % 10], {"since": {"index": n % 10 + 40}}):
            if n not in read:
                resumed.append(time.monotonic() - began)
            read.setdefault(n, []).append(each.index)

    async with asyncio.TaskGroup() as group:
        for n in range(crowd):
            group.create_task(come_back(n))
        await eventually(lambda: len(resumed) == crowd, within(60))
        cost = sent(proxy)
        print(f"{crowd} readers: {cost}, p99 {sorted(resumed)[crowd * 99 // 100]:.2f} s")
        await asyncio.gather(*(one.engine.transition_task(task_id, "completed") for task_id in tasks))
    assert cost["read"] <= len(tasks)
    assert all(read[n] == list(range(n % 10 + 41, 52)) for n in range(crowd))
