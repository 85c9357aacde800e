"""Changes that travel together do what they do one by one: the same outcomes, the same log, the same news."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any

import pytest

from taskcast_core import MemoryShortTermStore
from taskcast_core.contracts import Change, Guard, LogLimits, TaskLog
from taskcast_core.entries import Entry
from taskcast_core.errors import TaskcastError
from taskcast_core.filters import View
from taskcast_core.models import EventDraft
from taskcast_core.testing.making import a_key, created, delta, message, whole_log
from taskcast_redis import create_redis_adapters
from tests.fixtures.eventually import eventually
from tests.fixtures.redis_server import RedisServer
from tests.redis.conftest import OpenNode, Proxied, Reader, sent
from tests.redis.test_faults import event, started

pytestmark = pytest.mark.anyio

SPAN = 1_000
"""Entries between two checkpoints."""

LIMITS = LogLimits(max_events=2_050, max_bytes=1_000_000, max_types=3)


def mixed_changes() -> list[Change]:
    """Enough to pass two checkpoints and the limits, with everything in between that a run cannot take."""
    found: list[Change] = []
    for n in range(1_100):
        change = Change((message("log", n), message("log", "x" * (n % 50))), limits=LIMITS)
        if n % 97 == 5:
            change = Change((message("log", n),), key=a_key(f"k{n % 3}", body="the same"), limits=LIMITS)
        elif n % 97 == 11:
            change = Change((delta("s", f"{n} "), message("log", n)), limits=LIMITS)
        elif n % 97 == 17:
            change = Change((message(f"t{n}", n),), limits=LIMITS)  # two of these are one type too many
        elif n % 97 == 23:
            change = Change((message("log", n),), guard=Guard(frozenset({"paused"})), limits=LIMITS)
        elif n % 97 == 29:
            change = Change((message("log", "y" * 40_000),), limits=LIMITS)  # its bell is a bare one
        elif n % 97 == 31:
            change = Change((message("log", "z" * 999_990),), limits=LIMITS)  # too many bytes
        found.append(change)
    return found


async def outcome(store: TaskLog, task_id: str, change: Change) -> tuple[Any, ...]:
    try:
        done = await store.commit(task_id, change)
    except TaskcastError as error:
        return (type(error).__name__, str(error))
    return (done.stored.last_index, done.replayed, [(entry.index, entry.data, entry.end) for entry in done.entries])


def lines(items: Sequence[Any]) -> list[tuple[Any, ...]]:
    assert all(isinstance(item, Entry) for item in items)
    return [(each.index, each.text, each.series_id, each.run, each.end) for each in items]


async def test_runs_do_what_single_changes_do(redis_server: RedisServer, prefix: str) -> None:
    async with (
        create_redis_adapters(redis_server.url, prefix=prefix, command_timeout_ms=60_000) as adapters,
        MemoryShortTermStore() as model,
    ):
        store = adapters.short_term_store
        alone, together, right = [(await created(each)).task.id for each in (store, store, model)]
        for each, task_id in ((store, alone), (store, together), (model, right)):  # from here on their type is known
            await each.commit(task_id, Change((message("log"),)))
        expected = [await outcome(model, right, change) for change in mixed_changes()]
        assert [await outcome(store, alone, change) for change in mixed_changes()] == expected
        at_once = await asyncio.gather(*(outcome(store, together, change) for change in mixed_changes()))
        assert at_once == expected
        refusals = " ".join(sorted({each[1] for each in at_once if isinstance(each[0], str)}))
        for limit in ("maxEventsPerTask", "maxBytesPerTask", "maxEventTypes", "status"):
            assert limit in refusals
        log = await whole_log(model, right)
        assert len(log) > 2 * SPAN
        for task_id in (alone, together):
            assert lines(await whole_log(store, task_id)) == lines(log)
        for view in (View(), View(types=["log"]), View(types=["delta", "t*"])):
            for before in (1, SPAN - 1, SPAN, SPAN + 1, 2 * SPAN, 2 * SPAN + 7, len(log)):
                for task_id in (alone, together):
                    assert await store.count(task_id, view, before) == await model.count(right, view, before)


async def test_a_crowd_of_publishers_costs_few_calls_and_no_reader_a_look(
    redis_server: RedisServer, open_node: OpenNode, redis_proxy: Proxied
) -> None:
    """What they publish together is told together, and has all that a reader elsewhere needs."""
    near, far = await redis_proxy(redis_server.port), await redis_proxy(redis_server.port)
    one, two = await open_node(near.port), await open_node(far.port)
    task_id = await started(one)
    async with asyncio.timeout(60), asyncio.TaskGroup() as group:
        reader = Reader(two, task_id)
        group.create_task(reader.run())
        await one.engine.publish_event(task_id, event(-1))
        await eventually(lambda: len(reader.indexes) == 2, within_s=20)
        near.commands.clear()
        far.commands.clear()
        await asyncio.gather(*(one.engine.publish_event(task_id, event(n)) for n in range(200)))
        await eventually(lambda: len(reader.indexes) == 202, within_s=20)
        assert sent(near)["commit"] <= 10
        assert "read" not in sent(far)
        await one.engine.transition_task(task_id, "completed")
    assert reader.indexes == list(range(203))
    assert [each.data for each in reader.events[1:202]] == list(range(-1, 200))


async def test_a_record_that_another_node_changed_is_learnt(redis_server: RedisServer, open_node: OpenNode) -> None:
    one, two = await open_node(redis_server.port), await open_node(redis_server.port)
    task_id = await started(one)
    stores = [node.adapters.short_term_store for node in (one, two)]
    change = Change((EventDraft("t", "info", 0),))
    for store in stores:
        await store.commit(task_id, change)
    await one.engine.transition_task(task_id, "paused")
    assert (await stores[1].commit(task_id, change)).stored.task.status == "paused"
    assert (await stores[0].commit(task_id, change)).stored.task.status == "paused"
