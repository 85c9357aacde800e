"""Channels: who joins, what is heard, what is repaired, and what is left behind (nothing)."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import pytest

from taskcast_core.builtin.memory_broadcast import MemoryBroadcastProvider
from taskcast_core.builtin.memory_store import MemoryShortTermStore
from taskcast_core.contracts.broadcast import Bell
from taskcast_core.contracts.task_log import TrimRule
from taskcast_core.engine import TaskEngine
from taskcast_core.errors import StoreUnavailable, TaskNotFound
from taskcast_core.hub import HubSettings
from taskcast_core.models import Event
from taskcast_core.settings import EngineSettings
from taskcast_core.subscription import Subscription
from tests.core.wrapping import BareBroadcast, WrappedStore
from tests.fixtures.eventually import eventually

pytestmark = [pytest.mark.anyio, pytest.mark.usefixtures("no_stray_tasks")]

NEVER_CHECKS = EngineSettings(hub=HubSettings(check_interval_s=3600, flush_interval_ms=0))
"""What is not healed by bells and repairs stays broken, and the test sees it."""


class Gate:
    """Holds calls back, before or after they have been made."""

    def __init__(self, *, after: bool = False) -> None:
        self.reached, self.opened, self._after = asyncio.Event(), asyncio.Event(), after

    async def __call__(self, real: Callable[[], Awaitable[Any]]) -> Any:
        result = await real() if self._after else None
        self.reached.set()
        await self.opened.wait()
        return result if self._after else await real()


@pytest.fixture
def store() -> WrappedStore:
    return WrappedStore(MemoryShortTermStore())


@pytest.fixture
async def engine(store: Any) -> AsyncIterator[TaskEngine]:
    async with TaskEngine(broadcast=MemoryBroadcastProvider(), short_term_store=store, settings=NEVER_CHECKS) as engine:
        yield engine


async def running_task(engine: TaskEngine) -> str:
    task = await engine.create_task()
    await engine.transition_task(task.id, "running")
    return task.id


async def publish(engine: TaskEngine, task_id: str, count: int = 1) -> list[Event]:
    return await engine.publish_events(task_id, [{"type": "x", "level": "info", "data": n} for n in range(count)])


def followed_channels(engine: TaskEngine) -> set[str]:
    """What the broadcast has to deliver here."""
    (ear,) = engine.broadcast._ears
    return {channel for channel in ear.channels if ":" not in channel}


async def drain(subscription: Subscription, collected: list[int]) -> None:
    async for batch in subscription.batches():
        collected += [delivery.entry.index for delivery in batch.deliveries]


async def test_a_reader_that_gives_up_while_the_channel_opens_leaves_nothing(
    engine: TaskEngine, store: WrappedStore
) -> None:
    task_id = await running_task(engine)
    gate = store.around["get"] = Gate()
    reading = asyncio.create_task(engine.subscribe(task_id).open())
    await gate.reached.wait()
    reading.cancel()
    gate.opened.set()
    await asyncio.wait({reading})
    await eventually(lambda: engine.hub.followed == 0 and not engine.hub._opening)
    assert not engine.hub._joining and not engine.hub._overheard
    await eventually(lambda: followed_channels(engine) == set())


async def test_one_of_two_gives_up_while_the_channel_opens(engine: TaskEngine, store: WrappedStore) -> None:
    task_id = await running_task(engine)
    gate = store.around["get"] = Gate()
    first = asyncio.create_task(engine.subscribe(task_id).open())
    stays = engine.subscribe(task_id)
    second = asyncio.create_task(stays.open())
    await gate.reached.wait()
    first.cancel()
    gate.opened.set()
    await asyncio.wait({first, second})
    assert engine.hub.subscribers(task_id) == 1
    stays.close()
    assert engine.hub.followed == 0


async def test_opening_a_task_that_is_not_there_leaves_nothing(engine: TaskEngine) -> None:
    for _ in range(3):
        with pytest.raises(TaskNotFound):
            await engine.subscribe("nobody").open()
    await eventually(lambda: not engine.hub._opening)
    assert (engine.hub.followed, engine.hub._joining) == (0, {})
    await eventually(lambda: followed_channels(engine) == set())


async def test_news_while_the_channel_opens_is_not_missed(engine: TaskEngine, store: WrappedStore) -> None:
    task_id = await running_task(engine)
    gate = store.around["get"] = Gate(after=True)
    seen: list[int] = []
    reader = engine.subscribe(task_id)
    reading = asyncio.create_task(drain(reader, seen))
    await gate.reached.wait()
    del store.around["get"]
    await publish(engine, task_id)
    gate.opened.set()
    await eventually(lambda: seen == [0, 1])
    reader.close()
    await reading


async def test_an_echo_wakes_nobody(engine: TaskEngine) -> None:
    """Own commits are heard twice: directly and from the broadcast."""
    task_id = await running_task(engine)
    batches: list[int] = []

    async def read() -> None:
        async for batch in engine.subscribe(task_id).batches():
            batches.append(len(batch.deliveries))  # noqa: PERF401 - looked at meanwhile

    reading = asyncio.create_task(read())
    await eventually(lambda: len(batches) == 1)
    for n in range(20):
        await publish(engine, task_id)
        await eventually(lambda wanted=n + 2: sum(batches) == wanted)
    await engine.transition_task(task_id, "completed")
    await reading
    assert batches == [1] * 22 + [0]  # the last one says that the task has ended


async def test_an_end_is_news_also_where_its_entry_is_known(engine: TaskEngine) -> None:
    task_id = await running_task(engine)
    reading = asyncio.create_task(drain(engine.subscribe(task_id), []))
    await eventually(lambda: engine.hub.subscribers(task_id) == 1)
    channel = engine.hub._channels[task_id]
    await publish(engine, task_id)
    await eventually(lambda: len(channel.waiting) == 1)
    engine.hub.take(Bell(task_id, task_id, channel.epoch, channel.head + 1, channel.head, "completed", 0))
    await asyncio.wait_for(reading, 20)


@pytest.mark.parametrize("readers", [1, 2])
async def test_positions_go_on_from_batch_to_batch(engine: TaskEngine, readers: int) -> None:
    """Whether a reader is the only one, or they share."""
    task_id = await running_task(engine)
    seen: list[list[int]] = [[] for _ in range(readers)]

    async def read(positions: list[int]) -> None:
        async for batch in engine.subscribe(task_id, {"types": ["x"]}).batches():
            positions += [delivery.position for delivery in batch.deliveries]

    reading = [asyncio.create_task(read(each)) for each in seen]
    await eventually(lambda: engine.hub.subscribers(task_id) == readers)
    for n in range(1, 5):
        await publish(engine, task_id, 2)
        await engine.publish_event(task_id, type="y")
        await eventually(lambda wanted=[list(range(2 * n))] * readers: seen == wanted)
    await engine.transition_task(task_id, "completed")
    await asyncio.gather(*reading)


async def test_bells_that_ring_during_a_repair_start_another(store: WrappedStore) -> None:
    async with TaskEngine(broadcast=BareBroadcast(), short_term_store=store, settings=NEVER_CHECKS) as here:
        writer = TaskEngine(broadcast=here.broadcast, short_term_store=store)
        task_id = await running_task(writer)
        seen: list[int] = []
        reader = here.subscribe(task_id)
        reading = asyncio.create_task(drain(reader, seen))
        await eventually(lambda: seen == [0])
        gate = store.around["heads"] = Gate(after=True)
        await publish(writer, task_id)
        await gate.reached.wait()
        del store.around["heads"]
        await publish(writer, task_id)
        gate.opened.set()
        await eventually(lambda: seen == [0, 1, 2])
        reader.close()
        await reading


async def test_nobody_joins_the_channel_of_a_deleted_task(engine: TaskEngine) -> None:
    task_id = await running_task(engine)
    await publish(engine, task_id, 3)
    slow = await engine.subscribe(task_id).open()
    await engine.delete_task(task_id)
    with pytest.raises(TaskNotFound):
        await engine.subscribe(task_id).open()
    seen: list[int] = []
    await drain(slow, seen)
    assert (seen, slow.status) == ([0, 1, 2, 3, 4], "cancelled")


async def test_an_end_that_cleanup_has_removed_is_noticed(store: WrappedStore) -> None:
    """The last bells are lost, and what they told of is gone when the hub looks."""
    settings = EngineSettings(hub=HubSettings(check_interval_s=0.02, flush_interval_ms=0))
    async with TaskEngine(broadcast=MemoryBroadcastProvider(), short_term_store=store, settings=settings) as here:
        writer = TaskEngine(broadcast=MemoryBroadcastProvider(), short_term_store=store)
        task_id = await running_task(writer)
        reader = await here.subscribe(task_id).open()
        gate = store.around["heads"] = Gate()
        await gate.reached.wait()
        await publish(writer, task_id, 3)
        await writer.transition_task(task_id, "completed")
        stored = await store.get(task_id)
        assert await store.trim(task_id, stored.epoch, TrimRule(types=("taskcast:status",))) == 2
        del store.around["heads"]
        calls = store.calls["heads"]
        gate.opened.set()
        seen: list[int] = []
        await drain(reader, seen)
        assert (seen, reader.status) == ([1, 2, 3], "completed")
        assert store.calls["heads"] - calls <= 1  # at once, not at the next check


async def test_many_silent_channels_are_checked_in_portions(
    store: WrappedStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("taskcast_core.repairs._AT_ONCE", 3)
    async with TaskEngine(broadcast=MemoryBroadcastProvider(), short_term_store=store, settings=NEVER_CHECKS) as here:
        writer = TaskEngine(broadcast=MemoryBroadcastProvider(), short_term_store=store)  # its bells are heard nowhere
        tasks = [await running_task(writer) for _ in range(7)]
        readers = [await here.subscribe(task_id).open() for task_id in tasks]
        for task_id in tasks:
            await writer.transition_task(task_id, "completed")
        here.hub.on_absence()
        for reader in readers:
            await drain(reader, [])
        assert [reader.status for reader in readers] == ["completed"] * 7
        assert store.calls["heads"] == 3 + 7, "three portions, and each channel's repair"


async def test_readers_of_all_tasks_end_with_the_hub(store: Any) -> None:
    async with TaskEngine(broadcast=MemoryBroadcastProvider(), short_term_store=store) as engine:
        stream = engine.subscribe_all()

        async def read() -> int:
            async with stream:
                return sum([len(batch.deliveries) async for batch in stream.batches()])

        reading = asyncio.create_task(read())
        await eventually(lambda: engine.hub.has_firehose)
        await running_task(engine)
        await eventually(lambda: not stream._bells)
    async with asyncio.timeout(2):
        assert await reading == 1


async def test_a_lost_channel_is_not_followed_any_longer(engine: TaskEngine, store: WrappedStore) -> None:
    task_id = await running_task(engine)
    reader = await engine.subscribe(task_id).open()
    del store.store._logs[task_id]  # a store that was emptied
    assert reader._channel is not None
    await engine.hub.refresh(reader._channel)
    assert [batch async for batch in reader.batches()] == []
    await eventually(lambda: followed_channels(engine) == set())


async def test_an_absence_while_the_store_is_away_is_not_an_error(
    engine: TaskEngine, store: WrappedStore, caplog: pytest.LogCaptureFixture
) -> None:
    task_id = await running_task(engine)
    reader = await engine.subscribe(task_id).open()

    async def away(_: object) -> Any:
        raise StoreUnavailable("test", "connection_refused")

    store.around["heads"] = away
    engine.hub.on_absence()
    await eventually(lambda: not engine.hub._tasks)
    assert "heads could not be checked" in caplog.text
    assert "never retrieved" not in caplog.text
    reader.close()


async def test_a_reader_behind_the_ring_reads_from_the_store(store: Any) -> None:
    for bounds in ({"ring_entries": 8}, {"ring_bytes": 600}):
        settings = EngineSettings(hub=HubSettings(flush_interval_ms=0, **bounds))
        async with TaskEngine(broadcast=MemoryBroadcastProvider(), short_term_store=store, settings=settings) as engine:
            task_id = await running_task(engine)
            slow = await engine.subscribe(task_id).open()
            assert slow._channel is not None
            for _ in range(40):
                await publish(engine, task_id, 3)
                assert len(slow._channel.ring) <= 25
            await engine.transition_task(task_id, "completed")
            seen: list[int] = []
            await drain(slow, seen)
            assert seen == list(range(122))


async def test_readers_at_one_place_share_the_very_batch(engine: TaskEngine) -> None:
    task_id = await running_task(engine)
    readers = [await engine.subscribe(task_id, {"types": ["x"]}).open() for _ in range(5)]
    channel = readers[0]._channel
    assert channel is not None and all(reader._channel is channel for reader in readers)
    for reader in readers:
        assert not (await reader._next(channel)).deliveries  # what was before they came
    await publish(engine, task_id, 7)
    batches = await asyncio.gather(*(reader._next(channel) for reader in readers))
    assert len({id(batch) for batch in batches}) == 1
    assert batches[0] is not None and [d.position for d in batches[0].deliveries] == list(range(7))
    for reader in readers:
        reader.close()


async def test_bells_are_made_only_for_those_who_listen(monkeypatch: pytest.MonkeyPatch) -> None:
    rung: list[str] = []

    def ring(self: MemoryBroadcastProvider, bell: Bell) -> None:
        rung.append(bell.task_id)
        publish_bell(self, bell)

    publish_bell = MemoryBroadcastProvider.publish
    monkeypatch.setattr(MemoryBroadcastProvider, "publish", ring)
    broadcast, store = MemoryBroadcastProvider(), MemoryShortTermStore()
    async with (
        TaskEngine(broadcast=broadcast, short_term_store=store) as engine,
        TaskEngine(broadcast=broadcast, short_term_store=store) as other,
    ):
        task_id, unread = await running_task(engine), await running_task(engine)
        await publish(engine, task_id)
        assert rung == []
        async with other.subscribe(task_id) as subscription:
            await eventually(lambda: other.hub.subscribers(task_id) == 1)
            await publish(engine, task_id)
            await publish(engine, unread)
            assert rung == [task_id]
            events = aiter(subscription)
            assert [(await anext(events)).index for _ in range(3)] == [0, 1, 2]
        async with other.subscribe_all():
            await eventually(lambda: other.hub.has_firehose)
            await publish(engine, unread)
            assert rung == [task_id, unread]
