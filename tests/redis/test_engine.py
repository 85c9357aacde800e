"""Two engines on one Redis: what one publishes, the other one's readers see; and what that costs."""

from __future__ import annotations

import asyncio

import pytest
from attrs import fields, frozen
from redis.asyncio import Redis

from taskcast_core.contracts import Change
from taskcast_core.filters import View
from taskcast_core.models import EventDraft
from taskcast_core.testing.making import created
from taskcast_redis import RedisShortTermStore, create_redis_adapters
from tests.fixtures.eventually import eventually
from tests.fixtures.redis_server import RedisServer
from tests.fixtures.scale import FULL_SCALE, Scale
from tests.fixtures.servers import running_redis
from tests.redis.conftest import Node, OpenNode, Proxied, Reader, sent

pytestmark = [pytest.mark.anyio, pytest.mark.timeout(1_800 if FULL_SCALE else 400)]

SPAN = 1_000
"""Entries between two checkpoints."""


async def started(node: Node) -> str:
    task = await node.engine.create_task({"type": "chat"})
    await node.engine.transition_task(task.id, "running")
    return task.id


async def test_what_one_node_publishes_the_others_readers_see(redis_server: RedisServer, open_node: OpenNode) -> None:
    one, two = await open_node(redis_server.port), await open_node(redis_server.port)
    task_id = await started(one)
    readers = [Reader(node, task_id) for node in (one, two, two)]
    async with asyncio.TaskGroup() as group:
        for reader in readers:
            group.create_task(reader.run())
        await eventually(lambda: all(reader.indexes for reader in readers), within_s=20)
        for n in range(200):
            await (one, two)[n % 2].engine.publish_event(
                task_id, {"type": "t", "level": "info", "data": {"delta": str(n)}, "seriesId": "s",
                          "seriesMode": "accumulate"},
            )  # fmt: skip
        await two.engine.transition_task(task_id, "completed")
    assert [reader.indexes for reader in readers] == [list(range(202))] * 3
    assert [reader.subscription.status for reader in readers] == ["completed"] * 3


async def test_a_publish_is_one_command_however_many_events_it_has(
    redis_server: RedisServer, open_node: OpenNode, redis_proxy: Proxied
) -> None:
    proxy = await redis_proxy(redis_server.port)
    node = await open_node(proxy.port)
    task_id = await started(node)
    await node.engine.publish_event(task_id, {"type": "t", "level": "info", "data": 0})
    proxy.commands.clear()
    await node.engine.publish_event(task_id, {"type": "t", "level": "info", "data": 1})
    assert sent(proxy) == {"commit": 1}
    await node.engine.publish_events(task_id, [{"type": "t", "level": "info", "data": n} for n in range(100)])
    assert sent(proxy) == {"commit": 2}


async def test_commits_that_queue_travel_together(
    redis_server: RedisServer, open_node: OpenNode, redis_proxy: Proxied
) -> None:
    proxy = await redis_proxy(redis_server.port)
    node = await open_node(proxy.port)
    tasks = [await started(node) for _ in range(20)]
    proxy.commands.clear()
    await asyncio.gather(
        *(node.engine.publish_event(tasks[n % 20], {"type": "t", "level": "info", "data": n}) for n in range(400))
    )
    assert sent(proxy)["commit"] <= 40
    heads = [await node.adapters.short_term_store.get(task_id) for task_id in tasks]
    assert [stored.last_index for stored in heads if stored] == [20] * 20


async def test_a_process_hears_only_what_it_follows(
    redis_server: RedisServer, open_node: OpenNode, redis_proxy: Proxied, scale: Scale
) -> None:
    """However many tasks are active: it parses the messages of those that somebody reads here."""
    proxy = await redis_proxy(redis_server.port)
    one, two = await open_node(redis_server.port), await open_node(proxy.port)
    tasks: list[str] = []
    for _ in range(scale(300, 10_000) // 100):
        tasks += await asyncio.gather(*(started(one) for _ in range(100)))
    readers = [Reader(two, task_id) for task_id in tasks[:10]]
    async with asyncio.TaskGroup() as group:
        for reader in readers:
            group.create_task(reader.run())
        await eventually(lambda: two.engine.hub.followed == 10, within_s=20)
        heard, came = two.adapters.broadcast.heard, proxy.messages
        for start in range(0, len(tasks), 100):
            await asyncio.gather(
                *(one.engine.publish_event(t, {"type": "t", "level": "info", "data": 1}) for t in tasks[start:][:100])
            )
        await asyncio.gather(*(one.engine.transition_task(task_id, "completed") for task_id in tasks[:10]))
    assert [reader.indexes for reader in readers] == [[0, 1, 2]] * 10
    assert proxy.messages - came <= 10 * 2
    assert two.adapters.broadcast.heard - heard <= 10 * 2


async def test_a_thousand_channels_are_subscribed_in_batches(
    redis_server: RedisServer, open_node: OpenNode, redis_proxy: Proxied
) -> None:
    """At first, and again when the connection was lost."""
    proxy = await redis_proxy(redis_server.port)
    broadcast = (await open_node(proxy.port)).adapters.broadcast
    await eventually(lambda: broadcast.health.is_healthy, within_s=20)
    proxy.commands.clear()
    returns: list[None] = []
    async with broadcast.listen(lambda bell: None, lambda: returns.append(None)) as listener:
        await listener.follow([f"task{n}" for n in range(1_200)])
        assert proxy.commands["SUBSCRIBE"] <= 3
        proxy.commands.clear()
        proxy.cut_pub_sub()
        await eventually(lambda: bool(returns), within_s=20)
        assert proxy.commands["SUBSCRIBE"] <= 3
        await listener.unfollow([f"task{n}" for n in range(1_200)])
        await eventually(lambda: 0 < proxy.commands["UNSUBSCRIBE"] <= 3, within_s=20)


async def test_followers_of_all_tasks_hear_other_nodes(redis_server: RedisServer, open_node: OpenNode) -> None:
    one, two = await open_node(redis_server.port), await open_node(redis_server.port)
    seen: list[str] = []
    async with two.engine.subscribe_all() as stream:

        async def listen() -> None:
            async for batch in stream.batches():
                seen.extend(delivery.entry.origin.task_id for delivery in batch.deliveries)

        listening = asyncio.create_task(listen())
        opened_at = max(node.engine.now_ms() for node in (one, two))
        # Their clocks agree to some milliseconds.
        await eventually(lambda: one.engine.now_ms() > opened_at + 100, within_s=20)
        task_id = await started(one)
        await eventually(lambda: task_id in seen, within_s=20)
        listening.cancel()
        await asyncio.gather(listening, return_exceptions=True)


DELTA = EventDraft("delta", "info", {"delta": "some more text "}, "answer", "accumulate")


@frozen
class Cost:
    """What the server did for one commit."""

    commands: float
    written_bytes: float
    microseconds: float


async def cost_of(store: RedisShortTermStore, client: Redis, task_id: str) -> Cost:
    """Of a delta: how many commands its script calls, what that adds to the append-only file, and the time."""
    await client.config_resetstat()
    before = (await client.info("persistence"))["aof_current_size"]
    for _ in range(20):
        await store.commit(task_id, Change((DELTA,)))
    stats = await client.info("commandstats")
    written = (await client.info("persistence"))["aof_current_size"] - before
    calls = sum(one["calls"] for name, one in stats.items() if name not in OUTSIDE)
    return Cost(calls / 20, written / 20, stats["cmdstat_evalsha"]["usec_per_call"])


def least(costs: list[Cost]) -> Cost:
    """What is left without checkpoints, and without what else the machine does."""
    return Cost(*(min(getattr(one, name.name) for one in costs) for name in fields(Cost)))


OUTSIDE = {f"cmdstat_{name}" for name in ("evalsha", "info", "config|resetstat", "ping", "time", "hmget", "hsetnx")}
"""Not called by the script, or by others, too."""


async def test_the_last_delta_costs_what_the_first_did(prefix: str, scale: Scale) -> None:
    with running_redis(options=("--appendonly", "yes", "--appendfsync", "no")) as server:
        async with (
            create_redis_adapters(server.url, prefix=prefix) as adapters,
            Redis.from_url(server.url, protocol=2) as client,
        ):
            store = adapters.short_term_store
            young, old = [(await created(store)).task.id for _ in range(2)]
            for _ in range(scale(100, 1_000)):
                await store.commit(old, Change((DELTA,) * 100))
            for task_id in (young, old):  # past the checkpoint
                await store.commit(task_id, Change((DELTA,) * 20))
            costs: dict[str, list[Cost]] = {young: [], old: []}
            for _ in range(scale(1, 49)):  # by turns, for the machine is shared
                for task_id, some in costs.items():
                    some.append(await cost_of(store, client, task_id))
            first, last = least(costs[young]), least(costs[old])
    print(f"first {first}, last {last}")
    assert last.commands == first.commands
    assert last.written_bytes <= 1.2 * first.written_bytes
    if scale.full:  # time is no matter of every day
        assert last.microseconds <= 1.2 * first.microseconds


async def test_a_resume_near_the_end_looks_at_one_span(
    redis_server: RedisServer, open_node: OpenNode, redis_proxy: Proxied, scale: Scale
) -> None:
    proxy = await redis_proxy(redis_server.port)
    node = await open_node(proxy.port)
    store = node.adapters.short_term_store
    task_id = (await created(store)).task.id
    total = scale(10_000, 1_000_000)
    for start in range(0, total, 500):
        await store.commit(
            task_id, Change(tuple(EventDraft(f"t{n % 7}", "info", n) for n in range(start, start + 500)))
        )
    view, before = View(types=["t3"]), total - 10
    position = await store.count(task_id, view, before)
    assert position == len(range(3, before, 7))
    assert store.looked_at <= SPAN
    assert await store.seek(task_id, view, position - 1) == max(range(3, before, 7))
    assert store.looked_at <= 2 * SPAN
    assert len((await store.read(task_id, after=before)).items) == 9

    looked_at, came = store.looked_at, proxy.bytes_down
    reader = Reader(node, task_id, {"since": {"index": position - 1}, "types": ["t3"]})
    reading = asyncio.create_task(reader.run())
    later = list(range(3, total, 7))[position:]
    await eventually(lambda: reader.indexes == later, within_s=20)
    assert store.looked_at - looked_at <= SPAN + 10
    assert proxy.bytes_down - came < 20_000, "nothing but what is returned"
    reading.cancel()
    await asyncio.gather(reading, return_exceptions=True)
