"""The transition table is the spec's, and what ends stays ended."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from taskcast_core import states
from taskcast_core.errors import InvalidTransition
from taskcast_core.models import BlockedRequest, Task, TaskError, TaskStatus, TransitionInput
from taskcast_core.transitions import timers, transition, transition_events

# As printed in the wire spec, tasks section 2: rows are from, columns to.
COLUMNS: tuple[TaskStatus, ...] = (
    "pending", "assigned", "running", "paused", "blocked", "completed", "failed", "timeout", "cancelled",
)  # fmt: skip
TABLE = """
pending   – ✓ ✓ ✓ . . . ✓ ✓
assigned  ✓ – ✓ ✓ . . . ✓ ✓
running   . . – ✓ ✓ ✓ ✓ ✓ ✓
paused    . ✓ ✓ – ✓ . . ✓ ✓
blocked   . ✓ ✓ ✓ – . ✓ ✓ ✓
completed . . . . . . . . .
failed    . . . . . . . . .
timeout   . . . . . . . . .
cancelled . . . . . . . . .
"""
SPEC = {
    row.split()[0]: {to for to, mark in zip(COLUMNS, row.split()[1:], strict=True) if mark == "✓"}
    for row in TABLE.strip().splitlines()
}
STATUS = st.sampled_from(COLUMNS)
NOW = 1_750_000_000_000


def test_the_table_is_the_specs() -> None:
    assert states.ALL == COLUMNS
    assert {status: set(states.ALLOWED[status]) for status in COLUMNS} == SPEC
    assert {status for status in COLUMNS if not SPEC[status]} == states.TERMINAL
    assert set(COLUMNS) == states.LIVE | states.TERMINAL
    assert [status for status in COLUMNS if states.is_suspended(status)] == ["paused", "blocked"]


INPUT = st.builds(
    TransitionInput,
    result=st.none() | st.just({"a": 1}),
    error=st.none() | st.just(TaskError("no")),
    reason=st.none() | st.just("why"),
    ttl=st.none() | st.integers(1, 5),
    resume_after_ms=st.none() | st.integers(1, 9),
    blocked_request=st.none() | st.just(BlockedRequest("ask", {"q": 1})),
)


@given(st.lists(st.tuples(STATUS, INPUT, st.integers(0, 1000)), max_size=12), st.none() | st.integers(1, 5))
def test_every_walk_obeys_the_rules(steps: list[tuple[TaskStatus, TransitionInput, int]], ttl: int | None) -> None:
    task = Task(id="t", status="pending", created_at=NOW, updated_at=NOW, ttl=ttl)
    due = timers(None, {}, task, NOW)
    now = NOW
    for to, given_, pause in steps:
        now += pause
        if to not in SPEC[task.status]:
            with pytest.raises(InvalidTransition) as refused:
                transition(task, to, given_, now)
            assert (refused.value.current, refused.value.wanted) == (task.status, to)
            continue
        after = transition(task, to, given_, now)
        assert (after.status, after.updated_at) == (to, now)
        assert after.completed_at == (now if to in states.TERMINAL else None)
        assert after.result == (task.result if given_.result is None else given_.result)
        assert after.error == (task.error if given_.error is None else given_.error)
        if to in ("paused", "blocked"):
            assert after.reason == (task.reason if given_.reason is None else given_.reason)
        else:
            assert (after.reason, after.blocked_request, after.resume_at) == (None, None, None)
        assert after.started_at == (now if to == "running" and task.started_at is None else task.started_at)
        types = [event.type for event in transition_events(task, after, given_)]
        assert types == [
            "taskcast:status",
            *(["taskcast:blocked"] if to == "blocked" and after.blocked_request else []),
            *(["taskcast:resolved"] if (task.status, to) == ("blocked", "running") and task.blocked_request else []),
        ]
        later = timers(task, due, after, now)
        check_deadline(task, due.get("ttl"), after, later.get("ttl"), now)
        assert later.get("resume") == (after.resume_at if to == "blocked" else None)
        task, due = after, later


def check_deadline(before: Task, old: int | None, after: Task, new: int | None, now: int) -> None:
    """Wire spec, tasks section 5."""
    if after.ttl is None or after.status in states.TERMINAL or after.status == "paused":
        assert new is None
    elif before.status == "paused" or after.ttl != before.ttl:
        assert new == now + after.ttl * 1000
    else:
        assert new == old
