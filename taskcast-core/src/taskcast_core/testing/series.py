"""TaskLog: how series accumulate, and what later values do to earlier ones."""

from __future__ import annotations

import random
from itertools import pairwise
from typing import Any, ClassVar

import pytest

from taskcast_core.contracts import TaskLog, TrimRule
from taskcast_core.entries import Entry, Hole
from taskcast_core.errors import NotRetained
from taskcast_core.models import EventDraft
from taskcast_core.testing.contract import Contract
from taskcast_core.testing.making import (
    HALF_SERIES,
    created,
    delta,
    entries_of,
    fresh_id,
    holes_of,
    kept,
    latest,
    message,
    piece,
    publish,
    span,
    whole_log,
)

SENTENCE = "Grüße 👩‍👩‍👧‍👦, naïve \U0001d4b3 — 终わり\u0000!"


class SeriesCases(Contract):
    """Accumulate, latest, keep-all."""

    capability: ClassVar[str] = "TaskLog"
    promise: ClassVar[str] = "a fold at any index is the sum of the deltas up to it"

    async def _folds(self, store: TaskLog, *drafts: EventDraft) -> list[Any]:
        """The folded payload of every entry of the series ``s``, published one by one."""
        task_id = (await created(store)).task.id
        for draft in drafts:
            await publish(store, task_id, draft)
        return [await store.fold(task_id, "s", index) for index in range(len(drafts))]

    async def test_deltas_add_up(self, store: TaskLog) -> None:
        folds = await self._folds(store, delta("s", "a"), delta("s", "b"), delta("s", ""), delta("s", "c"))
        assert folds == [{"delta": text} for text in ("a", "ab", "ab", "abc")]

    async def test_other_keys_come_from_the_newest_entry(self, store: TaskLog) -> None:
        folds = await self._folds(store, delta("s", "a", n=1, old=1), delta("s", "b", n=2))
        assert folds == [{"delta": "a", "n": 1, "old": 1}, {"delta": "ab", "n": 2}]

    @pytest.mark.parametrize("odd", [None, 7, "text", [], ["delta"], {}, {"delta": 7}, {"delta": None}, {"text": "x"}])
    async def test_an_entry_without_text_restarts_the_total(self, store: TaskLog, odd: Any) -> None:
        folds = await self._folds(store, delta("s", "a"), piece("s", odd), delta("s", "b"), delta("s", "c"))
        assert folds == [{"delta": "a"}, odd, {"delta": "b"}, {"delta": "bc"}]

    async def test_a_custom_field(self, store: TaskLog) -> None:
        folds = await self._folds(store, delta("s", "a", "content", delta=1), delta("s", "b", "content", delta=2))
        assert folds == [{"content": "a", "delta": 1}, {"content": "ab", "delta": 2}]

    @pytest.mark.parametrize("half", HALF_SERIES)
    async def test_without_both_fields_an_event_is_plain(self, store: TaskLog, half: EventDraft) -> None:
        task_id = (await created(store, message(), half, half)).task.id
        entries = entries_of(await whole_log(store, task_id))
        assert [(entry.series_id, entry.series_mode) for entry in entries] == [(None, None)] * 3
        assert [entry.draft for entry in entries[1:]] == [half] * 2, "what its publisher wrote stands as it was"
        assert (await store.series(task_id)).states == {}
        removed = await store.trim(task_id, 1, TrimRule(series_modes=("keep-all",)))
        assert removed == 3, "rules for modes are not about plain events"

    async def test_a_switch_of_the_field_begins_with_what_the_last_entry_had_there(self, store: TaskLog) -> None:
        folds = await self._folds(
            store, delta("s", "a"), delta("s", "b", other="X"), delta("s", "Y", "other"), delta("s", "Z", "other"),
            delta("s", "c"),
        )  # fmt: skip
        assert folds == [
            {"delta": "a"},
            {"delta": "ab", "other": "X"},
            {"other": "XY"},
            {"other": "XYZ"},
            {"delta": "c"},
        ]

    async def test_a_series_that_begins_with_text_accumulates_text(self, store: TaskLog) -> None:
        task_id = (await created(store)).task.id
        await publish(store, task_id, piece("s", {"text": "a"}))
        await publish(store, task_id, piece("s", {"text": "b", "delta": "d"}), piece("s", {"text": "c"}))
        assert [await store.fold(task_id, "s", n) for n in range(3)] == [
            {"text": "a"}, {"text": "ab", "delta": "d"}, {"text": "abc"},
        ]  # fmt: skip
        entries = entries_of(await whole_log(store, task_id))
        assert [e.draft.series_acc_field for e in entries] == ["text"] * 3

    async def test_a_series_that_begins_with_delta_does_not_accumulate_text(self, store: TaskLog) -> None:
        folds = await self._folds(
            store, piece("s", {"delta": "a", "text": "x"}), piece("s", {"delta": "b", "text": "y"})
        )
        assert folds == [{"delta": "a", "text": "x"}, {"delta": "ab", "text": "y"}]

    async def test_within_one_batch(self, store: TaskLog) -> None:
        task_id = (await created(store)).task.id
        await publish(store, task_id, delta("s", "a"), delta("t", "x"), delta("s", "b"), piece("s", 1), delta("s", "c"))
        assert [await store.fold(task_id, "s", n) for n in (0, 2, 3, 4)] == [
            {"delta": "a"},
            {"delta": "ab"},
            1,
            {"delta": "c"},
        ]
        assert await store.fold(task_id, "t", 1) == {"delta": "x"}

    async def test_series_of_other_tasks_are_others(self, store: TaskLog) -> None:
        one, two = await created(store, delta("s", "a")), await created(store, delta("s", "b"))
        assert await store.fold(one.task.id, "s", 0) == {"delta": "a"}
        assert await store.fold(two.task.id, "s", 0) == {"delta": "b"}

    @pytest.mark.parametrize("seed", range(5))
    async def test_unicode_may_be_cut_anywhere(self, store: TaskLog, seed: int) -> None:
        """JavaScript producers cut between UTF-16 units, and so through the middle of a character."""
        rng = random.Random(seed)
        units = SENTENCE.encode("utf-16-le")
        cuts = sorted(rng.sample(range(1, len(units) // 2), 9))
        bounds = [0, *[2 * cut for cut in cuts], len(units)]
        parts = [units[start:end].decode("utf-16-le", "surrogatepass") for start, end in pairwise(bounds)]
        folds = await self._folds(store, *[delta("s", part) for part in parts])
        sums = ["".join(parts[: n + 1]) for n in range(len(parts))]
        assert [_utf16(fold["delta"]) for fold in folds] == [_utf16(total) for total in sums]
        assert _utf16(folds[-1]["delta"]) == units

    async def test_plain_and_lone_surrogates_in_one_series(self, store: TaskLog) -> None:
        folds = await self._folds(store, delta("s", "a"), delta("s", "\ud83d"), delta("s", "z"), delta("s", "\ude00"))
        assert [_utf16(fold["delta"]) for fold in folds] == [
            _utf16(t) for t in ("a", "a\ud83d", "a\ud83dz", "a\ud83dz\ude00")
        ]

    async def test_what_cannot_be_folded(self, store: TaskLog) -> None:
        task_id = (await created(store, message(), delta("s", "a"), latest("l", 1), kept("k", 1))).task.id
        for series_id, index in [("s", 0), ("t", 1), ("l", 2), ("k", 3), ("s", 4), ("s", -1)]:
            with pytest.raises(NotRetained):
                await store.fold(task_id, series_id, index)

    async def test_the_states_of_series(self, store: TaskLog) -> None:
        stored = await created(
            store, delta("s", "ab"), latest("l", 1), delta("s", "c"), latest("l", {"n": 2}), kept("k", 1)
        )
        page = await store.series(stored.task.id)
        assert (page.epoch, page.log_last, set(page.states)) == (stored.epoch, 4, {"s", "l"})
        text, value = page.states["s"], page.states["l"]
        assert (text.mode, text.last_index, text.field, text.length) == ("accumulate", 2, "delta", 3)
        assert (value.mode, value.last_index, value.data) == ("latest", 3, {"n": 2})
        assert dict(text.last_by_kind) == {("delta", "info"): 2}
        assert dict(value.last_by_kind) == {}, "the newest accumulate entry counts"

    async def test_the_newest_index_per_type_and_level(self, store: TaskLog) -> None:
        drafts = [EventDraft(t, "info", {"delta": "x"}, "s", "accumulate") for t in ("a", "b", "a", "c")]
        task_id = (await created(store, *drafts)).task.id
        state = (await store.series(task_id)).states["s"]
        assert dict(state.last_by_kind) == {("a", "info"): 2, ("b", "info"): 1, ("c", "info"): 3}

    async def test_a_mode_without_a_series_is_a_plain_event(self, store: TaskLog) -> None:
        plain = (EventDraft("a", "info", {"delta": "x"}, None, "accumulate"), EventDraft("a", "info", 1, "s", None))
        task_id = (await created(store, *plain)).task.id
        assert (await store.series(task_id)).states == {}
        first, second = entries_of(await whole_log(store, task_id))
        assert (first.draft.series_mode, second.draft.series_id) == ("accumulate", "s")

    async def test_a_thousand_deltas(self, store: TaskLog) -> None:
        task_id = (await created(store)).task.id
        for start in range(0, 1000, 100):
            await publish(store, task_id, *[delta("s", f"{n:03}") for n in range(start, start + 100)])
        whole = "".join(f"{n:03}" for n in range(1000))
        for index in (0, 1, 99, 100, 512, 999):
            assert await store.fold(task_id, "s", index) == {"delta": whole[: 3 * (index + 1)]}

    async def test_concurrent_deltas_add_up_in_index_order(self, store: TaskLog) -> None:
        task_id = (await created(store)).task.id
        for n in range(20):
            await publish(store, task_id, delta("s", f"<{n}>"), delta(fresh_id("series"), "x"))
        texts = [e.data["delta"] for e in entries_of(await whole_log(store, task_id)) if e.series_id == "s"]
        assert await store.fold(task_id, "s", 38) == {"delta": "".join(texts)}


class HoleCases(Contract):
    """Replaced values."""

    capability: ClassVar[str] = "TaskLog"
    promise: ClassVar[str] = "a removed entry leaves a hole that still counts"

    async def test_a_replaced_value_becomes_a_hole(self, store: TaskLog) -> None:
        task_id = (await created(store, message(), latest("l", 1), message(), latest("l", 2))).task.id
        items = await whole_log(store, task_id)
        assert [span(item) for item in items] == [(0, 0), (1, 1), (2, 2), (3, 3)]
        assert [type(item) for item in items] == [Entry, Hole, Entry, Entry]
        hole = holes_of(items)[0]
        assert hole.counts == {("progress", "info"): 1}
        assert not hole.cut_series and not hole.lost_series
        assert entries_of(items)[-1].data == 2

    async def test_a_hole_keeps_its_time(self, store: TaskLog) -> None:
        stored = await created(store)
        first = await publish(store, stored.task.id, latest("l", 1))
        await publish(store, stored.task.id, latest("l", 2))
        hole = holes_of(await whole_log(store, stored.task.id))[0]
        assert hole.first_timestamp == hole.last_timestamp == first.entries[0].timestamp

    async def test_adjacent_holes_merge(self, store: TaskLog) -> None:
        task_id = (await created(store)).task.id
        await publish(
            store, task_id, message("first"), *[latest("l", n, f"p{n % 2}") for n in range(6)], message("last")
        )
        items = await whole_log(store, task_id)
        assert [span(item) for item in items] == [(0, 0), (1, 5), (6, 6), (7, 7)]
        assert holes_of(items)[0].counts == {("p0", "info"): 3, ("p1", "info"): 2}

    async def test_a_hole_between_two_holes_joins_them(self, store: TaskLog) -> None:
        task_id = (await created(store, latest("a", 1), latest("b", 1), latest("c", 1))).task.id
        await publish(store, task_id, latest("a", 2))
        await publish(store, task_id, latest("c", 2))
        await publish(store, task_id, latest("b", 2))
        items = await whole_log(store, task_id)
        assert [span(item) for item in items] == [(0, 2), (3, 3), (4, 4), (5, 5)]
        assert holes_of(items)[0].counts == {("progress", "info"): 3}

    async def test_values_within_one_batch(self, store: TaskLog) -> None:
        done = await publish(store, (await created(store)).task.id, latest("l", 1), latest("l", 2), latest("l", 3))
        assert [e.data for e in done.entries] == [1, 2, 3]
        items = await whole_log(store, done.stored.task.id)
        assert [span(item) for item in items] == [(0, 1), (2, 2)]

    async def test_one_value_per_series_stays(self, store: TaskLog) -> None:
        task_id = (await created(store)).task.id
        for n in range(30):
            await publish(store, task_id, latest(f"l{n % 3}", n))
        items = await whole_log(store, task_id)
        assert [e.data for e in entries_of(items)] == [27, 28, 29]
        assert sum(sum(hole.counts.values()) for hole in holes_of(items)) == 27

    async def test_reading_from_within_a_hole(self, store: TaskLog) -> None:
        task_id = (await created(store, *[latest("l", n) for n in range(6)], message())).task.id
        for after in range(-1, 6):
            items = await whole_log(store, task_id, after=after)
            assert [e.index for e in entries_of(items)] == [index for index in (5, 6) if index > after]
        backwards = await store.read(task_id, before=4, reverse=True)
        assert entries_of(backwards.items) == [] and span(backwards.items[-1])[1] == 3

    async def test_keep_all_removes_nothing(self, store: TaskLog) -> None:
        task_id = (await created(store, *[kept("k", n) for n in range(5)])).task.id
        assert len(entries_of(await whole_log(store, task_id))) == 5


def _utf16(text: str) -> bytes:
    return text.encode("utf-16-le", "surrogatepass")
