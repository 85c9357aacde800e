"""TaskLog: a removed entry counts where it stood, so that a position, once told, stays right."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import ClassVar

import pytest

from taskcast_core.contracts import LogReader, TaskLog, TrimRule
from taskcast_core.entries import Entry, Hole
from taskcast_core.filters import View
from taskcast_core.models import EventDraft
from taskcast_core.testing.contract import Contract
from taskcast_core.testing.making import created, holes_of, latest, message, publish, span, whole_log

VIEWS = (View(types=["a"]), View(types=["b", "c"]), View(types=["none"]), View())

STORY: tuple[EventDraft, ...] = (
    message("a"), message("b"), latest("p", 0, "a"), message("c"), latest("q", 0, "b"), latest("p", 1, "a"),
    latest("p", 2, "b"), message("a"), latest("q", 1, "a"), message("b"), latest("p", 3, "a"), message("a"),
)  # fmt: skip
"""Three kinds in no simple order: wherever a hole is cut, its parts hold something else."""

REMOVALS: dict[str, Sequence[TrimRule]] = {
    "replaced": (),
    "one_kind": (TrimRule(types=("a",), keep_series_ends=False),),
    "two_kinds": (TrimRule(types=("b", "c"), keep_series_ends=False),),
    "kind_by_kind": tuple(TrimRule(types=(kind,), keep_series_ends=False) for kind in "cba"),
    "everything": (TrimRule(keep_series_ends=False),),
}


def below(drafts: Iterable[EventDraft], view: View) -> list[int]:
    """How many of the drafts before each index, and of all of them, a view lets through."""
    totals = [0]
    for draft in drafts:
        totals.append(totals[-1] + view.matches(draft.type, draft.level))
    return totals


def passed(items: Iterable[Entry | Hole], view: View) -> int:
    """How many positions a reader of these items goes forward."""
    lines = ({(item.type, item.level): 1} if isinstance(item, Entry) else item.counts for item in items)
    return sum(view.total(counts) for counts in lines)


def check_page(items: Iterable[Entry | Hole], drafts: Sequence[EventDraft]) -> None:
    """A hole, or a part of one, counts what stood there: no more, and no less."""
    for item in items:
        first, last = span(item)
        for view in VIEWS:
            assert passed([item], view) == below(drafts[first : last + 1], view)[-1], f"{first}–{last}"


async def check_positions(store: LogReader, task_id: str, drafts: Sequence[EventDraft]) -> None:
    """Every index has the position that it had when everything was still there, and the other way round."""
    for view in VIEWS:
        wanted = below(drafts, view)
        assert [await store.count(task_id, view, index) for index in range(len(wanted))] == wanted
        for index, draft in enumerate(drafts):
            if view.matches(draft.type, draft.level):
                assert await store.seek(task_id, view, wanted[index]) == index


class RemovedCases(Contract):
    """``count``, ``seek`` and ``read`` where entries have been."""

    capability: ClassVar[str] = "TaskLog"
    promise: ClassVar[str] = "a removed entry counts where it stood, and a position stays right whatever is removed"

    @pytest.mark.parametrize("removals", REMOVALS)
    async def test_positions_at_and_inside_holes(self, store: TaskLog, removals: str) -> None:
        stored = await created(store, *STORY)
        for rule in REMOVALS[removals]:
            await store.trim(stored.task.id, stored.epoch, rule)
            await check_positions(store, stored.task.id, STORY)
        assert holes_of(await whole_log(store, stored.task.id))
        await check_positions(store, stored.task.id, STORY)

    @pytest.mark.parametrize("removals", REMOVALS)
    async def test_pages_that_begin_and_end_inside_holes(self, store: TaskLog, removals: str) -> None:
        stored = await created(store, *STORY)
        for rule in REMOVALS[removals]:
            await store.trim(stored.task.id, stored.epoch, rule)
        for after in range(-1, len(STORY) - 1):
            for before in range(after + 2, len(STORY) + 1):
                for reverse in (False, True):
                    page = await store.read(stored.task.id, after=after, before=before, reverse=reverse)
                    assert (span(page.items[0])[0], span(page.items[-1])[1]) == (after + 1, before - 1)
                    check_page(page.items, STORY)

    async def test_a_resume_while_entries_are_being_removed(self, store: TaskLog) -> None:
        """At every place: the position is asked for, more goes away around it, then the log is read on."""
        for place in range(-1, len(STORY)):
            stored = await created(store, *STORY)
            task_id = stored.task.id
            held = [await store.count(task_id, view, place + 1) for view in VIEWS]
            for rule in REMOVALS["kind_by_kind"]:
                await store.trim(task_id, stored.epoch, rule)
                items = await whole_log(store, task_id, after=place)
                for view, start in zip(VIEWS, held, strict=True):
                    assert start + passed(items, view) == below(STORY, view)[-1], f"resumed behind {place}"
                assert [await store.count(task_id, view, place + 1) for view in VIEWS] == held, f"at {place}"

    @pytest.mark.parametrize("names", ["p", "pq"])
    async def test_a_reader_behind_values_that_are_just_replaced(self, store: TaskLog, names: str) -> None:
        """Page by page, while what was read goes away behind the reader: no entry is numbered twice."""
        task_id = (await created(store)).task.id
        drafts: list[EventDraft] = []
        positions, after = [0] * len(VIEWS), -1
        for n in range(12):
            drafts.append(latest(names[n % len(names)], n, "abc"[n % 3]))
            await publish(store, task_id, drafts[-1])
            if n % 2:  # the reader is always two values behind
                page = await store.read(task_id, after=after)
                positions = [at + passed(page.items, view) for at, view in zip(positions, VIEWS, strict=True)]
                assert positions == [below(drafts, view)[-1] for view in VIEWS]
                after = page.last

    async def test_a_long_hole(self, store: TaskLog) -> None:
        """Longer than any span of entries between two checkpoints might be."""
        kinds = ["a", "c", "a", "c", "b", "b", "b"]
        drafts = [message(kinds[n % 7], n) for n in range(2_600)]
        stored = await created(store)
        task_id = stored.task.id
        for start in range(0, len(drafts), 650):
            await publish(store, task_id, *drafts[start : start + 650])
        await store.trim(task_id, stored.epoch, TrimRule(types=("b",)))
        await store.trim(task_id, stored.epoch, TrimRule(), limit=1_500)
        for view in VIEWS:
            wanted = below(drafts, view)
            for index in (1, 2, 650, 999, 1_000, 1_001, 1_002, 1_777, 1_999, 2_000, 2_003, 2_512, 2_599, 2_600):
                assert await store.count(task_id, view, index) == wanted[index]
                if index < len(drafts) and view.matches(drafts[index].type, "info"):
                    assert await store.seek(task_id, view, wanted[index]) == index
        for after, before in ((998, 1_003), (1_233, None), (-1, 2_001)):
            check_page((await store.read(task_id, after=after, before=before)).items, drafts)

    async def test_a_long_hole_of_one_kind_that_grows(self, store: TaskLog) -> None:
        task_id = (await created(store)).task.id
        total = 0
        for many in (1_001, 700, 300):
            await publish(store, task_id, *[latest("p", n, "a") for n in range(many)])
            total += many
            for index in (500, 999, 1_000, 1_001, 1_002, 1_500, 1_999, 2_000, 2_001):
                assert await store.count(task_id, VIEWS[0], index) == min(index, total)
                assert await store.seek(task_id, VIEWS[0], index) == (index if index < total else None)

    async def test_a_new_epoch_that_begins_inside_a_hole(self, store: TaskLog) -> None:
        for floor in range(-1, len(STORY)):
            stored = await created(store, *STORY)
            task_id = stored.task.id
            await store.trim(task_id, stored.epoch, TrimRule(types=("a", "b"), keep_series_ends=False))
            assert await store.found_epoch(task_id, stored.epoch, floor) is not None
            drafts = (*STORY[: floor + 1], message("b"), message("a"), message("c"))
            await publish(store, task_id, *drafts[floor + 1 :])
            await check_positions(store, task_id, drafts)
            check_page(await whole_log(store, task_id), drafts)
