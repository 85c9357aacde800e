"""TaskLog: a log that has lost its end goes on in a new epoch."""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from typing import ClassVar

import pytest

from taskcast_core.contracts import Held, TaskLog
from taskcast_core.errors import EpochChanged, ReplyExpired
from taskcast_core.filters import View
from taskcast_core.testing.commits import RACERS
from taskcast_core.testing.contract import Contract
from taskcast_core.testing.making import (
    a_key,
    created,
    current,
    delta,
    entries_of,
    fresh_id,
    message,
    piece,
    publish,
    race,
    whole_log,
)


class EpochCases(Contract):
    """``found_epoch``."""

    capability: ClassVar[str] = "TaskLog"
    promise: ClassVar[str] = "a new epoch keeps the ids up to its floor, and one caller founds it"

    async def test_entries_beyond_the_floor_are_dropped(self, store: TaskLog) -> None:
        stored = await created(store, *[message(data=n) for n in range(6)], status="running")
        before = entries_of(await whole_log(store, stored.task.id))
        after = await store.found_epoch(stored.task.id, stored.epoch, 3)
        assert after is not None and after == await current(store, stored.task.id)
        assert after.epoch > stored.epoch and after.last_index == 3
        assert (after.record, after.rev) == (stored.record, stored.rev)
        assert [segment.first for segment in after.segments] == [0, 4]
        left = entries_of(await whole_log(store, stored.task.id))
        assert [(e.id, e.timestamp, e.text) for e in left] == [(e.id, e.timestamp, e.text) for e in before[:4]]

    async def test_later_entries_have_ids_of_the_new_epoch(self, store: TaskLog) -> None:
        stored = await created(store, *[message(data=n) for n in range(4)])
        task_id = stored.task.id
        old = entries_of(await whole_log(store, task_id))
        await store.found_epoch(task_id, stored.epoch, 1)
        await publish(store, task_id, message(), message())
        new = entries_of(await whole_log(store, task_id))
        assert [e.index for e in new] == [0, 1, 2, 3]
        assert [e.id for e in new[:2]] == [e.id for e in old[:2]]
        assert {e.id for e in new[2:]}.isdisjoint(e.id for e in old)
        assert [e.timestamp for e in new] == sorted(e.timestamp for e in new)
        for entry in new:
            assert await store.locate(task_id, entry.id) == entry.index
        for entry in old[2:]:
            assert await store.locate(task_id, entry.id) is None
        (head,) = await store.heads([Held(task_id, 3)])
        assert head is not None and head.id_at == new[3].id != old[3].id

    async def test_readers_of_the_old_epoch_are_told(self, store: TaskLog) -> None:
        stored = await created(store, message())
        await store.found_epoch(stored.task.id, stored.epoch, 0)
        with pytest.raises(EpochChanged):
            await store.read(stored.task.id, epoch=stored.epoch)

    async def test_a_floor_at_the_end_drops_nothing(self, store: TaskLog) -> None:
        stored = await created(store, message(), message())
        after = await store.found_epoch(stored.task.id, stored.epoch, 1)
        assert after is not None and after.last_index == 1 and after.epoch > stored.epoch

    async def test_a_floor_before_the_start_drops_everything(self, store: TaskLog) -> None:
        stored = await created(store, message(), delta("s", "a"))
        after = await store.found_epoch(stored.task.id, stored.epoch, -1)
        assert after is not None and after.last_index == -1
        done = await publish(store, stored.task.id, delta("s", "b"))
        assert done.entries[0].index == 0
        assert await store.fold(stored.task.id, "s", 0) == {"delta": "b"}

    async def test_an_epoch_that_has_changed_already_is_left_alone(self, store: TaskLog) -> None:
        stored = await created(store, *[message()] * 4)
        first = await store.found_epoch(stored.task.id, stored.epoch, 2)
        second = await store.found_epoch(stored.task.id, stored.epoch, 0)
        assert first is not None and second == first
        assert (await current(store, stored.task.id)).last_index == 2

    async def test_one_of_many_racing_founders_wins(self, peers: Sequence[TaskLog]) -> None:
        stored = await created(peers[0], *[message()] * 4)
        results, lost = await race(RACERS, lambda n: peers[n % 2].found_epoch(stored.task.id, stored.epoch, 3))
        assert not lost
        epoch = (await current(peers[1], stored.task.id)).epoch
        assert {after.epoch if after else None for after in results} == {epoch}
        assert len({after.segments[-1].salt for after in results if after}) == 1

    async def test_no_hot_copy(self, store: TaskLog) -> None:
        assert await store.found_epoch(fresh_id(), 1, 0) is None

    async def test_series_and_positions_are_those_at_the_floor(self, store: TaskLog) -> None:
        drafts = (
            delta("s", "a"), message("log.x"), delta("s", "b"), delta("t", "late"), delta("s", "c"), piece("s", 1),
            message("log.y"),
        )  # fmt: skip
        stored = await created(store, *drafts)
        task_id = stored.task.id
        await store.found_epoch(task_id, stored.epoch, 2)
        page = await store.series(task_id)
        assert (page.log_last, set(page.states)) == (2, {"s"})
        assert (page.states["s"].last_index, page.states["s"].length) == (2, 2)
        assert await store.count(task_id, View(types=["log.*"]), 100) == 1
        await publish(store, task_id, delta("s", "X"), delta("t", "new"), message("log.z"))
        assert await store.fold(task_id, "s", 2) == {"delta": "ab"}
        assert await store.fold(task_id, "s", 3) == {"delta": "abX"}
        assert await store.fold(task_id, "t", 4) == {"delta": "new"}
        assert await store.seek(task_id, View(types=["log.*"]), 1) == 5

    async def test_a_key_of_lost_entries_does_not_bring_others(self, store: TaskLog) -> None:
        stored, key = await created(store, message()), a_key()
        first = await publish(store, stored.task.id, message("lost"), key=key)
        await store.found_epoch(stored.task.id, stored.epoch, 0)
        await publish(store, stored.task.id, message("other"))
        with contextlib.suppress(ReplyExpired):
            again = await publish(store, stored.task.id, message("lost"), key=key)
            assert [e.type for e in again.entries] == ["lost"]
            assert not again.replayed and again.entries[0].id != first.entries[0].id

    async def test_epochs_of_epochs(self, store: TaskLog) -> None:
        stored = await created(store, *[message(data=n) for n in range(5)])
        task_id, epochs = stored.task.id, [stored.epoch]
        for floor in (3, 2):
            after = await store.found_epoch(task_id, epochs[-1], floor)
            assert after is not None
            epochs.append(after.epoch)
            await publish(store, task_id, message("new"), message("new"))
        assert epochs == sorted(set(epochs))
        entries = entries_of(await whole_log(store, task_id))
        assert [e.index for e in entries] == [0, 1, 2, 3, 4]
        for entry in entries:
            assert await store.locate(task_id, entry.id) == entry.index
