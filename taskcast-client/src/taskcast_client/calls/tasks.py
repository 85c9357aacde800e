"""Tasks: creating, reading, moving, deleting."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, Literal

from taskcast_client.calls.call import (
    Call,
    Reply,
    assignment_header,
    joined,
    list_in,
    nothing,
    present,
    reading,
    task_path,
    writing,
)
from taskcast_client.models import (
    AssignMode,
    BatchItem,
    BlockedRequest,
    DisconnectPolicy,
    JsonObject,
    Priority,
    Task,
    TaskError,
    TaskInput,
    TaskPage,
    TaskStatus,
    Ticket,
)
from taskcast_client.wire import dumps, from_wire, to_wire


def create_task(
    *,
    type: str | None = None,
    params: JsonObject | None = None,
    id: str | None = None,
    metadata: JsonObject | None = None,
    ttl: int | None = None,
    webhooks: list[JsonObject] | None = None,
    cleanup: JsonObject | None = None,
    auth_config: JsonObject | None = None,
    tags: list[str] | None = None,
    assign_mode: AssignMode | None = None,
    cost: int | None = None,
    disconnect_policy: DisconnectPolicy | None = None,
    priority: Priority | None = None,
    retry: JsonObject | None = None,
    idempotency_key: str | None = None,
) -> Call[Task]:
    """Create a task; it is ``pending``. ``ttl`` is in seconds.

    Raises:
        TaskExists: the id is taken. InvalidInput: a field is not what the wire asks for.
    """
    given = TaskInput(
        id=id, type=type, params=params, metadata=metadata, ttl=ttl, webhooks=webhooks, cleanup=cleanup,
        auth_config=auth_config, tags=tags, assign_mode=assign_mode, cost=cost, disconnect_policy=disconnect_policy,
        priority=priority, retry=retry,
    )  # fmt: skip
    return writing("POST", "/tasks", Task, to_wire(given), key=idempotency_key)


def create_tasks(
    tasks: Sequence[TaskInput],
    *,
    mode: Literal["parallel", "sequential"] = "parallel",
    atomic: bool = False,
    idempotency_key: str | None = None,
) -> Call[list[BatchItem]]:
    """Create up to 1,000 tasks at once, each with a result of its own, in the order given.

    ``sequential``: each can be claimed when the one before has ended. ``atomic``: all or none, where the store can.
    """
    body = {"tasks": to_wire(tasks), "mode": mode}
    if atomic:
        body["atomic"] = True

    def read(reply: Reply) -> list[BatchItem]:
        return from_wire(list[BatchItem], list_in(reply, "results"))

    return Call("POST", "/tasks/batch", read, body=dumps(body), repeat="keyed", key=idempotency_key)


def get_task(task_id: str) -> Call[Task]:
    """Read one task, hot or cold.

    Raises:
        TaskNotFound: there is none.
    """
    return reading(task_path(task_id), Task)


def list_tasks(
    *,
    status: TaskStatus | Iterable[TaskStatus] | None = None,
    type: str | None = None,
    types: Iterable[str] | None = None,
    tags: Iterable[str] | None = None,
    tags_any: Iterable[str] | None = None,
    tags_none: Iterable[str] | None = None,
    created_after: int | None = None,
    created_before: int | None = None,
    limit: int | None = None,
    cursor: str | None = None,
) -> Call[TaskPage]:
    """One page of tasks, newest first; `iterate_tasks` walks over all pages.

    ``type``, ``types``: types or patterns. ``tags`` must all be there, one of ``tags_any``,
    and none of ``tags_none``. The ``created_…`` bounds (ms) are exclusive.
    """
    query = {
        "status": joined(status), "type": type, "types": joined(types), "tags": joined(tags),
        "tagsAny": joined(tags_any), "tagsNone": joined(tags_none),
        "createdAfter": created_after, "createdBefore": created_before, "limit": limit, "cursor": cursor,
    }  # fmt: skip
    return reading("/tasks", TaskPage, query)


def transition_task(
    task_id: str,
    status: TaskStatus,
    *,
    result: JsonObject | None = None,
    error: TaskError | JsonObject | None = None,
    reason: str | None = None,
    ttl: int | None = None,
    resume_after_ms: int | None = None,
    blocked_request: BlockedRequest | JsonObject | None = None,
    assignment_id: str | None = None,
    idempotency_key: str | None = None,
) -> Call[Task]:
    """Move a task to another status.

    Args:
        task_id: of the task.
        status: where to.
        result: replaces the task's.
        error: replaces the task's.
        reason: of a pause or block.
        ttl: a new deadline, seconds from now.
        resume_after_ms: of a block: go on by itself after so long.
        blocked_request: of a block: the question.
        assignment_id: of a worker: refuse if the task belongs to another by now.
        idempotency_key: of your own; by default each call has a new one.

    Raises:
        TaskNotFound, InvalidTransition: not possible. StaleAssignment: see ``assignment_id``.
    """
    body = {
        "status": status, "result": result, "error": to_wire(error), "reason": reason, "ttl": ttl,
        "resumeAfterMs": resume_after_ms, "blockedRequest": to_wire(blocked_request),
    }  # fmt: skip
    path = f"{task_path(task_id)}/status"
    return writing("PATCH", path, Task, present(body), key=idempotency_key, headers=assignment_header(assignment_id))


def complete_task(task_id: str, result: JsonObject | None = None, *, idempotency_key: str | None = None) -> Call[Task]:
    """Move a running task to ``completed``."""
    return transition_task(task_id, "completed", result=result, idempotency_key=idempotency_key)


def fail_task(
    task_id: str,
    message: str,
    *,
    code: str | None = None,
    details: JsonObject | None = None,
    idempotency_key: str | None = None,
) -> Call[Task]:
    """Move a running or blocked task to ``failed``."""
    error = TaskError(message, code, details)
    return transition_task(task_id, "failed", error=error, idempotency_key=idempotency_key)


def cancel_task(task_id: str, reason: str | None = None, *, idempotency_key: str | None = None) -> Call[Task]:
    """Move a task that has not ended to ``cancelled``; whoever runs it is told."""
    error = None if reason is None else TaskError(reason, "cancelled")
    return transition_task(task_id, "cancelled", error=error, idempotency_key=idempotency_key)


def resolve_task(task_id: str, data: Any = None) -> Call[Task]:
    """Answer the question of a blocked task; it runs on.

    Raises:
        NotBlocked: it waits for nothing.
    """
    return writing("POST", f"{task_path(task_id)}/resolve", Task, {"data": data}, repeat="never")


def get_blocked_request(task_id: str) -> Call[BlockedRequest]:
    """The question that a blocked task waits for an answer to.

    Raises:
        NoBlockedRequest: there is none.
    """
    return reading(f"{task_path(task_id)}/request", BlockedRequest)


def delete_task(task_id: str) -> Call[None]:
    """Delete a task and its history everywhere; one that has not ended is cancelled first.

    Raises:
        TaskNotFound: there is none.
    """
    return Call("DELETE", task_path(task_id), nothing, gone=True)


def create_ticket(task_id: str) -> Call[Ticket]:
    """A read-only ticket for one task's stream, for browsers: they cannot send headers with ``EventSource``."""
    return writing("POST", f"{task_path(task_id)}/ticket", Ticket, None, repeat="safe")
