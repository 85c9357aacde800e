"""What readers and publishers see when Redis, or the way to it, fails: no gap, no repeat, no hang."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
from redis.asyncio import Redis

from taskcast_core.errors import StoreUnavailable, TaskcastError
from tests.fixtures.eventually import eventually
from tests.fixtures.redis_server import RedisServer
from tests.fixtures.scale import Scale
from tests.fixtures.servers import running_redis
from tests.redis.conftest import Node, OpenNode, Proxied, Reader, Within

pytestmark = pytest.mark.anyio

HEARTBEAT_S = 0.75
"""The default rhythm of both connections."""


def event(n: int) -> dict[str, Any]:
    return {"type": "t", "level": "info", "data": n}


async def started(node: Node) -> str:
    task = await node.engine.create_task({"type": "chat"})
    await node.engine.transition_task(task.id, "running")
    return task.id


async def publish_through(node: Node, task_id: str, n: int) -> None:
    """Publish once, however often it has to be tried."""
    async with asyncio.timeout(30):
        while True:
            try:
                await node.engine.publish_event(task_id, event(n), idempotency_key=f"n{n}")
            except StoreUnavailable:
                await asyncio.sleep(0.05)
            else:
                return


@asynccontextmanager
async def reading(node: Node, task_id: str, readers: int = 3) -> AsyncIterator[list[Reader]]:
    """Readers who are there from the start, and stay until the task has ended."""
    some = [Reader(node, task_id) for _ in range(readers)]
    async with asyncio.timeout(60), asyncio.TaskGroup() as group:
        for reader in some:
            group.create_task(reader.run())
        await eventually(lambda: all(reader.indexes for reader in some), within_s=20)
        yield some


def assert_whole(readers: list[Reader], last: int) -> None:
    for reader in readers:
        assert reader.indexes == list(range(last + 1))
        assert not reader.gaps
        assert reader.subscription.status == "completed"


async def finish(node: Node, task_id: str) -> None:
    async with asyncio.timeout(30):
        while True:
            try:
                await node.engine.transition_task(task_id, "completed", idempotency_key="end")
            except StoreUnavailable:
                await asyncio.sleep(0.05)
            else:
                return


async def test_killed_pub_sub_connections(own_redis_server: RedisServer, open_node: OpenNode) -> None:
    one, two = await open_node(own_redis_server.port), await open_node(own_redis_server.port)
    task_id = await started(one)
    async with Redis.from_url(own_redis_server.url, protocol=2) as client, reading(two, task_id) as readers:
        for n in range(300):
            await one.engine.publish_event(task_id, event(n))
            if n % 60 == 30:
                await client.client_kill_filter(_type="pubsub")
        await finish(one, task_id)
    assert_whole(readers, 301)


async def test_cut_connections(redis_server: RedisServer, open_node: OpenNode, redis_proxy: Proxied) -> None:
    proxy = await redis_proxy(redis_server.port)
    one, two = await open_node(redis_server.port), await open_node(proxy.port)
    task_id = await started(one)
    cut = 0
    async with reading(two, task_id) as readers:
        for n in range(300):
            await one.engine.publish_event(task_id, event(n))
            if n % 100 == 50:
                proxy.cut()
            if n % 100 == 99:
                await eventually(lambda: two.adapters.broadcast.health.is_healthy, within_s=20)
                cut += proxy.cut_pub_sub()
        await finish(one, task_id)
    assert cut == 3
    assert_whole(readers, 301)


async def test_a_dead_line_that_looks_alive(
    redis_server: RedisServer, open_node: OpenNode, redis_proxy: Proxied, within: Within, scale: Scale
) -> None:
    """Half-open: bytes are swallowed, sockets stay up. Found within two heartbeats; what was missed is read."""
    proxy = await redis_proxy(redis_server.port)
    one, two = await open_node(redis_server.port), await open_node(proxy.port)
    health = two.adapters.short_term_store.connection.health
    task_id = await started(one)
    async with reading(two, task_id) as readers:
        proxy.blackhole()
        began = time.monotonic()
        await eventually(lambda: not two.adapters.broadcast.health.is_healthy, within(2 * HEARTBEAT_S + 0.5))
        await eventually(lambda: not health.is_healthy, within(2 * HEARTBEAT_S + 0.5))
        print(f"not ready after {time.monotonic() - began:.2f} s")
        for n in range(50):
            await one.engine.publish_event(task_id, event(n))
        with pytest.raises(StoreUnavailable):
            await two.engine.publish_event(task_id, event(50), idempotency_key="n50")
        await asyncio.sleep(scale(0, 30))
        await proxy.heal()
        healed = time.monotonic()
        await publish_through(two, task_id, 50)  # whether it was done is not known until now
        await eventually(lambda: all(len(reader.indexes) == 52 for reader in readers), within(5))
        await eventually(lambda: health.is_healthy and two.adapters.broadcast.health.is_healthy, within(5))
        print(f"recovered {time.monotonic() - healed:.2f} s after the return")
        await finish(two, task_id)
    assert_whole(readers, 52)


async def test_a_pub_sub_line_that_looks_alive(
    redis_server: RedisServer, open_node: OpenNode, redis_proxy: Proxied, within: Within
) -> None:
    """Only bells are held back: commands go on, readers have what was missed from the store."""
    proxy = await redis_proxy(redis_server.port)
    one, two = await open_node(redis_server.port), await open_node(proxy.port)
    task_id = await started(one)
    async with reading(two, task_id) as readers:
        proxy.hold_pub_sub()
        began = time.monotonic()
        for n in range(50):
            await one.engine.publish_event(task_id, event(n))
        await eventually(lambda: not two.adapters.broadcast.health.is_healthy, within(2 * HEARTBEAT_S + 0.3))
        print(f"found after {time.monotonic() - began:.2f} s")
        await two.engine.publish_event(task_id, event(50))
        await eventually(lambda: all(len(reader.indexes) == 52 for reader in readers), within(5))
        await proxy.heal()
        await eventually(lambda: two.adapters.broadcast.health.is_healthy, within(5))
        await finish(one, task_id)
    assert_whole(readers, 52)


async def test_a_process_that_was_busy_takes_nobody_for_dead(redis_server: RedisServer, open_node: OpenNode) -> None:
    """Its own timers have run out, and the signs of life are waiting to be read."""
    node = await open_node(redis_server.port, heartbeat_ms=300, heartbeat_timeout_ms=400)
    healths = (node.adapters.broadcast.health, node.adapters.short_term_store.connection.health)
    unharmed = 0
    for _ in range(5):  # a machine may be so busy that Redis does not answer in time, for once
        await eventually(lambda: all(health.is_healthy for health in healths), within_s=20)
        since = [health.since for health in healths]
        await asyncio.sleep(0.3)
        time.sleep(1.2)  # noqa: ASYNC251 - this is the point
        await asyncio.sleep(0.3)
        unharmed += [health.since for health in healths] == since
        if unharmed:
            break
    assert unharmed


async def test_a_call_into_a_black_hole_ends(
    redis_server: RedisServer, open_node: OpenNode, redis_proxy: Proxied, within: Within
) -> None:
    proxy = await redis_proxy(redis_server.port)
    node = await open_node(proxy.port)
    task_id = await started(node)
    proxy.blackhole()
    calls = [node.engine.publish_event(task_id, event(n)) for n in range(20)]
    calls += [node.engine.get_task(task_id) for _ in range(5)]  # type: ignore[misc]
    async with asyncio.timeout(within(5)):
        outcomes = await asyncio.gather(*calls, return_exceptions=True)
    assert all(isinstance(outcome, StoreUnavailable) for outcome in outcomes)
    health = node.adapters.short_term_store.connection.health
    await eventually(lambda: not health.is_healthy, within(5))
    async with asyncio.timeout(within(0.5)):  # once it is known, refusals are quick
        with pytest.raises(StoreUnavailable):
            await node.engine.get_task(task_id)
    await proxy.heal()
    await publish_through(node, task_id, 100)


async def test_a_redis_that_is_held_up_for_a_moment_refuses_nobody(
    own_redis_server: RedisServer, open_node: OpenNode, within: Within
) -> None:
    """Not ready, but what was asked before and meanwhile is done once it goes on, on the same connection."""
    node = await open_node(own_redis_server.port, silence_ms=60_000, command_timeout_ms=60_000)
    connection = node.adapters.short_term_store.connection
    task_id = await started(node)
    own_redis_server.pause()
    try:
        calls = [asyncio.create_task(node.engine.publish_event(task_id, event(0)))]
        await eventually(lambda: not connection.health.is_healthy, within(2 * HEARTBEAT_S + 0.5))
        assert connection.health.error_kind == "timeout"
        with pytest.raises(StoreUnavailable):
            await connection.check()
        calls.append(asyncio.create_task(node.engine.publish_event(task_id, event(1))))
        done, _ = await asyncio.wait(calls, timeout=0.1)
        assert not done
    finally:
        own_redis_server.resume()
    async with asyncio.timeout(within(5)):
        assert [one.index for one in await asyncio.gather(*calls)] == [1, 2]
    await eventually(lambda: connection.health.is_healthy, within(2))


async def test_refused_connections(redis_server: RedisServer, open_node: OpenNode, redis_proxy: Proxied) -> None:
    proxy = await redis_proxy(redis_server.port)
    one, two = await open_node(redis_server.port), await open_node(proxy.port)
    task_id = await started(one)
    async with reading(two, task_id) as readers:
        await proxy.refuse()
        proxy.cut()
        for n in range(20):
            await one.engine.publish_event(task_id, event(n))
        await eventually(lambda: two.adapters.broadcast.health.error_kind == "connection_refused", within_s=20)
        await proxy.heal()
        await finish(one, task_id)
    assert_whole(readers, 21)


@pytest.mark.parametrize("k", [2, 3])
async def test_every_kth_bell_is_lost(
    k: int, redis_server: RedisServer, open_node: OpenNode, redis_proxy: Proxied, within: Within
) -> None:
    proxy = await redis_proxy(redis_server.port)
    one, two = await open_node(redis_server.port), await open_node(proxy.port)
    task_id = await started(one)
    async with reading(two, task_id) as readers:
        proxy.drop_every(k)
        for n in range(200):
            await one.engine.publish_event(task_id, event(n))
        published = time.monotonic()
        await eventually(lambda: all(len(reader.indexes) == 201 for reader in readers), within(5))
        print(f"healed {time.monotonic() - published:.2f} s after the last event")
        await finish(one, task_id)
    assert proxy.dropped >= 200 // k
    assert_whole(readers, 201)


async def test_the_last_bell_is_lost(
    redis_server: RedisServer, open_node: OpenNode, redis_proxy: Proxied, within: Within
) -> None:
    """The terminal one: the stream closes all the same, from what is stored."""
    proxy = await redis_proxy(redis_server.port)
    one, two = await open_node(redis_server.port), await open_node(proxy.port)
    task_id = await started(one)
    async with asyncio.timeout(60), reading(two, task_id) as readers:
        proxy.drops = lambda number, text: b" completed " in text
        await one.engine.publish_event(task_id, event(0))
        await finish(one, task_id)
        ended = time.monotonic()
        await eventually(lambda: all(reader.subscription.status for reader in readers), within(2))
        print(f"closed {time.monotonic() - ended:.2f} s after the end")
    assert proxy.dropped
    assert_whole(readers, 2)


async def test_a_redis_that_is_killed_and_comes_back(open_node: OpenNode) -> None:
    """With its log synced at every write, nothing acknowledged is lost; readers stay, publishers repeat."""
    with running_redis(options=("--appendonly", "yes", "--appendfsync", "always")) as server:
        one, two = await open_node(server.port), await open_node(server.port)
        task_id = await started(one)
        async with reading(two, task_id) as readers:
            for n in range(30):
                await publish_through(one, task_id, n)
            await asyncio.to_thread(server.kill)
            async with asyncio.TaskGroup() as group:
                group.create_task(asyncio.to_thread(server.start))
                for n in range(30, 60):
                    await publish_through(one, task_id, n)
            await finish(one, task_id)
        assert_whole(readers, 61)


async def test_a_redis_that_was_emptied(own_redis_server: RedisServer, open_node: OpenNode) -> None:
    """Nothing pretends that the log is still there: readers end without ``done``, and nothing is published to it."""
    one, two = await open_node(own_redis_server.port), await open_node(own_redis_server.port)
    task_id = await started(one)
    reader = Reader(two, task_id)
    async with asyncio.timeout(20), asyncio.TaskGroup() as group:
        group.create_task(reader.run())
        for n in range(5):
            await one.engine.publish_event(task_id, event(n))
        await eventually(lambda: len(reader.indexes) == 6, within_s=20)
        async with Redis.from_url(own_redis_server.url, protocol=2) as client:
            await client.flushall()
        with pytest.raises(TaskcastError):
            await one.engine.publish_event(task_id, event(5))
    assert reader.subscription.status is None
    assert await one.engine.get_task(task_id) is None
    again = await started(one)
    assert (await one.engine.publish_event(again, event(0))).index == 1


async def test_a_log_that_was_rewound_goes_on_in_a_new_epoch(
    own_redis_server: RedisServer, open_node: OpenNode
) -> None:
    """As after a failover to a replica that lacked the newest writes: announced by a gap, never silent."""
    one, two = await open_node(own_redis_server.port), await open_node(own_redis_server.port)
    task_id = await started(one)
    for n in range(3):
        await one.engine.publish_event(task_id, event(n))
    store = one.adapters.short_term_store
    before = await store.get(task_id)
    assert before is not None
    async with Redis.from_url(own_redis_server.url, protocol=2) as client, reading(two, task_id, 1) as readers:
        saved = {key: await client.dump(key) for key in await client.keys("*")}
        for n in range(3, 8):
            await one.engine.publish_event(task_id, event(n))
        await eventually(lambda: readers[0].indexes == list(range(9)), within_s=20)
        async with client.pipeline(transaction=True) as rewind:
            rewind.flushall()
            for key, value in saved.items():
                rewind.restore(key, 0, value or b"")
            await rewind.execute()
        await eventually(lambda: any(e.type == "taskcast:gap" for e in readers[0].events), within_s=10)
        after = await store.get(task_id)
        assert after is not None and after.epoch > before.epoch
        await finish(one, task_id)
    assert readers[0].subscription.status == "completed"
