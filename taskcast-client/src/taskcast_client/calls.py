"""The REST API as values: each function here says what one verb sends, and how its reply is read. Pure.

`TaskcastClient` awaits these calls and `SyncTaskcastClient` blocks on them, so that every verb stands here once.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, Generic, Literal, TypeVar
from urllib.parse import quote

from attrs import field, frozen

from taskcast_client.models import (
    AdminToken,
    AssignMode,
    BatchItem,
    BlockedRequest,
    Cursor,
    DisconnectPolicy,
    Event,
    EventInput,
    ImportResult,
    JsonObject,
    Level,
    Priority,
    Published,
    Readiness,
    ReleaseResult,
    SeriesFormat,
    SeriesMode,
    ServerInfo,
    Task,
    TaskArchive,
    TaskError,
    TaskInput,
    TaskPage,
    TaskStatus,
    Ticket,
    Worker,
    WorkerAudit,
    dumps,
    from_wire,
    loads,
    to_wire,
)

R = TypeVar("R")

JSON = "application/json"
NDJSON = "application/x-ndjson"


@frozen
class Reply:
    """What a server answered: any status below 400, or one of the call's ``accepts``."""

    status: int
    body: bytes

    def json(self) -> Any:
        """The decoded body."""
        return loads(self.body)


@frozen
class Call(Generic[R]):
    """One request, and how to read its reply.

    Attributes:
        repeat: whether it may be sent again when it is unknown whether the server did it: ``safe`` (it changes
            nothing, or the same thing again), ``keyed`` (an idempotency key makes it so) or ``never``.
        accepts: error statuses that `read` understands.
        gone: the result when a repeated request finds nothing (404), since the first one has removed it.
        extra_s: how much longer (s) than an ordinary request the server may take.
    """

    method: str
    path: str
    read: Callable[[Reply], R]
    query: tuple[tuple[str, str], ...] = ()
    body: bytes | None = None
    content_type: str = JSON
    repeat: Literal["safe", "keyed", "never"] = "safe"
    key: str | None = None
    headers: Mapping[str, str] = field(factory=dict)
    accepts: frozenset[int] = frozenset()
    gone: bool = False
    extra_s: float = 0.0


# ── Tasks ─────────────────────────────────────────────────────────────────────────────────────────────────────────


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
    return _write("POST", "/tasks", Task, to_wire(given), key=idempotency_key)


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
        return from_wire(list[BatchItem], _list_in(reply, "results"))

    return Call("POST", "/tasks/batch", read, body=dumps(body), repeat="keyed", key=idempotency_key)


def get_task(task_id: str) -> Call[Task]:
    """Read one task, hot or cold.

    Raises:
        TaskNotFound: there is none.
    """
    return _read(_task(task_id), Task)


def list_tasks(
    *,
    status: TaskStatus | Iterable[TaskStatus] | None = None,
    type: str | None = None,
    types: Iterable[str] | None = None,
    tags: Iterable[str] | None = None,
    created_after: int | None = None,
    created_before: int | None = None,
    limit: int | None = None,
    cursor: str | None = None,
) -> Call[TaskPage]:
    """One page of tasks, newest first; `iterate_tasks` walks over all pages.

    ``type``, ``types``: types or patterns. ``tags`` must all be there. The ``created_…`` bounds (ms) are exclusive.
    """
    query = {
        "status": _joined(status), "type": type, "types": _joined(types), "tags": _joined(tags),
        "createdAfter": created_after, "createdBefore": created_before, "limit": limit, "cursor": cursor,
    }  # fmt: skip
    return _read("/tasks", TaskPage, query)


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
    path = f"{_task(task_id)}/status"
    return _write("PATCH", path, Task, _present(body), key=idempotency_key, headers=_assignment(assignment_id))


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
    return _write("POST", f"{_task(task_id)}/resolve", Task, {"data": data}, repeat="never")


def get_blocked_request(task_id: str) -> Call[BlockedRequest]:
    """The question that a blocked task waits for an answer to.

    Raises:
        NoBlockedRequest: there is none.
    """
    return _read(f"{_task(task_id)}/request", BlockedRequest)


def delete_task(task_id: str) -> Call[None]:
    """Delete a task and its history everywhere; one that has not ended is cancelled first.

    Raises:
        TaskNotFound: there is none.
    """
    return Call("DELETE", _task(task_id), _nothing, gone=True)


def create_ticket(task_id: str) -> Call[Ticket]:
    """A read-only ticket for one task's stream, for browsers: they cannot send headers with ``EventSource``."""
    return _write("POST", f"{_task(task_id)}/ticket", Ticket, None, repeat="safe")


# ── Events ────────────────────────────────────────────────────────────────────────────────────────────────────────


def publish_event(
    task_id: str,
    type: str,
    data: Any = None,
    *,
    level: Level = "info",
    series_id: str | None = None,
    series_mode: SeriesMode | None = None,
    series_acc_field: str | None = None,
    assignment_id: str | None = None,
    idempotency_key: str | None = None,
) -> Call[Event]:
    """Append one event to a task's log.

    Raises:
        TaskEnded: the task has ended. TaskNotFound, StaleAssignment: as they say.
    """
    event = EventInput(type, data, level, series_id, series_mode, series_acc_field)
    path = f"{_task(task_id)}/events"
    return _write("POST", path, Event, to_wire(event), key=idempotency_key, headers=_assignment(assignment_id))


def publish_events(
    task_id: str,
    events: Sequence[EventInput],
    *,
    assignment_id: str | None = None,
    idempotency_key: str | None = None,
) -> Call[list[Event]]:
    """Append several events in one request, all or none, in this order."""
    path = f"{_task(task_id)}/events"
    return _write("POST", path, list[Event], to_wire(events), key=idempotency_key, headers=_assignment(assignment_id))


def publish_lines(
    task_id: str,
    events: Iterable[EventInput],
    *,
    assignment_id: str | None = None,
    idempotency_key: str | None = None,
) -> Call[Published]:
    """Append a great many events in one request; the server stores them in chunks, so not all or none."""
    body = b"".join([dumps(to_wire(each)) + b"\n" for each in events])
    return Call(
        "POST",
        events_path(task_id),
        lambda reply: from_wire(Published, reply.json()),
        body=body,
        content_type=NDJSON,
        repeat="keyed",
        key=idempotency_key,
        headers=_assignment(assignment_id),
    )


def get_history(
    task_id: str,
    *,
    since: Cursor | str | None = None,
    types: Iterable[str] | None = None,
    levels: Iterable[Level] | None = None,
    limit: int | None = None,
    series_format: SeriesFormat | None = None,
) -> Call[list[Event]]:
    """The task's log so far. ``since``: an event id, or a cursor (whose index is the raw one here)."""
    query = {
        **since_query(since), "types": _joined(types), "levels": _joined(levels), "limit": limit,
        "seriesFormat": series_format,
    }  # fmt: skip
    return _read(f"{_task(task_id)}/events/history", list[Event], query)


# ── Archives and storage ──────────────────────────────────────────────────────────────────────────────────────────


def export_task_archive(task_id: str, *, include_secrets: bool = False) -> Call[TaskArchive]:
    """A task with its whole history; secrets of webhooks only on demand (scope ``task:manage``)."""
    query = {"secrets": "include" if include_secrets else None}
    return _read(f"{_task(task_id)}/archive", TaskArchive, query)


def import_task_archive(archive: TaskArchive | JsonObject, *, overwrite: bool = False) -> Call[ImportResult]:
    """Take in an exported task.

    Raises:
        TaskExists: there is one of that id, and ``overwrite`` is off.
    """
    body: JsonObject = {"archive": _archive(archive)}
    if overwrite:
        body["overwrite"] = True
    return _write("POST", "/tasks/import", ImportResult, body, repeat="safe" if overwrite else "never")


def _archive(archive: TaskArchive | JsonObject) -> Any:
    if not isinstance(archive, TaskArchive):
        return archive
    return {
        "schema": archive.schema, "version": archive.version, "exportedAt": archive.exported_at,
        "task": to_wire(archive.task), "events": to_wire(archive.events),
    }  # fmt: skip


def release_task(task_id: str, *, expected_last_event_index: int, inactive_since: int) -> Call[ReleaseResult]:
    """Move a task to cold storage, if its log ends there and nothing has happened since (ms).

    Raises:
        StoragePreconditionFailed: that is no longer true.
    """
    body = {"expectedLastEventIndex": expected_last_event_index, "inactiveSince": inactive_since}
    return _write("POST", f"{_task(task_id)}/storage/release", ReleaseResult, body, repeat="safe")


# ── Workers ───────────────────────────────────────────────────────────────────────────────────────────────────────


def list_workers() -> Call[list[Worker]]:
    """All workers that the server knows."""
    return Call("GET", "/workers", lambda reply: from_wire(list[Worker], _list_in(reply, "workers")))


def get_worker(worker_id: str) -> Call[Worker]:
    """One worker.

    Raises:
        WorkerNotFound: there is none.
    """
    return _read(_worker(worker_id), Worker)


def set_worker_status(worker_id: str, status: Literal["draining", "idle"]) -> Call[Worker]:
    """Let a worker take no new tasks (``draining``), or take them again (``idle``)."""
    return _write("PATCH", f"{_worker(worker_id)}/status", Worker, {"status": status}, repeat="safe")


def delete_worker(worker_id: str) -> Call[None]:
    """Forget a worker; its tasks are treated as its disconnect policy says."""
    return Call("DELETE", _worker(worker_id), _nothing, gone=True)


def get_worker_events(worker_id: str, *, limit: int | None = None) -> Call[list[WorkerAudit]]:
    """The worker's audit log."""

    def read(reply: Reply) -> list[WorkerAudit]:
        return from_wire(list[WorkerAudit], _list_in(reply, "events"))

    return Call("GET", f"{_worker(worker_id)}/events", read, query=_query({"limit": limit}))


def pull_task(
    worker_id: str,
    *,
    timeout_ms: int = 30_000,
    capacity: int | None = None,
    types: Iterable[str] | None = None,
    tags: Iterable[str] | None = None,
    weight: float | None = None,
) -> Call[Task | None]:
    """Wait for a task to run (``assigned`` to this worker), at most ``timeout_ms``; None if there was none.

    A call says that the worker is alive; an unknown one is registered with this capacity, types and tags.
    """
    query = {
        "workerId": worker_id, "timeout": timeout_ms, "capacity": capacity, "types": _joined(types),
        "tags": _joined(tags), "weight": weight,
    }  # fmt: skip

    def read(reply: Reply) -> Task | None:
        return None if reply.status == 204 else from_wire(Task, reply.json())

    return Call("GET", "/workers/pull", read, query=_query(query), extra_s=timeout_ms / 1000)


def send_heartbeat(worker_id: str, task_ids: Iterable[str] | None = None) -> Call[list[str]]:
    """Say that a worker lives, and has these tasks; returns those that are not its own any more.

    Raises:
        WorkerNotFound: the server does not know it (any more). NotFound: the server has no such thing.
    """
    body = None if task_ids is None else dumps({"taskIds": list(task_ids)})

    def read(reply: Reply) -> list[str]:
        return [str(each) for each in _list_in(reply, "cancelled")]

    return Call("POST", f"{_worker(worker_id)}/heartbeat", read, body=body)


def decline_task(task_id: str, worker_id: str, *, blacklist: bool = False) -> Call[None]:
    """Give an assigned task back; ``blacklist``: never offer it to this worker again."""
    body = {"workerId": worker_id, "blacklist": blacklist}
    path = f"/workers/tasks/{quote(task_id, safe='')}/decline"
    return Call("POST", path, _nothing, body=dumps(body))


# ── The server ────────────────────────────────────────────────────────────────────────────────────────────────────


def get_server_info() -> Call[ServerInfo]:
    """Which server answers."""
    return _read("/", ServerInfo)


def get_health() -> Call[JsonObject]:
    """Whether the server lives."""
    return Call("GET", "/health", lambda reply: dict(reply.json()))


def get_readiness() -> Call[Readiness]:
    """Whether the server and its stores can work; no error when they cannot."""
    return Call("GET", "/health/ready", lambda reply: from_wire(Readiness, reply.json()), accepts=frozenset({503}))


def get_health_detail() -> Call[JsonObject]:
    """Everything that the server tells of its state."""
    return Call("GET", "/health/detail", lambda reply: dict(reply.json()))


def create_admin_token(
    admin_token: str, *, scopes: Sequence[str] | None = None, expires_in_s: int | None = None
) -> Call[AdminToken]:
    """A bearer token made by the server, for whoever knows its admin token.

    Raises:
        NotFound: the server offers none. Unauthorized: the admin token is wrong.
    """
    body = {
        "adminToken": admin_token,
        "scopes": None if scopes is None else list(scopes),
        "expiresIn": expires_in_s,
    }
    return _write("POST", "/admin/token", AdminToken, _present(body), repeat="safe")


# ── Parts ─────────────────────────────────────────────────────────────────────────────────────────────────────────


def since_query(since: Cursor | str | None) -> dict[str, Any]:
    """The query parameters of a cursor; a string is an event id."""
    if since is None:
        return {}
    cursor = Cursor(id=since) if isinstance(since, str) else since
    return {"since.id": cursor.id, "since.index": cursor.index, "since.timestamp": cursor.timestamp}


def events_path(task_id: str) -> str:
    """Where a task's stream is."""
    return f"{_task(task_id)}/events"


def _task(task_id: str) -> str:
    return f"/tasks/{_segment(task_id)}"


def _worker(worker_id: str) -> str:
    return f"/workers/{_segment(worker_id)}"


def _segment(value: str) -> str:
    """One segment of a path. ``.`` and ``..`` would be resolved away by every HTTP library, also when encoded."""
    if value in ("", ".", ".."):
        raise ValueError(f"not an id: {value!r}")
    return quote(value, safe="")


def _read(path: str, kind: type[R], query: Mapping[str, Any] | None = None) -> Call[R]:
    return Call("GET", path, lambda reply: from_wire(kind, reply.json()), query=_query(query or {}))


def _write(
    method: str,
    path: str,
    kind: type[R],
    body: Any,
    *,
    repeat: Literal["safe", "keyed", "never"] = "keyed",
    key: str | None = None,
    headers: Mapping[str, str] | None = None,
) -> Call[R]:
    return Call(
        method,
        path,
        lambda reply: from_wire(kind, reply.json()),
        body=None if body is None else dumps(body),
        repeat=repeat,
        key=key,
        headers=headers or {},
    )


def _nothing(_: Reply) -> None:
    return None


def _list_in(reply: Reply, name: str) -> list[Any]:
    body = reply.json()
    return list(body[name]) if isinstance(body, dict) and isinstance(body.get(name), list) else list(body)


def _present(body: Mapping[str, Any]) -> JsonObject:
    return {name: value for name, value in body.items() if value is not None}


def _query(values: Mapping[str, Any]) -> tuple[tuple[str, str], ...]:
    return tuple((name, str(value)) for name, value in values.items() if value is not None)


def _joined(values: str | Iterable[str] | None) -> str | None:
    if values is None or isinstance(values, str):
        return values
    return ",".join(values)


def _assignment(assignment_id: str | None) -> dict[str, str]:
    return {} if assignment_id is None else {"X-Taskcast-Assignment": assignment_id}
