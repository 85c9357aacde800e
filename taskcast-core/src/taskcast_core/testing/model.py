"""TaskLog: random histories, compared step by step with the model."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable, Coroutine
from typing import Any, ClassVar, TypeVar

import pytest
from attrs import evolve
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from taskcast_core.contracts import Change, Guard, Key, Stored, TaskLog, TrimRule
from taskcast_core.entries import Entry, Hole
from taskcast_core.errors import GuardFailed, ReplyExpired
from taskcast_core.filters import View
from taskcast_core.models import EventDraft
from taskcast_core.testing.clock import ManualClock
from taskcast_core.testing.contract import Contract
from taskcast_core.testing.making import HOUR_MS, a_key, created, entries_of, span
from taskcast_core.testing.model_log import ModelLog

T = TypeVar("T")

STEPS = 30
EXAMPLES = 15
CALL_TIMEOUT_S = 30


# ── Random values ─────────────────────────────────────────────────────────────────────────────────────────────────────

_TEXTS = st.sampled_from(["", "a", "bc", "é𝒳", "\ud83d", "\ude00", "\x00"])
_DATA: st.SearchStrategy[Any] = st.one_of(
    st.fixed_dictionaries({"delta": _TEXTS}, optional={"text": _TEXTS, "n": st.integers(0, 3)}),
    st.fixed_dictionaries({"text": _TEXTS}, optional={"other": _TEXTS}),
    st.sampled_from([None, 7, [], {}, {"delta": 1}, "x"]),
)
_TYPES = st.sampled_from(["delta", "log.a", "log.b.c", "taskcast:status"])
_LEVELS = st.sampled_from(["debug", "info", "warn"])
_PLAIN = st.builds(EventDraft, _TYPES, _LEVELS, _DATA)
_IN_SERIES = st.builds(
    EventDraft, _TYPES, _LEVELS, _DATA, st.sampled_from("abc"),
    st.sampled_from(["accumulate"] * 3 + ["latest", "keep-all"]), st.sampled_from([None, None, "n", "other"]),
)  # fmt: skip
_BATCHES = st.lists(st.one_of(_PLAIN, _IN_SERIES, _IN_SERIES), min_size=1, max_size=5).map(tuple)
_HISTORIES = st.lists(_IN_SERIES, min_size=4, max_size=12).map(tuple)
_VIEWS = st.sampled_from(
    [View(), View(types=["log.*"]), View(levels=["info", "warn"]), View(include_status=False), View(types=["delta"])]
)
_RULES = st.builds(
    TrimRule,
    types=st.sampled_from([None, None, ("log.*",), ("delta",)]),
    levels=st.sampled_from([None, None, ("debug",), ("info", "warn")]),
    series_modes=st.sampled_from([None, None, ("accumulate",), ("latest", "keep-all")]),
    keep_series_ends=st.booleans(),
)
_PLACES = st.integers(-1, 40)


# ── Store against model ───────────────────────────────────────────────────────────────────────────────────────────────


class TaskLogMachine(RuleBasedStateMachine):
    """One task, as a store has it and as the model has it."""

    def __init__(
        self, store: TaskLog, call: Callable[[Coroutine[Any, Any, Any]], Any], clock: ManualClock | None
    ) -> None:
        super().__init__()
        self.store, self.call, self.clock = store, call, clock
        self.log = ModelLog()
        self.keys: list[tuple[Key, tuple[EventDraft, ...], int]] = []
        self.stored: Stored = call(created(store, status="running"))
        self.task_id = self.stored.task.id

    def _committed(self, change: Change, drafts: tuple[EventDraft, ...]) -> None:
        done = self.call(self.store.commit(self.task_id, change))
        assert not done.replayed
        assert [e.index for e in done.entries] == list(range(self.log.last + 1, self.log.last + 1 + len(drafts)))
        assert all(e.timestamp >= self.stored.last_timestamp for e in done.entries)
        self.log.append(done.entries, drafts)
        self.stored = done.stored

    @initialize(drafts=_HISTORIES)
    def begin(self, drafts: tuple[EventDraft, ...]) -> None:
        """Some history, so that there is something to lose."""
        self._committed(Change(drafts), drafts)

    @rule(drafts=_BATCHES, keyed=st.booleans())
    def publish(self, drafts: tuple[EventDraft, ...], keyed: bool) -> None:
        """Append a batch."""
        key = a_key() if keyed else None
        first = self.log.last + 1
        self._committed(Change(drafts, key=key), drafts)
        if key:
            self.keys.append((key, drafts, first))

    @precondition(lambda self: self.keys)
    @rule(data=st.data())
    def repeat(self, data: st.DataObject) -> None:
        """Append a batch again with its key: nothing happens."""
        key, drafts, first = data.draw(st.sampled_from(self.keys))
        indexes = range(first, first + len(drafts))
        try:
            done = self.call(self.store.commit(self.task_id, Change(drafts, key=key)))
        except ReplyExpired:
            assert any(index in self.log.gone for index in indexes)
        else:
            assert done.replayed and [e.id for e in done.entries] == [self.log.lines[i].entry.id for i in indexes]

    @rule(drafts=st.one_of(st.just(()), _BATCHES), n=st.integers(0, 9))
    def replace(self, drafts: tuple[EventDraft, ...], n: int) -> None:
        """Replace the record."""
        task = evolve(self.stored.task, params={"n": n})
        before = self.stored
        self._committed(Change(drafts, evolve(before.record, task=task), Guard(rev=before.rev)), drafts)
        assert self.stored.rev == before.rev + 1 and self.stored.task == task

    @rule(drafts=_BATCHES)
    def refused(self, drafts: tuple[EventDraft, ...]) -> None:
        """Changes whose guard does not hold."""
        for guard in (Guard(rev=self.stored.rev + 1), Guard(frozenset({"paused"})), Guard(assignment_id="none")):
            with pytest.raises(GuardFailed):
                self.call(self.store.commit(self.task_id, Change(drafts, guard=guard)))

    @rule(trim=_RULES, limit=st.sampled_from([1, 3, 1000]))
    def trim(self, trim: TrimRule, limit: int) -> None:
        """Remove entries."""
        doomed = self.log.doomed(trim, limit)
        assert self.call(self.store.trim(self.task_id, self.stored.epoch, trim, limit)) == len(doomed)
        self.log.remove(doomed)

    @precondition(lambda self: self.log.last >= 0)
    @rule(back=st.integers(0, 6))
    def found_epoch(self, back: int) -> None:
        """Lose the newest entries."""
        floor = self.log.last - back
        if floor < -1 or not self.log.may_be_cut_at(floor):
            return
        after = self.call(self.store.found_epoch(self.task_id, self.stored.epoch, floor))
        assert after.epoch > self.stored.epoch and after.last_index == floor
        self.log.cut(floor)
        self.keys.clear()
        self.stored = after

    @precondition(lambda self: self.clock)
    @rule(ms=st.sampled_from([1, 40, -500, 3 * HOUR_MS // 10_000]))
    def time_passes(self, ms: int) -> None:
        """Let time pass, or the wall clock step back."""
        assert self.clock is not None
        if ms > 0:
            self.clock.advance(ms)
        else:
            self.clock.step(ms)

    @invariant()
    def is_as_noted(self) -> None:
        """The task is what the last commit said."""
        stored = self.call(self.store.get(self.task_id))
        assert (stored.record, stored.rev, stored.epoch) == (self.stored.record, self.stored.rev, self.stored.epoch)
        assert stored.last_index == self.log.last

    @rule(after=_PLACES, size=st.integers(1, 40), limit=st.sampled_from([1, 4, 1000]), reverse=st.booleans())
    def read(self, after: int, size: int, limit: int, reverse: bool) -> None:
        """Read a stretch in one direction, in pages."""
        before = after + 1 + size
        items: list[Entry | Hole] = []
        low, high = after, before
        while low + 1 < min(high, self.log.last + 1):
            page = self.call(self.store.read(self.task_id, after=low, before=high, limit=limit, reverse=reverse))
            assert page.items and len(page.items) <= limit and page.log_last == self.log.last
            items = [*page.items, *items] if reverse else [*items, *page.items]
            assert low < page.last < high, "a page that goes nowhere"
            low, high = (low, page.last) if reverse else (page.last, high)
        expected = [i for i in range(after + 1, min(before, self.log.last + 1)) if i not in self.log.gone]
        found = entries_of(items)
        assert [e.index for e in found] == expected
        for entry in found:
            line = self.log.lines[entry.index]
            assert (entry.id, entry.timestamp, entry.draft) == (line.entry.id, line.entry.timestamp, line.draft)
        covered = [i for item in items for i in range(span(item)[0], span(item)[1] + 1)]
        assert covered == list(range(after + 1, min(before, self.log.last + 1)))

    @rule(view=_VIEWS, before=_PLACES)
    def count(self, view: View, before: int) -> None:
        """Count; within a hole a store may count from either of its ends."""
        counted = self.call(self.store.count(self.task_id, view, before))
        if before in self.log.gone and before - 1 in self.log.gone:
            first, last = self.log.hole_at(before)
            assert self.log.count(view, first) <= counted <= self.log.count(view, last + 1)
        else:
            assert counted == self.log.count(view, before)

    @rule(view=_VIEWS, position=st.integers(0, 30))
    def seek(self, view: View, position: int) -> None:
        """Find a position; within a hole a store may name any index of it."""
        matching = [i for i, line in enumerate(self.log.lines) if view.matches(line.draft.type, line.draft.level)]
        found = self.call(self.store.seek(self.task_id, view, position))
        if position >= len(matching):
            assert found is None
            return
        wanted = matching[position]
        first, last = self.log.hole_at(wanted) if wanted in self.log.gone else (wanted, wanted)
        assert found is not None and first <= found <= last

    @invariant()
    def series_are_as_noted(self) -> None:
        """The states of all series."""
        page = self.call(self.store.series(self.task_id))
        assert page.states.keys() == self.log.series.keys() and page.log_last == self.log.last
        for name, state in page.states.items():
            model = self.log.series[name]
            assert (state.mode, state.field, state.data) == (model.mode, model.field, model.data)
            assert state.length == (None if model.total is None else len(model.total))

    @precondition(lambda self: self.log.lines)
    @rule(data=st.data())
    def folds(self, data: st.DataObject) -> None:
        """The total at one of the entries."""
        folding = [
            (index, line)
            for index, line in enumerate(self.log.lines)
            if index not in self.log.gone and line.draft.series_id and line.draft.series_mode == "accumulate"
        ]
        if folding:
            index, line = data.draw(st.sampled_from(folding))
            assert self.call(self.store.fold(self.task_id, line.draft.series_id or "", index)) == line.folded

    @precondition(lambda self: self.log.lines)
    @rule(data=st.data(), shift=st.sampled_from([-1, 0, 1]))
    def times_and_ids(self, data: st.DataObject, shift: int) -> None:
        """Find a time and an id."""
        line = data.draw(st.sampled_from(self.log.lines))
        assert self.call(self.store.locate(self.task_id, line.entry.id)) == line.entry.index
        stamp = line.entry.timestamp + shift
        wanted = max((i for i, one in enumerate(self.log.lines) if one.entry.timestamp <= stamp), default=-1)
        found = self.call(self.store.seek_time(self.task_id, stamp))
        first, last = self.log.hole_at(wanted) if wanted in self.log.gone else (wanted, wanted)
        assert first <= found <= last


class ModelCases(Contract):
    """Random histories."""

    capability: ClassVar[str] = "TaskLog"
    promise: ClassVar[str] = "the store behaves as the model does, step by step"
    case_deadline_s: ClassVar[float] = 3600.0

    @pytest.fixture
    def examples(self, request: pytest.FixtureRequest) -> int:
        """How many random histories to try: ``--taskcast-examples``, ``TASKCAST_EXAMPLES``, or a few seconds' worth."""
        given = request.config.getoption("--taskcast-examples", default=None) or os.environ.get("TASKCAST_EXAMPLES")
        return int(given) if given else EXAMPLES

    async def test_random_histories(self, store: TaskLog, clock: ManualClock | None, examples: int) -> None:
        """Hypothesis is synchronous: it runs in a thread, and its calls in this loop."""
        loop = asyncio.get_running_loop()

        def call(coroutine: Coroutine[Any, Any, T]) -> T:
            return asyncio.run_coroutine_threadsafe(coroutine, loop).result(CALL_TIMEOUT_S)

        def play() -> None:
            run_state_machine_as_test(
                lambda: TaskLogMachine(store, call, clock),  # type: ignore[arg-type] # a factory will do
                settings=settings(
                    max_examples=examples,
                    stateful_step_count=STEPS,
                    deadline=None,
                    phases=[Phase.explicit, Phase.generate],  # shrinking a history of I/O can take minutes
                    database=None,
                    print_blob=True,
                    suppress_health_check=list(HealthCheck),
                ),
            )

        await asyncio.to_thread(play)
