"""Models → JSON replies; and the one table of error class → HTTP status."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Collection
from typing import Any
from urllib.parse import quote

import attrs

from taskcast_core import errors, wire
from taskcast_core.models import Task
from taskcast_core.values import value
from taskcast_core.workers import ClaimFailed
from taskcast_server.errors import HttpError
from taskcast_server.exchange import Header
from taskcast_server.webhooks.targets import without_secrets

JSON: Header = (b"content-type", b"application/json")
_RETRY_SOON: Header = (b"retry-after", b"1")

STATUS: dict[type[errors.TaskcastError], int] = {
    errors.InvalidInput: 400,
    errors.TaskNotFound: 404,
    errors.TaskExists: 409,
    errors.TaskDeleting: 409,
    errors.TaskEnded: 400,
    errors.InvalidTransition: 409,
    errors.NotBlocked: 400,
    errors.NoBlockedRequest: 404,
    errors.StaleAssignment: 409,
    errors.WorkerNotFound: 404,
    ClaimFailed: 409,
    errors.IdempotencyConflict: 422,
    errors.ReplyExpired: 409,
    errors.LimitExceeded: 409,
    errors.Conflict: 409,
    errors.Unauthorized: 401,
    errors.Forbidden: 403,
    errors.StoragePreconditionFailed: 409,
    errors.StorageBusy: 409,
    errors.StorageReleaseUnsupported: 503,
    errors.StoreUnavailable: 503,
}
"""All others are ours to blame: 500."""


@value
class Reply:
    """A whole reply, small enough to be held in memory; or one in ``chunks``, made while it is sent."""

    status: int
    body: bytes = b""
    headers: tuple[Header, ...] = (JSON,)
    chunks: AsyncGenerator[bytes] | None = None


NO_CONTENT = Reply(204, headers=())


def json_reply(value: Any, status: int = 200, headers: tuple[Header, ...] = ()) -> Reply:
    """A JSON value as a reply."""
    return Reply(status, wire.dumps(value), (JSON, *headers))


def error_reply(error: errors.TaskcastError, *, is_terse: bool = False) -> Reply:
    """What the caller is told: ``{error, code, details?}``.

    ``is_terse``: leave the id out of "Task not found", as the reference does on most routes.
    """
    status = status_of(error)
    if status == 500 and not isinstance(error, errors.StorageError):
        return internal_error()
    message = str(error)
    if is_terse and isinstance(error, errors.TaskNotFound):
        message = "Task not found"
    body: dict[str, Any] = {"error": message or type(error).__name__, "code": error.code}
    if isinstance(error, errors.InvalidInput):
        body["details"] = [{"path": path, "reason": reason} for path, reason in error.details]
    headers: tuple[Header, ...] = ()
    if isinstance(error, HttpError):
        headers = error.headers
    elif isinstance(error, errors.StaleAssignment):
        headers = cancelled_header((error.task_id,))
    elif status == 503 and error.retryable:
        headers = (_RETRY_SOON,)
    return json_reply(body, status, headers)


def cancelled_header(task_ids: Collection[str]) -> tuple[Header, ...]:
    """What tells a worker which tasks are not its own any more (percent-encoded); nothing when there are none."""
    if not task_ids:
        return ()
    return ((b"x-taskcast-cancelled", ",".join(quote(each, safe="") for each in sorted(task_ids)).encode()),)


def status_of(error: errors.TaskcastError) -> int:
    """The HTTP status of an error."""
    if isinstance(error, HttpError):
        return error.status
    return next((STATUS[kind] for kind in type(error).__mro__ if kind in STATUS), 500)


def internal_error() -> Reply:
    """The reply to something that should not have happened; says nothing about it."""
    return json_reply({"error": "Internal server error", "code": "internal_error"}, 500)


def shown_task(task: Task) -> dict[str, Any]:
    """A task as replies show it: webhook secrets never."""
    if task.webhooks:
        task = attrs.evolve(task, webhooks=tuple(without_secrets(each) for each in task.webhooks))
    shown: dict[str, Any] = wire.to_wire(task)
    return shown


def watched_task(task: Task, subscribers: int) -> dict[str, Any]:
    """``shown_task`` with the number of its readers on this process."""
    return {**shown_task(task), "hot": subscribers > 0, "subscriberCount": subscribers}
