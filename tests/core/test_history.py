"""History and archives: cursors, limits, collapsing, and what cleanup leaves of them."""

from __future__ import annotations

from typing import Any

import pytest

from taskcast_core import wire
from taskcast_core.builtin.memory_broadcast import MemoryBroadcastProvider
from taskcast_core.contracts.task_log import TrimRule
from taskcast_core.engine import EngineSettings, TaskEngine
from taskcast_core.errors import Conflict, InvalidArchive, NotHot, TaskExists, TaskNotFound
from taskcast_core.models import Cursor
from taskcast_core.testing import ManualClock
from tests.core.conftest import OpenEngine
from tests.core.oracle import Log, accumulates
from tests.core.stores import AnyStore
from tests.core.wrapping import WrappedStore

pytestmark = pytest.mark.anyio


@pytest.fixture
async def engine(open_engine: OpenEngine) -> TaskEngine:
    opened: TaskEngine = await open_engine(settings=EngineSettings(background=False))
    return opened


def part(text: str, series: str = "s", level: str = "info", mode: str = "accumulate") -> dict[str, Any]:
    return {"type": "llm.delta", "level": level, "data": {"delta": text}, "seriesId": series, "seriesMode": mode}


async def story(engine: TaskEngine, clock: ManualClock) -> tuple[str, Log]:
    task = await engine.create_task()
    await engine.transition_task(task.id, "running")
    drafts = [part("a"), part("x", "t"), {"type": "tool"}, part("b"), part("y", "t", "debug"), part("c", level="warn")]
    for draft in drafts:
        clock.advance(1)
        await engine.publish_event(task.id, draft)
    await engine.transition_task(task.id, "completed")
    return task.id, Log(await engine.get_history(task.id))


async def test_cursors_and_limits_page_without_a_gap(engine: TaskEngine, clock: ManualClock) -> None:
    task_id, log = await story(engine, clock)
    for size in (1, 2, 3, 100):
        walked, since = [], None
        while page := await engine.get_history(task_id, since=since, limit=size):
            walked += page
            since = Cursor(index=page[-1].index) if size % 2 else Cursor(id=page[-1].id)
        assert walked == log.events
    for event in log.events:
        later = [one for one in log.events if one.timestamp > event.timestamp]
        assert await engine.get_history(task_id, since=Cursor(timestamp=event.timestamp)) == later
    read = await engine.read_history(task_id, since=Cursor(id="rubbish"))
    assert (read.gap, len(read.deliveries)) == ("unknown_id", len(log.events))
    assert (await engine.read_history(task_id, since=Cursor(index=99))).gap == "ahead"


async def test_of_several_cursors_the_most_exact_one_counts(engine: TaskEngine, clock: ManualClock) -> None:
    task_id, log = await story(engine, clock)
    late = log.events[6]
    for cursor, first in (
        (Cursor(id=log.events[2].id, index=6, timestamp=late.timestamp), 3),
        (Cursor(id=log.events[5].id, index=1), 6),
        (Cursor(index=1, timestamp=late.timestamp), 2),
        (Cursor(index=-1, timestamp=late.timestamp), 0),
        (Cursor(id="", index=4), 5),
    ):
        assert [event.index for event in await engine.get_history(task_id, since=cursor)] == list(range(first, 8))


async def test_filters_apply_after_the_limit(engine: TaskEngine, clock: ManualClock) -> None:
    task_id, _ = await story(engine, clock)
    found = await engine.get_history(task_id, types=["llm.*"], levels=["info"], limit=5)
    assert [event.index for event in found] == [1, 2, 4]
    with pytest.raises(TaskNotFound):
        await engine.get_history("nobody")


async def test_collapsing_puts_the_present_total_where_a_series_first_occurs(
    engine: TaskEngine, clock: ManualClock
) -> None:
    task_id, _ = await story(engine, clock)
    events = await engine.get_history(task_id, series_format="accumulated")
    assert [(event.index, event.series_snapshot) for event in events] == [
        (0, False), (6, True), (5, True), (3, False), (7, False),
    ]  # fmt: skip
    assert [event.data["delta"] for event in events if accumulates(event)] == ["abc", "xy"]
    limited = await engine.get_history(task_id, series_format="accumulated", limit=2)
    assert [event.data for event in limited] == [{"status": "running"}, {"delta": "abc"}]


async def test_collapsing_what_cleanup_has_left_of_mixed_series(
    engine: TaskEngine, clock: ManualClock, store: AnyStore
) -> None:
    """The newest accumulate entry may be gone, when a series went on in another mode."""
    task = await engine.create_task()
    await engine.transition_task(task.id, "running")
    await engine.publish_events(task.id, [part("a"), part("b", level="debug"), part("c", mode="latest")])
    await engine.transition_task(task.id, "completed")
    stored = await store.get(task.id)
    assert stored is not None
    assert await store.trim(task.id, stored.epoch, TrimRule(levels=("debug",))) == 1
    events = await engine.get_history(task.id, series_format="accumulated")
    assert [(event.index, event.data) for event in events][1:3] == [(1, {"delta": "a"}), (3, {"delta": "c"})]
    assert len((await engine.export_archive(task.id)).events) == 4


async def test_an_archive_there_and_back(open_engine: OpenEngine, engine: TaskEngine, clock: ManualClock) -> None:
    task_id, log = await story(engine, clock)
    archive = await engine.export_archive(task_id)
    text = wire.loads(wire.encode(archive))
    assert [event["index"] for event in text["events"]] == list(range(5))
    with pytest.raises(TaskExists):
        await engine.import_archive(text)
    result = await engine.import_archive(text, overwrite=True)
    assert (result.task_id, result.event_count, result.overwritten) == (task_id, 5, True)
    again = await engine.export_archive(task_id)
    assert again.task == archive.task
    assert [(e.id, e.type, e.data) for e in again.events] == [(e.id, e.type, e.data) for e in archive.events]
    gone = await engine.read_history(task_id, since=Cursor(id=log.events[1].id))
    assert gone.gap == "epoch"
    kept = await engine.read_history(task_id, since=Cursor(id=archive.events[2].id))
    assert (kept.gap, [delivery.entry.index for delivery in kept.deliveries]) == (None, [3, 4])


async def test_an_imported_series_goes_on(engine: TaskEngine, clock: ManualClock) -> None:
    task = await engine.create_task()
    await engine.transition_task(task.id, "running")
    await engine.publish_events(task.id, [part("a"), part("b")])
    archive = wire.to_wire(await engine.export_archive(task.id))
    await engine.import_archive(archive, overwrite=True)
    await engine.publish_event(task.id, part("c"))
    await engine.transition_task(task.id, "completed")
    shown = [event async for event in engine.subscribe(task.id, {"types": ["llm.*"]})]
    assert [event.data for event in shown] == [{"delta": "abc"}]


BROKEN: dict[str, Any] = {
    "no object": [],
    "schema": {"schema": "other"},
    "exportedAt": {"exportedAt": "now"},
    "task.id": {"task": {"id": "", "status": "running", "createdAt": 1, "updatedAt": 1}},
    "task.status": {"task": {"id": "t", "status": "done", "createdAt": 1, "updatedAt": 1}},
    "events": {"events": {}},
    "no data": {"events": [{"id": "e", "taskId": "t", "index": 0, "timestamp": 1, "type": "x", "level": "info"}]},
    "gap": {
        "events": [{"id": "e", "taskId": "t", "index": 1, "timestamp": 1, "type": "x", "level": "info", "data": 1}]
    },
    "foreign": {
        "events": [{"id": "e", "taskId": "u", "index": 0, "timestamp": 1, "type": "x", "level": "info", "data": 1}]
    },
    "twice": {
        "events": [
            {"id": "e", "taskId": "t", "index": n, "timestamp": 1, "type": "x", "level": "info", "data": 1}
            for n in range(2)
        ]
    },
}


@pytest.mark.parametrize("case", BROKEN)
async def test_broken_archives_change_nothing(engine: TaskEngine, case: str) -> None:
    sound = {"schema": "taskcast.taskArchive", "version": 1, "exportedAt": 1, "events": [],
             "task": {"id": "t", "status": "running", "createdAt": 1, "updatedAt": 1}}  # fmt: skip
    broken = BROKEN[case]
    with pytest.raises(InvalidArchive):
        await engine.import_archive({**sound, **broken} if isinstance(broken, dict) else broken)
    assert await engine.get_task("t") is None
    assert (await engine.import_archive(sound)).event_count == 0


async def test_a_log_that_changes_hands_while_it_is_read(store: AnyStore, clock: ManualClock) -> None:
    """What stores tell the engine never reaches its callers: history is read again, or the task is gone."""
    wrapped = WrappedStore(store)
    settings = EngineSettings(background=False)
    broadcast = MemoryBroadcastProvider()
    async with TaskEngine(broadcast=broadcast, short_term_store=wrapped, settings=settings, clock=clock) as engine:  # type: ignore[arg-type]
        task_id, log = await story(engine, clock)
        epochs = iter((1, 2))

        async def cut_first(real: Any) -> Any:
            if (epoch := next(epochs, None)) is not None:
                await store.found_epoch(task_id, epoch, log.events[-1].index)
            return await real()

        wrapped.around["read"] = cut_first
        assert await engine.get_history(task_id) == log.events
        epochs = iter((3,))
        assert len((await engine.export_archive(task_id)).events) == 5

        async def gone(_: Any) -> Any:
            raise NotHot(task_id)

        wrapped.around["read"] = gone
        with pytest.raises(Conflict):
            await engine.get_history(task_id)
