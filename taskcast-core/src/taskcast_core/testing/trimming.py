"""TaskLog: what cleanup removes, and what stays right all the same."""

from __future__ import annotations

from typing import ClassVar

import pytest

from taskcast_core.contracts import TaskLog, TrimRule
from taskcast_core.errors import EpochChanged, NotHot
from taskcast_core.models import EventDraft, EventFilter
from taskcast_core.testing.contract import Contract, StoreTime
from taskcast_core.testing.making import (
    RICH_HISTORY,
    created,
    current,
    delta,
    entries_of,
    fresh_id,
    holes_of,
    kept,
    latest,
    message,
    publish,
    span,
    whole_log,
)
from taskcast_core.testing.portrait import VIEWS, visible

ALL = TrimRule(keep_series_ends=False)


async def _left(store: TaskLog, task_id: str) -> list[int]:
    return [entry.index for entry in entries_of(await whole_log(store, task_id))]


class TrimCases(Contract):
    """``trim``."""

    capability: ClassVar[str] = "TaskLog"
    promise: ClassVar[str] = "trimming removes what the rule says, and positions and folds of the rest stand"

    async def test_everything(self, store: TaskLog) -> None:
        stored = await created(store, *[message(data=n) for n in range(5)])
        assert await store.trim(stored.task.id, stored.epoch, ALL) == 5
        items = await whole_log(store, stored.task.id)
        assert [span(item) for item in items] == [(0, 4)]
        assert holes_of(items)[0].counts == {("message", "info"): 5}
        assert await current(store, stored.task.id) == stored

    async def test_twice_is_once(self, store: TaskLog) -> None:
        stored = await created(store, message(), message())
        assert await store.trim(stored.task.id, stored.epoch, ALL) == 2
        assert await store.trim(stored.task.id, stored.epoch, ALL) == 0

    @pytest.mark.parametrize(
        ("rule", "left"),
        [
            (TrimRule(types=("log.*",)), [1, 4, 5]),
            (TrimRule(types=("log.*", "tool")), [4, 5]),
            (TrimRule(types=()), [0, 1, 2, 3, 4, 5]),
            (TrimRule(levels=("debug",)), [1, 2, 3, 4, 5]),
            (TrimRule(types=("log.*",), levels=("warn", "debug")), [1, 3, 4, 5]),
            (TrimRule(series_modes=("keep-all",)), [5]),
            (TrimRule(types=("step", "delta"), series_modes=("keep-all",)), [0, 1, 2, 3, 5]),
        ],
        ids=["types", "more-types", "no-type", "levels", "types-and-levels", "modes", "types-and-modes"],
    )
    async def test_rule(self, store: TaskLog, rule: TrimRule, left: list[int]) -> None:
        drafts = [
            message("log.a", 0, "debug"), message("tool"), message("log.b", 0, "warn"), message("log.b"),
            kept("k", 1), delta("s", "x"),
        ]  # fmt: skip
        stored = await created(store, *drafts)
        removed = await store.trim(stored.task.id, stored.epoch, rule)
        assert (removed, await _left(store, stored.task.id)) == (6 - len(left), left)

    async def test_by_age(self, store: TaskLog, time: StoreTime) -> None:
        stored = await created(store, message(), message())
        await time.passes(5)
        young = (await publish(store, stored.task.id, message())).entries[0]
        removed = await store.trim(stored.task.id, stored.epoch, TrimRule(older_than=young.timestamp))
        assert (removed, await _left(store, stored.task.id)) == (2, [2])

    async def test_a_limit_takes_the_oldest_first(self, store: TaskLog) -> None:
        stored = await created(store, *[message(data=n) for n in range(5)])
        assert await store.trim(stored.task.id, stored.epoch, ALL, limit=2) == 2
        assert await _left(store, stored.task.id) == [2, 3, 4]
        assert await store.trim(stored.task.id, stored.epoch, ALL, limit=2) == 2
        assert await store.trim(stored.task.id, stored.epoch, ALL, limit=2) == 1
        items = await whole_log(store, stored.task.id)
        assert [span(item) for item in items] == [(0, 4)]

    async def test_the_rule_of_a_cleanup_filter(self, store: TaskLog) -> None:
        stored = await created(store, message("log.a"), delta("s", "a"), delta("s", "b"))
        rule = TrimRule.of(EventFilter(types=("log.*", "delta"), older_than_ms=0), stored.last_timestamp + 1)
        assert await store.trim(stored.task.id, stored.epoch, rule) == 2
        assert await store.fold(stored.task.id, "s", 2) == {"delta": "ab"}

    async def test_series_keep_their_newest_entry_and_total(self, store: TaskLog) -> None:
        stored = await created(store, delta("s", "a"), latest("l", 1), delta("s", "b"), message(), latest("l", 2))
        assert await store.trim(stored.task.id, stored.epoch, TrimRule()) == 2
        assert await _left(store, stored.task.id) == [2, 4]
        first, second = holes_of(await whole_log(store, stored.task.id))
        assert (first.cut_series, first.lost_series) == (True, False)
        assert not second.cut_series and not second.lost_series
        assert await store.fold(stored.task.id, "s", 2) == {"delta": "ab"}
        await publish(store, stored.task.id, delta("s", "c"), latest("l", 3))
        assert await store.fold(stored.task.id, "s", 5) == {"delta": "abc"}

    async def test_a_series_may_go_whole(self, store: TaskLog) -> None:
        stored = await created(store, delta("s", "a"), delta("s", "b"), latest("l", 1))
        assert await store.trim(stored.task.id, stored.epoch, ALL) == 3
        assert (await store.series(stored.task.id)).states == {}
        (hole,) = holes_of(await whole_log(store, stored.task.id))
        assert hole.cut_series and hole.lost_series
        await publish(store, stored.task.id, delta("s", "new"))
        assert await store.fold(stored.task.id, "s", 3) == {"delta": "new"}

    async def test_a_series_that_loses_only_its_newest_entry_goes_on(self, store: TaskLog) -> None:
        ending = EventDraft("end", "info", {"delta": "c"}, "s", "accumulate")
        stored = await created(store, delta("s", "a"), delta("s", "b"), ending)
        rule = TrimRule(types=("end",), keep_series_ends=False)
        assert await store.trim(stored.task.id, stored.epoch, rule) == 1
        (hole,) = holes_of(await whole_log(store, stored.task.id))
        assert not hole.lost_series, "two of its entries are left"
        assert await store.fold(stored.task.id, "s", 1) == {"delta": "ab"}
        await publish(store, stored.task.id, delta("s", "d"))
        assert await store.fold(stored.task.id, "s", 3) == {"delta": "abcd"}

    async def test_folds_of_what_is_left(self, store: TaskLog) -> None:
        stored = await created(store, *[delta("s", letter) for letter in "abcdef"])
        assert await store.trim(stored.task.id, stored.epoch, TrimRule(), limit=3) == 3
        assert [(await store.fold(stored.task.id, "s", n))["delta"] for n in (3, 4, 5)] == ["abcd", "abcde", "abcdef"]

    async def test_positions_are_as_before(self, store: TaskLog) -> None:
        stored = await created(store, *RICH_HISTORY)
        task_id, last = stored.task.id, stored.last_index
        totals = [await store.count(task_id, view, last + 1) for view in VIEWS]
        counts = {index: [await store.count(task_id, view, index) for view in VIEWS] for index in range(last + 1)}
        ids = {e.id: e.index for e in entries_of(await whole_log(store, task_id))}
        await store.trim(task_id, stored.epoch, TrimRule(types=("log.*", "delta", "tool.call")))
        items = await whole_log(store, task_id)
        for first, _ in map(span, items):
            assert [await store.count(task_id, view, first) for view in VIEWS] == counts[first]
            assert [visible(items, view, first) for view in VIEWS] == counts[first]
        assert [await store.count(task_id, view, last + 1) for view in VIEWS] == totals
        for entry in entries_of(items):
            for view, below in zip(VIEWS, counts[entry.index], strict=True):
                if view.matches(entry.type, entry.level):
                    assert await store.seek(task_id, view, below) == entry.index
        for event_id, index in ids.items():
            assert await store.locate(task_id, event_id) == index

    async def test_publishing_goes_on_behind_the_holes(self, store: TaskLog) -> None:
        stored = await created(store, message(), message())
        await store.trim(stored.task.id, stored.epoch, ALL)
        done = await publish(store, stored.task.id, message())
        assert done.entries[0].index == 2 and done.entries[0].timestamp >= stored.last_timestamp

    async def test_other_epochs_and_other_tasks(self, store: TaskLog) -> None:
        stored = await created(store, message())
        with pytest.raises(EpochChanged):
            await store.trim(stored.task.id, stored.epoch + 1, ALL)
        with pytest.raises(NotHot):
            await store.trim(fresh_id(), 1, ALL)
        assert await _left(store, stored.task.id) == [0]
