"""All tasks in one stream: those created from now on, every event at most once, nothing after the end."""

from __future__ import annotations

import asyncio
import random
from typing import Any

import pytest

from taskcast_core import global_stream
from taskcast_core.builtin.memory_broadcast import MemoryBroadcastProvider
from taskcast_core.builtin.memory_store import MemoryShortTermStore
from taskcast_core.engine import EngineSettings, TaskEngine
from taskcast_core.filters import View
from taskcast_core.global_stream import GlobalStream
from tests.core.wrapping import BareBroadcast, UnreliableBroadcast
from tests.fixtures.eventually import eventually

pytestmark = [pytest.mark.anyio, pytest.mark.usefixtures("no_stray_tasks")]

Seen = list[tuple[str, int]]


def x() -> dict[str, Any]:
    return {"type": "x", "level": "info"}


def engine_on(broadcast: MemoryBroadcastProvider, store: MemoryShortTermStore) -> TaskEngine:
    return TaskEngine(broadcast=broadcast, short_term_store=store, settings=EngineSettings(background=False))


async def read(stream: GlobalStream, seen: Seen) -> None:
    async with stream:
        async for batch in stream.batches():
            seen += [(delivery.entry.origin.task_id, delivery.entry.index) for delivery in batch.deliveries]
            assert all(delivery.position == 0 for delivery in batch.deliveries)


@pytest.mark.parametrize("kind", [MemoryBroadcastProvider, BareBroadcast])
async def test_tasks_created_from_now_on_on_any_node(kind: type[MemoryBroadcastProvider]) -> None:
    broadcast, store = kind(), MemoryShortTermStore()
    async with engine_on(broadcast, store) as here, engine_on(broadcast, store) as there:
        old = await here.create_task()
        await asyncio.sleep(0.005)
        seen: Seen = []
        only: Seen = []
        reading = [
            asyncio.create_task(read(here.subscribe_all(), seen)),
            asyncio.create_task(read(here.subscribe_all(View(types=("x",))), only)),
        ]
        await eventually(lambda: len(here.hub._firehose) == 2)
        expected: Seen = []
        for engine in (here, there):
            task = await engine.create_task()
            await engine.transition_task(old.id, "running" if engine is here else "paused")
            await engine.transition_task(task.id, "running")
            await there.publish_events(task.id, [x(), x()])
            expected += [(task.id, index) for index in range(3)]
        await eventually(lambda: sorted(seen) == sorted(expected))
        await eventually(lambda: sorted(only) == sorted(one for one in expected if one[1] > 0))
    await asyncio.wait(reading)
    assert len(seen) == len(set(seen))


async def test_bells_that_repeat_and_reorder_show_nothing_twice() -> None:
    store = MemoryShortTermStore()
    broadcast = UnreliableBroadcast(random.Random(3), lost=0, repeated=0.9, late=0.5)
    async with engine_on(broadcast, store) as engine:
        seen: Seen = []
        reading = asyncio.create_task(read(engine.subscribe_all(), seen))
        await eventually(lambda: engine.hub.has_firehose)
        task = await engine.create_task()
        for _ in range(100):
            await engine.publish_event(task.id, x())
        await asyncio.sleep(0.05)
    await reading
    assert len(seen) == len(set(seen)) > 10
    assert seen == sorted(seen)


async def test_who_may_not_see_a_task_does_not() -> None:
    async with engine_on(MemoryBroadcastProvider(), MemoryShortTermStore()) as engine:
        seen: Seen = []
        reading = asyncio.create_task(read(engine.subscribe_all(may_see=lambda task_id: task_id == "mine"), seen))
        await eventually(lambda: engine.hub.has_firehose)
        for name in ("theirs", "mine"):
            await engine.create_task(id=name)
            await engine.publish_event(name, x())
        await eventually(lambda: seen == [("mine", 0)])
    await reading


async def test_one_that_does_not_read_is_ended(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(global_stream, "WAITING", 50)
    async with engine_on(MemoryBroadcastProvider(), MemoryShortTermStore()) as engine:
        async with engine.subscribe_all() as stream:
            task = await engine.create_task()
            for _ in range(200):
                await engine.publish_event(task.id, x())
            assert len(stream._bells) <= 51
            assert [batch async for batch in stream.batches()] == []
        assert not engine.hub.has_firehose
