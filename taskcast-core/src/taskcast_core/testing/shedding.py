"""The cases of Cold about logs of which only the newest part is hot, and of logs that give way to a copy."""

from __future__ import annotations

from typing import ClassVar

import pytest
from attrs import evolve

from taskcast_core.builtin.memory_long_term import MemoryLongTermStore
from taskcast_core.contracts import ArchiveBatch, LogCopy, Segment, SeriesCopy, TrimRule
from taskcast_core.errors import EpochChanged, NotHot, NotRetained, ReplyExpired
from taskcast_core.filters import View
from taskcast_core.testing.contract import LONG_MS, Contract, HotStore
from taskcast_core.testing.followers import claim, pass_all
from taskcast_core.testing.making import (
    RICH_HISTORY,
    a_key,
    copy_of,
    created,
    current,
    delta,
    entries_of,
    fresh_id,
    latest,
    message,
    publish,
    span,
    whole_log,
)
from taskcast_core.testing.portrait import portrait
from taskcast_core.tiers import TieredReader

KIND = View(types=["kind.1"])


async def archived(store: HotStore, task_id: str) -> MemoryLongTermStore:
    """A long-term store that has all of a task."""
    stored = await current(store, task_id)
    states = (await store.series(task_id)).states
    cold = MemoryLongTermStore()
    batch = ArchiveBatch(
        task_id, stored.record, stored.rev, stored.segments, tuple(await whole_log(store, task_id)),
        tuple(SeriesCopy(name, state) for name, state in states.items()),
    )  # fmt: skip
    await cold.write([batch])
    return cold


def renewed(copy: LogCopy) -> LogCopy:
    """A copy that goes on in the next epoch."""
    newest = copy.segments[-1]
    return evolve(copy, segments=(*copy.segments, Segment(copy.last_index + 1, newest.epoch + 1, 77)))


class ShedCases(Contract):
    """``shed``."""

    capability: ClassVar[str] = "Cold"
    promise: ClassVar[str] = "what is shed is gone from the hot copy only, and no reader of both can tell"

    async def test_both_copies_together_are_the_log(self, store: HotStore) -> None:
        stored = await created(store, *RICH_HISTORY)
        task_id = stored.task.id
        before, cold = await portrait(store, task_id), await archived(store, task_id)
        first = 0
        for keep_from in (1, 4, 8, 9, 13, stored.last_index, stored.last_index + 1):
            first = await store.shed(task_id, stored.epoch, keep_from)
            assert first == (await current(store, task_id)).first_index <= keep_from
            assert await portrait(TieredReader(store, cold), task_id) == before
        assert first == stored.last_index + 1, "all of it may go"

    async def test_what_is_gone_is_said_to_be(self, store: HotStore) -> None:
        stored = await created(store, *[message(data=n) for n in range(6)])
        assert await store.shed(stored.task.id, stored.epoch, 4) == 4
        with pytest.raises(NotRetained):
            await store.read(stored.task.id)
        assert [e.index for e in entries_of(await whole_log(store, stored.task.id, after=3))] == [4, 5]

    async def test_the_log_goes_on_as_if_nothing_had_been(self, store: HotStore) -> None:
        shed, stayed = await created(store, *RICH_HISTORY), await created(store, *RICH_HISTORY)
        cold = await archived(store, shed.task.id)
        await store.shed(shed.task.id, shed.epoch, shed.last_index)
        folds = []
        for stored in (shed, stayed):
            more = (delta("answer", "!", "other"), latest("progress", 101), delta("thought", "?", "text"), message())
            entries = (await publish(store, stored.task.id, *more)).entries
            assert [entry.index for entry in entries] == [stored.last_index + n for n in range(1, 5)]
            reader = TieredReader(store, cold) if stored is shed else store
            folds.append(
                [
                    await reader.fold(stored.task.id, entry.series_id or "", entry.index)
                    for entry in entries
                    if entry.series_mode == "accumulate"
                ]
            )
        assert folds[0] == folds[1]
        states = [(await store.series(stored.task.id)).states for stored in (shed, stayed)]
        assert states[0] == states[1]

    async def test_never_beyond_the_slowest_lane(self, store: HotStore) -> None:
        stored = await created(store, *[message() for _ in range(6)], lanes=("archive", "settle"))
        task_id = stored.task.id
        assert await store.shed(task_id, stored.epoch, 6) == 0
        await store.ack(await claim(store), 5, stored.rev)
        await store.ack(await claim(store, "settle"), 2, stored.rev)
        assert await store.shed(task_id, stored.epoch, 6) == 3

    async def test_so_much_at_a_time(self, store: HotStore) -> None:
        stored = await created(store, *[message() for _ in range(6)])
        firsts = [await store.shed(stored.task.id, stored.epoch, 5, limit=2) for _ in range(4)]
        assert firsts == [2, 4, 5, 5]

    async def test_a_hole_is_not_cut(self, store: HotStore) -> None:
        stored = await created(store, message(), *[message("x") for _ in range(4)], message())
        task_id = stored.task.id
        await store.trim(task_id, stored.epoch, TrimRule(types=("x",)))
        assert await store.shed(task_id, stored.epoch, 3) == 1
        assert [span(item) for item in await whole_log(store, task_id, after=0)] == [(1, 4), (5, 5)]
        assert await store.shed(task_id, stored.epoch, 6, limit=1) == 5, "a hole costs nothing"

    async def test_over_many_checkpoints(self, store: HotStore) -> None:
        stored = await created(store, *[message(f"kind.{n % 3}", n) for n in range(2_500)])
        task_id = stored.task.id
        before, cold = await store.count(task_id, KIND, 2_400), await archived(store, task_id)
        reader = TieredReader(store, cold)
        for first in (700, 1_000, 1_001, 2_350):
            assert await store.shed(task_id, stored.epoch, first) == first
            assert await store.count(task_id, KIND, 2_400) == before
            for position in (0, 300, 780, 800):
                assert await reader.seek(task_id, KIND, position) == 3 * position + 1

    async def test_then_released_and_restored(self, store: HotStore) -> None:
        stored = await created(store, *RICH_HISTORY, lanes=("archive",))
        await pass_all(store, stored.task.id)
        task_id = stored.task.id
        before, cold = await portrait(store, task_id), await archived(store, task_id)
        await store.shed(task_id, stored.epoch, 12)
        assert await store.release(task_id, stored.epoch, stored.last_index, stored.rev)
        copy = await cold.copy(task_id, 4)
        assert copy is not None
        ticket = await store.begin_restore(task_id, LONG_MS)
        await store.restore(ticket, copy)
        await store.open(ticket)
        assert await portrait(TieredReader(store, cold), task_id) == before

    async def test_other_epochs_and_other_tasks(self, store: HotStore) -> None:
        stored = await created(store, message(), message())
        with pytest.raises(EpochChanged):
            await store.shed(stored.task.id, stored.epoch + 1, 1)
        with pytest.raises(NotHot):
            await store.shed(fresh_id(), 1, 1)


class ReplaceCases(Contract):
    """``replace``."""

    capability: ClassVar[str] = "Cold"
    promise: ClassVar[str] = "a log that gives way to a copy does so at once and as a whole"

    async def test_the_copy_is_the_log(self, store: HotStore) -> None:
        model, stored = await created(store, *RICH_HISTORY), await created(store, message("lost"), message("lost"))
        copy = await copy_of(store, model.task.id)
        task = evolve(stored.task, status="running", tags=("y",))
        mine = renewed(evolve(copy, record=evolve(copy.record, task=task, timers={"cleanup": store.now_ms() - 5})))
        after = await store.replace(stored.task.id, stored.epoch, mine)
        assert after is not None and after == await current(store, stored.task.id)
        assert (after.task, after.segments, after.last_index) == (task, mine.segments, model.last_index)
        seen, wanted = await portrait(store, stored.task.id), await portrait(store, model.task.id)
        assert [one[3:] for one in seen.lines] == [one[3:] for one in wanted.lines]
        assert (seen.series, seen.folds, seen.counts) == (wanted.series, wanted.folds, wanted.counts)
        assert [due.task_id for due in await store.due("cleanup", 10, LONG_MS)] == [stored.task.id]
        assert (await publish(store, stored.task.id, message())).entries[0].index == model.last_index + 1

    async def test_only_in_the_place_of_its_epoch(self, store: HotStore) -> None:
        stored = await created(store, message())
        copy = renewed(await copy_of(store, stored.task.id))
        assert await store.replace(stored.task.id, stored.epoch + 1, copy) is None
        assert await store.replace(fresh_id(), 1, copy) is None
        assert await current(store, stored.task.id) == stored

    async def test_lanes_keep_their_places_and_look_again(self, store: HotStore) -> None:
        stored = await created(store, *[message() for _ in range(5)], lanes=("archive", "settle"))
        task_id = stored.task.id
        copy = renewed(evolve(await copy_of(store, task_id)))
        await store.ack(await claim(store), 4, stored.rev)
        await store.ack(await claim(store, "settle"), 1, stored.rev)
        shorter = evolve(copy, items=copy.items[:4], last_index=3)
        assert await store.replace(task_id, stored.epoch, renewed(shorter)) is not None
        assert not await store.has_passed(task_id)
        assert [(await claim(store, kind)).cursor for kind in ("archive", "settle")] == [3, 1]

    async def test_the_key_of_what_is_gone_is_no_new_one(self, store: HotStore) -> None:
        stored = await created(store, message("kept"))
        task_id, key = stored.task.id, a_key()
        copy = renewed(await copy_of(store, task_id))
        await publish(store, task_id, message("lost"), key=key)
        assert await store.replace(task_id, stored.epoch, copy) is not None
        with pytest.raises(ReplyExpired):
            await publish(store, task_id, message("lost"), key=key)
        assert (await current(store, task_id)).last_index == 0
