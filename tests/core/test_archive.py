"""Hot and cold: the archiver follows, tasks are released and come back, readers cannot tell where the seam is."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import pytest
from attrs import evolve

from taskcast_core import MemoryBroadcastProvider, MemoryShortTermStore, TaskEngine
from taskcast_core.archive import ArchiveSettings
from taskcast_core.builtin.memory_long_term import MemoryLongTermStore
from taskcast_core.contracts import ListQuery, LogCopy
from taskcast_core.entries import Entry
from taskcast_core.errors import (
    StorageBusy,
    StoragePreconditionFailed,
    StorageReleaseUnsupported,
    TaskExists,
    TaskNotFound,
)
from taskcast_core.settings import EngineSettings
from tests.core.tiers import FILTERS, Tiers, chatty, read
from tests.fixtures.eventually import eventually

pytestmark = pytest.mark.anyio


@pytest.fixture
async def tiers() -> AsyncIterator[Tiers]:
    """A running engine with a memory long-term store."""
    tiers = Tiers(MemoryShortTermStore(), MemoryLongTermStore())
    async with tiers.engine:
        yield tiers


async def test_everything_is_archived(tiers: Tiers) -> None:
    task_id = await chatty(tiers.engine)
    await tiers.archived(task_id)
    assert await tiers.cold.get(task_id) == await tiers.hot.get(task_id)
    hot, cold = await tiers.hot.read(task_id), await tiers.cold.read(task_id)
    assert [(e.index, e.id, e.data) for e in hot.items if isinstance(e, Entry)] == [
        (e.index, e.id, e.data) for e in cold.items if isinstance(e, Entry)
    ]


@pytest.mark.parametrize("filter_", FILTERS, ids=str)
async def test_a_cold_task_reads_as_a_hot_one(tiers: Tiers, filter_: dict[str, Any]) -> None:
    engine = tiers.engine
    task_id = await chatty(engine)
    await engine.transition_task(task_id, "completed", result={"r": 1})
    hot = await read(engine, task_id, **filter_)
    resumed = [await read(engine, task_id, **filter_, since={"id": event.id}) for event in hot]
    history = await engine.get_history(task_id)
    await tiers.release(task_id)
    assert await read(engine, task_id, **filter_) == hot
    assert [await read(engine, task_id, **filter_, since={"id": event.id}) for event in hot] == resumed
    assert await engine.get_history(task_id) == history
    task = await engine.get_task(task_id)
    assert task is not None and task.result == {"r": 1}
    assert await tiers.hot.get(task_id) is None, "reading brings nothing back"


async def test_a_write_brings_a_task_back_and_readers_see_no_seam(tiers: Tiers) -> None:
    engine = tiers.engine
    task_id = await chatty(engine)
    await tiers.release(task_id)
    reader = asyncio.create_task(read(engine, task_id, seriesFormat="delta"))
    resumed_from = (await engine.get_history(task_id))[1]
    await engine.publish_event(task_id, type="delta", data={"delta": "6"}, series_id="s", series_mode="accumulate")
    stored = await tiers.hot.get(task_id)
    assert stored is not None and stored.first_index > 0, "only the newest entries come back"
    later = asyncio.create_task(read(engine, task_id, since={"id": resumed_from.id}))
    await engine.transition_task(task_id, "completed")
    events, again = await reader, await later
    assert [e.data for e in events if e.series_id == "s"] in (
        [{"delta": "0123456"}],
        [{"delta": "012345"}, {"delta": "6"}],
    )
    assert [e.data["delta"] for e in again if e.series_id == "s"] == [str(n) for n in range(1, 7)]
    indexes = [e.index for e in again]
    assert indexes == sorted(set(indexes))
    assert (await engine.get_history(task_id))[-1].data == {"status": "completed"}


async def test_deadlines_of_cold_tasks_fire(tiers: Tiers) -> None:
    engine = tiers.engine
    task = await engine.create_task(ttl=1)
    await engine.transition_task(task.id, "running")
    await tiers.release(task.id)

    async def timed_out() -> bool:
        await engine.sweeper.sweep()
        found = await engine.get_task(task.id)
        return found is not None and found.status == "timeout"

    await eventually(timed_out, within_s=5)


async def test_release_asks_for_what_the_caller_believes(tiers: Tiers) -> None:
    engine = tiers.engine
    task_id = await chatty(engine)
    await tiers.archived(task_id)
    now = engine.now_ms()
    with pytest.raises(StoragePreconditionFailed):
        await engine.release_task(task_id, 3, now)
    with pytest.raises(StoragePreconditionFailed):
        await engine.release_task(task_id, 18, 1)
    with pytest.raises(TaskNotFound):
        await engine.release_task("nobody", 3, now)
    assert (await engine.release_task(task_id, 18, now)).released
    again = await engine.release_task(task_id, 18, now)
    assert (again.state, again.watermark, again.released) == ("cold", 18, False)


async def test_release_without_a_long_term_store() -> None:
    async with TaskEngine(broadcast=MemoryBroadcastProvider(), short_term_store=MemoryShortTermStore()) as engine:
        task = await engine.create_task()
        with pytest.raises(StorageReleaseUnsupported):
            await engine.release_task(task.id, -1, engine.now_ms())


async def test_a_task_that_is_not_archived_yet_is_not_released(tiers: Tiers) -> None:
    hot = MemoryShortTermStore()
    quiet = TaskEngine(
        broadcast=tiers.broadcast,
        short_term_store=hot,
        long_term_store=tiers.cold,
        settings=EngineSettings(background=False),
    )
    async with quiet:
        task = await quiet.create_task()
        with pytest.raises(StorageBusy):
            await quiet.release_task(task.id, -1, quiet.now_ms())
        assert await hot.get(task.id) is not None


async def test_a_lost_hot_tier_is_made_up_for(tiers: Tiers) -> None:
    engine = tiers.engine
    task_id = await chatty(engine)
    await tiers.archived(task_id)
    before = await engine.get_history(task_id)
    tiers.hot.__dict__.update(MemoryShortTermStore().__dict__)  # what FLUSHALL is to Redis
    event = await engine.publish_event(task_id, type="log", data={"n": 99})
    assert event.index == before[-1].index + 1
    stored = await tiers.hot.get(task_id)
    assert stored is not None and stored.epoch == 2, "what may have been lost is never passed over in silence"
    await engine.transition_task(task_id, "completed")
    resumed = await read(engine, task_id, since={"id": before[-1].id})
    assert [e.type for e in resumed] == ["log", "taskcast:status"]


async def test_two_nodes_bring_a_task_back_at_once(tiers: Tiers) -> None:
    async with tiers.another() as other:
        task_id = await chatty(tiers.engine)
        await tiers.release(task_id)
        engines = [tiers.engine, other] * 8
        events = await asyncio.gather(*(e.publish_event(task_id, type="log", data={}) for e in engines))
        assert sorted(e.index for e in events) == list(range(19, 35))


@pytest.mark.parametrize("verb", ["set_state", "copy"])
@pytest.mark.parametrize("step", ["before", "after"])
async def test_a_crash_in_a_restore_is_repaired_by_the_next_one(
    tiers: Tiers, monkeypatch: pytest.MonkeyPatch, verb: str, step: str
) -> None:
    engine = tiers.engine
    engine._hot_cold.settings = ArchiveSettings(keep_last=3, lease_ms=50)  # type: ignore[union-attr]
    task_id = await chatty(engine)
    await tiers.release(task_id)
    real: Callable[..., Awaitable[Any]] = getattr(tiers.cold, verb)

    async def dies(*arguments: Any) -> Any:
        if step == "after":
            await real(*arguments)
        raise asyncio.CancelledError

    monkeypatch.setattr(tiers.cold, verb, dies)
    with pytest.raises(asyncio.CancelledError):
        await engine.publish_event(task_id, type="log", data={})
    monkeypatch.undo()
    event = await engine.publish_event(task_id, type="log", data={})
    assert event.index == 19
    assert len(await engine.get_history(task_id)) == 15


async def test_lists_and_ids_cover_both_tiers(tiers: Tiers) -> None:
    engine = tiers.engine
    ids = [(await engine.create_task(id=f"t{n}", type="x")).id for n in range(7)]
    for task_id in ids[::2]:
        await tiers.release(task_id)
    found: list[str] = []
    cursor: str | None = None
    while True:
        page = await engine.list_tasks(ListQuery(types=("x",), limit=2, cursor=cursor))
        found += [task.id for task in page.tasks]
        cursor = page.next_cursor
        if cursor is None:
            break
    assert sorted(found) == ids and len(found) == 7
    with pytest.raises(TaskExists):
        await engine.create_task(id="t0")


async def test_a_deleted_task_is_gone_from_both(tiers: Tiers) -> None:
    engine = tiers.engine
    task_id = await chatty(engine)
    await tiers.release(task_id)
    await engine.delete_task(task_id)
    assert await engine.get_task(task_id) is None
    assert await tiers.cold.get(task_id) is None


async def test_a_log_that_contradicts_its_archive_is_left_alone(tiers: Tiers) -> None:
    engine = tiers.engine
    task_id = await chatty(engine, id="twice")
    await tiers.archived(task_id)
    tiers.hot.__dict__.update(MemoryShortTermStore().__dict__)
    # Somebody else's hot store, with another log under the same id.
    elsewhere = TaskEngine(
        broadcast=tiers.broadcast, short_term_store=tiers.hot, settings=EngineSettings(background=False)
    )
    async with elsewhere:
        await elsewhere.create_task(id="twice")
        await elsewhere.publish_event("twice", type="other", data={})
    await tiers.hot.load((await own_copy(tiers.hot, "twice")), overwrite=True)
    archived = await tiers.cold.get(task_id)
    epochs = set()
    for _ in range(50):
        await asyncio.sleep(0)
        stored = await tiers.hot.get("twice")
        assert stored is not None
        epochs.add(stored.epoch)
    assert len(epochs) == 1, "no epoch after epoch is founded"
    assert await tiers.cold.get(task_id) == archived, "nothing is thrown away"


async def own_copy(hot: MemoryShortTermStore, task_id: str) -> LogCopy:
    """A task's log as it is, now with an archive lane."""
    stored = await hot.get(task_id)
    assert stored is not None
    page = await hot.read(task_id)
    record = evolve(stored.record, lanes=("archive",))
    return LogCopy(record, 1, stored.segments, page.items, last_index=page.last, last_timestamp=stored.last_timestamp)
