"""Background consumers: nothing lost by crashes, order per lane, patience with deferral, lanes side by side."""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from taskcast_core.builtin.memory_broadcast import MemoryBroadcastProvider
from taskcast_core.contracts.followers import Dirty
from taskcast_core.engine import EngineSettings, TaskEngine
from taskcast_core.entries import Entry
from taskcast_core.followers import FollowerSettings, Progress
from taskcast_core.testing import ManualClock
from tests.core.conftest import OpenEngine
from tests.core.stores import STORES, AnyStore, open_store
from tests.fixtures.eventually import eventually

pytestmark = pytest.mark.anyio

Behaviour = Callable[[Dirty, list[int]], Any]
QUICK = EngineSettings(follower=FollowerSettings(poll_s=0.02, page=4, lease_ms=1_000))


class Recorder:
    """A webhook handler that writes down what it is given."""

    kind = "webhook"

    def __init__(self, behaviour: Behaviour | None = None) -> None:
        self.behaviour = behaviour
        self.seen: dict[tuple[str, str], list[int]] = defaultdict(list)
        self.deleted: set[str] = set()
        self.at_once = self.most_at_once = 0
        self.busy: set[tuple[str, str]] = set()

    def attach(self, host: Any) -> None:
        pass

    async def handle(self, dirty: Dirty, stored: Any, items: Any) -> Progress:
        lane = (dirty.task_id, dirty.lane)
        assert lane not in self.busy, "two owners of one lane"
        self.busy.add(lane)
        self.at_once += 1
        self.most_at_once = max(self.most_at_once, self.at_once)
        try:
            indexes = [item.index for item in items if isinstance(item, Entry)]
            if stored is None:
                self.deleted.add(dirty.task_id)
            self.seen[lane] += indexes
            if self.behaviour is not None:
                progress = self.behaviour(dirty, indexes)
                progress = await progress if asyncio.iscoroutine(progress) else progress
                if progress is not None:
                    return progress
            return Progress(items[-1].index if items and isinstance(items[-1], Entry) else dirty.cursor)
        finally:
            self.busy.discard(lane)
            self.at_once -= 1


async def task_with(engine: TaskEngine, webhooks: int = 1, events: int = 10) -> str:
    task = await engine.create_task(webhooks=[{"url": f"http://receiver.test/{n}"} for n in range(webhooks)])
    await engine.transition_task(task.id, "running")
    for n in range(events):
        await engine.publish_event(task.id, type="x", data=n)
    return task.id


async def passed(store: AnyStore, task_id: str) -> None:
    async def all_lanes() -> bool:
        return await store.has_passed(task_id)

    await eventually(all_lanes)


async def test_every_lane_gets_everything_in_order(open_engine: OpenEngine, store: AnyStore) -> None:
    handler = Recorder()
    engine = await open_engine(settings=QUICK, handlers=[handler])
    tasks = [await task_with(engine, webhooks=2) for _ in range(10)]
    for task_id in tasks:
        await passed(store, task_id)
    assert set(handler.seen.values() and map(tuple, handler.seen.values())) == {tuple(range(11))}
    assert len(handler.seen) == 20


async def test_followers_are_told_of_every_commit(open_engine: OpenEngine, store: AnyStore, clock: ManualClock) -> None:
    """Whoever made it: they look by themselves for what other processes have done only."""
    handler = Recorder()
    settings = EngineSettings(follower=FollowerSettings(poll_s=3600))
    engine = await open_engine(settings=settings, handlers=[handler])
    task = await engine.create_task(webhooks=[{"url": "http://receiver.test/"}], ttl=60)
    await engine.transition_task(task.id, "running")

    async def seen(count: int) -> None:
        await eventually(lambda: [len(indexes) for indexes in handler.seen.values()] == [count])

    await seen(1)
    await engine.publish_event(task.id, type="x")
    await seen(2)
    await engine.signal(task.id, type="stop")
    await seen(3)
    await passed(store, task.id)  # else time would run out for the lane, too
    clock.advance(61_000)
    await engine.sweeper.sweep()
    await seen(4)


async def test_lanes_are_worked_side_by_side_within_bounds(open_engine: OpenEngine, store: AnyStore) -> None:
    may_go = asyncio.Event()

    async def when_all_are_in(dirty: Dirty, indexes: list[int]) -> None:
        await may_go.wait()

    handler = Recorder(when_all_are_in)
    settings = EngineSettings(follower=FollowerSettings(poll_s=0.02, lanes=5))
    engine = await open_engine(settings=settings, handlers=[handler])
    tasks = [await task_with(engine, events=1) for _ in range(20)]
    await eventually(lambda: handler.at_once == 5)
    may_go.set()
    for task_id in tasks:
        await passed(store, task_id)
    assert handler.most_at_once == 5


async def test_a_crash_between_handling_and_acknowledging_repeats(
    open_engine: OpenEngine, store: AnyStore, clock: ManualClock
) -> None:
    """An owner takes a lane and dies; when its lease is over another one does it all again."""
    writer = await open_engine(settings=EngineSettings(background=False), handlers=[Recorder()])
    task_id = await task_with(writer)
    (dirty,) = await store.claim_dirty("webhook", "dead", 10, 1_000)
    page = await store.read(task_id, after=dirty.cursor)
    assert len(page.items) == 11  # handled, and never acknowledged
    handler = Recorder()
    await open_engine(settings=QUICK, handlers=[handler])
    await asyncio.sleep(0.1)
    assert not handler.seen
    clock.advance(1_001)
    await passed(store, task_id)
    assert handler.seen == {(task_id, "webhook:0"): list(range(11))}


async def test_a_handler_that_raises_delays_its_lane_only(
    open_engine: OpenEngine, store: AnyStore, clock: ManualClock, caplog: pytest.LogCaptureFixture
) -> None:
    failing = True

    def sometimes(dirty: Dirty, indexes: list[int]) -> None:
        if failing and dirty.lane == "webhook:0":
            raise ValueError("broken")

    handler = Recorder(sometimes)
    engine = await open_engine(settings=QUICK, handlers=[handler])
    task_id = await task_with(engine, webhooks=2)
    await eventually(lambda: handler.seen[task_id, "webhook:1"] == list(range(11)))

    async def is_acknowledged() -> bool:
        return (await store.backlog("webhook")).lanes == 1

    await eventually(is_acknowledged)
    assert not await store.has_passed(task_id)
    assert "webhook:0" in caplog.text
    failing = False
    clock.advance(60_000)
    await passed(store, task_id)
    assert handler.seen[task_id, "webhook:0"][-11:] == list(range(11))
    assert handler.seen[task_id, "webhook:1"] == list(range(11))


async def test_a_deferred_lane_waits_and_goes_on_where_it_was(
    open_engine: OpenEngine, store: AnyStore, clock: ManualClock
) -> None:
    attempts: list[tuple[int, int]] = []

    def defer_at_five(dirty: Dirty, indexes: list[int]) -> Progress | None:
        if 5 in indexes and dirty.attempt < 2:
            attempts.append((dirty.cursor, dirty.attempt))
            return Progress(4, attempt=dirty.attempt + 1, retry_at=clock.now_ms() + 10_000)
        return None

    handler = Recorder(defer_at_five)
    patient = FollowerSettings(poll_s=0.02, page=4, lease_ms=60_000)  # the clock's jumps end no lease
    engine = await open_engine(settings=EngineSettings(follower=patient), handlers=[handler])
    task_id = await task_with(engine)
    await eventually(lambda: len(attempts) == 1)
    await asyncio.sleep(0.1)
    assert len(attempts) == 1
    clock.advance(9_999)
    await asyncio.sleep(0.1)
    assert len(attempts) == 1
    clock.advance(1)
    await eventually(lambda: len(attempts) == 2)
    clock.advance(10_000)
    await passed(store, task_id)
    assert attempts[1] == (4, 1)
    seen = handler.seen[task_id, "webhook:0"]
    assert set(seen) == set(range(11))
    assert sorted(set(seen), key=seen.index) == list(range(11))


async def test_lanes_are_met_when_they_were_put_off_to(tmp_path: Path) -> None:
    """In real time, each by its own delay, long before the follower looks for others' lanes."""

    def put_off(dirty: Dirty, indexes: list[int]) -> Progress | None:
        delay_ms = 50 * (dirty.attempt + 1) if indexes and dirty.attempt < 3 else 0
        return Progress(dirty.cursor, dirty.attempt + 1, store.now_ms() + delay_ms) if delay_ms else None

    for kind in STORES:
        async with open_store(kind, tmp_path) as store:
            settings = EngineSettings(follower=FollowerSettings(poll_s=3600))
            parts: dict[str, Any] = {"broadcast": MemoryBroadcastProvider(), "short_term_store": store}
            async with TaskEngine(**parts, settings=settings, handlers=[Recorder(put_off)]) as engine:
                for task_id in [await task_with(engine, webhooks=2, events=0) for _ in range(3)]:
                    await passed(store, task_id)


async def test_deleted_tasks_finish_their_lanes(open_engine: OpenEngine, store: AnyStore, clock: ManualClock) -> None:
    gate = asyncio.Event()

    async def wait(dirty: Dirty, indexes: list[int]) -> None:
        await gate.wait()

    handler = Recorder(wait)
    engine = await open_engine(settings=QUICK, handlers=[handler])
    task_id = await task_with(engine)
    await engine.delete_task(task_id)
    clock.advance(61_000)
    await engine.sweeper.sweep()
    gate.set()

    async def is_free() -> bool:
        clock.advance(31_000)
        await engine.sweeper.sweep()
        try:
            await engine.create_task(id=task_id)
        except Exception:
            return False
        return True

    await eventually(is_free, within_s=10)
    assert set(handler.seen[task_id, "webhook:0"]) == set(range(12))


async def test_many_nodes_hand_over_each_entry_in_order(
    open_engine: OpenEngine, store: AnyStore, clock: ManualClock
) -> None:
    handler = Recorder()  # shared: it also sees to it that no lane has two owners
    engines = [await open_engine(settings=QUICK, handlers=[handler]) for _ in range(3)]
    tasks = await asyncio.gather(*(task_with(engines[n % 3], events=30) for n in range(9)))
    for task_id in tasks:
        await passed(store, task_id)
    for task_id in tasks:
        assert handler.seen[task_id, "webhook:0"] == list(range(31))


async def test_closing_lets_work_that_has_begun_end(store: AnyStore, clock: ManualClock) -> None:
    from taskcast_core.builtin.memory_broadcast import MemoryBroadcastProvider

    ended: list[str] = []
    began = asyncio.Event()

    async def slowly(dirty: Dirty, indexes: list[int]) -> None:
        began.set()
        await asyncio.sleep(0.1)
        ended.append(dirty.task_id)

    handler = Recorder(slowly)
    broadcast = MemoryBroadcastProvider()
    async with TaskEngine(
        broadcast=broadcast, short_term_store=store, handlers=[handler], settings=QUICK, clock=clock
    ) as engine:
        task_id = await task_with(engine, events=1)
        await began.wait()
    assert ended and handler.at_once == 0
    assert await store.has_passed(task_id) or ended
