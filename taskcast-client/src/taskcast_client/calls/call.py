"""What a request is as a value, and the pieces that all requests are made of. Pure."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any, Generic, Literal, TypeVar
from urllib.parse import quote

from attrs import field, frozen

from taskcast_client.errors import InvalidReply
from taskcast_client.models import Cursor, JsonObject
from taskcast_client.wire import dumps, from_wire, loads

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


def since_query(since: Cursor | str | None) -> dict[str, Any]:
    """The query parameters of a cursor; a string is an event id."""
    if since is None:
        return {}
    cursor = Cursor(id=since) if isinstance(since, str) else since
    return {"since.id": cursor.id, "since.index": cursor.index, "since.timestamp": cursor.timestamp}


def events_path(task_id: str) -> str:
    """Where a task's stream is."""
    return f"{task_path(task_id)}/events"


def task_path(task_id: str) -> str:
    """Where a task is."""
    return f"/tasks/{segment(task_id)}"


def worker_path(worker_id: str) -> str:
    """Where a worker is."""
    return f"/workers/{segment(worker_id)}"


def segment(value: str) -> str:
    """One segment of a path. ``.`` and ``..`` would be resolved away by every HTTP library, also when encoded."""
    if value in ("", ".", ".."):
        raise ValueError(f"not an id: {value!r}")
    return quote(value, safe="")


def reading(path: str, kind: type[R], query: Mapping[str, Any] | None = None) -> Call[R]:
    """A call that reads one thing."""
    return Call("GET", path, lambda reply: from_wire(kind, reply.json()), query=query_of(query or {}))


def writing(
    method: str,
    path: str,
    kind: type[R],
    body: Any,
    *,
    repeat: Literal["safe", "keyed", "never"] = "keyed",
    key: str | None = None,
    headers: Mapping[str, str] | None = None,
) -> Call[R]:
    """A call that changes something, and gets it back."""
    return Call(
        method,
        path,
        lambda reply: from_wire(kind, reply.json()),
        body=None if body is None else dumps(body),
        repeat=repeat,
        key=key,
        headers=headers or {},
    )


def nothing(_: Reply) -> None:
    """A reply that says nothing."""
    return


def list_in(reply: Reply, name: str) -> list[Any]:
    """The list in a reply: under its name, or bare.

    Raises:
        InvalidReply: there is none.
    """
    body = reply.json()
    items = body.get(name) if isinstance(body, dict) else body
    if not isinstance(items, list):
        raise InvalidReply(f"expected a list of {name}")
    return items


def present(body: Mapping[str, Any]) -> JsonObject:
    """Only what is given."""
    return {name: value for name, value in body.items() if value is not None}


def query_of(values: Mapping[str, Any]) -> tuple[tuple[str, str], ...]:
    """Query parameters, of what is given."""
    return tuple((name, str(value)) for name, value in values.items() if value is not None)


def joined(values: str | Iterable[str] | None) -> str | None:
    """Comma-separated, as the wire has lists in queries."""
    if values is None or isinstance(values, str):
        return values
    return ",".join(values)


def assignment_header(assignment_id: str | None) -> dict[str, str]:
    """The header by which a worker names its assignment."""
    return {} if assignment_id is None else {"X-Taskcast-Assignment": assignment_id}
