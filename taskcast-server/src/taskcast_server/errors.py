"""What only a server refuses: bodies, rates, routes. They know their HTTP status; the engine's errors do not."""

from __future__ import annotations

from typing import ClassVar, Literal

from taskcast_core.errors import TaskcastError


class HttpError(TaskcastError):
    """An error with a status of its own.

    Attributes:
        headers: to be sent along, e.g. ``Retry-After``.
    """

    status: ClassVar[int] = 400
    text: ClassVar[str] = ""

    def __init__(self, message: str | None = None, headers: tuple[tuple[bytes, bytes], ...] = ()) -> None:
        self.headers = headers
        super().__init__(message or self.text)


class RouteNotFound(HttpError):
    """No such path."""

    status, code, text = 404, "not_found", "Not found"


class MethodNotAllowed(HttpError):
    """The path exists, but not for this method."""

    status, code, text = 405, "method_not_allowed", "Method not allowed"


CLOSE: tuple[bytes, bytes] = (b"connection", b"close")


class UpgradeRequired(HttpError):
    """The path is a WebSocket's."""

    status, code, text = 426, "upgrade_required", "This is a WebSocket"

    def __init__(self) -> None:
        super().__init__(None, ((b"upgrade", b"websocket"), (b"connection", b"upgrade")))


class BodyTooLarge(HttpError):
    """The request's body is longer than the configured bound.

    ``is_read``: the rest of it has been read, or soon will be, so that the connection can be used again.
    """

    status, code = 413, "body_too_large"

    def __init__(self, maximum: int, *, is_read: bool = True) -> None:
        super().__init__(f"The body is larger than {maximum} bytes", () if is_read else (CLOSE,))


class MalformedBody(HttpError):
    """The body is not JSON."""

    status, code, text = 400, "malformed_json", "Malformed JSON in request body"


class TooManyRequests(HttpError):
    """A caller's rate or count is used up. ``retry_after_s``: when it is worth trying again. ``limit``: which it is."""

    status, code, retryable = 429, "too_many_requests", True

    def __init__(self, message: str, retry_after_s: int, limit: Literal["rate", "streams", "tasks", "admin"]) -> None:
        self.limit = limit
        super().__init__(message, ((b"retry-after", b"%d" % retry_after_s),))


class NotAtomicHere(HttpError):
    """A batch was asked for as all or nothing, which the configured store cannot do."""

    status, code, text = 400, "not_atomic_here", "This store cannot create a batch as all or nothing"


class ShuttingDown(HttpError):
    """The server takes no new streams any more."""

    status, code, retryable, text = 503, "shutting_down", True, "The server is shutting down"

    def __init__(self) -> None:
        super().__init__(None, ((b"retry-after", b"1"),))


class LetterUndeliverable(HttpError):
    """A dead letter whose task, webhook or event is gone."""

    status, code, text = 409, "letter_undeliverable", "The task, its webhook or the event no longer exists"


class LetterNotFound(HttpError):
    """No such dead letter."""

    status, code, text = 404, "letter_not_found", "Dead letter not found"


class BrokenOff(Exception):
    """Something failed in the middle of a reply, so that all that can be done is to close the connection."""


class ClientGone(Exception):
    """The client has closed the connection before its request was complete; nobody is left to answer."""
