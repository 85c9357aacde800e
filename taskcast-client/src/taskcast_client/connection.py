"""Requests to one server over httpx: who asks, how long to wait, what to try again."""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping
from typing import Self, TypeVar
from uuid import uuid4

import httpx

from taskcast_client.calls.call import JSON, Call, Reply
from taskcast_client.errors import (
    ClientError,
    ConnectionFailed,
    InvalidReply,
    RefusedError,
    StorageReleaseUnsupported,
    refused,
)
from taskcast_client.retries import RetryPolicy
from taskcast_client.wire import loads

R = TypeVar("R")

Token = str | Callable[[], str] | Callable[[], Awaitable[str]]
"""A bearer token, or what gives one; asked once, and again when the server no longer takes the last one."""

DEFAULT_URL = "http://localhost:3721"
SERVICE_KEY_HEADER = "X-Taskcast-Service-Key"
_HTTP_ONLY = frozenset({"accept", "accept-encoding", "connection", "user-agent", "host"})
_WORTH_REPEATING = frozenset({429, 502, 503, 504})


class Connection:
    """One server, its credentials, and the patience that callers have with it."""

    def __init__(
        self,
        base_url: str = DEFAULT_URL,
        *,
        token: Token | None = None,
        service_key: str | None = None,
        timeout_s: float = 30.0,
        retry: RetryPolicy | None = None,
        headers: Mapping[str, str] | None = None,
        transport: httpx.AsyncBaseTransport | None = None,
    ) -> None:
        self.retry = retry or RetryPolicy()
        self._timeout_s = timeout_s
        self._token = _TokenSource(token)
        self._last_token: str | None = None
        self._has_sockets: bool = getattr(transport, "has_sockets", True)
        own = {} if service_key is None else {SERVICE_KEY_HEADER: service_key}
        # Streams and long polls live long: a pool that counts them against a bound would starve everything else.
        limits = httpx.Limits(max_connections=None, max_keepalive_connections=20)
        self._http = httpx.AsyncClient(
            base_url=base_url.removesuffix("/"),
            headers={**own, **(headers or {})},
            timeout=httpx.Timeout(timeout_s),
            limits=limits,
            transport=transport,
        )

    async def aclose(self) -> None:
        """Close all connections."""
        await self._http.aclose()

    async def socket_address(self, path: str) -> tuple[str, dict[str, str]]:
        """Where a WebSocket of this server is, and the headers that say who asks.

        Raises:
            RuntimeError: there are none without a network.
        """
        if not self._has_sockets:
            raise RuntimeError("there are no WebSockets in this process; let the worker pull")
        url = httpx.URL(str(self._http.base_url).rstrip("/") + path)
        url = url.copy_with(scheme="wss" if url.scheme == "https" else "ws")
        named = {name: value for name, value in self._http.headers.items() if name not in _HTTP_ONLY}
        self._last_token = await self._token.current()
        return str(url), {**named, **_bearer(self._last_token)}

    def renew_token(self) -> bool:
        """The token of the last `socket_address` was not taken. Whether asking for another makes sense."""
        return self._token.refuse(self._last_token)

    async def run(self, call: Call[R]) -> R:
        """Make one call: with a fresh token if need be, again where that is safe and promising.

        Raises:
            RefusedError: what the server answered. ConnectionFailed: it did not. InvalidReply: nobody knows what.
        """
        headers = self._headers_of(call)
        failures = 0
        while True:
            failures += 1
            try:
                reply = await self._send(call, headers)
            except (ConnectionFailed, RefusedError) as error:
                if call.gone and failures > 1 and isinstance(error, RefusedError) and error.status == 404:
                    return call.read(Reply(204, b""))
                if failures >= self.retry.attempts or not _may_repeat(call, error):
                    raise
                asked = error.retry_after_s if isinstance(error, RefusedError) else None
                await asyncio.sleep(self.retry.pause_s(failures, asked))
            else:
                return call.read(reply)

    def _headers_of(self, call: Call[R]) -> dict[str, str]:
        headers = dict(call.headers)
        if call.body is not None:
            headers["Content-Type"] = call.content_type
        if call.repeat == "keyed":
            headers["Idempotency-Key"] = call.key or uuid4().hex
        return {"Accept": JSON, **headers}

    async def _send(self, call: Call[R], headers: Mapping[str, str]) -> Reply:
        for is_last in (False, True):
            token = await self._token.current()
            request = self._http.build_request(
                call.method,
                call.path,
                params=list(call.query),
                content=call.body,
                headers={**headers, **_bearer(token)},
                timeout=httpx.Timeout(self._timeout_s, read=self._timeout_s + call.extra_s),
            )
            try:
                response = await self._http.send(request)
            except httpx.TransportError as error:
                raise _failed(error) from error
            if response.status_code < 400 or response.status_code in call.accepts:
                return Reply(response.status_code, response.content)
            if response.status_code == 401 and not is_last and self._token.refuse(token):
                continue
            raise _refusal(response)
        raise AssertionError("the second attempt returns or raises")

    async def open_stream(
        self, path: str, *, query: Mapping[str, str], silence_s: float, accept: str = "text/event-stream"
    ) -> ByteStream:
        """Open a stream. No attempt is repeated here, but for an expired token.

        Args:
            path: of the stream.
            query: its parameters.
            silence_s: a stream that says nothing for so long is dead.
            accept: the media type that is asked for.

        Raises:
            RefusedError: what the server answered. ConnectionFailed: it did not.
        """
        return ByteStream(await self._open(path, query, silence_s, accept))

    async def _open(self, path: str, query: Mapping[str, str], silence_s: float, accept: str) -> httpx.Response:
        for is_last in (False, True):
            token = await self._token.current()
            request = self._http.build_request(
                "GET",
                path,
                params=query,
                headers={"Accept": accept, "Cache-Control": "no-store", **_bearer(token)},
                timeout=httpx.Timeout(self._timeout_s, read=silence_s),
            )
            try:
                response = await self._http.send(request, stream=True)
                if response.status_code < 400:
                    return response
                await response.aread()
            except httpx.TransportError as error:
                raise _failed(error) from error
            if response.status_code == 401 and not is_last and self._token.refuse(token):
                continue
            raise _refusal(response)
        raise AssertionError("the second attempt returns or raises")


class _TokenSource:
    """The token to use now; at most one asking at a time."""

    def __init__(self, token: Token | None) -> None:
        self._ask = None if token is None or isinstance(token, str) else token
        self._token = token if isinstance(token, str) else None
        self._asking: asyncio.Lock | None = None

    async def current(self) -> str | None:
        """The token, asked for if there is none yet."""
        if self._token is None and self._ask is not None:
            self._asking = self._asking or asyncio.Lock()
            async with self._asking:
                if self._token is None:
                    given = self._ask()
                    self._token = await given if inspect.isawaitable(given) else given
        return self._token

    def refuse(self, token: str | None) -> bool:
        """The server did not take this one. Whether asking for another makes sense."""
        if self._ask is None:
            return False
        if self._token == token:
            self._token = None
        return True


def _bearer(token: str | None) -> dict[str, str]:
    return {"Authorization": f"Bearer {token}"} if token else {}


def _failed(error: httpx.TransportError) -> ConnectionFailed:
    failure = ConnectionFailed(f"{type(error).__name__}: {error}")
    # Nothing has been sent before a connection stands, so every call may be repeated.
    failure.was_sent = not isinstance(error, httpx.ConnectError | httpx.ConnectTimeout | httpx.PoolTimeout)
    return failure


def _may_repeat(call: Call[R], error: ClientError) -> bool:
    if isinstance(error, ConnectionFailed):
        return call.repeat != "never" or not error.was_sent
    if not isinstance(error, RefusedError) or error.status not in _WORTH_REPEATING:
        return False
    if isinstance(error, StorageReleaseUnsupported):
        return False
    return call.repeat != "never" or error.status == 429


def _refusal(response: httpx.Response) -> RefusedError:
    try:
        body = loads(response.content)
    except InvalidReply:
        body = response.text
    return refused(response.status_code, body, response.headers)


class ByteStream:
    """An answer's bytes as they come. Made by `Connection.open_stream`; ``aclose()`` frees the connection.

    Not a generator: one that is dropped while others hang on it cannot be cleaned up in order.
    """

    def __init__(self, response: httpx.Response) -> None:
        self._response = response
        self._pieces = response.aiter_bytes()
        self._is_reading = False

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> bytes:
        """The next bytes.

        Raises:
            ConnectionFailed: the stream was cut, or silent for too long.
        """
        self._is_reading = True
        try:
            return await anext(self._pieces)
        except httpx.TransportError as error:
            raise _failed(error) from error
        except httpx.StreamError as error:  # closed by somebody else while reading
            raise ConnectionFailed(str(error)) from error
        finally:
            self._is_reading = False

    async def aclose(self) -> None:
        """Free the connection; whoever is reading finds the stream cut."""
        if not self._is_reading and isinstance(self._pieces, AsyncGenerator):
            await self._pieces.aclose()
        await self._response.aclose()
