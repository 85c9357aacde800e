"""uvicorn's HTTP protocol with the extension ``taskcast.direct``: ``uvicorn.Config(app, http=DirectProtocol)``.

Connections, parsing and upgrades are uvicorn's; what happens between request and reply is the `Exchange`'s, which costs
half as much time and memory as the objects that it stands for.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextvars import copy_context
from time import monotonic
from typing import Any
from urllib.parse import unquote
from weakref import WeakKeyDictionary

import httptools
from uvicorn.middleware.proxy_headers import ProxyHeadersMiddleware
from uvicorn.protocols.http.flow_control import HIGH_WATER_LIMIT, FlowControl, service_unavailable
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol
from uvicorn.protocols.utils import get_client_addr, get_path_with_query_string
from uvicorn.server import ServerState

from taskcast_core.wire import dumps
from taskcast_server.direct import EXTENSION
from taskcast_server.exchange import Exchange, Header, as_sent
from taskcast_server.turns import Turns

_NOTHING: dict[str, Any] = {}
_FORWARDED = frozenset({b"x-forwarded-for", b"x-forwarded-proto"})
_NOTED = _FORWARDED | {b"expect"}

# All of its keys: a copy with other values is made faster than a dictionary of its own.
_SCOPE: dict[str, Any] = {
    "type": "http",
    "asgi": {"version": "3.0", "spec_version": "2.3"},
    "http_version": "",
    "server": None,
    "client": None,
    "scheme": "",
    "method": "",
    "root_path": "",
    "path": "",
    "raw_path": b"",
    "query_string": b"",
    "headers": [],
    "state": {},
    "extensions": {},
}
_JSON: Header = (b"content-type", b"application/json")

MAX_HEAD_BYTES = 64 << 10
"""So much of a request may come before its headers are complete; or its trailers, and what else is not its body."""


class DirectProtocol(HttpToolsProtocol):
    """What `taskcast start` speaks HTTP with. It needs httptools."""

    is_full = False
    _is_in_head = _has_body = False
    _standing: tuple[list[Header], bytes] = ([], b"")  # of all connections, as uvicorn has it new every second

    # ── The line ───────────────────────────────────────────────────────────────────────────────────────────────────

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """A client has come."""
        self._waiting: list[tuple[Exchange, Any, dict[str, Any]]] = []  # requests that were sent ahead of their turn
        self.leaving: list[Callable[[], None]] = []
        self._exchange: Exchange | None = None  # the one under way, or the last
        self._newest: Exchange | None = None  # the one that is being received, or the last that was
        self._context = copy_context()  # of no request
        self._turns = _turns_of(self.server_state)
        self._idle_since: float | None = None
        super().connection_made(transport)
        self.flow = _Flow(transport)
        self.pipeline = None  # type: ignore[assignment] # a deque's room is large

    def connection_lost(self, exc: Exception | None) -> None:
        """The client has left, or is made to."""
        self.connections.discard(self)
        if self._exchange is not None:
            self._exchange.lose()
        for waiting, *_ in self._waiting:
            waiting.lose()
        self.resume_writing()
        if self.timeout_keep_alive_task is not None:
            self.timeout_keep_alive_task.cancel()
        if exc is None:
            self.transport.close()
        self.parser = None  # type: ignore[assignment]
        for callback in tuple(self.leaving):
            callback()
        # Each of them leads back here: without them there is no cycle to be found.
        self._exchange = self._newest = None
        self._waiting = []
        self._asked, self.headers = _NOTHING, []
        self.scope = None  # type: ignore[assignment]

    def shutdown(self) -> None:
        """Close once the request under way has been answered."""
        if self._exchange is None or self._exchange.is_answered:
            self.transport.close()
        else:
            self._exchange.keep_alive = False

    @property
    def _is_busy(self) -> bool:
        return self._exchange is not None and not self._exchange.is_answered

    def pause_writing(self) -> None:
        """The transport is full."""
        self.is_full = True
        self.flow.pause_writing()

    def resume_writing(self) -> None:
        """It has room, or is gone."""
        self.is_full = False
        self.flow.resume_writing()

    def _unset_keepalive_if_required(self) -> None:
        """One timer serves a connection for as long as it lives, instead of one after each request."""

    def timeout_keep_alive_handler(self) -> None:
        """The connection may have been idle for too long."""
        self.timeout_keep_alive_task = None
        if self._idle_since is None or self.transport.is_closing():
            return
        left = self._idle_since + self.timeout_keep_alive - monotonic()
        if left <= 0:
            self.transport.close()
        else:
            self.timeout_keep_alive_task = self.loop.call_later(left, self.timeout_keep_alive_handler)

    def data_received(self, data: bytes) -> None:
        """Some more of a request."""
        before = self._newest
        was_in_body = before is not None and not before.is_whole
        try:
            self.parser.feed_data(data)
        except httptools.HttpParserError:
            self.logger.warning("Invalid HTTP request received.")
            self.send_400_response("Invalid HTTP request received.")
        except httptools.HttpParserUpgrade as found:
            self._upgrade(data[found.args[0] :])
        # Where something else came first, it is not known how much of the data belongs to the head.
        if self._newest is before and (self._is_in_head if not was_in_body else self._is_beside_body(before)):
            self._head_bytes += len(data)
            if self._head_bytes > MAX_HEAD_BYTES:
                self._refuse(431, "headers_too_large", f"The headers are longer than {MAX_HEAD_BYTES} bytes")

    def _is_beside_body(self, exchange: Exchange | None) -> bool:
        """Whether nothing of the body has come, although it is not complete."""
        if self._has_body:
            self._has_body, self._head_bytes = False, 0
            return False
        return exchange is not None and not exchange.is_whole

    def _upgrade(self, rest: bytes) -> None:
        """A head asks for another protocol: for a WebSocket, or for what is not spoken here, so that it stays HTTP."""
        if self._is_busy:
            self._refuse(400, "malformed_request", "An upgrade cannot be asked for before the last reply has ended")
        elif self._should_upgrade():
            self._idle_since = None
            self.handle_websocket_upgrade()
        else:
            self._unsupported_upgrade_warning()
            fields = as_sent([each for each in self.headers if each[0] != b"upgrade"])
            asked = self.scope["method"].encode(), self.url, self.scope["http_version"].encode(), fields, rest
            self.parser = httptools.HttpRequestParser(self)  # else the body would be read as a request, if at all
            self.data_received(b"%b %b HTTP/%b\r\n%b\r\n%b" % asked)

    def send_400_response(self, msg: str) -> None:
        """What was received is not HTTP."""
        self._refuse(400, "malformed_request", msg)

    def _refuse(self, status: int, code: str, message: str) -> None:
        """Answer where there is no exchange, and close; what was asked before is answered first, if it still can be."""
        current, newest = self._exchange, self._newest
        if newest is not None and current is not None and not (newest.is_whole and newest.is_answered):
            if current.has_started or not (newest is current or newest.is_whole):
                self.transport.close()
                return
            if newest.is_whole:
                newest.keep_alive = False
                self.flow.pause_reading()
                return
        self._is_in_head = False
        if not Exchange(self).reply(status, (_JSON,), dumps({"error": message, "code": code})):
            self.transport.close()

    # ── What the parser finds ──────────────────────────────────────────────────────────────────────────────────────

    def on_message_begin(self) -> None:
        """A request begins."""
        self.url = b""
        self.headers = []
        self.expect_100_continue = False
        self._is_upgrade = self._is_forwarded = False
        self._is_in_head, self._head_bytes = True, 0

    def on_header(self, name: bytes, value: bytes) -> None:
        """One of the request's headers."""
        if not self._is_in_head:
            return  # a trailer: nobody has promised that it may stand for a header
        name = name.lower()
        if name in _NOTED:
            if name in _FORWARDED:
                self._is_forwarded = True
            elif value.lower() == b"100-continue":
                self.expect_100_continue = True
        self.headers.append((name, value))

    def on_headers_complete(self) -> None:
        """It is known what is asked for: the application may begin."""
        self._is_in_head = False
        parser, url = self.parser, self.url
        version, method = parser.get_http_version(), parser.get_method().decode("ascii")
        scope = _SCOPE.copy()
        scope["http_version"], scope["method"], scope["headers"] = version, method, self.headers
        scope["server"], scope["client"], scope["scheme"] = self.server, self.client, self.scheme
        scope["root_path"], scope["state"] = self.root_path, self.app_state.copy()
        self.scope = scope  # type: ignore[assignment]
        if parser.should_upgrade() and method != "CONNECT":
            self._is_upgrade = True
            return
        if url[:1] == b"/" and url.find(b"#") < 0:
            raw_path, _, query = url.partition(b"?")
        else:
            parsed = httptools.parse_url(url)
            raw_path, query = parsed.path, parsed.query or b""
        path = raw_path.decode("ascii")
        scope["path"] = self.root_path + (unquote(path) if "%" in path else path)
        scope["raw_path"] = self.root_path.encode("ascii") + raw_path if self.root_path else raw_path
        scope["query_string"] = query
        exchange = Exchange(self, method, version)
        if version == "1.1":
            exchange.keep_alive, exchange.expects_continue = parser.should_keep_alive(), self.expect_100_continue
        scope["extensions"] = {EXTENSION: exchange}
        before = self._exchange
        if before is None or before.is_answered:
            self._start(exchange, self._app(), scope)
        else:
            self.flow.pause_reading()
            self._waiting.append((exchange, self._app(), scope))
        self._newest = exchange

    def _app(self) -> Any:
        limit = self.limit_concurrency
        if limit is None or (len(self.connections) < limit and len(self.tasks) + len(self._turns) < limit):
            app: Any = self.app
            return app.app if isinstance(app, ProxyHeadersMiddleware) and not self._is_forwarded else app
        self.logger.warning("Exceeded concurrency limit.")
        return service_unavailable

    def _start(self, exchange: Exchange, app: Any, scope: dict[str, Any]) -> None:
        self._exchange, self._asked = exchange, scope
        self._idle_since = None
        self._turns.add(exchange, scope["method"], exchange.run(app, scope), self._context.copy())

    def on_body(self, body: bytes) -> None:
        """A part of the request's body."""
        newest = self._newest
        self._has_body = True
        if self._is_upgrade or newest is None or newest.is_answered:
            return
        if newest.feed(body) > HIGH_WATER_LIMIT:
            self.flow.pause_reading()

    def on_message_complete(self) -> None:
        """The request is here as a whole."""
        if not self._is_upgrade and self._newest is not None:
            self._newest.complete()

    # ── What an exchange asks for ──────────────────────────────────────────────────────────────────────────────────

    def standing_headers(self) -> bytes:
        """See Connection."""
        given = self.server_state.default_headers
        if given is not DirectProtocol._standing[0]:
            DirectProtocol._standing = given, as_sent(given)
        return DirectProtocol._standing[1]

    async def drain(self) -> None:
        """See Connection."""
        await self.flow.drain()

    def resume_reading(self) -> None:
        """See Connection."""
        self.flow.resume_reading()

    def forget_request(self) -> None:
        """See Connection."""
        asked, self._asked = self._asked, _NOTHING
        if self.scope is asked and self.headers is asked["headers"]:  # else the next request has begun already
            self.scope = None  # type: ignore[assignment]
            self.headers = []
            self.url = b""

    def began(self, status: int) -> None:
        """See Connection."""
        if self.access_log:
            scope: Any = self._asked
            client, target = get_client_addr(scope), get_path_with_query_string(scope)
            values = client, scope["method"], target, scope["http_version"], status
            self.access_logger.info('%s - "%s %s HTTP/%s" %d', *values)

    def ended(self) -> None:
        """See Connection."""
        self.server_state.total_requests += 1
        if self.transport.is_closing():
            return
        if self.flow.read_paused:
            self.flow.resume_reading()
        if self._waiting:
            self._start(*self._waiting.pop(0))
            return
        self._idle_since = monotonic()
        if self.timeout_keep_alive_task is None:
            self.timeout_keep_alive_task = self.loop.call_later(
                self.timeout_keep_alive, self.timeout_keep_alive_handler
            )


_turns: WeakKeyDictionary[ServerState, Turns] = WeakKeyDictionary()


def _turns_of(server: ServerState) -> Turns:
    """What a server's connections share."""
    turns = _turns.get(server)
    if turns is None:
        turns = _turns[server] = Turns(server.tasks)
    return turns


class _Flow(FlowControl):
    """uvicorn's, with the event made when somebody waits for it: hardly any connection is ever too slow."""

    def __init__(self, transport: asyncio.Transport) -> None:
        self._transport = transport
        self.read_paused = self.write_paused = False
        self._writable: asyncio.Event | None = None

    async def drain(self) -> None:
        """Wait until the transport has room again."""
        if self.write_paused:
            self._writable = self._writable or asyncio.Event()
            await self._writable.wait()

    def pause_writing(self) -> None:
        """The transport is full."""
        self.write_paused = True

    def resume_writing(self) -> None:
        """It has room, or is gone."""
        self.write_paused = False
        if self._writable is not None:
            self._writable.set()
            self._writable = None
