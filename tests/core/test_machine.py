"""The commit machine: pure, contiguous, and with timestamps that never run backwards."""

from __future__ import annotations

import copy
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from taskcast_core import machine
from taskcast_core.contracts.task_log import Change, Guard, Key, LogLimits, Record
from taskcast_core.errors import GuardFailed, LimitExceeded
from taskcast_core.models import EventDraft, Task
from tests.core.test_series import DRAFT

TASK = Task(id="t", status="running", created_at=100, updated_at=100, assignment_id="a")
STEP = st.tuples(
    st.lists(DRAFT, max_size=4),
    st.integers(-10_000, 10_000),
    st.booleans(),
    st.builds(Guard, statuses=st.none() | st.just(frozenset({"running"})) | st.just(frozenset({"paused"}))),
    st.none() | st.builds(Key, st.sampled_from("kl"), st.just("h"), st.just(5)),
)


def snapshot(state: machine.LogState) -> Any:
    return copy.deepcopy((state.stored, state.series, state.kinds, state.size))


@given(st.lists(STEP, max_size=10))
def test_a_commit_is_a_pure_function(steps: list[tuple[Any, ...]]) -> None:
    state = machine.new_state(Record(TASK), salt=3, now=1_000)
    now, seen = 1_000, 0
    kinds: dict[tuple[str, str], int] = {}
    for drafts, step, has_record, guard, key in steps:
        now = max(0, now + step)
        record = Record(TASK, {"ttl": now}) if has_record else None
        change = Change(tuple(drafts), record, guard, key)
        before = snapshot(state)
        if guard.statuses == {"paused"}:
            with pytest.raises(GuardFailed) as failed:
                machine.apply(state, change, now)
            assert failed.value.stored == state.stored
            assert snapshot(state) == before
            continue
        outcome = machine.apply(state, change, now)
        assert snapshot(state) == before
        again = machine.apply(state, change, now)
        assert (again.stored, again.series, again.size, again.key) == (
            outcome.stored, outcome.series, outcome.size, outcome.key,
        )  # fmt: skip
        assert [entry.event() for entry in again.entries] == [entry.event() for entry in outcome.entries]
        assert [entry.index for entry in outcome.entries] == list(range(seen, seen + len(drafts)))
        assert all(entry.timestamp == max(now, state.stored.last_timestamp) for entry in outcome.entries)
        assert outcome.stored.rev == state.stored.rev + has_record
        assert outcome.stored.segments == state.stored.segments
        for draft in drafts:
            kinds[draft.type, draft.level] = kinds.get((draft.type, draft.level), 0) + 1
        seen += len(drafts)
        state.merge(outcome)
        assert (state.kinds, state.stored.last_index) == (kinds, seen - 1)
        if key:
            assert outcome.key is not None
            assert (outcome.key.count, outcome.key.stored) == (len(drafts), outcome.stored if record else None)


def test_guards_say_why() -> None:
    state = machine.new_state(Record(TASK), salt=3, now=1)
    for guard, reason in (
        (Guard(rev=2), "rev"),
        (Guard(statuses=frozenset({"paused"})), "status"),
        (Guard(assignment_id="b"), "assignment"),
        (Guard(rev=2, assignment_id="b"), "assignment"),
    ):
        with pytest.raises(GuardFailed) as failed:
            machine.apply(state, Change(guard=guard), 2)
        assert failed.value.reason == reason
    machine.apply(state, Change(guard=Guard(frozenset({"running"}), 1, "a")), 2)


@pytest.mark.parametrize(
    ("limits", "name"),
    [
        (LogLimits(max_events=2), "maxEventsPerTask"),
        (LogLimits(max_bytes=150), "maxBytesPerTask"),
        (LogLimits(max_series=1), "maxSeriesPerTask"),
        (LogLimits(max_types=1), "maxEventTypes"),
    ],
)
def test_bounds_are_exact(limits: LogLimits, name: str) -> None:
    state = machine.new_state(Record(TASK), salt=3, now=1)
    first = EventDraft("a", "info", 1, "s", "latest")
    state.merge(machine.apply(state, Change((first,), limits=limits), 2))
    third = EventDraft("b" if name == "maxEventTypes" else "a", "info", 2, "t", "latest")
    with pytest.raises(LimitExceeded) as refused:
        machine.apply(state, Change((third, third), limits=limits), 2)
    assert name in str(refused.value)
    within = LogLimits(max_events=2, max_types=1)
    machine.apply(state, Change((EventDraft("a", "debug"),), limits=within), 2)
