"""Creating, reading, listing, moving and deleting tasks (wire spec, rest section 3)."""

from __future__ import annotations

from typing import Any

from taskcast_core import states, wire
from taskcast_core.contracts.listing import ListQuery
from taskcast_core.errors import Forbidden, InvalidInput
from taskcast_core.models import TagMatch, Task, TaskInput, TaskStatus, TransitionInput
from taskcast_server.calls import Call
from taskcast_server.requests import (
    comma_list,
    depth_faults,
    read_integer,
    read_limit,
    read_task_input,
)
from taskcast_server.responses import NO_CONTENT, Reply, json_reply, shown_task, watched_task
from taskcast_server.routes.documents import ASSIGNMENT, IDEMPOTENCY, INTEGER, lists_of, record
from taskcast_server.routing import Doc, Parameter, Route
from taskcast_server.tracing import valid_traceparent

PAGE = 1000
"""Tasks in a list unless it asks for fewer; also the most."""


async def create(call: Call) -> Reply:
    """``POST /tasks``."""
    given = read_task_input(await call.json_object(), call.services.limits)
    check_creation(call, given)
    task = await create_task(call, given, call.idempotency_key())
    call.note = "task created"
    return json_reply(shown_task(task), 201)


def check_creation(call: Call, given: TaskInput) -> None:
    """Whether the caller may create this very task.

    Raises:
        Forbidden: the id is none of its, or it may not have webhooks.
    """
    if given.id is not None and not call.principal.may_see(given.id):
        raise Forbidden
    if given.webhooks and not call.principal.allows("webhook:create"):
        raise Forbidden("Forbidden: webhooks need the scope webhook:create")


async def create_task(call: Call, given: TaskInput, key: str | None, *, after: str | None = None) -> Task:
    """Create, and count it for the caller."""
    live = call.services.callers.tasks
    if live is not None:
        await live.check(call.caller)
    task = await call.services.engine.create_task(
        given, idempotency_key=key, after=after, traceparent=valid_traceparent(call)
    )
    if live is not None:
        live.add(call.caller, task.id)
    return task


async def index(call: Call) -> Reply:
    """``GET /tasks``."""
    query = read_list_query(call)
    page = await call.services.engine.list_tasks(query)
    subscribers = call.services.engine.hub.subscribers
    shown = [watched_task(task, subscribers(task.id)) for task in page.tasks if call.meets_rules(task)]
    body: dict[str, Any] = {"tasks": shown}
    if page.next_cursor is not None:
        body["nextCursor"] = page.next_cursor
    return json_reply(body)


def read_list_query(call: Call) -> ListQuery:
    """The query of a list, confined to what the caller may see.

    Raises:
        InvalidInput.
    """
    query = call.query
    statuses = comma_list(query.get("status"))
    types = comma_list(query.get("types")) or None
    if query.get("type"):
        types = (query["type"], *(types or ()))
    tags = TagMatch(
        all=comma_list(query.get("tags")), any=comma_list(query.get("tagsAny")), none=comma_list(query.get("tagsNone"))
    )
    return ListQuery(
        statuses=frozenset(states.ALL) & frozenset(statuses) if statuses else None,
        types=types,
        tags=None if tags == TagMatch() else tags,
        task_ids=call.principal.task_ids,
        created_after=read_integer(query, "createdAfter"),
        created_before=read_integer(query, "createdBefore"),
        limit=min(read_limit(query.get("limit")) or PAGE, PAGE),
        cursor=query.get("cursor") or None,
    )


async def show(call: Call) -> Reply:
    """``GET /tasks/{taskId}``."""
    task = await call.task()
    return json_reply(watched_task(task, call.services.engine.hub.subscribers(task.id)))


async def transition(call: Call) -> Reply:
    """``PATCH /tasks/{taskId}/status``."""
    body = await call.json_object()
    status = _status(body.get("status"))
    given = wire.from_wire(body, TransitionInput)
    faults = [(name, "expected a positive integer") for name in ("ttl", "resumeAfterMs") if _is_no_positive(body, name)]
    for name in ("result", "error", "blockedRequest"):
        faults += depth_faults(body.get(name), name, call.services.limits)
    if status is None:
        faults.append(("status", "expected one of " + ", ".join(states.ALL)))
    if faults or status is None:
        raise InvalidInput(faults)
    await call.check_rules()
    task = await call.services.engine.transition_task(
        call.task_id, status, given, idempotency_key=call.idempotency_key(), assignment_id=call.assignment_id()
    )  # fmt: skip
    call.note = f"→ {task.status}"
    return json_reply(shown_task(task))


def _status(value: Any) -> TaskStatus | None:
    return next((status for status in states.ALL if status == value), None)


def _is_no_positive(body: dict[str, Any], name: str) -> bool:
    value = body.get(name)
    return value is not None and not 0 < value < 2**53


async def resolve(call: Call) -> Reply:
    """``POST /tasks/{taskId}/resolve``."""
    body = await call.json_object()
    if faults := depth_faults(body.get("data"), "data", call.services.limits):
        raise InvalidInput(faults)
    await call.check_rules()
    task = await call.services.engine.resolve_task(call.task_id, body.get("data"))
    call.note = "resolve"
    return json_reply(shown_task(task))


async def request(call: Call) -> Reply:
    """``GET /tasks/{taskId}/request``."""
    await call.check_rules()
    return json_reply(wire.to_wire(await call.services.engine.get_blocked_request(call.task_id)))


async def delete(call: Call) -> Reply:
    """``DELETE /tasks/{taskId}``."""
    await call.check_rules()
    await call.services.engine.delete_task(call.task_id)
    return NO_CONTENT


_TASK = ("the task", "Task")
_PAGE_OF_TASKS = record(tasks=lists_of("WatchedTask"))
_PAGE_OF_TASKS["properties"] |= {"nextCursor": {"type": "string"}}
_CREATE_REPLIES: dict[int, Any] = {201: ("the new task", "Task"), 409: "the id is taken", 422: "key reused"}

ROUTES = (
    Route(
        "POST", "/tasks", create,
        Doc("Create a task", "Tasks", _CREATE_REPLIES, body="CreateTaskInput", parameters=(IDEMPOTENCY,)),
        scope="task:create",
    ),
    Route(
        "GET", "/tasks", index,
        Doc(
            "List tasks, newest first", "Tasks",
            {200: ("a page", _PAGE_OF_TASKS)},
            parameters=(
                Parameter("status", "comma-separated statuses"),
                Parameter("type", "a type pattern"),
                Parameter("types", "comma-separated type patterns"),
                Parameter("tags", "comma-separated: all of these"),
                Parameter("tagsAny", "comma-separated: at least one of these"),
                Parameter("tagsNone", "comma-separated: none of these"),
                Parameter("createdAfter", "Unix ms, exclusive", schema=INTEGER),
                Parameter("createdBefore", "Unix ms, exclusive", schema=INTEGER),
                Parameter("limit", f"at most {PAGE}", schema=INTEGER),
                Parameter("cursor", "nextCursor of the page before"),
            ),
        ),
        scope="event:subscribe",
    ),
    Route(
        "GET", "/tasks/{taskId}", show, Doc("Show a task", "Tasks", {200: ("the task", "WatchedTask")}),
        scope="event:subscribe", is_terse=True,
    ),
    Route(
        "PATCH", "/tasks/{taskId}/status", transition,
        Doc(
            "Move a task to a status", "Tasks",
            {200: _TASK, 409: "not allowed from its present status", 422: "key reused"},
            body="TransitionInput", parameters=(IDEMPOTENCY, ASSIGNMENT),
        ),
        scope="task:manage",
    ),
    Route(
        "POST", "/tasks/{taskId}/resolve", resolve,
        Doc("Answer a blocked task", "Tasks", {200: _TASK, 409: "somebody else was faster"}, body="ResolveInput"),
        scope="task:resolve", is_terse=True,
    ),
    Route(
        "GET", "/tasks/{taskId}/request", request,
        Doc("The question that a blocked task waits with", "Tasks", {200: ("the question", "BlockedRequest")}),
        scope="task:resolve", is_terse=True,
    ),
    Route(
        "DELETE", "/tasks/{taskId}", delete,
        Doc("Delete a task with its history; a live one is cancelled first", "Tasks", {204: "it is gone"}),
        scope="task:manage", is_terse=True,
    ),
)  # fmt: skip
