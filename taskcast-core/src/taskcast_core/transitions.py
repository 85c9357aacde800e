"""What a transition makes of a task, and the events that tell of it (wire spec, tasks sections 3 and 4). Pure."""

from __future__ import annotations

from collections.abc import Mapping

from attrs import evolve

from taskcast_core import states, wire
from taskcast_core.contracts.task_log import TimerKind
from taskcast_core.entries import STATUS_TYPE
from taskcast_core.errors import InvalidTransition
from taskcast_core.models import EventDraft, JsonObject, Task, TaskStatus, TransitionInput

Timers = Mapping[TimerKind, int]


def transition(task: Task, to: TaskStatus, given: TransitionInput, now: int) -> Task:
    """The task after the transition at ``now`` (ms).

    Raises:
        InvalidTransition: the table does not allow it.
    """
    if not states.can_transition(task.status, to):
        raise InvalidTransition(task.id, task.status, to)
    is_suspended = states.is_suspended(to)
    ended = states.is_terminal(to)
    blocked_request = task.blocked_request if is_suspended else None
    resume_at = task.resume_at if is_suspended else None
    if to == "blocked":
        blocked_request = given.blocked_request or blocked_request
        if given.resume_after_ms is not None:
            resume_at = now + given.resume_after_ms
    leaves_worker = ended or to == "pending"
    return evolve(
        task,
        status=to,
        updated_at=now,
        started_at=task.started_at if task.started_at is not None or to != "running" else now,
        completed_at=now if ended else task.completed_at,
        result=task.result if given.result is None else given.result,
        error=task.error if given.error is None else given.error,
        ttl=task.ttl if given.ttl is None else given.ttl,
        reason=(given.reason if given.reason is not None else task.reason) if is_suspended else None,
        resume_at=resume_at,
        blocked_request=blocked_request,
        assigned_worker=None if leaves_worker else task.assigned_worker,
        assignment_id=None if leaves_worker else task.assignment_id,
    )


def timers(before: Task | None, previous: Timers, after: Task, now: int) -> dict[TimerKind, int]:
    """When something is due for the new record (wire spec, tasks section 5).

    The execution deadline stands still while paused and starts in full again afterwards; a new ttl starts it anew.
    """
    due: dict[TimerKind, int] = {}
    if after.resume_at is not None and after.status == "blocked":
        due["resume"] = after.resume_at
    if after.ttl is not None and not states.is_terminal(after.status) and after.status != "paused":
        starts_anew = before is None or before.status == "paused" or before.ttl != after.ttl
        running = previous.get("ttl")
        due["ttl"] = now + after.ttl * 1000 if starts_anew or running is None else running
    return due


def status_event(task: Task) -> EventDraft:
    """``taskcast:status``, with the task's current result and error (so they repeat on every later one)."""
    data: JsonObject = {"status": task.status}
    if task.result is not None:
        data["result"] = task.result
    if task.error is not None:
        data["error"] = wire.to_wire(task.error)
    return EventDraft(STATUS_TYPE, "info", data)


def transition_events(before: Task, after: Task, given: TransitionInput) -> tuple[EventDraft, ...]:
    """The events of one transition: the status, then what blocked or resolved it."""
    events = [status_event(after)]
    if after.status == "blocked" and after.blocked_request is not None:
        request = wire.to_wire(after.blocked_request)
        data = {"request": request} if after.reason is None else {"reason": after.reason, "request": request}
        events.append(EventDraft("taskcast:blocked", "info", data))
    if before.status == "blocked" and after.status == "running" and before.blocked_request is not None:
        resolution = {} if given.result is None else {"resolution": given.result}
        events.append(EventDraft("taskcast:resolved", "info", resolution))
    return tuple(events)
