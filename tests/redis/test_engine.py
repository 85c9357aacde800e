"""Two engines on one Redis: what one publishes, the other one's readers see; and what that costs."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
from redis.asyncio import Redis

from taskcast_core.contracts import Change
from taskcast_core.models import EventDraft
from taskcast_core.testing.making import created
from tests.fixtures.eventually import eventually
from tests.fixtures.redis_server import RedisServer
from tests.fixtures.scale import Scale
from tests.redis.conftest import Node, OpenNode, Reader

pytestmark = pytest.mark.anyio

QUIET = {"TIME", "PING", "HMGET", "HSETNX", "CLIENT", "MONITOR"}
"""Heartbeats, the layout check, and the monitor itself."""


async def started(node: Node) -> str:
    task = await node.engine.create_task({"type": "chat"})
    await node.engine.transition_task(task.id, "running")
    return task.id


@asynccontextmanager
async def wire_commands(server: RedisServer) -> AsyncIterator[list[str]]:
    """Names of the commands that clients send meanwhile; what scripts call does not count."""
    seen: list[str] = []
    async with Redis.from_url(server.url, protocol=2) as client, client.monitor() as monitor:

        async def watch() -> None:
            while True:
                command = await monitor.next_command()
                name = command["command"].partition(" ")[0].upper()
                if command["client_type"] != "lua" and name not in QUIET:
                    seen.append(name)

        task = asyncio.create_task(watch())
        try:
            yield seen
            async with Redis.from_url(server.url, protocol=2) as other:
                await other.echo("over")
            await eventually(lambda: "ECHO" in seen)
            seen.remove("ECHO")
        finally:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)


async def test_what_one_node_publishes_the_others_readers_see(redis_server: RedisServer, open_node: OpenNode) -> None:
    one, two = await open_node(redis_server.port), await open_node(redis_server.port)
    task_id = await started(one)
    readers = [Reader(node, task_id) for node in (one, two, two)]
    async with asyncio.TaskGroup() as group:
        for reader in readers:
            group.create_task(reader.run())
        await eventually(lambda: all(reader.indexes for reader in readers))
        for n in range(200):
            await (one, two)[n % 2].engine.publish_event(
                task_id, {"type": "t", "level": "info", "data": {"delta": str(n)}, "seriesId": "s",
                          "seriesMode": "accumulate"},
            )  # fmt: skip
        await two.engine.transition_task(task_id, "completed")
    assert [reader.indexes for reader in readers] == [list(range(202))] * 3
    assert [reader.subscription.status for reader in readers] == ["completed"] * 3


async def test_a_publish_is_one_command_however_many_events_it_has(
    own_redis_server: RedisServer, open_node: OpenNode
) -> None:
    node = await open_node(own_redis_server.port)
    task_id = await started(node)
    await node.engine.publish_event(task_id, {"type": "t", "level": "info", "data": 0})
    async with wire_commands(own_redis_server) as commands:
        await node.engine.publish_event(task_id, {"type": "t", "level": "info", "data": 1})
    assert commands == ["EVALSHA"]
    batch = [{"type": "t", "level": "info", "data": n} for n in range(100)]
    async with wire_commands(own_redis_server) as commands:
        await node.engine.publish_events(task_id, batch)
    assert commands == ["EVALSHA"]


async def test_commits_that_queue_travel_together(own_redis_server: RedisServer, open_node: OpenNode) -> None:
    node = await open_node(own_redis_server.port)
    tasks = [await started(node) for _ in range(20)]
    async with wire_commands(own_redis_server) as commands:
        await asyncio.gather(
            *(node.engine.publish_event(tasks[n % 20], {"type": "t", "level": "info", "data": n}) for n in range(400))
        )
    assert len(commands) <= 40
    heads = [await node.adapters.short_term_store.get(task_id) for task_id in tasks]
    assert [stored.last_index for stored in heads if stored] == [20] * 20


async def test_a_process_hears_only_what_it_follows(redis_server: RedisServer, open_node: OpenNode) -> None:
    one, two = await open_node(redis_server.port), await open_node(redis_server.port)
    tasks = [await started(one) for _ in range(60)]
    readers = [Reader(two, task_id) for task_id in tasks[:3]]
    async with asyncio.TaskGroup() as group:
        for reader in readers:
            group.create_task(reader.run())
        await eventually(lambda: two.engine.hub.followed == 3)
        before = two.adapters.broadcast.heard
        for task_id in tasks:
            await one.engine.publish_event(task_id, {"type": "t", "level": "info", "data": 1})
        for task_id in tasks[:3]:
            await one.engine.transition_task(task_id, "completed")
    assert two.adapters.broadcast.heard - before <= 3 * 2


async def test_followers_of_all_tasks_hear_other_nodes(redis_server: RedisServer, open_node: OpenNode) -> None:
    one, two = await open_node(redis_server.port), await open_node(redis_server.port)
    seen: list[str] = []
    async with two.engine.subscribe_all() as stream:

        async def listen() -> None:
            async for batch in stream.batches():
                seen.extend(delivery.entry.origin.task_id for delivery in batch.deliveries)

        listening = asyncio.create_task(listen())
        opened_at = max(node.engine.now_ms() for node in (one, two))
        await eventually(lambda: one.engine.now_ms() > opened_at + 100)  # their clocks agree to some milliseconds
        task_id = await started(one)
        await eventually(lambda: task_id in seen)
        listening.cancel()
        await asyncio.gather(listening, return_exceptions=True)


async def test_the_last_delta_costs_what_the_first_did(
    own_redis_server: RedisServer, open_node: OpenNode, scale: Scale
) -> None:
    node = await open_node(own_redis_server.port)
    store = node.adapters.short_term_store
    draft = EventDraft("delta", "info", {"delta": "some more text "}, "answer", "accumulate")
    task_id = (await created(store)).task.id
    async with Redis.from_url(own_redis_server.url, protocol=2) as client:

        async def cost() -> float:
            """Microseconds of the server's time per commit: the least of some windows, for the machine is shared."""
            least = float("inf")
            for _ in range(30):
                await client.config_resetstat()
                for _ in range(20):
                    await store.commit(task_id, Change((draft,)))
                least = min(least, (await client.info("commandstats"))["cmdstat_evalsha"]["usec_per_call"])
            return least

        first = await cost()
        for _ in range(scale(200, 1_000)):
            await store.commit(task_id, Change((draft,) * 100))
        assert await cost() <= 1.2 * first + 5


async def test_a_resume_near_the_end_looks_at_one_span(
    redis_server: RedisServer, open_node: OpenNode, scale: Scale
) -> None:
    from taskcast_core.filters import View

    store = (await open_node(redis_server.port)).adapters.short_term_store
    task_id = (await created(store)).task.id
    total = scale(20_000, 1_000_000)
    for start in range(0, total, 500):
        await store.commit(
            task_id, Change(tuple(EventDraft(f"t{n % 7}", "info", n) for n in range(start, start + 500)))
        )
    view, before = View(types=["t3"]), total - 10
    position = await store.count(task_id, view, before)
    assert position == len(range(3, before, 7))
    assert store.looked_at <= 1_000
    assert await store.seek(task_id, view, position - 1) == max(range(3, before, 7))
    assert store.looked_at <= 2_000
    assert len((await store.read(task_id, after=before)).items) == 9
