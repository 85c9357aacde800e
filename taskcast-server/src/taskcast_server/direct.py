"""The way around ASGI's messages, where the server lets us: replies in one write, events right into the transport.

A server that can be gone around says so with the ASGI extension ``taskcast.direct``, a `Direct` for each request;
`taskcast_server.protocol` makes uvicorn one. On any other server, or behind a middleware that looks at what is sent,
everything goes through ``send`` as usual: nothing depends on the extension but what a delivery costs, about half.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, MutableMapping, Sequence
from http import HTTPStatus
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from uvicorn.protocols.http.httptools_impl import RequestResponseCycle

EXTENSION = "taskcast.direct"

Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]
Header = tuple[bytes, bytes]

_STATUS_LINES = {each.value: b"HTTP/1.1 %d %b\r\n" % (each.value, each.phrase.encode()) for each in HTTPStatus}
_NOTHING: Mapping[str, Any] = {}


class Direct:
    """One request's connection.

    Attributes:
        leaving: what is called when the client has left; shared by the requests of a connection.
    """

    __slots__ = ("_cycle", "leaving")

    def __init__(self, cycle: RequestResponseCycle, leaving: list[Callable[[], None]]) -> None:
        self._cycle, self.leaving = cycle, leaving

    def is_right_behind(self, send: Send) -> bool:
        """Whether ``send`` is the server's own, with nothing in between that would miss what goes directly."""
        return send == self._cycle.send

    def forget_request(self) -> None:
        """Nobody will ask for the rest of the request, or wait for the client to leave: keep nothing for that."""
        self._cycle.message_event = _NOBODY_WAITS  # type: ignore[assignment]
        self._cycle.scope["headers"] = ()

    @property
    def is_gone(self) -> bool:
        """Whether the client has left."""
        return self._cycle.disconnected or self._cycle.transport.is_closing()

    def push(self, framed: bytes) -> bool:
        """Send a part of a body, framed by `in_chunks`; False if that has to wait, which is what ``send`` does.

        So it is past the transport's high-water mark, and while no chunked response is on its way.
        """
        cycle = self._cycle
        transport = cycle.transport
        if (
            cycle.flow.write_paused
            or cycle.disconnected
            or cycle.response_complete
            or not cycle.chunked_encoding
            or transport.is_closing()
        ):
            return False
        transport.write(framed)
        return True

    def reply(self, status: int, headers: Sequence[Header], body: bytes) -> bool:
        """Send a whole reply, its ``content-length`` among the headers; False if ``send`` has to."""
        cycle = self._cycle
        if cycle.response_started or cycle.flow.write_paused or cycle.disconnected or cycle.access_log:
            return False
        head = [_STATUS_LINES[status]]
        for name, value in (*cycle.default_headers, *headers):
            if b"\n" in value or b"\r" in value:
                return False
            head += (name, b": ", value, b"\r\n")
        head.append(b"\r\n" if cycle.keep_alive else b"connection: close\r\n\r\n")
        if cycle.scope["method"] != "HEAD":
            head.append(body)
        cycle.response_started = cycle.response_complete = True
        cycle.waiting_for_100_continue = False
        cycle.transport.write(b"".join(head))
        cycle.message_event.set()
        if not cycle.keep_alive:
            cycle.transport.close()
        cycle.on_response()
        return True


class _NobodyWaits:
    """An event without waiters: hundreds of bytes less for each idle reader."""

    def set(self) -> None:
        pass


_NOBODY_WAITS = _NobodyWaits()


def in_chunks(part: bytes) -> bytes:
    """A part of a body as HTTP/1.1 frames it; the same for every response."""
    return b"%x\r\n%b\r\n" % (len(part), part)


def direct_of(scope: Mapping[str, Any]) -> Direct | None:
    """The extension, where the server has it."""
    found = scope.get("extensions", _NOTHING).get(EXTENSION)
    return found if isinstance(found, Direct) else None
