"""One request and its reply: ASGI's ``receive`` and ``send``, and the shorter way for those who can take it."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Mapping, MutableMapping, Sequence
from functools import lru_cache
from http import HTTPStatus
from typing import Any, Protocol

Header = tuple[bytes, bytes]
Message = MutableMapping[str, Any]

_log = logging.getLogger("uvicorn.error")
_STATUS_LINES = {each.value: b"HTTP/1.1 %d %b\r\n" % (each.value, each.phrase.encode()) for each in HTTPStatus}
_WITHOUT_BODY = frozenset({204, 304})


class Connection(Protocol):
    """What an exchange needs to know of the line that it happens on."""

    transport: asyncio.Transport
    leaving: list[Callable[[], None]]
    is_full: bool
    """Whether the transport is past its high-water mark."""
    access_log: bool
    """Whether somebody wants to be told of each reply."""
    tasks: set[asyncio.Task[None]]
    """Those that do requests, of all connections."""

    def standing_headers(self) -> bytes:
        """What every reply carries, as it is sent."""
        ...

    async def drain(self) -> None:
        """Wait until the transport has room, or is gone."""

    def resume_reading(self) -> None:
        """There is room for more of the request."""

    def forget_request(self) -> None:
        """Nobody will look at what was asked any more."""

    def began(self, status: int) -> None:
        """A reply is about to be sent."""

    def ended(self) -> None:
        """The reply has been sent."""


class Exchange:
    """A request on a connection of `DirectProtocol`, and its reply.

    The request's scope leads to it, so it does not keep the scope: a cycle would be left behind by every request.

    Attributes:
        keep_alive: the connection may be used again behind this. expects_continue: the client waits to be asked for
        the body. is_whole: all of the request has come.
        has_started: the reply has begun. is_answered: it is complete. is_left_open: it will be, by others than the
        application. is_lost: the client has left. task: one of the connection's ``tasks``, if it has one of its own.
    """

    __slots__ = (
        "_connection", "_head", "_is_chunked", "_is_head", "_is_old", "_is_read", "_left", "_news", "_parts",
        "expects_continue", "has_started", "is_answered", "is_left_open", "is_lost", "is_whole", "keep_alive",
        "task",
    )  # fmt: skip

    def __init__(self, connection: Connection, method: str = "", version: str = "1.1") -> None:
        self._connection = connection
        self._is_head, self._is_old = method == "HEAD", version != "1.1"
        self.keep_alive = self.expects_continue = False
        self.is_answered = self.is_left_open = self.is_lost = False
        self._parts: list[bytes] = []  # of the body, not yet read
        self.is_whole = self._is_read = False
        self.task: asyncio.Task[None] | None = None
        self._news: asyncio.Event | None = None
        self.has_started = self._is_chunked = False
        self._head = b""  # until the first part of the body goes along
        self._left: int | None = None  # of the announced length

    # ── The request ────────────────────────────────────────────────────────────────────────────────────────────────

    def feed(self, part: bytes) -> int:
        """A part of the body has come; how many bytes wait to be read."""
        self._parts.append(part)
        if self._news is not None:
            self._news.set()
        return len(part) if len(self._parts) == 1 else sum(map(len, self._parts))

    def complete(self) -> None:
        """The whole body has come."""
        self.is_whole = True
        if self._news is not None:
            self._news.set()

    def lose(self) -> None:
        """The client has left."""
        self.is_lost = not self.is_answered
        if self._news is not None:
            self._news.set()

    async def receive(self) -> Message:
        """See ASGI."""
        if self.expects_continue and not self.is_gone:
            self._connection.transport.write(b"HTTP/1.1 100 Continue\r\n\r\n")
        self.expects_continue = False
        while not (self.is_lost or self.is_answered):
            if self._parts or (self.is_whole and not self._is_read):
                body, self._parts = b"".join(self._parts), []
                self._is_read = self.is_whole
                return {"type": "http.request", "body": body, "more_body": not self.is_whole}
            self._connection.resume_reading()
            self._news = self._news or asyncio.Event()
            self._news.clear()
            await self._news.wait()
        return {"type": "http.disconnect"}

    def whole_body(self) -> bytes | None:
        """The body, if all of it is there and nobody has read any; else None, and `receive` is the way to it."""
        if not self.is_whole or self._is_read or self.is_lost:
            return None
        self._is_read = True
        parts, self._parts = self._parts, []
        return parts[0] if len(parts) == 1 else b"".join(parts)

    # ── The reply, as ASGI has it ──────────────────────────────────────────────────────────────────────────────────

    async def run(self, app: Callable[..., Any], scope: Mapping[str, Any]) -> None:
        """Have the application answer; whatever it does, the client is not left without an end."""
        try:
            try:
                await app(scope, self.receive, self.send)
            except BaseException as error:  # noqa: BLE001 - a task of the server's own, and there is nobody else to tell
                _log.error("Exception in ASGI application\n", exc_info=error)
            if not (self.is_answered or self.is_left_open or self.is_gone):
                self._make_up()
        finally:
            if self.task is not None:  # without a callback of the task's, for which the loop would have to come again
                self._connection.tasks.discard(self.task)
                self.task = None

    def _make_up(self) -> None:
        """End what the application has left without an end."""
        if not self.has_started:
            _log.error("ASGI callable returned without starting response.")
            self.keep_alive = False
            plain = (b"content-type", b"text/plain; charset=utf-8")
            if not self.reply(500, (plain,), b"Internal Server Error"):
                self.break_off()
        else:
            _log.error("ASGI callable returned without completing response.")
            self.break_off()

    async def send(self, message: Message) -> None:
        """See ASGI.

        Raises:
            RuntimeError: the message is not one that may come now, or a header cannot be sent.
        """
        if self._connection.is_full and not self.is_lost:
            await self._connection.drain()
        if self.is_lost:
            return
        kind = message["type"]
        if kind != ("http.response.body" if self.has_started else "http.response.start"):
            raise RuntimeError(f"{kind} may not be sent now")
        if not self.has_started:
            self._begin(message["status"], tuple(message.get("headers", ())))
        elif not self.is_answered:
            self._go_on(message.get("body", b""), is_last=not message.get("more_body", False))

    def _begin(self, status: int, headers: Sequence[Header]) -> None:
        """The head is made, and sent with the first part of the body."""
        given = {name.lower(): value for name, value in headers}
        if b"close" in given.get(b"connection", b"").lower():
            self.keep_alive = False
        has_body = status >= 200 and status not in _WITHOUT_BODY and not self._is_head
        extra: tuple[Header, ...] = ()
        if not has_body:
            self._left = 0
        elif b"content-length" in given:
            self._left = int(given[b"content-length"])
        elif not self._is_old:
            self._is_chunked = True
            if b"transfer-encoding" not in given:
                extra = ((b"transfer-encoding", b"chunked"),)
        else:
            self.keep_alive = False  # what ends with the connection needs no length
        self._head = self._head_of(status, as_sent((*headers, *extra)))

    def _head_of(self, status: int, fields: bytes) -> bytes:
        self.has_started = True
        if self.expects_continue:
            self.expects_continue = False
            if not self.is_whole:
                self.keep_alive = False  # whether the body still comes is up to the client
        connection = self._connection
        if connection.access_log:
            connection.began(status)
        if fields.find(b"connection: close\r\n") >= 0:  # `in` would try whether that is a number
            self.keep_alive = False
            last = b"\r\n"
        else:
            last = b"\r\n" if self.keep_alive else b"connection: close\r\n\r\n"
        first = _STATUS_LINES.get(status) or b"HTTP/1.1 %d \r\n" % status
        return first + connection.standing_headers() + fields + last

    def _go_on(self, body: bytes, *, is_last: bool) -> None:
        head, self._head = self._head, b""
        if self._is_chunked:
            framed = in_chunks(body) if body else b""
            self._write(head + framed + (b"0\r\n\r\n" if is_last else b""))
        elif self._is_head:
            self._write(head)
        else:
            if self._left is not None:
                self._left -= len(body)
                if self._left < 0 or (is_last and self._left):
                    raise RuntimeError("a body is not as long as its content-length says")
            self._write(head + body)
        if is_last:
            self._end()

    def _write(self, text: bytes) -> None:
        if text:
            self._connection.transport.write(text)

    def _end(self) -> None:
        self.is_answered = True
        if self._news is not None:
            self._news.set()
        if not self.keep_alive:
            self._connection.transport.close()
        self._connection.ended()

    # ── The reply, the short way ───────────────────────────────────────────────────────────────────────────────────

    def is_right_behind(self, send: object, receive: object = None) -> bool:
        """Whether ``send`` (and ``receive``) is our own: nothing in between would miss what goes around it."""
        return send == self.send and (receive is None or receive == self.receive)

    @property
    def leaving(self) -> list[Callable[[], None]]:
        """What is called when the client has left; shared by the requests of a connection."""
        return self._connection.leaving

    @property
    def is_gone(self) -> bool:
        """Whether the client has left."""
        return self.is_lost or self._connection.transport.is_closing()

    def leave_open(self) -> None:
        """The reply goes on when the application has returned: somebody else sends the rest, or breaks off."""
        self.is_left_open = True
        self._connection.forget_request()

    def break_off(self) -> None:
        """The rest will not come; the client is told by the connection's end.

        Not after what it does not take: that might be never.
        """
        transport = self._connection.transport
        if self._connection.is_full:
            transport.abort()
        else:
            transport.close()

    def push(self, framed: bytes) -> bool:
        """Send a part of a body, framed by `in_chunks`; False if that has to wait, which is what ``send`` does.

        So it is past the transport's high-water mark, and while no chunked reply is on its way.
        """
        connection = self._connection
        transport = connection.transport
        if not self._is_chunked or self._head or self.is_answered or connection.is_full or transport.is_closing():
            return False
        transport.write(framed)
        return True

    def begin(self, status: int, headers: tuple[Header, ...], framed: bytes, more: bytes = b"") -> bool:
        """Begin a reply in chunks, with the first of them; False if ``send`` has to. See `push` and `reply`."""
        connection = self._connection
        if self.has_started or self._is_old or self._is_head or connection.is_full or self.is_lost:
            return False
        self._is_chunked = True
        connection.transport.write(self._head_of(status, _as_sent_again(headers) + more) + framed)
        return True

    def reply(self, status: int, headers: tuple[Header, ...], body: bytes, more: bytes = b"") -> bool:
        """Send a whole reply; False if ``send`` has to. ``more``: further header lines, as they are sent."""
        connection = self._connection
        if self.has_started or connection.is_full or self.is_lost:
            return False
        if status not in _WITHOUT_BODY:
            more = b"%bcontent-length: %d\r\n" % (more, len(body))
        head = self._head_of(status, _as_sent_again(headers) + more)
        connection.transport.write(head if self._is_head else head + body)
        self._end()
        return True


def in_chunks(part: bytes) -> bytes:
    """A part of a body as HTTP/1.1 frames it; the same for every reply."""
    return b"%x\r\n%b\r\n" % (len(part), part)


def as_sent(headers: Sequence[Header]) -> bytes:
    """Headers as they are sent.

    Raises:
        RuntimeError: one would be read as two.
    """
    fields = b"".join([b"%b: %b\r\n" % each for each in headers])
    if fields.count(b"\n") != len(headers) or fields.count(b"\r") != len(headers):
        raise RuntimeError("a header holds a line break")
    return fields


_as_sent_again = lru_cache(256)(as_sent)
"""Of headers that are the same for most replies."""
