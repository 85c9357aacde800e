"""One reader: its bounds, its end, its series, and what becomes of it when the log is cut under it."""

from __future__ import annotations

import asyncio
import gc
import tracemalloc
from typing import Any

import pytest

from taskcast_core.builtin.memory_broadcast import MemoryBroadcastProvider
from taskcast_core.builtin.memory_store import MemoryShortTermStore
from taskcast_core.callbacks import StreamCut
from taskcast_core.deliveries import Batch
from taskcast_core.engine import TaskEngine
from taskcast_core.errors import StoreUnavailable, TaskNotFound
from taskcast_core.hub import HubSettings
from taskcast_core.models import Cursor, Event, SubscribeFilter
from taskcast_core.settings import EngineSettings
from taskcast_core.subscription import Subscription
from tests.core.conftest import OpenEngine
from tests.core.oracle import Frame, frame_of
from tests.core.stores import AnyStore
from tests.core.wrapping import WrappedStore
from tests.fixtures.eventually import eventually
from tests.fixtures.scale import Scale

pytestmark = [pytest.mark.anyio, pytest.mark.usefixtures("no_stray_tasks")]


def delta(text: str, type: str = "llm.delta", series: str = "s") -> dict[str, Any]:
    return {"type": type, "level": "info", "data": {"delta": text}, "seriesId": series, "seriesMode": "accumulate"}


async def running(engine: TaskEngine) -> str:
    task = await engine.create_task()
    await engine.transition_task(task.id, "running")
    return task.id


async def frames(subscription: Subscription) -> list[Frame]:
    async with asyncio.timeout(10):
        return [frame_of(delivery) async for batch in subscription.batches() for delivery in batch.deliveries]


async def test_a_snapshot_covers_what_the_filter_hides(engine: TaskEngine) -> None:
    """The first entry of a series behind a resume is folded, also where the filter lets nothing before it through."""
    task_id = await running(engine)
    hidden = await engine.publish_event(task_id, delta("hidden "))
    wanted = SubscribeFilter(since=Cursor(id=hidden.id), types=("llm.note",), resume="snapshot")
    reader = await engine.subscribe(task_id, wanted).open()
    await engine.publish_events(task_id, [delta("note", "llm.note"), delta("!", "llm.note")])
    await engine.transition_task(task_id, "completed")
    assert [(frame.data["delta"], frame.is_snapshot) for frame in await frames(reader)] == [
        ("hidden note", True),
        ("!", False),
    ]


async def test_a_log_that_is_cut_inside_a_collapsed_replay_loses_no_text(engine: TaskEngine, store: AnyStore) -> None:
    task_id = await running(engine)
    await engine.publish_events(task_id, [delta(str(n)) for n in range(700)])
    reader = await engine.subscribe(task_id).open()
    assert reader._channel is not None
    first = await reader._next(reader._channel)
    assert first is not None and first.after < 600  # in the middle: the snapshot at 700 is still to come
    await store.found_epoch(task_id, 1, 600)
    await engine.hub.refresh(reader._channel)
    await engine.publish_event(task_id, delta("!"))
    await engine.transition_task(task_id, "completed")
    rest = await frames(reader)
    assert rest[0].gap == "epoch"
    text = "".join(str(n) for n in range(600))
    folded = [frame.data["delta"] for frame in rest if frame.gap is None and frame.is_snapshot]
    assert folded in ([text + "!"], [text])
    deltas = [frame.data["delta"] for frame in rest if frame.index > 600 and frame.data != {"status": "completed"}]
    assert "".join(folded[-1:] + [one for one in deltas if one != folded[-1]]) == text + "!"


async def test_a_reader_of_the_kept_part_goes_on_in_the_next_epoch(engine: TaskEngine, store: AnyStore) -> None:
    task_id = await running(engine)
    reader = await engine.subscribe(task_id).open()
    assert reader._channel is not None
    await engine.publish_events(task_id, [delta("a"), delta("b")])
    seen = []
    for _ in range(3):
        batch = await reader._next(reader._channel)
        assert batch is not None
        seen += [frame_of(delivery) for delivery in batch.deliveries]
        if len(seen) == 3:
            break
    await store.found_epoch(task_id, 1, 2)  # nothing was lost, but nobody could know
    await engine.publish_event(task_id, delta("c"))
    await engine.transition_task(task_id, "completed")
    later = await frames(reader)
    assert [(frame.index, frame.gap) for frame in [*seen, *later]] == [(n, None) for n in range(5)]


async def test_a_reader_of_the_lost_part_is_told(engine: TaskEngine, store: AnyStore) -> None:
    task_id = await running(engine)
    reader = engine.subscribe(task_id)
    events = await engine.publish_events(task_id, [delta("a"), delta("b"), delta("c")])
    stream = reader.batches()
    await anext(stream)
    await store.found_epoch(task_id, 1, 1)
    await engine.publish_event(task_id, delta("x"))
    await engine.transition_task(task_id, "completed")
    seen = [frame_of(delivery) async for batch in stream for delivery in batch.deliveries]
    assert seen[0].gap == "epoch"
    text = ""
    for frame in seen[1:]:
        if isinstance(frame.data, dict) and "delta" in frame.data:
            text = frame.data["delta"] if frame.is_snapshot else text + frame.data["delta"]
    assert text == "ax"
    stale = engine.subscribe(task_id, SubscribeFilter(since=Cursor(id=events[2].id)))
    assert (await frames(stale))[0].gap == "epoch"


async def test_a_store_that_is_away_only_delays_its_readers() -> None:
    store = WrappedStore(MemoryShortTermStore())
    hub = HubSettings(check_interval_s=0.02)
    settings = EngineSettings(hub=hub, background=False)
    broadcast = MemoryBroadcastProvider()
    async with TaskEngine(broadcast=broadcast, short_term_store=store, settings=settings) as engine:  # type: ignore[arg-type]
        task_id = await running(engine)
        await engine.publish_events(task_id, [delta("a"), delta("b")])
        reader = await engine.subscribe(task_id).open()

        async def away(_: object) -> Any:
            raise StoreUnavailable("test", "connection_refused")

        store.around["read"] = store.around["heads"] = away
        reading = asyncio.create_task(frames(reader))
        await eventually(lambda: store.calls.get("read", 0) >= 2)
        await engine.transition_task(task_id, "completed")
        assert not reading.done()
        store.around.clear()
        assert [frame.index for frame in await reading] == [0, 2, 3]


async def test_the_end_is_told_even_if_nothing_is_visible(engine: TaskEngine) -> None:
    task_id = await running(engine)
    reader = engine.subscribe(task_id, {"types": [], "includeStatus": False})
    reading = asyncio.create_task(frames(reader))
    await eventually(lambda: engine.hub.subscribers(task_id) == 1)
    await engine.transition_task(task_id, "failed", error={"message": "no"})
    assert (await reading, reader.status) == ([], "failed")


async def test_a_closed_reader_is_gone_at_once(engine: TaskEngine) -> None:
    task_id = await running(engine)
    async with engine.subscribe(task_id):
        assert engine.hub.subscribers(task_id) == 1
    assert engine.hub.subscribers(task_id) == 0
    reader = engine.subscribe(task_id)
    reading = asyncio.create_task(frames(reader))
    await eventually(lambda: reader._place.after == 0 and reader._waiter is not None)
    reader.close()
    reader.close()
    assert [frame.index for frame in await reading] == [0]
    assert (engine.hub.followed, reader.status) == (0, None)


async def test_leaving_the_loop_frees_the_channel(engine: TaskEngine) -> None:
    task_id = await running(engine)
    async for event in engine.subscribe(task_id):
        assert event.type == "taskcast:status"
        break
    await eventually(lambda: engine.hub.followed == 0)


async def test_engine_shutdown_cuts_readers(open_engine: OpenEngine, store: AnyStore) -> None:
    async with TaskEngine(broadcast=MemoryBroadcastProvider(), short_term_store=store) as engine:
        task_id = await running(engine)
        reader = engine.subscribe(task_id)
        reading = asyncio.create_task(frames(reader))
        await eventually(lambda: engine.hub.subscribers(task_id) == 1)
    assert [frame.index for frame in await reading] == [0]
    assert reader.status is None


# ── Callbacks ────────────────────────────────────────────────────────────────────────────────────────────────────────


async def test_callbacks_sync_and_async(engine: TaskEngine) -> None:
    task_id = await running(engine)
    seen: list[Event] = []
    done: list[str] = []

    async def on_done(status: str) -> None:
        done.append(status)

    handle = engine.subscribe(task_id, on_event=seen.append, on_done=on_done)
    await engine.publish_event(task_id, delta("a"))
    await engine.transition_task(task_id, "completed")
    await handle.wait()
    assert ([event.index for event in seen], done) == ([0, 1, 2], ["completed"])


async def test_errors_of_callbacks_go_to_on_error_and_stop_nothing(engine: TaskEngine) -> None:
    task_id = await running(engine)
    errors: list[Exception] = []
    seen: list[int] = []

    def on_event(event: Event) -> None:
        seen.append(event.index)
        raise ValueError(event.index)

    handle = engine.subscribe(task_id, on_event=on_event, on_error=errors.append)
    await engine.publish_event(task_id, delta("a"))
    await engine.transition_task(task_id, "completed")
    await handle.wait()
    assert (seen, [str(error) for error in errors]) == ([0, 1, 2], ["0", "1", "2"])


async def test_unsubscribing_stops_events(engine: TaskEngine) -> None:
    task_id = await running(engine)
    seen: list[int] = []
    handle = engine.subscribe(task_id, on_event=lambda event: seen.append(event.index))
    await eventually(lambda: seen == [0])
    handle()
    await engine.publish_event(task_id, delta("a"))
    await handle.wait()
    assert (seen, engine.hub.followed) == ([0], 0)


async def test_a_missing_task_and_a_cut_stream_are_told_to_on_error(store: AnyStore) -> None:
    errors: list[Exception] = []
    async with TaskEngine(broadcast=MemoryBroadcastProvider(), short_term_store=store) as engine:
        await engine.subscribe("nobody", on_event=lambda _: None, on_error=errors.append).wait()
        task_id = await running(engine)
        cut = engine.subscribe(task_id, on_event=lambda _: None, on_error=errors.append)
        await eventually(lambda: engine.hub.subscribers(task_id) == 1)
    await cut.wait()
    assert [type(error) for error in errors] == [TaskNotFound, StreamCut]


# ── Slow readers ─────────────────────────────────────────────────────────────────────────────────────────────────────


async def test_a_reader_that_stops_reading_holds_no_growing_memory(scale: Scale) -> None:
    """Next to nobody reading, one that does not costs the ring and no more, however much is published."""
    count = scale(20_000, 100_000)
    grown = [await _publish_with(readers, count) for readers in (0, 10)]
    print(f"bytes held for {count} events: {grown[0]} without readers, {grown[1]} with ten that do not read")
    assert grown[1] - grown[0] < 3_000_000


async def _publish_with(readers: int, count: int) -> int:
    """Bytes that are held after publishing so many events, beyond what the store keeps of them."""
    hub = HubSettings(ring_entries=512, ring_bytes=1 << 18, flush_interval_ms=0)
    settings = EngineSettings(hub=hub, background=False)
    store = MemoryShortTermStore()
    async with TaskEngine(broadcast=MemoryBroadcastProvider(), short_term_store=store, settings=settings) as engine:
        task_id = await running(engine)
        slow = [await engine.subscribe(task_id).open() for _ in range(readers)]
        channels = [reader._channel for reader in slow if reader._channel is not None]
        for channel in channels[:1]:
            for reader in slow:
                await reader._next(channel)
        batch = [{"type": "x", "level": "info", "data": {"text": "0123456789" * 5}}] * 100
        gc.collect()
        tracemalloc.start()
        for _ in range(count // 100):
            await engine.publish_events(task_id, batch)
            await asyncio.sleep(0)
        gc.collect()
        held, _ = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        for channel in channels:
            assert len(channel.ring) <= 640
            assert len(channel.steps) <= 32 and len(channel.folds) <= 256 and not channel.making
        for reader in slow:
            reader.close()
    return held


async def test_pages_are_kept_only_while_there_is_somebody_to_share_them_with(engine: TaskEngine) -> None:
    task_id = await running(engine)
    for _ in range(4):
        await engine.publish_events(task_id, [{"type": "x", "level": "info", "data": n} for n in range(700)])
    await engine.transition_task(task_id, "completed")
    one, other = [await engine.subscribe(task_id).open() for _ in range(2)]
    channel = one._channel
    assert channel is not None and other._channel is channel
    first = await one.next_batch()
    assert await other.next_batch() is first
    other.close()
    kept = len(channel.steps)
    assert [frame.index for frame in await frames(one)] == list(range(100, 2802))
    assert len(channel.steps) <= kept + 1  # what lies near the head is kept for those who come back


async def test_one_that_is_far_too_slow_is_closed_and_resumes(open_engine: OpenEngine) -> None:
    engine = await open_engine(settings=EngineSettings(max_lag=100, background=False))
    task_id = await running(engine)
    reader = engine.subscribe(task_id)
    stream = reader.batches()
    first = await anext(stream)
    for _ in range(5):
        await engine.publish_events(task_id, [delta("x")] * 30)
    assert [batch async for batch in stream] == []
    assert (reader.status, engine.hub.subscribers(task_id)) == (None, 0)
    await engine.transition_task(task_id, "completed")
    again = SubscribeFilter(since=Cursor(id=first.deliveries[-1].entry.id), resume="snapshot")
    later = await frames(engine.subscribe(task_id, again))
    assert [frame.index for frame in later] == list(range(1, 152))
    assert "".join(frame.data["delta"] for frame in later[:-1]) == "x" * 150


class Taking:
    """Takes what is new for as long as it has room."""

    def __init__(self, room: int = 1_000) -> None:
        self.room, self.taken, self.woken = room, list[int](), 0

    def take(self, batch: Batch) -> bool:
        if len(batch.deliveries) > self.room:
            return False
        self.room -= len(batch.deliveries)
        self.taken += [delivery.entry.index for delivery in batch.deliveries]
        return True

    def wake(self) -> None:
        self.woken += 1


async def test_a_taker_is_given_all_news_whatever_wakes_it(engine: TaskEngine) -> None:
    task_id = await running(engine)
    reader, taker = await engine.subscribe(task_id, {"types": ["x", "taskcast:status"]}).open(), Taking()
    assert not reader.listen(taker)  # there is something to be read first
    assert [each.entry.index for each in (await reader.next_batch()).deliveries] == [0]
    assert reader.listen(taker) and reader._channel is not None
    for _ in range(2):
        await engine.hub.refresh(reader._channel)  # wakes everybody, for nothing
        reader.wake()
        await engine.publish_event(task_id, type="hidden", data=1)
        await engine.publish_event(task_id, type="x", data=1)
        await eventually(lambda: reader.is_up_to_date)
    assert (taker.taken, taker.woken) == ([2, 4], 0)
    await engine.transition_task(task_id, "completed")
    await eventually(lambda: taker.woken == 1)  # the end has to be read
    assert taker.taken == [2, 4, 5]
    assert (await reader.read_on()).ended == "completed"
    reader.close()


async def test_what_a_taker_has_no_room_for_is_read(engine: TaskEngine) -> None:
    task_id = await running(engine)
    reader, taker = await engine.subscribe(task_id).open(), Taking(room=1)
    await reader.next_batch()
    assert reader.listen(taker)
    await engine.publish_events(task_id, [{"type": "x", "level": "info", "data": n} for n in range(2)])
    await eventually(lambda: taker.woken == 1)
    assert (taker.taken, reader.listen(taker)) == ([], False)
    assert [each.entry.index for each in (await reader.read_on()).deliveries] == [1, 2]
    assert reader.listen(taker)
    reader.close()
    assert taker.woken == 2
    assert not reader.listen(taker)
