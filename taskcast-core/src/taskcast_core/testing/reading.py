"""TaskLog: pages, filtered positions, times and ids."""

from __future__ import annotations

from typing import ClassVar

import pytest

from taskcast_core.contracts import Held, TaskLog
from taskcast_core.errors import EpochChanged, NotHot
from taskcast_core.filters import View
from taskcast_core.ids import EventPosition, event_id, new_salt, parse_event_id
from taskcast_core.testing.contract import Contract, StoreTime
from taskcast_core.testing.making import (
    RICH_HISTORY,
    created,
    current,
    entries_of,
    fresh_id,
    message,
    publish,
    span,
    whole_log,
)
from taskcast_core.testing.portrait import VIEWS, visible


class ReadCases(Contract):
    """``read``."""

    capability: ClassVar[str] = "TaskLog"
    promise: ClassVar[str] = "pages cover the asked stretch in order, without a hidden gap"

    async def test_an_empty_log(self, store: TaskLog) -> None:
        task_id = (await created(store)).task.id
        page = await store.read(task_id)
        assert (page.items, page.last, page.log_last) == ((), -1, -1)

    async def test_the_end_of_the_log(self, store: TaskLog) -> None:
        task_id = (await created(store, message(), message())).task.id
        page = await store.read(task_id, after=1)
        assert (page.items, page.last, page.log_last) == ((), 1, 1)

    @pytest.mark.parametrize(("after", "before"), [(-1, None), (3, None), (-1, 4), (2, 7), (5, 6), (6, 100)])
    async def test_a_stretch_forwards_and_backwards(self, store: TaskLog, after: int, before: int | None) -> None:
        stored = await created(store, *[message(data=n) for n in range(10)])
        wanted = list(range(after + 1, min(before if before is not None else 10, 10)))
        forwards = await store.read(stored.task.id, after=after, before=before)
        backwards = await store.read(stored.task.id, after=after, before=before, reverse=True)
        assert [e.index for e in entries_of(forwards.items)] == wanted
        assert [e.index for e in entries_of(backwards.items)] == wanted
        assert forwards.log_last == backwards.log_last == 9 and forwards.epoch == stored.epoch
        if wanted:
            assert (forwards.last, backwards.last) == (wanted[-1], wanted[0])

    async def test_a_limit_takes_the_first_or_the_last(self, store: TaskLog) -> None:
        task_id = (await created(store, *[message(data=n) for n in range(10)])).task.id
        first = await store.read(task_id, after=2, limit=3)
        last = await store.read(task_id, before=8, limit=3, reverse=True)
        assert ([e.index for e in entries_of(first.items)], first.last) == ([3, 4, 5], 5)
        assert ([e.index for e in entries_of(last.items)], last.last) == ([5, 6, 7], 5)

    @pytest.mark.parametrize("page", [1, 2, 3, 7, 100])
    async def test_pages_of_any_size_add_up(self, store: TaskLog, page: int) -> None:
        task_id = (await created(store, *RICH_HISTORY)).task.id
        whole = await whole_log(store, task_id)
        assert list(map(span, await whole_log(store, task_id, page=page))) == list(map(span, whole))

    async def test_the_log_of_no_task(self, store: TaskLog) -> None:
        task_id, view = fresh_id(), View()
        for call in (
            store.read(task_id), store.series(task_id), store.fold(task_id, "s", 0), store.count(task_id, view, 1),
            store.seek(task_id, view, 0), store.seek_time(task_id, 0), store.locate(task_id, "x"),
        ):  # fmt: skip
            with pytest.raises(NotHot):
                await call

    async def test_another_epoch_is_refused(self, store: TaskLog) -> None:
        stored = await created(store, message())
        task_id, other, view = stored.task.id, stored.epoch + 1, View()
        for call in (
            store.read(task_id, epoch=other), store.series(task_id, epoch=other),
            store.count(task_id, view, 1, epoch=other), store.seek(task_id, view, 0, epoch=other),
            store.seek_time(task_id, 0, epoch=other), store.locate(task_id, "x", epoch=other),
        ):  # fmt: skip
            with pytest.raises(EpochChanged):
                await call
        assert (await store.read(task_id, epoch=stored.epoch)).log_last == 0

    async def test_heads(self, store: TaskLog) -> None:
        one, two = await created(store, message(), message(), status="running"), await created(store)
        entries = entries_of(await whole_log(store, one.task.id))
        held = [
            Held(one.task.id, 0),
            Held(one.task.id, 1),
            Held(one.task.id, 2),
            Held(fresh_id(), 0),
            Held(two.task.id, -1),
        ]
        first, second, beyond, absent, empty = await store.heads(held)
        assert first is not None and second is not None and beyond is not None and empty is not None
        assert absent is None
        assert (first.task_id, first.epoch, first.last_index, first.status) == (one.task.id, one.epoch, 1, "running")
        assert (first.id_at, second.id_at, beyond.id_at) == (entries[0].id, entries[1].id, None)
        assert (empty.last_index, empty.id_at, empty.status) == (-1, None, "pending")

    async def test_heads_of_nobody(self, store: TaskLog) -> None:
        assert list(await store.heads([])) == []


class PositionCases(Contract):
    """``count``, ``seek``, ``seek_time`` and ``locate``."""

    capability: ClassVar[str] = "TaskLog"
    promise: ClassVar[str] = "filtered positions, times and ids are found exactly, removed entries included"

    @pytest.mark.parametrize("view", VIEWS, ids=repr)
    async def test_count(self, store: TaskLog, view: View) -> None:
        task_id = (await created(store, *RICH_HISTORY)).task.id
        seen = 0
        for index, draft in enumerate(RICH_HISTORY):
            assert await store.count(task_id, view, index) == seen
            seen += view.matches(draft.type, draft.level)
        for beyond in (len(RICH_HISTORY), len(RICH_HISTORY) + 100):
            assert await store.count(task_id, view, beyond) == seen

    @pytest.mark.parametrize("view", VIEWS, ids=repr)
    async def test_seek(self, store: TaskLog, view: View) -> None:
        task_id = (await created(store, *RICH_HISTORY)).task.id
        wanted = [index for index, draft in enumerate(RICH_HISTORY) if view.matches(draft.type, draft.level)]
        assert [await store.seek(task_id, view, n) for n in range(len(wanted))] == wanted
        assert await store.seek(task_id, view, len(wanted)) is None

    async def test_positions_after_holes_stand(self, store: TaskLog) -> None:
        task_id = (await created(store, *RICH_HISTORY)).task.id
        items = await whole_log(store, task_id)
        for view in VIEWS:
            for item in items:
                assert await store.count(task_id, view, span(item)[0]) == visible(items, view, span(item)[0])

    async def test_an_empty_log_has_no_positions(self, store: TaskLog) -> None:
        task_id = (await created(store)).task.id
        assert await store.count(task_id, View(), 10) == 0
        assert await store.seek(task_id, View(), 0) is None
        assert await store.seek_time(task_id, store.now_ms() + 10**9) == -1

    async def test_seek_time(self, store: TaskLog, time: StoreTime) -> None:
        task_id = (await created(store)).task.id
        for _ in range(4):
            await publish(store, task_id, message(), message())
            await time.passes(3)
        stamps = [e.timestamp for e in entries_of(await whole_log(store, task_id))]
        assert len(set(stamps)) == 4
        assert await store.seek_time(task_id, stamps[0] - 1) == -1
        for n in range(4):
            assert await store.seek_time(task_id, stamps[2 * n]) == 2 * n + 1
            assert await store.seek_time(task_id, stamps[2 * n] + 1) == 2 * n + 1
        assert await store.seek_time(task_id, stamps[-1] + 10**9) == 7

    async def test_locate_what_is_there(self, store: TaskLog) -> None:
        task_id = (await created(store, *RICH_HISTORY)).task.id
        for entry in entries_of(await whole_log(store, task_id)):
            assert await store.locate(task_id, entry.id) == entry.index

    async def test_locate_what_was_there(self, store: TaskLog) -> None:
        done = await publish(store, (await created(store)).task.id, *RICH_HISTORY)
        for entry in done.entries:
            assert await store.locate(done.stored.task.id, entry.id) == entry.index

    async def test_locate_nothing_else(self, store: TaskLog) -> None:
        stored, other = await created(store, *RICH_HISTORY), await created(store, *RICH_HISTORY)
        task_id, salt = stored.task.id, stored.segments[-1].salt
        foreign = entries_of(await whole_log(store, other.task.id))
        for item in await whole_log(store, task_id):
            index = span(item)[0]
            at = stored.last_timestamp
            assert await store.locate(task_id, event_id(at + 60_000, salt, index)) is None, "wrong time"
            assert await store.locate(task_id, event_id(1_000, salt, index)) is None, "wrong time"
            assert await store.locate(task_id, event_id(at, new_salt() ^ 1, index)) is None, "wrong salt"
        for entry in foreign:
            assert await store.locate(task_id, entry.id) is None, "another task's id"
        beyond = event_id(stored.last_timestamp, salt, stored.last_index + 1)
        for rubbish in (beyond, "", "0" * 26, "Z" * 26, "01ARZ3NDEKTSV4RRFFQ69G5FAV", "no\x00 id"):
            assert await store.locate(task_id, rubbish) is None

    async def test_ids_name_their_place(self, store: TaskLog) -> None:
        stored = await created(store, message(), message())
        for entry in entries_of(await whole_log(store, stored.task.id)):
            position = parse_event_id(entry.id)
            assert position == EventPosition(entry.timestamp, stored.segments[-1].salt, entry.index)

    async def test_a_position_near_the_end_of_a_long_log(self, store: TaskLog) -> None:
        task_id = (await created(store)).task.id
        for start in range(0, 5_000, 500):
            await publish(store, task_id, *[message(f"t{n % 7}", n) for n in range(start, start + 500)])
        view = View(types=["t3"])
        assert await store.count(task_id, view, 4_999) == len(range(3, 4_999, 7))
        assert await store.seek(task_id, view, 700) == 3 + 7 * 700
        assert await store.count(task_id, view, 1_234) == len(range(3, 1_234, 7))
        assert (await current(store, task_id)).last_index == 4_999
