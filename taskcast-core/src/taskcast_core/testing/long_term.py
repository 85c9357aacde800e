"""The cases of LongTermStore: what the archiver writes is read back as it was in the hot log."""

from __future__ import annotations

import json
from typing import Any, ClassVar

import pytest
from attrs import evolve

from taskcast_core.builtin.memory_store import MemoryShortTermStore
from taskcast_core.contracts import ListQuery, LongTermStore, TrimRule, Watermark
from taskcast_core.entries import Entry
from taskcast_core.errors import EpochChanged, InvalidInput, NotHot, StorageIntegrityError
from taskcast_core.filters import View
from taskcast_core.models import WorkerAudit
from taskcast_core.testing.contract import LONG_MS
from taskcast_core.testing.durable_logs import Durable, archived, batch_of
from taskcast_core.testing.listing import CAST, QUERIES, listed, walk
from taskcast_core.testing.long_term_trimming import ArchiveTrimCases
from taskcast_core.testing.making import (
    HALF_SERIES,
    RICH_HISTORY,
    created,
    delta,
    entries_of,
    fresh_id,
    latest,
    message,
    publish,
    race,
    replace,
    span,
    whole_log,
)
from taskcast_core.testing.payloads import ODD
from taskcast_core.testing.portrait import portrait, visible
from taskcast_core.testing.removed import STORY, check_positions, passed
from taskcast_core.testing.removed import VIEWS as PLACES

RACERS = 16
FAR_FUTURE_MS = 4_000_000_000_000


class WriteCases(Durable):
    """``write``, ``get``, ``watermark``, ``set_state``."""

    promise: ClassVar[str] = "a write is one transaction, may be repeated, and never replaces newer with older"

    async def test_an_unknown_task(self, store: LongTermStore) -> None:
        assert await store.get(fresh_id()) is None
        assert await store.watermark(fresh_id()) is None
        assert await store.copy(fresh_id(), 10) is None

    async def test_a_written_task(self, store: LongTermStore, hot: MemoryShortTermStore) -> None:
        stored = await created(hot, *RICH_HISTORY, timers={"ttl": 5}, lanes=("archive", "webhook:0"), tags=("x",))
        mark = await archived(store, hot, stored.task.id)
        assert mark == Watermark(stored.epoch, stored.last_index, stored.rev, "hot")
        assert await store.watermark(stored.task.id) == mark
        assert await store.get(stored.task.id) == stored

    async def test_a_task_without_events(self, store: LongTermStore, hot: MemoryShortTermStore) -> None:
        stored = await created(hot)
        assert await archived(store, hot, stored.task.id) == Watermark(stored.epoch, -1, 1)
        page = await store.read(stored.task.id)
        assert (page.items, page.log_last) == ((), -1)

    async def test_repeating_a_write_changes_nothing(self, store: LongTermStore, hot: MemoryShortTermStore) -> None:
        stored = await created(hot, *RICH_HISTORY)
        mark = await archived(store, hot, stored.task.id)
        before = await portrait(store, stored.task.id)
        assert await archived(store, hot, stored.task.id) == mark
        assert await portrait(store, stored.task.id) == before

    async def test_overlapping_writes(self, store: LongTermStore, hot: MemoryShortTermStore) -> None:
        task_id = (await created(hot, *[message(data=n) for n in range(4)])).task.id
        first = await batch_of(hot, task_id)
        await store.write([first])
        await publish(hot, task_id, message(data=4), delta("s", "a"))
        assert (await archived(store, hot, task_id, after=1)).last_index == 5
        (mark,) = await store.write([first])
        assert mark.last_index == 5, "a late repeat does not move the watermark back"
        assert [e.index for e in entries_of(await whole_log(store, task_id))] == list(range(6))

    async def test_an_older_record_does_not_replace_a_newer(
        self, store: LongTermStore, hot: MemoryShortTermStore
    ) -> None:
        stored = await created(hot, message())
        old = await batch_of(hot, stored.task.id)
        newer = (await replace(hot, stored, status="running")).stored
        await archived(store, hot, stored.task.id)
        (mark,) = await store.write([old])
        assert mark.rev == newer.rev and await store.get(stored.task.id) == newer

    async def test_a_newer_record_without_events(self, store: LongTermStore, hot: MemoryShortTermStore) -> None:
        stored = await created(hot, message())
        await archived(store, hot, stored.task.id)
        await replace(hot, stored, status="running")
        mark = await archived(store, hot, stored.task.id, after=0)
        assert (mark.last_index, mark.rev) == (0, 2)
        known = await store.get(stored.task.id)
        assert known is not None and known.task.status == "running"

    async def test_other_content_at_an_index_is_a_lost_epoch(
        self, store: LongTermStore, hot: MemoryShortTermStore
    ) -> None:
        stored = await created(hot, message(data="right"), message())
        batch = await batch_of(hot, stored.task.id)
        await store.write([batch])
        before = await portrait(store, stored.task.id)
        first = entries_of(batch.items)[0]
        other = Entry(first.origin, 0, first.timestamp, message(data="wrong"))
        with pytest.raises(StorageIntegrityError):
            await store.write([evolve(batch, items=(other, *batch.items[1:]))])
        assert await portrait(store, stored.task.id) == before

    async def test_all_batches_or_none(self, store: LongTermStore, hot: MemoryShortTermStore) -> None:
        bad, good = await created(hot, message(data="right")), await created(hot, message())
        batch = await batch_of(hot, bad.task.id)
        await store.write([batch])
        first = entries_of(batch.items)[0]
        wrong = evolve(batch, items=(Entry(first.origin, 0, first.timestamp, message(data="wrong")),))
        with pytest.raises(StorageIntegrityError):
            await store.write([await batch_of(hot, good.task.id), wrong])
        assert await store.get(good.task.id) is None and await store.watermark(good.task.id) is None

    async def test_many_tasks_at_once(self, store: LongTermStore, hot: MemoryShortTermStore) -> None:
        tasks = [(await created(hot, *[message(data=n)] * (n + 1))).task.id for n in range(20)]
        marks = await store.write([await batch_of(hot, task_id) for task_id in tasks])
        assert [mark.last_index for mark in marks] == list(range(20))
        assert list(await store.write([])) == []

    async def test_racing_writers_of_one_task(self, store: LongTermStore, hot: MemoryShortTermStore) -> None:
        task_id = (await created(hot)).task.id
        batches = []
        for n in range(RACERS):
            await publish(hot, task_id, message(data=n), delta("s", f"{n},"))
            batches.append(await batch_of(hot, task_id))
        _, lost = await race(RACERS, lambda n: store.write([batches[n]]))
        assert not lost
        assert await portrait(store, task_id) == await portrait(hot, task_id)

    async def test_the_log_goes_on_in_a_new_epoch(self, store: LongTermStore, hot: MemoryShortTermStore) -> None:
        stored = await created(hot, message(data=0), message(data=1))
        task_id = stored.task.id
        await archived(store, hot, task_id)
        after = await hot.found_epoch(task_id, stored.epoch, 1)
        assert after is not None
        await publish(hot, task_id, message(data=2))
        assert (await archived(store, hot, task_id, after=1)).epoch == after.epoch
        assert await portrait(store, task_id) == await portrait(hot, task_id)

    async def test_where_the_open_copy_is(self, store: LongTermStore, hot: MemoryShortTermStore) -> None:
        task_id = (await created(hot, message())).task.id
        mark = await archived(store, hot, task_id)
        assert await store.set_state(task_id, evolve(mark, last_index=5), "cold") is False
        assert await store.set_state(task_id, evolve(mark, rev=5), "cold") is False
        assert await store.set_state(task_id, evolve(mark, state="cold"), "hot") is False
        assert await store.set_state(fresh_id(), mark, "cold") is False
        assert await store.set_state(task_id, mark, "cold") is True
        assert await store.watermark(task_id) == evolve(mark, state="cold")
        assert await store.set_state(task_id, mark, "cold") is False

    async def test_one_of_many_racing_changes_of_the_state_wins(
        self, store: LongTermStore, hot: MemoryShortTermStore
    ) -> None:
        task_id = (await created(hot, message())).task.id
        mark = await archived(store, hot, task_id)
        wins, lost = await race(RACERS, lambda _: store.set_state(task_id, mark, "cold"))
        assert not lost and sum(wins) == 1


class ArchiveReadCases(Durable):
    """LogReader's verbs on the durable copy, and ``copy``."""

    promise: ClassVar[str] = "the durable copy reads as the hot log did"

    async def test_the_same_portrait(self, store: LongTermStore, hot: MemoryShortTermStore) -> None:
        task_id = (await created(hot, *RICH_HISTORY)).task.id
        await archived(store, hot, task_id)
        assert await portrait(store, task_id) == await portrait(hot, task_id)

    async def test_half_a_series_is_none(self, store: LongTermStore, hot: MemoryShortTermStore) -> None:
        stored = await created(hot, *HALF_SERIES, *HALF_SERIES)
        await archived(store, hot, stored.task.id)
        entries = entries_of(await whole_log(store, stored.task.id))
        assert [(entry.series_id, entry.series_mode) for entry in entries] == [(None, None)] * len(entries)
        assert [entry.draft for entry in entries] == [*HALF_SERIES, *HALF_SERIES]
        assert (await store.series(stored.task.id)).states == {}

    async def test_written_in_stretches(self, store: LongTermStore, hot: MemoryShortTermStore) -> None:
        task_id, after = (await created(hot)).task.id, -1
        for n in range(6):
            await publish(hot, task_id, delta("s", f"{n}"), message("log.a", n), delta("t", "x", "text"))
            after = (await archived(store, hot, task_id, after)).last_index
        assert await portrait(store, task_id) == await portrait(hot, task_id)

    async def test_replaced_values_of_earlier_stretches(self, store: LongTermStore, hot: MemoryShortTermStore) -> None:
        task_id, after = (await created(hot)).task.id, -1
        for n in range(4):
            await publish(hot, task_id, latest("l", n), message("log.a", n), latest("m", n), latest("l", -n))
            after = (await archived(store, hot, task_id, after)).last_index
        assert await portrait(store, task_id) == await portrait(hot, task_id)

    @pytest.mark.parametrize("size", [1, 3, 12])
    async def test_positions_at_and_inside_holes(
        self, store: LongTermStore, hot: MemoryShortTermStore, size: int
    ) -> None:
        """A position stays, and pages agree with it, whatever is replaced behind a reader."""
        task_id, after = (await created(hot)).task.id, -1
        held: dict[tuple[int, int], int] = {}
        for start in range(0, len(STORY), size):
            await publish(hot, task_id, *STORY[start : start + size])
            after = (await archived(store, hot, task_id, after)).last_index
            for at, view in enumerate(PLACES):
                for index in range(after + 2):
                    counted = await store.count(task_id, view, index)
                    assert held.setdefault((at, index), counted) == counted
        for first in range(len(STORY)):
            for stop in range(first + 1, len(STORY) + 1):
                items = (await store.read(task_id, after=first - 1, before=stop)).items
                for at, view in enumerate(PLACES):
                    assert passed(items, view) == held[at, stop] - held[at, first], (first, stop)
        if size == 1:  # otherwise some values come as parts of holes that do not tell their order
            await check_positions(store, task_id, STORY)

    @pytest.mark.parametrize("cut", [1, 4, 7])
    async def test_a_hole_across_the_watermark(self, store: LongTermStore, hot: MemoryShortTermStore, cut: int) -> None:
        """Cleanup removed what is archived and what is not; the archiver's repeat brings both as one hole."""
        drafts = [message("ab"[n % 3 % 2]) for n in range(8)]
        stored = await created(hot, *drafts[:cut])
        task_id = stored.task.id
        await archived(store, hot, task_id)
        await publish(hot, task_id, *drafts[cut:])
        await hot.trim(task_id, stored.epoch, TrimRule())
        await publish(hot, task_id, message("b"))
        assert (await archived(store, hot, task_id)).last_index == 8
        items = await whole_log(store, task_id)
        assert (span(items[cut]), span(items[-1])) == ((cut, 7), (8, 8)), "what was archived stays"
        for view in (View(types=["a"]), View(types=["b"])):
            total = sum(view.matches(draft.type, draft.level) for draft in drafts)
            assert await store.count(task_id, view, 8) == total
            assert await store.count(task_id, view, cut) == visible(items, view, cut)
            assert visible(items, view, 8) == total

    @pytest.mark.parametrize("name", ODD)
    async def test_odd_payloads(self, store: LongTermStore, hot: MemoryShortTermStore, name: str) -> None:
        stored = await created(
            hot, message("odd", ODD[name]), delta("s", "a", odd=ODD[name]), params={"odd": ODD[name]}
        )
        await archived(store, hot, stored.task.id)
        entries = entries_of(await whole_log(store, stored.task.id))
        assert json.dumps(entries[0].data) == json.dumps(ODD[name])
        assert json.dumps(await store.fold(stored.task.id, "s", 1)) == json.dumps({"delta": "a", "odd": ODD[name]})
        record = await store.get(stored.task.id)
        assert record is not None and json.dumps(record.task.params) == json.dumps({"odd": ODD[name]})

    async def test_a_long_log(self, store: LongTermStore, hot: MemoryShortTermStore) -> None:
        task_id = (await created(hot)).task.id
        for start in range(0, 3_000, 500):
            await publish(hot, task_id, *[message(f"t{n % 3}", n) for n in range(start, start + 500)])
        await archived(store, hot, task_id)
        assert [e.data for e in entries_of(await whole_log(store, task_id))] == list(range(3_000))
        assert await store.count(task_id, View(types=["t1"]), 2_500) == len(range(1, 2_500, 3))
        assert await store.seek(task_id, View(types=["t1"]), 800) == 2_401

    async def test_no_copy_and_other_epochs(self, store: LongTermStore, hot: MemoryShortTermStore) -> None:
        with pytest.raises(NotHot):
            await store.read(fresh_id())
        stored = await created(hot, message())
        await archived(store, hot, stored.task.id)
        with pytest.raises(EpochChanged):
            await store.read(stored.task.id, epoch=stored.epoch + 1)

    @pytest.mark.parametrize("keep_last", [1, 5, 1_000])
    async def test_a_copy_restores_the_hot_log(
        self, store: LongTermStore, hot: MemoryShortTermStore, keep_last: int
    ) -> None:
        stored = await created(hot, *RICH_HISTORY, lanes=("archive",))
        task_id = stored.task.id
        await archived(store, hot, task_id)
        before = await portrait(hot, task_id)
        copy = await store.copy(task_id, keep_last)
        assert copy is not None
        assert (copy.record, copy.rev, copy.segments) == (stored.record, stored.rev, stored.segments)
        assert (copy.last_index, copy.last_timestamp) == (stored.last_index, stored.last_timestamp)
        assert len(copy.items) <= keep_last and span(copy.items[0])[0] == copy.first_index
        async with MemoryShortTermStore() as other:
            ticket = await other.begin_restore(task_id, LONG_MS)
            await other.restore(ticket, copy)
            assert (await other.open(ticket)).first_index == copy.first_index
            await publish(other, task_id, delta("answer", "!", "other"))
            assert await other.fold(task_id, "answer", stored.last_index + 1) == {"other": "stop!"}
            assert await other.count(task_id, View(types=["delta"]), stored.last_index + 1) == before.counts[2][-1]
            if copy.first_index == 0:
                assert (await portrait(other, task_id)).folds | before.folds == (await portrait(other, task_id)).folds


class KeepingCases(Durable):
    """``list``, ``due``, ``delete`` and the audit log."""

    promise: ClassVar[str] = "archived tasks are found, wake up when cold, and stay deleted"

    @pytest.mark.parametrize("name", QUERIES)
    async def test_query(self, store: LongTermStore, hot: MemoryShortTermStore, name: str) -> None:
        for id_, fields in CAST.items():
            await created(hot, **{"id": id_} | fields)
        await store.write([await batch_of(hot, id_) for id_ in CAST])
        query, wanted = QUERIES[name]
        for limit in (1, 2, 100):
            assert "".join(await listed(store, evolve(query, limit=limit))) == wanted

    async def test_pages_and_foreign_cursors(self, store: LongTermStore, hot: MemoryShortTermStore) -> None:
        for n in range(5):
            await created(hot, id=f"t{n}", created_at=1000 + n)
        await store.write([await batch_of(hot, f"t{n}") for n in range(5)])
        pages = [[task.id for task in page.tasks] async for page in walk(store, ListQuery(limit=2))]
        assert pages == [["t4", "t3"], ["t2", "t1"], ["t0"]]
        with pytest.raises(InvalidInput):
            await store.list(ListQuery(cursor="rubbish"))

    async def test_timers_of_cold_tasks_are_due(self, store: LongTermStore, hot: MemoryShortTermStore) -> None:
        timers: list[dict[Any, int]] = [{"cleanup": 20}, {"cleanup": 10}, {"cleanup": FAR_FUTURE_MS}, {"resume": 5}]
        tasks = [(await created(hot, timers=timer)).task.id for timer in timers]
        marks = await store.write([await batch_of(hot, task_id) for task_id in tasks])
        assert list(await store.due("cleanup", 10)) == [], "those of hot tasks are the hot store's to watch"
        for task_id, mark in zip(tasks, marks, strict=True):
            assert await store.set_state(task_id, mark, "cold") is True
        due = await store.due("cleanup", 10)
        assert [(one.task_id, one.kind, one.due_at) for one in due] == [
            (tasks[1], "cleanup", 10), (tasks[0], "cleanup", 20),
        ]  # fmt: skip
        assert len(await store.due("cleanup", 1)) == 1

    async def test_a_deleted_task_is_forgotten(self, store: LongTermStore, hot: MemoryShortTermStore) -> None:
        stored = await created(hot, *RICH_HISTORY)
        task_id = stored.task.id
        await archived(store, hot, task_id)
        await store.delete(task_id, stored.epoch)
        assert await store.get(task_id) is None and await store.copy(task_id, 10) is None
        assert await listed(store, ListQuery()) == []
        with pytest.raises(NotHot):
            await store.read(task_id)

    async def test_a_tombstone_keeps_older_epochs_out(self, store: LongTermStore, hot: MemoryShortTermStore) -> None:
        stored = await created(hot, message("old"))
        task_id = stored.task.id
        late = await batch_of(hot, task_id)
        await store.write([late])
        await store.delete(task_id, stored.epoch)
        await store.write([late])
        assert await store.get(task_id) is None
        await hot.delete(task_id, linger_ms=0)
        assert await hot.purge(task_id, tombstone_ms=LONG_MS) is True
        await created(hot, message("new"), id=task_id)
        await archived(store, hot, task_id)
        assert [e.type for e in entries_of(await whole_log(store, task_id))] == ["new"]

    async def test_a_tombstone_for_a_task_that_never_arrived(
        self, store: LongTermStore, hot: MemoryShortTermStore
    ) -> None:
        stored = await created(hot, message())
        await store.delete(stored.task.id, stored.epoch)
        await archived(store, hot, stored.task.id)
        assert await store.get(stored.task.id) is None

    async def test_audit_log(self, store: LongTermStore) -> None:
        entries = [WorkerAudit(f"a{n}", "w1", 1000 + n, "claimed", {"n": n}) for n in range(5)]
        await store.write_audit([*entries[:3], WorkerAudit("other", "w2", 5, "connected")])
        await store.write_audit(entries[2:])
        assert list(await store.read_audit("w1", 10)) == entries[::-1]
        assert list(await store.read_audit("w1", 2)) == [entries[4], entries[3]]
        assert list(await store.read_audit("w1", 2, before="a3")) == [entries[2], entries[1]]
        assert list(await store.read_audit("nobody", 10)) == []


class LongTermStoreContract(WriteCases, ArchiveReadCases, ArchiveTrimCases, KeepingCases):
    """Everything that ``taskcast_core.contracts.LongTermStore`` promises. Override the fixture ``store``."""
