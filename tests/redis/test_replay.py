"""A replay from Redis: pages overlap with what is done with them, and none is read twice."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from taskcast_core import ahead, subscription
from taskcast_core.contracts import Change
from taskcast_core.entries import Entry
from taskcast_core.models import EventDraft
from taskcast_core.pages import FIRST_PAGE, PAGE
from taskcast_core.stretch import Stretch
from taskcast_core.testing.making import created
from tests.fixtures.eventually import eventually
from tests.fixtures.redis_server import RedisServer
from tests.redis.conftest import Node, OpenNode, Proxied, sent

pytestmark = pytest.mark.anyio

EVENTS = 2_600


async def told(node: Node) -> str:
    task_id = (await node.engine.create_task()).id
    await node.engine.transition_task(task_id, "running")
    for start in range(0, EVENTS, 200):
        some: list[dict[str, Any]] = [
            {"type": "t", "level": "info", "data": n} for n in range(start, min(EVENTS, start + 200))
        ]
        await node.engine.publish_events(task_id, some)
    await node.engine.transition_task(task_id, "completed")
    return task_id


async def test_the_next_page_is_fetched_while_this_one_is_framed(
    redis_server: RedisServer, open_node: OpenNode, redis_proxy: Proxied, monkeypatch: pytest.MonkeyPatch
) -> None:
    for module in (ahead, subscription):
        monkeypatch.setattr(module, "KEPT_S", 60.0)  # a slow machine keeps up, too
    proxy = await redis_proxy(redis_server.port)
    node = await open_node(proxy.port)
    task_id = await told(node)
    reader = await node.engine.subscribe(task_id).open()
    proxy.commands.clear()
    given = [await reader.next_batch() for _ in range(2)]
    await eventually(lambda: sent(proxy)["read"] == 3)  # though nobody has asked for the third
    frames = [each for batch in given if batch is not None for each in batch.deliveries]
    async with asyncio.timeout(30):
        frames += [each async for batch in reader.batches() for each in batch.deliveries]
    assert [(each.entry.index, each.position) for each in frames] == [(n, n) for n in range(EVENTS + 2)]
    assert [each.entry.data for each in frames[1:-1]] == list(range(EVENTS))
    assert sent(proxy)["read"] == 1 + -(-(EVENTS + 2 - FIRST_PAGE) // PAGE)


async def test_plain_pages_stay_columns_and_say_the_same(redis_server: RedisServer, open_node: OpenNode) -> None:
    store = (await open_node(redis_server.port)).adapters.short_term_store
    task_id = (await created(store)).task.id
    drafts = [EventDraft("a" if n % 3 else "b", "warn" if n % 5 else "info", {"n": n}) for n in range(300)]
    for start in range(0, 300, 7):
        await store.commit(task_id, Change(tuple(drafts[start : start + 7])))
    await store.commit(task_id, Change((EventDraft("c", "info", "x", "s", "keep-all"),)))
    plain = await store.read(task_id, limit=300)
    mixed = await store.read(task_id, limit=301)
    assert isinstance(plain.items, Stretch) and not isinstance(mixed.items, Stretch)
    assert (plain.last, mixed.last) == (299, 300)
    seen = [each.event() for each in plain.items]
    assert seen == [each.event() for each in mixed.items[:300] if isinstance(each, Entry)]
    assert [(each.type, each.level, each.data) for each in seen] == [(d.type, d.level, d.data) for d in drafts]
    backwards = await store.read(task_id, limit=301, reverse=True)
    assert [each.event() for each in backwards.items if isinstance(each, Entry)] == [
        each.event() for each in mixed.items if isinstance(each, Entry)
    ]
