"""Many tasks in one request."""

from __future__ import annotations

from typing import Any

from taskcast_core.errors import InvalidInput, StoreUnavailable, TaskcastError
from taskcast_server.calls import Call
from taskcast_server.errors import NotAtomicHere, TooManyRequests
from taskcast_server.requests import read_task_input
from taskcast_server.responses import Reply, json_reply, shown_task, status_of
from taskcast_server.routes.documents import IDEMPOTENCY, record, reference
from taskcast_server.routes.tasks import check_creation, create_task
from taskcast_server.routing import Doc, Route

_MODES = ("parallel", "sequential")


async def create_batch(call: Call) -> Reply:
    """``POST /tasks/batch``: each item on its own; in mode ``sequential`` each waits for the one before it."""
    items, mode = _read_batch(await call.json_object(), call.services.limits.max_batch_tasks)
    key = call.idempotency_key()
    results: list[dict[str, Any]] = []
    before: str | None = None
    for at, item in enumerate(items):
        try:
            given = read_task_input(item, call.services.limits)
            check_creation(call, given)
            task = await create_task(call, given, f"{key}\x1f{at}" if key else None, after=before)
        except StoreUnavailable as error:
            results += [_failure(error)] * (len(items) - at)  # the others would fare no better
            break
        except TaskcastError as error:
            if isinstance(error, TooManyRequests) and call.services.meters is not None:
                call.services.meters.refused(error)
            results.append(_failure(error))
            continue
        results.append({"ok": True, "task": shown_task(task)})
        if mode == "sequential":
            before = task.id
    call.note = f"{len(items)} tasks"
    return json_reply({"results": results})


def _read_batch(body: dict[str, Any], maximum: int) -> tuple[list[Any], str]:
    items, mode, atomic = body.get("tasks"), body.get("mode", "parallel"), body.get("atomic", False)
    faults = []
    if not isinstance(items, list):
        faults.append(("tasks", "expected a list"))
    elif not 1 <= len(items) <= maximum:
        faults.append(("tasks", f"expected 1 to {maximum} items"))
    if mode not in _MODES:
        faults.append(("mode", "expected one of " + ", ".join(_MODES)))
    if not isinstance(atomic, bool):
        faults.append(("atomic", "expected true or false"))
    if faults or not isinstance(items, list):
        raise InvalidInput(faults)
    if atomic:
        raise NotAtomicHere
    return items, mode


def _failure(error: TaskcastError) -> dict[str, Any]:
    status = status_of(error)
    if status >= 500 and not error.retryable:
        raise error  # a fault of ours, not of the item
    failure: dict[str, Any] = {"ok": False, "status": status, "error": str(error), "code": error.code}
    if isinstance(error, InvalidInput):
        failure["details"] = [{"path": path, "reason": reason} for path, reason in error.details]
    return failure


_RESULT = {
    "type": "object",
    "properties": {
        "ok": {"type": "boolean"},
        "task": reference("Task"),
        "status": {"type": "integer"},
        "error": {"type": "string"},
        "code": {"type": "string"},
        "details": {"type": "array", "items": {"type": "object"}},
    },
    "required": ["ok"],
}

ROUTES = (
    Route(
        "POST", "/tasks/batch", create_batch,
        Doc(
            "Create many tasks", "Tasks",
            {200: ("what became of each", record(results={"type": "array", "items": _RESULT}))},
            body="BatchInput", parameters=(IDEMPOTENCY,),
        ),
        scope="task:create",
    ),
)  # fmt: skip
