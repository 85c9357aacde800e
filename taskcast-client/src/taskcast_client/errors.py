"""Every error of the client, in one tree. What a server refused is told apart by HTTP status and by its ``code``.

::

    ClientError
    ├── ConnectionFailed             no answer: refused, cut, timed out
    ├── InvalidReply                 an answer that is not the wire's
    ├── StreamInterrupted            a stream was cut, and could not be resumed in time
    ├── TextRestarted                a series began anew while its deltas were being read
    ├── ToolFailed                   a tool call was answered with an error
    ├── TaskCancelled                the task that this program runs has been cancelled, or ended by somebody else
    └── RefusedError                 the server answered with an error status
        ├── BadRequest  (400)        InvalidInput  TaskEnded  NotBlocked
        ├── Unauthorized  (401)
        ├── Forbidden  (403)
        ├── NotFound  (404)          TaskNotFound  WorkerNotFound  NoBlockedRequest
        ├── Conflict  (409)          TaskExists  TaskDeleting  InvalidTransition  StaleAssignment  LimitExceeded
        │                            StoragePreconditionFailed  StorageBusy  ReplyExpired
        ├── TooLarge  (413)
        ├── IdempotencyConflict  (422)
        ├── RateLimited  (429)
        └── ServerError  (5xx)       Unavailable  StorageReleaseUnsupported  (503)
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar


class ClientError(Exception):
    """Base of all errors of the client.

    Attributes:
        retryable: whether trying again later may help.
    """

    retryable: bool = False


class ConnectionFailed(ClientError):
    """No answer arrived, after all attempts.

    Attributes:
        was_sent: False if nothing can have reached the server; else it is unknown whether it did what was asked.
    """

    retryable = True
    was_sent: bool = True


class InvalidReply(ClientError):
    """The answer cannot be read: probably something else than a Taskcast server is listening there."""


class StreamInterrupted(ClientError):
    """A stream was cut and could not be resumed in time.

    Attributes:
        task_id: of the stream. last_event_id: the exact cursor to go on from, given as ``since``.
    """

    retryable = True

    def __init__(self, task_id: str, last_event_id: str | None) -> None:
        self.task_id, self.last_event_id = task_id, last_event_id
        super().__init__(f"The stream of task {task_id} was cut and could not be resumed")


class TextRestarted(ClientError):
    """A series began anew, so its new text does not continue the deltas given so far.

    Attributes:
        text: the text as it is now.
    """

    def __init__(self, series_id: str, text: str) -> None:
        self.series_id, self.text = series_id, text
        super().__init__(f"The text of series {series_id} began anew; read it with growing=True")


class TaskCancelled(ClientError):
    """The task that this program runs has been cancelled, has timed out, or was ended by somebody else."""

    def __init__(self, task_id: str, status: str) -> None:
        self.task_id, self.status = task_id, status
        super().__init__(f"Task {task_id} has ended: {status}")


class ToolFailed(ClientError):
    """A tool call was answered with an error, which is the message."""

    def __init__(self, call_id: str, name: str, error: str) -> None:
        self.call_id, self.name = call_id, name
        super().__init__(error)


class RefusedError(ClientError):
    """The server answered with an error status.

    Attributes:
        status: of HTTP. code: the server's name for the error, None from servers that have no such names.
        details: what the server added, for example one entry per fault of the input.
        retry_after_s: how long the server asks to wait.
    """

    of_status: ClassVar[int | None] = None
    of_code: ClassVar[str | None] = None

    def __init__(
        self,
        message: str,
        *,
        status: int,
        code: str | None = None,
        details: Any = None,
        retry_after_s: float | None = None,
    ) -> None:
        self.status, self.code, self.details, self.retry_after_s = status, code, details, retry_after_s
        super().__init__(message)


class BadRequest(RefusedError):
    """The server does not accept what was sent."""

    of_status = 400


class InvalidInput(BadRequest):
    """A value is not what the wire asks for; ``details`` says which."""

    of_code = "validation_error"


class TaskEnded(BadRequest):
    """Publishing to a task that has ended."""

    of_code = "task_ended"


class NotBlocked(BadRequest):
    """The task waits for no answer."""

    of_code = "task_not_blocked"


class Unauthorized(RefusedError):
    """The token or key is missing, wrong or has expired."""

    of_status = 401


class Forbidden(RefusedError):
    """The token does not allow this."""

    of_status = 403


class NotFound(RefusedError):
    """There is no such thing."""

    of_status = 404


class TaskNotFound(NotFound):
    """There is no such task."""

    of_code = "task_not_found"


class WorkerNotFound(NotFound):
    """There is no such worker."""

    of_code = "worker_not_found"


class NoBlockedRequest(NotFound):
    """The task is not blocked, or was blocked without a request."""

    of_code = "no_blocked_request"


class Conflict(RefusedError):
    """The task is not in the state that this needs."""

    of_status = 409


class TaskExists(Conflict):
    """The id is taken."""

    of_code = "task_exists"


class TaskDeleting(Conflict):
    """The id belongs to a task that is being deleted."""

    of_code = "task_deleting"
    retryable = True


class InvalidTransition(Conflict):
    """The task cannot go from its status to that one."""

    of_code = "invalid_transition"


class StaleAssignment(Conflict):
    """Another worker may own the task now."""

    of_code = "stale_assignment"


class LimitExceeded(Conflict):
    """A bound of the task would be passed."""

    of_code = "limit_exceeded"


class StoragePreconditionFailed(Conflict):
    """What was expected of the task's storage is no longer true."""

    of_code = "storage_precondition_failed"


class StorageBusy(Conflict):
    """Another node is moving this task."""

    of_code = "storage_busy"
    retryable = True


class ReplyExpired(Conflict):
    """The change was made earlier, but its reply is gone; nothing was done twice."""

    of_code = "reply_expired"


class TooLarge(RefusedError):
    """The body is larger than the server takes."""

    of_status = 413


class IdempotencyConflict(RefusedError):
    """The idempotency key was used before, with another body."""

    of_status = 422


class RateLimited(RefusedError):
    """Too many requests; ``retry_after_s`` says when to come back."""

    of_status = 429
    retryable = True


class ServerError(RefusedError):
    """The server failed."""

    of_status = 500


class Unavailable(ServerError):
    """The server, or a store behind it, is away."""

    of_status = 503
    retryable = True


class StorageReleaseUnsupported(ServerError):
    """The server has no cold storage, and will have none when asked again."""

    of_code, of_status = "storage_release_unsupported", 503


def _classes(base: type[RefusedError]) -> list[type[RefusedError]]:
    return [base, *(each for child in base.__subclasses__() for each in _classes(child))]


_ALL = _classes(RefusedError)
_BY_CODE = {each.of_code: each for each in _ALL if each.of_code is not None}
_BY_STATUS = {each.__dict__["of_status"]: each for each in _ALL if "of_status" in each.__dict__ and not each.of_code}


def refused(status: int, body: object, headers: Mapping[str, str]) -> RefusedError:
    """The error that an error reply stands for; ``body`` is its JSON, or its text where it is none."""
    facts = body if isinstance(body, dict) else {}
    error, code = facts.get("error"), facts.get("code")
    message = error if isinstance(error, str) else f"HTTP {status}"
    cls = _BY_CODE.get(code) if isinstance(code, str) else None
    if cls is None or cls.of_status != status:
        cls = _BY_STATUS.get(status) or (ServerError if status >= 500 else RefusedError)
    return cls(
        message,
        status=status,
        code=code if isinstance(code, str) else None,
        details=facts.get("details", error if isinstance(error, dict) else None),
        retry_after_s=_seconds(headers.get("retry-after")),
    )


def _seconds(value: str | None) -> float | None:
    """``Retry-After`` as seconds; its other form, a date, is not used by this wire."""
    try:
        return max(0.0, float(value)) if value is not None else None
    except ValueError:
        return None
