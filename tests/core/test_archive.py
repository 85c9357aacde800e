"""Hot and cold: the archiver follows, tasks are released and come back, readers cannot tell where the seam is."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from attrs import evolve

from taskcast_core import MemoryBroadcastProvider, MemoryShortTermStore, TaskEngine
from taskcast_core.archive import ArchiveSettings, Rebuilt
from taskcast_core.builtin.memory_log import MemoryLog
from taskcast_core.builtin.memory_long_term import MemoryLongTermStore
from taskcast_core.builtin.sqlite.options import SqliteOptions
from taskcast_core.builtin.sqlite.store import SqliteShortTermStore
from taskcast_core.builtin.sqlite.writer import Writer
from taskcast_core.contracts import ArchiveBatch, Committed, ListQuery, Page, Refusal, Watermark
from taskcast_core.deadlines import SweepSettings
from taskcast_core.entries import Entry
from taskcast_core.errors import (
    InvalidTransition,
    StorageBusy,
    StoragePreconditionFailed,
    StorageReleaseUnsupported,
    TaskExists,
    TaskNotFound,
)
from taskcast_core.followers import FollowerSettings
from taskcast_core.models import CleanupRule, Cursor, EventFilter
from taskcast_core.retention import RetentionSettings
from taskcast_core.settings import EngineSettings
from taskcast_core.testing.portrait import portrait
from tests.core import tiers as both
from tests.core.tiers import FILTERS, SETTINGS, chat, chatty, read, shown
from tests.fixtures.eventually import eventually

pytestmark = pytest.mark.anyio


class Tiers(both.Tiers):
    """Tiers in memory, whose insides tests may reach into."""

    hot: MemoryShortTermStore
    cold: MemoryLongTermStore


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


async def test_a_suspended_task_goes_cold_and_wakes_up_by_itself(tiers: Tiers) -> None:
    engine = tiers.engine
    task_id = await chatty(engine)
    await engine.transition_task(task_id, "blocked", reason="later", resume_after_ms=300)
    await tiers.release(task_id)

    async def is_awake() -> bool:
        await engine.sweeper.sweep()
        found = await engine.get_task(task_id)
        return found is not None and found.status == "running"

    await eventually(is_awake)
    assert (await engine.publish_event(task_id, type="log", data={})).index == 21


async def test_a_deadline_of_a_cold_task_raced_by_its_end(tiers: Tiers) -> None:
    async with tiers.another() as second, tiers.another() as third:
        engines = (tiers.engine, second, third)
        ids = [await chatty(tiers.engine, rounds=1, ttl=1) for _ in range(10)]
        for task_id in ids:
            await tiers.release(task_id)
        ended = 0

        async def complete(task_id: str) -> None:
            nonlocal ended
            with suppress(InvalidTransition):
                await second.transition_task(task_id, "completed")
                ended += 1

        last = await tiers.engine.get_task(ids[-1])
        assert last is not None
        await eventually(lambda: tiers.engine.now_ms() >= last.updated_at + 1_000)
        await asyncio.gather(
            *(e.sweeper.sweep() for e in engines), *map(complete, ids), *(e.sweeper.sweep() for e in engines)
        )
        found = [await tiers.engine.get_task(task_id) for task_id in ids]
        statuses = [task.status if task else None for task in found]
        assert set(statuses) <= {"completed", "timeout"} and statuses.count("completed") == ended
        for task_id in ids:
            ends = [e.data["status"] for e in await tiers.engine.get_history(task_id) if e.type == "taskcast:status"]
            assert len(ends) == 2, "running, and one end"


async def test_a_pause_takes_the_deadline_along_into_the_cold(tiers: Tiers) -> None:
    engine = tiers.engine
    task_id = await chatty(engine, rounds=1, ttl=1)
    await engine.transition_task(task_id, "paused")
    await tiers.release(task_id)
    await asyncio.sleep(1.1)  # the time in which nothing may happen
    await engine.sweeper.sweep()
    assert (await engine.get_task(task_id)).status == "paused"  # type: ignore[union-attr]
    before = engine.now_ms()
    await engine.transition_task(task_id, "running")
    assert (await tiers.existing(task_id)).record.timers["ttl"] >= before + 1_000, "it starts anew"


async def test_ended_tasks_leave_the_hot_store_by_themselves(tiers: Tiers) -> None:
    retention = RetentionSettings(keep_ended_ms=None, release_ended_ms=50)
    settings = evolve(SETTINGS, retention=retention, sweep=SweepSettings(lease_ms=20))
    async with tiers.another(settings=settings) as engine:
        ended, live = await chatty(engine), await chatty(engine)
        history = await engine.get_history(ended)
        await engine.transition_task(ended, "completed")

        async def is_gone() -> bool:
            await engine.sweeper.sweep()
            return await tiers.hot.get(ended) is None

        await eventually(is_gone)
        assert (await engine.get_history(ended))[:-1] == history
        assert await tiers.hot.get(live) is not None


async def test_cleanup_reaches_the_archive(tiers: Tiers) -> None:
    rule = CleanupRule(target="events", event_filter=EventFilter(types=("log",)))
    settings = evolve(SETTINGS, retention=RetentionSettings(rules=(rule,)), sweep=SweepSettings(lease_ms=20))
    async with tiers.another(settings=settings) as engine:
        task_id = await chatty(engine)
        await engine.transition_task(task_id, "completed")

        async def is_cleaned() -> bool:
            await engine.sweeper.sweep()
            return (await tiers.existing(task_id)).record.cleaned is not None

        await eventually(is_cleaned)
        history = await engine.get_history(task_id)
        assert not [e for e in history if e.type == "log"]
        await tiers.release(task_id)
        assert await engine.get_history(task_id) == history, "what was removed does not come back"


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


async def test_a_release_that_was_not_ended_is_ended_by_the_next(tiers: Tiers) -> None:
    task_id = await chatty(tiers.engine)
    await tiers.archived(task_id)
    stored = await tiers.existing(task_id)
    mark = await tiers.cold.watermark(task_id)
    assert mark is not None and await tiers.cold.set_state(task_id, mark, "cold"), "here somebody died"
    assert (await tiers.engine.release_task(task_id, stored.last_index, tiers.engine.now_ms())).released


async def test_a_hot_task_that_is_said_to_be_cold_is_set_right(tiers: Tiers) -> None:
    task_id = await chatty(tiers.engine)
    await tiers.archived(task_id)
    mark = await tiers.cold.watermark(task_id)
    assert mark is not None and await tiers.cold.set_state(task_id, mark, "cold"), "here somebody died"
    await tiers.engine.publish_event(task_id, type="log", data={})
    await tiers.archived(task_id)
    assert (await tiers.cold.watermark(task_id)) == Watermark(mark.epoch, mark.last_index + 1, mark.rev, "hot")


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


async def test_an_id_that_is_used_again_is_archived_though_its_tombstone_is_forgotten(tiers: Tiers) -> None:
    engine = tiers.engine
    task_id = await chatty(engine, id="again")
    await tiers.archived(task_id)
    await engine.delete_task(task_id)
    tiers.hot.__dict__.update(MemoryShortTermStore().__dict__)
    task_id = await chatty(engine, id="again", rounds=1)
    await tiers.archived(task_id)
    stored = await tiers.existing(task_id)
    assert stored.epoch == 2 and await tiers.cold.get(task_id) == stored
    assert await portrait(tiers.cold, task_id) == await portrait(tiers.hot, task_id)


# ── Imports ───────────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("is_hot", [True, False], ids=["hot", "cold"])
async def test_an_import_over_an_archived_task(tiers: Tiers, *, is_hot: bool) -> None:
    engine = tiers.engine
    task_id = await chatty(engine)
    archive = await engine.export_archive(task_id)
    await chat(engine, task_id, 3, first=6)
    late = (await engine.get_history(task_id))[-1]
    await (tiers.archived(task_id) if is_hot else tiers.release(task_id))
    with pytest.raises(TaskExists):
        await engine.import_archive(archive)
    result = await engine.import_archive(archive, overwrite=True)
    assert (result.event_count, result.overwritten) == (len(archive.events), True)
    await chat(engine, task_id, 1, first=20)
    await tiers.archived(task_id)
    assert await portrait(tiers.cold, task_id) == await portrait(tiers.hot, task_id)
    kept = {e.id for e in await engine.get_history(task_id)}
    assert kept >= {e.id for e in archive.events if e.series_id != "p"} and late.id not in kept
    await tiers.release(task_id)
    gone = await engine.read_history(task_id, since=Cursor(id=late.id))
    assert gone.gap is not None
    await chat(engine, task_id, 1, first=30)


async def test_an_imported_task_is_a_new_one_unless_it_takes_the_place_of_another(tiers: Tiers) -> None:
    engine = tiers.engine
    task_id = await chatty(engine)
    archive = await engine.export_archive(task_id)
    created: list[str] = []
    engine.observers.task_created = lambda task: created.append(task.id)  # type: ignore[assignment]
    await engine.import_archive(archive, overwrite=True)
    assert created == []
    await engine.import_archive(evolve(archive, task=evolve(archive.task, id="elsewhere"), events=()))
    assert created == ["elsewhere"]


async def test_an_export_of_a_task_that_goes_on_is_of_its_beginning(tiers: Tiers) -> None:
    engine = tiers.engine
    task_id = await chatty(engine)
    archive = await engine.open_archive(task_id)
    events = [await anext(archive.events)]
    await chat(engine, task_id, 2, first=6)
    events += [event async for event in archive.events]
    assert [e.index for e in events] == list(range(len(events)))
    assert [e.data for e in events if e.series_id == "s"] == [{"delta": "012345"}]
    assert [e.data["n"] for e in events if e.type == "log"] == list(range(6))
    assert len([e for e in events if e.series_id == "p"]) == 1, "a value that was replaced meanwhile, by the newer one"


# ── Disagreement ──────────────────────────────────────────────────────────────────────────────────────────────────────


async def rewound(tiers: Tiers, task_id: str, last_index: int) -> None:
    """The hot store is as it was some time ago: what a failover to a replica that lags behind does."""
    stored = await tiers.existing(task_id)
    log = tiers.hot._logs[task_id]
    past = log.copy(upto=last_index)
    tiers.hot._hide(task_id)
    tiers.hot._show(MemoryLog.from_copy(evolve(past, rev=min(stored.rev, 2))))
    tiers.hot._lanes.settle_at(tiers.hot._logs[task_id].stored)


async def test_a_rewound_log_that_grew_anew_gives_way_to_its_archive(tiers: Tiers) -> None:
    engine = tiers.engine
    task_id = await chatty(engine)
    await tiers.archived(task_id)
    history = await engine.get_history(task_id)
    await rewound(tiers, task_id, 9)
    lost = await engine.publish_event(task_id, type="log", data={"grew": "anew"})
    assert lost.index == 10, "nobody knows yet"
    dropped: list[Any] = []
    engine.observers.event_dropped = lambda **facts: dropped.append(facts)  # type: ignore[assignment]

    async def is_one_log() -> bool:
        stored = await tiers.hot.get(task_id)
        return stored is not None and stored.epoch == 2 and await tiers.hot.has_passed(task_id)

    await eventually(is_one_log)
    assert await engine.get_history(task_id) == history, "the durable copy goes further"
    assert dropped == [{"event": lost, "reason": "the hot log gave way to its archive"}]
    event = await engine.publish_event(task_id, type="log", data={})
    assert event.index == history[-1].index + 1
    await engine.transition_task(task_id, "completed")
    after_known = await read(engine, task_id, since={"id": history[-1].id})
    assert [e.type for e in after_known] == ["log", "taskcast:status"]
    after_lost = await read(engine, task_id, since={"id": lost.id})
    assert after_lost[0].type == "taskcast:gap" and len(after_lost) > 3, "who has read what is gone is told"
    await tiers.archived(task_id)
    assert await tiers.cold.get(task_id) == evolve(await tiers.existing(task_id), first_index=0)


async def test_a_rewound_log_that_only_got_an_older_record_gives_way(tiers: Tiers) -> None:
    engine = tiers.engine
    task_id = await chatty(engine)
    await engine.transition_task(task_id, "paused")
    await tiers.archived(task_id)
    archived = await tiers.cold.get(task_id)
    assert archived is not None
    await rewound(tiers, task_id, archived.last_index)
    log = tiers.hot._logs[task_id]
    log.state.stored = evolve(
        log.stored, record=evolve(log.stored.record, task=evolve(log.stored.task, status="running"))
    )
    tiers.hot._lanes.mark(task_id, ("archive",))

    async def is_paused() -> bool:
        found = await tiers.hot.get(task_id)
        return found is not None and found.task.status == "paused" and found.epoch == 2

    tiers.engine._commits.announce(Committed(log.stored, ()))
    await eventually(is_paused)
    await tiers.archived(task_id)
    assert await tiers.cold.get(task_id) == evolve(await tiers.existing(task_id), first_index=0)


async def test_an_event_that_the_archive_refuses_is_told_of(tiers: Tiers, caplog: pytest.LogCaptureFixture) -> None:
    engine = tiers.engine
    write = tiers.cold.write

    async def refusing(batches: Sequence[ArchiveBatch]) -> list[Watermark]:
        marks = await write(batches)
        assert {batch.task_id for batch in batches} == {task.id}
        return [evolve(mark, refused=(Refusal(1, "TooOdd"),)) for mark in marks]

    tiers.cold.write = refusing  # type: ignore[method-assign]
    dropped: list[Any] = []
    engine.observers.event_dropped = lambda **facts: dropped.append(facts)  # type: ignore[assignment]
    task = await engine.create_task()
    await engine.transition_task(task.id, "running")
    event = await engine.publish_event(task.id, type="odd", level="info", data={"secret": "word"})
    assert event.index == 1
    await tiers.archived(task.id)
    assert {"event": event, "reason": "the long-term store refuses it: TooOdd"} in dropped
    (line, *_) = [each.getMessage() for each in caplog.records if "storage_event_refused" in each.getMessage()]
    assert line == f"storage_event_refused component=storage-lifecycle taskId={task.id} index=1 reason=TooOdd"


@pytest.mark.parametrize("left", [None, 0, 9], ids=["empty", "the beginning", "half"])
async def test_an_archive_that_comes_back_older_is_filled_again(tiers: Tiers, left: int | None) -> None:
    """As a database that was restored from its backup."""
    engine = tiers.engine
    task_id = await chatty(engine)
    await tiers.archived(task_id)
    before = await engine.get_history(task_id)
    if left is None:
        tiers.cold.__dict__.update(MemoryLongTermStore().__dict__)
    else:
        kept = tiers.cold._kept[task_id]
        kept.log = MemoryLog.from_copy(kept.log.copy(upto=left))
    await engine.publish_event(task_id, type="log", data={})
    await tiers.archived(task_id)
    stored = await tiers.existing(task_id)
    assert stored.epoch == 1 and await tiers.cold.get(task_id) == stored
    assert await portrait(tiers.cold, task_id) == await portrait(tiers.hot, task_id)
    assert (await engine.get_history(task_id))[:-1] == before


async def test_what_neither_copy_has_any_more_is_not_made_up(tiers: Tiers) -> None:
    tiers.settings = WINDOW
    async with tiers.another() as engine:
        task_id = await chatty(engine, rounds=40)
        await tiers.archived(task_id)
        await engine.publish_event(task_id, type="log", data={})
        await tiers.archived(task_id)
        first = (await tiers.existing(task_id)).first_index
        assert first > 50
        kept = tiers.cold._kept[task_id]
        kept.log = MemoryLog.from_copy(kept.log.copy(upto=9))
        last = (await engine.publish_event(task_id, type="log", data={})).index

        async def is_deferred() -> bool:
            return not await tiers.hot.claim_dirty("archive", "a look", 10, 1)

        await eventually(is_deferred)
        stored = await tiers.existing(task_id)
        assert (stored.epoch, stored.first_index, stored.last_index) == (1, first, last), "the hot log is left alone"


# ── The hot window ────────────────────────────────────────────────────────────────────────────────────────────────────


WINDOW = evolve(
    SETTINGS,
    archive=ArchiveSettings(page=10, keep_last=20, keep_hot=20),
    follower=FollowerSettings(lease_ms=1_000, poll_s=0.02, turn=3),
)


async def test_a_running_task_keeps_its_newest_entries_hot(tiers: Tiers) -> None:
    tiers.settings = WINDOW
    async with (
        tiers.another() as engine,
        TaskEngine(broadcast=MemoryBroadcastProvider(), short_term_store=MemoryShortTermStore()) as model,
    ):
        task_id, plain_id = await chatty(engine, rounds=1), await chatty(model, rounds=1)
        follower = asyncio.create_task(read(engine, task_id))
        longest = 0
        for n in range(1, 60):
            await chat(engine, task_id, 1, first=n)
            await chat(model, plain_id, 1, first=n)
            await tiers.archived(task_id)
            stored = await tiers.existing(task_id)
            longest = max(longest, stored.last_index + 1 - stored.first_index)
        assert longest <= 20 + 20 // 2 + 30 + 3, "the window, what lets it slide, and a turn of the archiver"
        assert len(tiers.hot._logs[task_id]._entries) <= longest
        await engine.transition_task(task_id, "completed")
        await model.transition_task(plain_id, "completed")
        for filter_ in FILTERS:
            mine, wanted = await read(engine, task_id, **filter_), await read(model, plain_id, **filter_)
            assert shown(mine) == shown(wanted)
            for at in range(0, len(mine), 17):
                since = {"id": mine[at].id}
                resumed = await read(engine, task_id, **filter_, since=since, resume="snapshot")
                since = {"id": wanted[at].id}
                assert shown(resumed) == shown(await read(model, plain_id, **filter_, since=since, resume="snapshot"))
        for position in (0, 5, 40, 58):
            since = {"index": position}
            assert shown(await read(engine, task_id, types=["log"], since=since)) == shown(
                await read(model, plain_id, types=["log"], since=since)
            )
        assert shown(await engine.get_history(task_id)) == shown(await model.get_history(plain_id))
        assert [e.index for e in await follower] == sorted({e.index for e in await follower})


async def test_values_that_were_replaced_since_the_last_archiving(tiers: Tiers) -> None:
    tiers.settings = WINDOW
    async with tiers.another() as engine:
        task_id = await chatty(engine, rounds=1)
        await engine.publish_event(task_id, type="progress", data=0, series_id="early", series_mode="latest")
        for n in range(40):
            await engine.publish_event(task_id, type="log", data=n)
            await tiers.archived(task_id)
    async with tiers.another(settings=evolve(WINDOW, background=False)) as engine:
        assert (await tiers.existing(task_id)).first_index > 10
        await engine.publish_event(task_id, type="progress", data=1, series_id="early", series_mode="latest")
        history = await engine.get_history(task_id)
        assert [e.data for e in history if e.series_id == "early"] == [1]


# ── Rebuild ───────────────────────────────────────────────────────────────────────────────────────────────────────────


async def test_rebuild_brings_back_what_was_lost_and_nothing_else(tiers: Tiers) -> None:
    engine = tiers.engine
    live = [await chatty(engine, rounds=1, ttl=3600) for _ in range(40)]
    released, ended = await chatty(engine, rounds=1), await chatty(engine, rounds=1)
    await engine.transition_task(ended, "completed")
    for task_id in (*live, ended):
        await tiers.archived(task_id)
    await tiers.release(released)
    tiers.hot.__dict__.update(MemoryShortTermStore().__dict__)
    await engine.publish_event(live[0], type="log", data={})
    assert await engine.rebuild() == Rebuilt(restored=39, there=1, released=1)
    assert [(await tiers.existing(task_id)).epoch for task_id in live] == [2] * 40
    assert await tiers.hot.next_due("ttl") is not None, "deadlines run again"
    assert await tiers.hot.get(released) is None and await tiers.hot.get(ended) is None
    assert await engine.rebuild() == Rebuilt(restored=0, there=40, released=1)


async def test_rebuild_needs_somewhere_to_take_tasks_from() -> None:
    async with TaskEngine(broadcast=MemoryBroadcastProvider(), short_term_store=MemoryShortTermStore()) as engine:
        with pytest.raises(StorageReleaseUnsupported):
            await engine.rebuild()
        assert await engine.archive_lag() is None


class HeldUp(SqliteShortTermStore):
    """A store whose writer commits a transition while a page is read, and cannot tell of it for a while."""

    def __init__(self, path: Path) -> None:
        super().__init__(SqliteOptions(path=path))
        self.may_tell = threading.Event()
        self.may_tell.set()
        self.meanwhile: Callable[[], Awaitable[Any]] | None = None

    async def read(self, task_id: str, **asked: Any) -> Page:
        page = await super().read(task_id, **asked)
        if self.meanwhile is not None and page.log_last == -1:
            self.may_tell.clear()
            self.transition = asyncio.ensure_future(self.meanwhile())
            self.meanwhile = None
            while page.log_last == -1:
                page = await super().read(task_id, **asked)
            threading.Timer(0.2, self.may_tell.set).start()
        return page


async def test_a_log_is_not_taken_for_a_rewound_one_while_its_writer_is_held_up(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Else the archiver puts an older copy in its place, and an acknowledged transition is lost."""
    tell = Writer._tell

    def tell_late(writer: Writer, *told: Any) -> None:
        store.may_tell.wait(20)
        tell(writer, *told)

    monkeypatch.setattr(Writer, "_tell", tell_late)
    async with HeldUp(tmp_path / "tasks.db") as store, MemoryLongTermStore() as cold:
        tiers = both.Tiers(store, cold)
        async with tiers.engine as engine:
            task_id = "held-up"
            store.meanwhile = partial(engine.transition_task, task_id, "running")
            await engine.create_task(id=task_id)
            await eventually(lambda: store.meanwhile is None)
            assert (await store.transition).status == "running"
            await tiers.archived(task_id)
            stored = await tiers.existing(task_id)
            assert (stored.task.status, stored.epoch, stored.last_index) == ("running", 1, 0)
