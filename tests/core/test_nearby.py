"""Readers that come back with cursors all over a task's newest events: what they get, and what they cost the store."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator
from typing import Any

import pytest

from taskcast_core.builtin.memory_broadcast import MemoryBroadcastProvider
from taskcast_core.builtin.memory_store import MemoryShortTermStore
from taskcast_core.contracts.task_log import TrimRule
from taskcast_core.engine import TaskEngine
from taskcast_core.hub import HubSettings
from taskcast_core.models import Cursor, Event, SubscribeFilter
from taskcast_core.nearby import REACH
from taskcast_core.settings import EngineSettings
from tests.core.oracle import Frame, frame_of
from tests.core.wrapping import WrappedStore
from tests.fixtures.eventually import eventually

pytestmark = [pytest.mark.anyio, pytest.mark.usefixtures("no_stray_tasks")]


class CountingStore(WrappedStore):
    """Knows how many items were read."""

    def __init__(self) -> None:
        super().__init__(MemoryShortTermStore(), read=self._counted)
        self.items = 0

    async def _counted(self, real: Any) -> Any:
        page = await real()
        self.items += len(page.items)
        return page


@pytest.fixture
def store() -> CountingStore:
    return CountingStore()


@pytest.fixture
async def engine(store: Any) -> AsyncIterator[TaskEngine]:
    settings = EngineSettings(hub=HubSettings(check_interval_s=3600))
    async with TaskEngine(broadcast=MemoryBroadcastProvider(), short_term_store=store, settings=settings) as engine:
        yield engine


def plain(n: int) -> dict[str, Any]:
    return {"type": "x", "level": "info" if n % 3 else "debug", "data": n}


def story(n: int) -> dict[str, Any]:
    """Every fourth adds to a series, and every fifth replaces the value of another one."""
    if n % 4 == 0:
        return {**plain(n), "data": {"delta": str(n)}, "seriesId": "s", "seriesMode": "accumulate"}
    return {**plain(n), "seriesId": "p", "seriesMode": "latest"} if n % 5 == 0 else plain(n)


async def told(engine: TaskEngine, count: int, make: Any = plain) -> tuple[str, list[Event]]:
    task_id = (await engine.create_task()).id
    await engine.transition_task(task_id, "running")
    return task_id, await engine.publish_events(task_id, [make(n) for n in range(count)])


async def begin(engine: TaskEngine, task_id: str, wanted: SubscribeFilter) -> list[Frame]:
    """What a reader is shown of what is there already."""
    subscription = await engine.subscribe(task_id, wanted).open()
    head = await engine.store.get(task_id)
    frames: list[Frame] = []
    assert head is not None
    while subscription._place.after < head.last_index:
        batch = await subscription.next_batch()
        assert batch is not None
        frames += map(frame_of, batch.deliveries)
    subscription.close()
    return frames


async def test_a_crowd_with_as_many_cursors_reads_once(engine: TaskEngine, store: CountingStore) -> None:
    task_id, events = await told(engine, 300)
    wanted = [SubscribeFilter(since=Cursor(id=event.id)) for event in events]
    got = await asyncio.gather(*(begin(engine, task_id, each) for each in wanted))
    assert all([f.id for f in got[n]] == [e.id for e in events[n + 1 :]] for n in range(300))
    assert store.calls.get("read", 0) == 1
    assert not {"locate", "count", "seek", "series"} & store.calls.keys()


async def test_cursors_that_come_one_by_one_from_the_newest_to_the_oldest(
    engine: TaskEngine, store: CountingStore
) -> None:
    """The worst order: each wants a little more than is there."""
    task_id, events = await told(engine, 400)
    witness = await engine.subscribe(task_id, {"since": {"id": events[-1].id}}).open()
    for n in range(398, -1, -1):
        assert (await begin(engine, task_id, SubscribeFilter(since=Cursor(index=n))))[0].index == n + 1
    witness.close()
    assert store.calls["read"] <= 10  # each doubles what is at hand
    assert store.items <= 401


async def test_a_single_reader_reads_only_what_it_gets(engine: TaskEngine, store: CountingStore) -> None:
    task_id, events = await told(engine, 2 * REACH)
    for behind in (0, 1, 7, REACH - 2, REACH + 100):
        store.items = 0
        last = events[-1 - behind]
        assert len(await begin(engine, task_id, SubscribeFilter(since=Cursor(id=last.id)))) == behind
        assert store.items <= behind + 1  # with the one that the cursor names


@pytest.mark.parametrize("trims", [False, True])
async def test_what_is_shared_is_what_the_store_would_have_said(
    engine: TaskEngine, store: CountingStore, *, trims: bool
) -> None:
    task_id, events = await told(engine, 60, story)
    if trims:
        assert await store.trim(task_id, 1, TrimRule(levels=("debug",))) > 0
    cursors = [Cursor(id=each.id) for each in events] + [Cursor(index=each.index) for each in events]
    filters = [
        SubscribeFilter(cursor, resume=resume, series_format=form, levels=levels)
        for cursor in cursors
        for resume, form, levels in (
            ("delta", "delta", None), ("snapshot", "delta", None), ("delta", "accumulated", None),
            ("delta", "delta", ("info",)),
        )
    ]  # fmt: skip
    alone = [await begin(engine, task_id, each) for each in filters]
    witness = await engine.subscribe(task_id, {"since": {"id": events[-1].id}}).open()
    order = list(range(len(filters)))
    random.Random(7).shuffle(order)
    for n in order:
        assert await begin(engine, task_id, filters[n]) == alone[n], filters[n]
    witness.close()


async def test_what_was_read_is_not_believed_for_ever(store: Any) -> None:
    settings = EngineSettings(hub=HubSettings(check_interval_s=0.01))
    async with TaskEngine(broadcast=MemoryBroadcastProvider(), short_term_store=store, settings=settings) as engine:
        task_id, _ = await told(engine, 10)
        witness = await engine.subscribe(task_id).open()
        await witness.next_batch()
        channel = witness._channel
        assert channel is not None and channel.backlog is not None and channel.steps
        await eventually(lambda: channel.backlog is None and not channel.steps and not channel.shared)
        witness.close()
