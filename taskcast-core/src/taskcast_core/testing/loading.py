"""TaskLog: making a task with a log that comes from elsewhere."""

from __future__ import annotations

from typing import ClassVar

import pytest
from attrs import evolve

from taskcast_core.contracts import LogCopy, Record, Segment, TaskLog
from taskcast_core.entries import Entry, Origin
from taskcast_core.errors import EpochChanged, TaskExists
from taskcast_core.filters import View
from taskcast_core.ids import new_salt
from taskcast_core.models import EventDraft
from taskcast_core.testing.contract import Contract
from taskcast_core.testing.making import (
    a_task,
    copy_of,
    created,
    current,
    delta,
    entries_of,
    fresh_id,
    latest,
    message,
    publish,
    whole_log,
)


def imported(now_ms: int, *drafts: EventDraft, task_id: str | None = None) -> LogCopy:
    """A log of plain events with ids that another system gave."""
    task = a_task(now_ms, id=task_id or fresh_id(), status="completed")
    salt = new_salt()
    origin = Origin(task.id, 1, salt)
    stamps = [now_ms - 1000 + 10 * index for index in range(len(drafts))]
    items = tuple(
        Entry(origin, index, stamps[index], draft, f"foreign/{task.id}/{index}") for index, draft in enumerate(drafts)
    )
    return LogCopy(
        Record(task), 1, (Segment(0, 1, salt),), items, last_index=len(items) - 1, last_timestamp=max(stamps, default=0)
    )


class LoadCases(Contract):
    """``load``."""

    capability: ClassVar[str] = "TaskLog"
    promise: ClassVar[str] = "a loaded log is there whole, with the ids and times it came with"

    async def test_given_ids_and_times_stay(self, store: TaskLog) -> None:
        copy = imported(store.now_ms(), message("a", 1), message("b", 2), message("a", 3, "warn"))
        stored = await store.load(copy)
        task_id = stored.task.id
        assert stored == await current(store, task_id)
        assert (stored.record, stored.last_index, stored.last_timestamp) == (copy.record, 2, copy.last_timestamp)
        entries = entries_of(await whole_log(store, task_id))
        assert [(e.id, e.timestamp, e.text) for e in entries] == [
            (e.id, e.timestamp, e.text) for e in entries_of(copy.items)
        ]
        for entry in entries:
            assert await store.locate(task_id, entry.id) == entry.index
            assert await store.seek_time(task_id, entry.timestamp) == entry.index
        assert await store.count(task_id, View(types=["a"]), 3) == 2
        assert await store.seek(task_id, View(types=["a"]), 1) == 2

    async def test_a_loaded_log_goes_on(self, store: TaskLog) -> None:
        stored = await store.load(imported(store.now_ms(), message()))
        done = await publish(store, stored.task.id, message(), delta("s", "a"))
        assert [e.index for e in done.entries] == [1, 2]
        assert done.entries[0].timestamp >= stored.last_timestamp
        assert [await store.locate(stored.task.id, e.id) for e in done.entries] == [1, 2]

    async def test_series_go_on(self, store: TaskLog) -> None:
        source = (await created(store, delta("s", "a"), latest("l", 1), delta("s", "b"))).task.id
        copy = await copy_of(store, source)
        task = evolve(copy.record.task, id=fresh_id())
        stored = await store.load(evolve(copy, record=evolve(copy.record, task=task)))
        await publish(store, stored.task.id, delta("s", "c"), latest("l", 2))
        assert [await store.fold(stored.task.id, "s", n) for n in (0, 2, 3)] == [
            {"delta": t} for t in ("a", "ab", "abc")
        ]
        assert [e.index for e in entries_of(await whole_log(store, stored.task.id))] == [0, 2, 3, 4]

    async def test_an_empty_log(self, store: TaskLog) -> None:
        stored = await store.load(imported(store.now_ms()))
        assert stored.last_index == -1
        assert (await publish(store, stored.task.id, message())).entries[0].index == 0

    async def test_a_taken_id_is_refused(self, store: TaskLog) -> None:
        stored = await created(store, message())
        with pytest.raises(TaskExists):
            await store.load(imported(store.now_ms(), message("other"), task_id=stored.task.id))
        assert [e.type for e in entries_of(await whole_log(store, stored.task.id))] == ["message"]

    async def test_overwriting_begins_a_new_epoch(self, store: TaskLog) -> None:
        stored = await created(store, message("old"), delta("s", "old"))
        copy = imported(store.now_ms(), message("new"), task_id=stored.task.id)
        after = await store.load(copy, overwrite=True)
        assert after.epoch > stored.epoch
        assert [e.type for e in entries_of(await whole_log(store, stored.task.id))] == ["new"]
        assert (await store.series(stored.task.id)).states == {}
        with pytest.raises(EpochChanged):
            await store.read(stored.task.id, epoch=stored.epoch)

    async def test_overwriting_nothing(self, store: TaskLog) -> None:
        copy = imported(store.now_ms(), message("new"))
        assert (await store.load(copy, overwrite=True)).last_index == 0
