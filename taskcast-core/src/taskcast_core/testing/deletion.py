"""TaskLog: deleting a task, and what keeps it gone."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

import pytest

from taskcast_core.contracts import Held, Record, TaskLog
from taskcast_core.errors import NotHot, TaskDeleting
from taskcast_core.testing.commits import RACERS
from taskcast_core.testing.contract import LONG_MS, Contract, StoreTime
from taskcast_core.testing.making import (
    RICH_HISTORY,
    a_key,
    a_task,
    copy_of,
    created,
    current,
    entries_of,
    fresh_id,
    message,
    publish,
    race,
    replace,
    whole_log,
)


class DeletionCases(Contract):
    """``delete`` and ``purge``."""

    capability: ClassVar[str] = "TaskLog"
    promise: ClassVar[str] = "a deleted task is hidden at once, read on by open streams, and never comes back"

    async def test_it_is_hidden_at_once(self, store: TaskLog) -> None:
        stored = await created(store, message())
        assert await store.delete(stored.task.id, linger_ms=LONG_MS) is True
        assert await store.get(stored.task.id) is None
        with pytest.raises(NotHot):
            await publish(store, stored.task.id, message())
        with pytest.raises(NotHot):
            await replace(store, stored, status="running")
        with pytest.raises(NotHot):
            await store.read(stored.task.id)
        assert await store.found_epoch(stored.task.id, stored.epoch, 0) is None

    async def test_open_streams_read_on(self, store: TaskLog) -> None:
        stored = await created(store, *RICH_HISTORY, status="running")
        task_id = stored.task.id
        before = entries_of(await whole_log(store, task_id))
        await store.delete(task_id, linger_ms=LONG_MS)
        after = entries_of(await whole_log(store, task_id, epoch=stored.epoch))
        assert [e.id for e in after] == [e.id for e in before]
        assert await store.fold(task_id, "answer", 4, epoch=stored.epoch) == {"delta": "Hello"}
        assert (await store.series(task_id, epoch=stored.epoch)).log_last == stored.last_index
        (head,) = await store.heads([Held(task_id, 0)])
        assert head is not None and (head.epoch, head.last_index) == (stored.epoch, stored.last_index)

    async def test_deleting_nothing(self, store: TaskLog) -> None:
        assert await store.delete(fresh_id(), linger_ms=0) is False
        stored = await created(store)
        await store.delete(stored.task.id, linger_ms=LONG_MS)
        assert await store.delete(stored.task.id, linger_ms=LONG_MS) is False

    async def test_one_of_many_racing_deleters_wins(self, peers: Sequence[TaskLog]) -> None:
        task_id = (await created(peers[0])).task.id
        results, lost = await race(RACERS, lambda n: peers[n % 2].delete(task_id, linger_ms=LONG_MS))
        assert not lost and sorted(results) == [False] * (RACERS - 1) + [True]

    async def test_the_data_stays_while_it_lingers(self, store: TaskLog) -> None:
        stored = await created(store, message())
        await store.delete(stored.task.id, linger_ms=LONG_MS)
        assert await store.purge(stored.task.id, tombstone_ms=LONG_MS) is False
        assert len(await whole_log(store, stored.task.id, epoch=stored.epoch)) == 1

    async def test_the_id_is_not_free_until_the_data_is_gone(self, store: TaskLog, time: StoreTime) -> None:
        stored = await created(store, message())
        copy = await copy_of(store, stored.task.id)
        await store.delete(stored.task.id, linger_ms=time.brief_ms)
        with pytest.raises(TaskDeleting):
            await created(store, id=stored.task.id)
        with pytest.raises(TaskDeleting):
            await store.load(copy)
        await time.passes(time.brief_ms)
        with pytest.raises(TaskDeleting):
            await created(store, id=stored.task.id)
        assert await store.purge(stored.task.id, tombstone_ms=LONG_MS) is True
        assert (await created(store, id=stored.task.id)).last_index == -1

    async def test_a_purged_log_is_gone(self, store: TaskLog) -> None:
        stored = await created(store, message())
        await store.delete(stored.task.id, linger_ms=0)
        assert await store.purge(stored.task.id, tombstone_ms=LONG_MS) is True
        with pytest.raises(NotHot):
            await store.read(stored.task.id, epoch=stored.epoch)
        with pytest.raises(NotHot):
            await publish(store, stored.task.id, message())
        assert list(await store.heads([Held(stored.task.id, 0)])) == [None]

    async def test_a_living_task_cannot_be_purged(self, store: TaskLog) -> None:
        stored = await created(store, message())
        await store.purge(stored.task.id, tombstone_ms=LONG_MS)
        assert await current(store, stored.task.id) == stored
        await publish(store, stored.task.id, message())

    async def test_the_ids_next_log_begins_in_a_later_epoch(self, store: TaskLog) -> None:
        task_id, epochs, ids = fresh_id(), [], set()
        for _ in range(3):
            stored = await created(store, message(), id=task_id)
            epochs.append(stored.epoch)
            ids |= {entry.id for entry in entries_of(await whole_log(store, task_id))}
            await store.delete(task_id, linger_ms=0)
            assert await store.purge(task_id, tombstone_ms=LONG_MS) is True
        assert epochs == sorted(set(epochs)) and len(ids) == 3

    async def test_a_later_epoch_also_after_a_founded_one(self, store: TaskLog) -> None:
        stored = await created(store, message())
        after = await store.found_epoch(stored.task.id, stored.epoch, 0)
        assert after is not None
        await store.delete(stored.task.id, linger_ms=0)
        assert await store.purge(stored.task.id, tombstone_ms=LONG_MS) is True
        assert (await created(store, id=stored.task.id)).epoch > after.epoch

    async def test_nothing_of_the_old_task_is_in_the_new_one(self, store: TaskLog) -> None:
        key = a_key()
        stored = await created(store, *RICH_HISTORY)
        task_id = stored.task.id
        await publish(store, task_id, message("keyed"), key=key)
        old_ids = [e.id for e in entries_of(await whole_log(store, task_id))]
        await store.delete(task_id, linger_ms=0)
        await store.purge(task_id, tombstone_ms=LONG_MS)
        await created(store, message("new"), id=task_id)
        assert [e.type for e in entries_of(await whole_log(store, task_id))] == ["new"]
        assert (await store.series(task_id)).states == {}
        assert [await store.locate(task_id, old) for old in old_ids] == [None] * len(old_ids)

    async def test_a_keyed_creation_outlives_its_task(self, store: TaskLog) -> None:
        key, record = a_key(), Record(a_task(store.now_ms()))
        await store.create(record, key)
        await store.delete(record.task.id, linger_ms=0)
        await store.purge(record.task.id, tombstone_ms=LONG_MS)
        again = await store.create(record, key)
        assert again.replayed and again.stored.record == record
        assert await store.get(record.task.id) is None
