"""Pages that are read before a reader asks: the same events, one page at most, and nothing left behind."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

import pytest

from taskcast_core import ahead, subscription
from taskcast_core.builtin.memory_broadcast import MemoryBroadcastProvider
from taskcast_core.builtin.memory_store import MemoryShortTermStore
from taskcast_core.channel import Channel
from taskcast_core.contracts.log_reader import Page
from taskcast_core.contracts.task_log import TrimRule
from taskcast_core.deliveries import Batch
from taskcast_core.engine import TaskEngine
from taskcast_core.errors import NotHot, StoreUnavailable
from taskcast_core.hub import HubSettings
from taskcast_core.models import SubscribeFilter
from taskcast_core.pages import FIRST_PAGE, PAGE
from taskcast_core.settings import EngineSettings
from taskcast_core.subscription import Subscription
from tests.core.oracle import Frame, frame_of
from tests.core.wrapping import WrappedStore
from tests.fixtures.eventually import eventually

pytestmark = [pytest.mark.anyio, pytest.mark.usefixtures("no_stray_tasks")]

EVENTS = 3_000
LAST = EVENTS + 1  # the statuses of its start and its end come before and behind
BEGUN = FIRST_PAGE + PAGE
"""So many entries are read when the first page is asked for ahead: who has come twice keeps up."""


class SharedStore(WrappedStore):
    """A store as others see it whose pages travel."""

    is_shared = True


class SharedBroadcast(MemoryBroadcastProvider):
    is_shared = True


@pytest.fixture(autouse=True)
def a_slow_machine_keeps_up(monkeypatch: pytest.MonkeyPatch) -> None:
    keep_for(monkeypatch, 60.0)


def keep_for(monkeypatch: pytest.MonkeyPatch, seconds: float) -> None:
    monkeypatch.setattr(ahead, "KEPT_S", seconds)
    monkeypatch.setattr(subscription, "KEPT_S", seconds)


@pytest.fixture
def store() -> SharedStore:
    return SharedStore(MemoryShortTermStore())


@asynccontextmanager
async def opened(store: WrappedStore) -> AsyncIterator[TaskEngine]:
    settings = EngineSettings(background=False, hub=HubSettings(check_interval_s=60))
    async with TaskEngine(broadcast=SharedBroadcast(), short_term_store=store, settings=settings) as engine:
        yield engine


async def told(engine: TaskEngine, count: int = EVENTS) -> str:
    """A task that has ended, with a log of so many plain events between its statuses."""
    task_id = (await engine.create_task()).id
    await engine.transition_task(task_id, "running")
    for start in range(0, count, 500):
        some = [{"type": "x", "level": "info", "data": n} for n in range(start, min(count, start + 500))]
        await engine.publish_events(task_id, some)
    await engine.transition_task(task_id, "completed")
    return task_id


async def rest_of(reader: Subscription) -> list[Frame]:
    async with asyncio.timeout(20):
        return [frame_of(delivery) async for batch in reader.batches() for delivery in batch.deliveries]


async def until_ahead(engine: TaskEngine, task_id: str) -> tuple[Subscription, Channel]:
    """A reader who has been given two pages, and has not come for the one that was read ahead."""
    reader = await engine.subscribe(task_id).open()
    channel = reader._channel
    assert channel is not None
    given: list[Batch | None] = [await reader.next_batch() for _ in range(2)]
    assert sum(len(batch.deliveries) for batch in given if batch is not None) == BEGUN
    assert not channel.ahead.is_empty
    return reader, channel


async def test_a_replay_is_whole_and_in_order_and_reads_nothing_twice(store: SharedStore) -> None:
    """With replies that take their time, each in its own."""
    rng = random.Random(5)

    async def late(read: Callable[[], Awaitable[Any]]) -> Any:
        await asyncio.sleep(rng.random() * 0.004)
        page = await read()
        await asyncio.sleep(rng.random() * 0.004)
        return page

    async with opened(store) as engine:
        task_id = await told(engine)
        reader = engine.subscribe(task_id)
        store.around["read"] = late
        frames = await rest_of(reader)
        assert [(frame.index, frame.position) for frame in frames] == [(n, n) for n in range(LAST + 1)]
        assert store.calls["read"] == 1 + -(-(LAST + 1 - FIRST_PAGE) // PAGE)


async def test_the_next_page_is_on_its_way_before_it_is_wanted_and_no_other(store: SharedStore) -> None:
    async with opened(store) as engine:
        reader, channel = await until_ahead(engine, await told(engine))
        await eventually(lambda: store.calls["read"] == 3)
        for _ in range(50):
            await asyncio.sleep(0)
        assert store.calls["read"] == 3  # a reader that does not come costs one page
        assert [frame.index for frame in await rest_of(reader)] == list(range(BEGUN, LAST + 1))
        assert channel.ahead.is_empty


async def test_a_page_that_nobody_comes_for_is_given_up(store: SharedStore, monkeypatch: pytest.MonkeyPatch) -> None:
    async with opened(store) as engine:
        task_id = await told(engine)
        reader = await engine.subscribe(task_id).open()
        channel = reader._channel
        assert channel is not None
        await reader.next_batch()
        monkeypatch.setattr(ahead, "KEPT_S", 0.01)
        await reader.next_batch()
        await eventually(lambda: channel.ahead.is_empty)
        monkeypatch.setattr(subscription, "KEPT_S", 0.0)  # it has been too long
        before = store.calls["read"]
        await reader.next_batch()
        assert store.calls["read"] == before + 1 and channel.ahead.is_empty
        assert [frame.index for frame in await rest_of(reader)] == list(range(BEGUN + PAGE, LAST + 1))


async def test_a_reader_who_leaves_takes_the_page_along(store: SharedStore) -> None:
    async with opened(store) as engine:
        task_id = await told(engine)
        held, let_go = asyncio.Event(), list[str]()

        async def stuck(read: Callable[[], Awaitable[Any]]) -> Any:
            if store.calls["read"] < 3:
                return await read()
            held.set()
            try:
                await asyncio.Event().wait()
            finally:
                let_go.append("read")

        store.around["read"] = stuck
        reader, channel = await until_ahead(engine, task_id)
        async with asyncio.timeout(20):
            await held.wait()
        reader.close()
        await eventually(lambda: let_go == ["read"])
        assert channel.ahead.is_empty


async def test_a_page_of_a_log_that_was_cut_is_not_shown_as_one_of_the_next(store: SharedStore) -> None:
    async with opened(store) as engine:
        task_id = (await engine.create_task()).id
        await engine.transition_task(task_id, "running")
        for start in range(0, EVENTS, 500):
            await engine.publish_events(
                task_id, [{"type": "x", "level": "info", "data": "old"} for _ in range(start, start + 500)]
            )
        reader, channel = await until_ahead(engine, task_id)
        await eventually(lambda: store.calls["read"] == 3)
        await store.found_epoch(task_id, 1, BEGUN + 99)
        await engine.hub.refresh(channel)
        assert channel.ahead.is_empty
        for _ in range(4):
            await engine.publish_events(task_id, [{"type": "x", "level": "info", "data": "new"}] * 500)
        await engine.transition_task(task_id, "completed")
        frames = await rest_of(reader)
        assert [frame.index for frame in frames] == list(range(BEGUN, BEGUN + 100 + 2_001))
        assert [frame.data for frame in frames[:-1]] == ["old"] * 100 + ["new"] * 2_000


async def test_a_cut_that_was_not_heard_of_is_found_out_behind_the_page(store: SharedStore) -> None:
    async with opened(store) as engine:
        reader, _ = await until_ahead(engine, await told(engine))
        await eventually(lambda: store.calls["read"] == 3)
        await store.found_epoch(reader.task_id, 1, BEGUN + 99)
        page = await reader.next_batch()
        assert page is not None and [each.entry.index for each in page.deliveries] == list(range(BEGUN, BEGUN + PAGE))
        frames = await rest_of(reader)
        assert frames[0].gap == "epoch"
        assert [frame.index for frame in frames[1:]] == list(range(BEGUN + 100))


async def test_what_is_trimmed_meanwhile_keeps_its_place(store: SharedStore) -> None:
    async with opened(store) as engine:
        reader, _ = await until_ahead(engine, await told(engine))
        await eventually(lambda: store.calls["read"] == 3)
        await store.trim(reader.task_id, 1, TrimRule(types=("x",)), BEGUN + PAGE + 250)
        frames = await rest_of(reader)
        first_left = BEGUN + PAGE + 251  # the status before them stays
        indexes = [*range(BEGUN, BEGUN + PAGE), *range(first_left, LAST + 1)]
        assert [(frame.index, frame.position) for frame in frames] == [(n, n) for n in indexes]


async def test_a_page_with_holes_is_read_when_it_is_wanted(store: SharedStore) -> None:
    """What they mean for series is looked up then, and must not be of a later time."""
    async with opened(store) as engine:
        task_id = (await engine.create_task()).id
        await engine.transition_task(task_id, "running")
        plain = [{"type": "x", "level": "info", "data": n} for n in range(700)]
        for _ in range(4):
            await engine.publish_events(task_id, plain)
            await engine.publish_events(
                task_id,
                [{"type": "y", "level": "info", "data": 0, "seriesId": "s", "seriesMode": "latest"}],
            )
        await engine.transition_task(task_id, "completed")
        reader = await engine.subscribe(task_id).open()
        channel = reader._channel
        assert channel is not None
        first = [await reader.next_batch() for _ in range(2)]
        assert not channel.ahead.is_empty
        assert await channel.ahead.take(1, BEGUN - 1) is None
        frames = [frame_of(delivery) for batch in first if batch for delivery in batch.deliveries]
        frames += await rest_of(reader)
        gone = {1 + 701 * n + 700 for n in range(3)}
        assert [frame.index for frame in frames] == [n for n in range(2_806) if n not in gone]
        assert [frame.position for frame in frames] == [frame.index for frame in frames]


async def test_a_page_in_which_a_series_is_folded_is_read_when_it_is_wanted(store: SharedStore) -> None:
    async with opened(store) as engine:
        task_id = (await engine.create_task()).id
        await engine.transition_task(task_id, "running")
        delta = {"type": "y", "level": "info", "data": {"delta": "text"}, "seriesId": "s", "seriesMode": "accumulate"}
        plain = [{"type": "x", "level": "info", "data": n} for n in range(800)]
        for some in (plain, [delta] * 2, *[plain] * 3):
            await engine.publish_events(task_id, some)
        await engine.transition_task(task_id, "completed")
        reader = await engine.subscribe(task_id).open()
        channel = reader._channel
        assert channel is not None
        pages = [await reader.next_batch() for _ in range(2)]
        assert channel.ahead.is_empty  # the snapshot is to come
        pages.append(await reader.next_batch())
        assert not channel.ahead.is_empty
        frames = [frame_of(each) for page in pages if page is not None for each in page.deliveries]
        frames += await rest_of(reader)
        assert [frame.index for frame in frames] == [n for n in range(3_204) if n != 801]
        assert [(frame.index, frame.data) for frame in frames if frame.is_snapshot] == [(802, {"delta": "texttext"})]


@pytest.mark.parametrize("failure", [StoreUnavailable("test", "timeout"), NotHot("task")])
async def test_what_fails_ahead_is_read_again(store: SharedStore, failure: Exception) -> None:
    async with opened(store) as engine:
        task_id = await told(engine)

        async def failing(read: Callable[[], Awaitable[Any]]) -> Any:
            if store.calls["read"] == 3:
                raise failure
            return await read()

        store.around["read"] = failing
        reader, _ = await until_ahead(engine, task_id)
        assert [frame.index for frame in await rest_of(reader)] == list(range(BEGUN, LAST + 1))


async def test_a_crowd_has_one_page_ahead_and_reads_as_often_as_one(store: SharedStore) -> None:
    under_way = most = 0

    async def counted(read: Callable[[], Awaitable[Page]]) -> Page:
        nonlocal under_way, most
        under_way += 1
        most = max(most, under_way)
        await asyncio.sleep(0.001)
        under_way -= 1
        return await read()

    async with opened(store) as engine:
        task_id = await told(engine)
        readers = [await engine.subscribe(task_id).open() for _ in range(20)]
        store.around["read"] = counted
        for frames in await asyncio.gather(*map(rest_of, readers)):
            assert [frame.index for frame in frames] == list(range(LAST + 1))
        assert most <= 2  # the page that is wanted, and the one behind it
        assert store.calls["read"] <= 2 * (1 + -(-(LAST + 1 - FIRST_PAGE) // PAGE))


async def test_nothing_is_read_ahead_where_totals_are_looked_up_or_pages_do_not_travel(store: SharedStore) -> None:
    here = WrappedStore(MemoryShortTermStore())
    for one, wanted in ((store, SubscribeFilter(series_format="accumulated")), (here, None)):
        async with opened(one) as engine:
            reader = await engine.subscribe(await told(engine), wanted).open()
            channel = reader._channel
            assert channel is not None
            while (batch := await reader.next_batch()) is not None and batch.ended is None:
                assert channel.ahead.is_empty
            reader.close()
