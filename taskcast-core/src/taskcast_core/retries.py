"""The retry policy of a task: a failed or lost attempt waits, and returns to the queue. Pure.

While it waits the task is ``paused``, with no owner, and ``resume_at`` says until when. What went wrong stays in the
log, as an event ``taskcast:audit`` with ``action: "attempt_failed"``.
"""

from __future__ import annotations

from attrs import evolve

from taskcast_core import wire
from taskcast_core.models import EventDraft, JsonObject, RetryPolicy, Task, TaskStatus, TransitionInput
from taskcast_core.transitions import status_event, transition

RETRY_REASON = "retry"


def wait_ms(policy: RetryPolicy, attempt: int) -> int:
    """How long to wait after an attempt; the first one is 1."""
    factors: dict[str, int] = {"fixed": 1, "linear": attempt, "exponential": 1 << min(max(attempt - 1, 0), 40)}
    factor = factors[policy.backoff]
    return max(0, min(policy.delay_ms * factor, policy.max_delay_ms))


def postponed(task: Task, given: TransitionInput, now: int) -> tuple[Task, tuple[EventDraft, ...]] | None:
    """A task whose attempt has failed (as ``given`` says), waiting for the next one; None if there is none."""
    attempt = task.attempt or 0
    if task.retry is None or task.assignment_id is None or not 0 < attempt < task.retry.attempts:
        return None
    wait = wait_ms(task.retry, attempt)
    steps: tuple[TaskStatus, ...] = () if task.status == "paused" else ("paused",)
    after = task
    for step in steps:
        after = transition(after, step, TransitionInput(reason=RETRY_REASON), now)
    after = evolve(
        after,
        reason=RETRY_REASON,
        resume_at=now + wait,
        blocked_request=None,
        assigned_worker=None,
        assignment_id=None,
        updated_at=now,
    )
    data: JsonObject = {"action": "attempt_failed", "workerId": task.assigned_worker, "attempt": attempt}
    data["retryInMs"] = wait
    if given.error is not None:
        data["error"] = wire.to_wire(given.error)
    return after, (EventDraft("taskcast:audit", "warn", data), status_event(after))


def is_waiting(task: Task) -> bool:
    """Whether a task is waiting for its next attempt."""
    return (
        task.status == "paused"
        and task.retry is not None
        and bool(task.attempt)
        and task.assignment_id is None
        and task.resume_at is not None
    )


def requeued(task: Task, now: int) -> tuple[Task, tuple[EventDraft, ...]]:
    """A task whose wait is over, back in the queue by legal steps.

    Raises:
        InvalidTransition: it is not waiting any more.
    """
    events = []
    steps: tuple[TaskStatus, ...] = ("assigned", "pending")
    for step in steps:
        task = transition(task, step, TransitionInput(), now)
        events.append(status_event(task))
    return task, tuple(events)
