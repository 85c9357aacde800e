"""The HTTP that the commands speak: requests with readable errors, and streams of frames."""

from __future__ import annotations

import json
import time
from collections.abc import AsyncGenerator, AsyncIterator, Mapping
from contextlib import aclosing, asynccontextmanager
from types import TracebackType
from typing import Any, Self
from urllib.parse import quote

import httpx

from taskcast_server.cli.nodes_file import ADMIN
from taskcast_server.cli.output import CliError
from taskcast_server.cli.sse import Frame, FrameTooLong, SseParser
from taskcast_server.cli.targets import Target, shown_url

REQUEST_TIMEOUT_S = 30.0
CONNECT_TIMEOUT_S = 5.0
IMPORT_TIMEOUT_S = 600.0
"""A store may take that long for a large task."""
STREAM_SILENCE_S = 60.0
"""A stream says something every 15 s or so; after this long without a byte it is taken for dead."""

_RETRYABLE = frozenset({408, 425, 429, 500, 502, 503, 504})
_LONGEST_RETRY_AFTER_S = 60.0


class Unreachable(CliError):
    """No reply came: the server is away, or the connection was cut."""


class ApiError(CliError):
    """The server refused.

    Attributes:
        status: of HTTP. code: of the error body, if it has one.
        is_retryable: whether the same request may succeed later. retry_after_s: not before so long.
    """

    def __init__(self, status: int, message: str, code: str | None = None, retry_after_s: float = 0.0) -> None:
        super().__init__(message)
        self.status, self.code, self.retry_after_s = status, code, retry_after_s
        self.is_retryable = status in _RETRYABLE or code == "conflict"


class Api:
    """One server. Use it as an async context manager."""

    def __init__(self, target: Target) -> None:
        self.url = shown_url(target.url)
        self._target = target
        is_secure = target.url.startswith("https:")
        self._client = httpx.AsyncClient(
            base_url=target.url,
            verify=is_secure,  # reading the certificates takes a tenth of a second
            timeout=httpx.Timeout(REQUEST_TIMEOUT_S, connect=CONNECT_TIMEOUT_S),
            headers={"User-Agent": "taskcast-cli"},
        )
        self._is_authorized = target.token is None

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._client.aclose()

    async def request(
        self,
        method: str,
        path: str,
        body: Any = None,
        *,
        params: Mapping[str, str] | None = None,
        key: str | None = None,
    ) -> Any:
        """Send, and give the reply's JSON; None where the reply is empty.

        ``key``: the ``Idempotency-Key``, with which a request may be repeated without harm.

        Raises:
            Unreachable: no reply. ApiError: another status than 2xx.
        """
        await self._authorize()
        headers = {"Idempotency-Key": key} if key else {}
        content = None
        if body is not None:
            headers["Content-Type"] = "application/json"
            content = json.dumps(body, separators=(",", ":")).encode()  # ASCII, so that lone surrogates survive
        try:
            reply = await self._client.request(method, path, params=params, headers=headers, content=content)
        except (httpx.HTTPError, httpx.InvalidURL) as error:
            raise self._unreachable(error) from error
        return _json_of(reply)

    @asynccontextmanager
    async def frames(
        self, path: str, params: Mapping[str, str], last_id: str | None = None
    ) -> AsyncIterator[AsyncIterator[Frame]]:
        """Open a stream; what it yields ends when the server ends it.

        Raises:
            Unreachable: no reply, or the connection was cut (also while reading). ApiError: refused.
        """
        await self._authorize()
        headers = {"Accept": "text/event-stream", "Cache-Control": "no-store"}
        if last_id:
            headers["Last-Event-ID"] = last_id
        timeout = httpx.Timeout(STREAM_SILENCE_S, connect=CONNECT_TIMEOUT_S)
        try:
            async with self._client.stream("GET", path, params=params, headers=headers, timeout=timeout) as reply:
                if not reply.is_success:
                    await reply.aread()
                    _json_of(reply)
                async with aclosing(self._parsed(reply)) as frames:
                    yield frames
        except (httpx.HTTPError, httpx.InvalidURL) as error:
            raise self._unreachable(error) from error

    async def upload(self, path: str, parts: AsyncIterator[bytes]) -> Any:
        """Post JSON that comes in parts, and give the reply's. Raises as ``request`` does."""
        await self._authorize()
        headers = {"Content-Type": "application/json"}
        timeout = httpx.Timeout(IMPORT_TIMEOUT_S, connect=CONNECT_TIMEOUT_S)
        try:
            reply = await self._client.post(path, content=parts, headers=headers, timeout=timeout)
        except (httpx.HTTPError, httpx.InvalidURL) as error:
            raise self._unreachable(error) from error
        return _json_of(reply)

    async def download(self, path: str, params: Mapping[str, str] | None = None) -> AsyncGenerator[bytes]:
        """A reply as it comes.

        Raises:
            Unreachable: no reply, or it broke off. ApiError: refused.
        """
        await self._authorize()
        try:
            async with self._client.stream("GET", path, params=params) as reply:
                if not reply.is_success:
                    await reply.aread()
                    _json_of(reply)
                async for piece in reply.aiter_bytes():
                    yield piece
        except (httpx.HTTPError, httpx.InvalidURL) as error:
            raise self._unreachable(error) from error

    async def first_byte_s(self, path: str, patience_s: float) -> float:
        """How long (s) it takes from asking for a stream to the first byte of it.

        Raises:
            Unreachable: no reply, or no byte within ``patience_s``. ApiError: refused.
        """
        await self._authorize()
        began = time.monotonic()
        timeout = httpx.Timeout(patience_s, connect=CONNECT_TIMEOUT_S)
        headers = {"Accept": "text/event-stream", "Cache-Control": "no-store"}
        try:
            async with self._client.stream("GET", path, headers=headers, timeout=timeout) as reply:
                if not reply.is_success:
                    await reply.aread()
                    _json_of(reply)
                async for piece in reply.aiter_raw():
                    if piece:
                        break
        except (httpx.HTTPError, httpx.InvalidURL) as error:
            raise self._unreachable(error) from error
        return time.monotonic() - began

    async def _parsed(self, reply: httpx.Response) -> AsyncGenerator[Frame]:
        parser = SseParser()
        try:
            async for piece in reply.aiter_bytes():
                for frame in parser.feed(piece):
                    yield frame
        except (httpx.HTTPError, FrameTooLong) as error:
            raise self._unreachable(error) from error

    async def _authorize(self) -> None:
        """Put the token into every request; an admin token is exchanged first (wire spec, rest section 6)."""
        if self._is_authorized or self._target.token is None:
            return
        token = self._target.token
        if self._target.token_type == ADMIN:
            token = await self._exchange(token)
        if token:
            self._client.headers["Authorization"] = f"Bearer {token}"
        self._is_authorized = True

    async def _exchange(self, admin_token: str) -> str:
        try:
            reply = _json_of(await self._client.post("/admin/token", json={"adminToken": admin_token}))
        except httpx.HTTPError as error:
            raise self._unreachable(error) from error
        except ApiError as error:
            if error.status == httpx.codes.NOT_FOUND:  # no admin API: the server may well be open
                return ""
            raise
        token = reply.get("token") if isinstance(reply, dict) else None
        return token if isinstance(token, str) else ""

    def _unreachable(self, error: Exception) -> Unreachable:
        reason = str(error) or type(error).__name__
        return Unreachable(f"cannot reach {self.url}: {reason}")


def task_path(task_id: str, *rest: str) -> str:
    """``/tasks/{id}/…``, whatever characters the id has."""
    return "/".join(("/tasks", quote(task_id, safe=""), *rest))


def worker_path(worker_id: str, *rest: str) -> str:
    """``/workers/{id}/…``, likewise."""
    return "/".join(("/workers", quote(worker_id, safe=""), *rest))


def _json_of(reply: httpx.Response) -> Any:
    if reply.is_success and not reply.content:
        return None
    try:
        body = reply.json()
    except ValueError:
        body = None
    if reply.is_success:
        if body is None:
            raise ApiError(reply.status_code, f"{shown_url(str(reply.url))} does not answer as a Taskcast server does")
        return body
    error = body.get("error") if isinstance(body, dict) else None
    code = body.get("code") if isinstance(body, dict) else None
    message = error if isinstance(error, str) else f"HTTP {reply.status_code}"
    raise ApiError(
        reply.status_code,
        "; ".join([message, *_details(body)]),
        code if isinstance(code, str) else None,
        _retry_after(reply),
    )


def _details(body: Any) -> list[str]:
    details = body.get("details") if isinstance(body, dict) else None
    if not isinstance(details, list):
        return []
    return [f"{each.get('path')}: {each.get('reason')}" for each in details[:5] if isinstance(each, dict)]


def _retry_after(reply: httpx.Response) -> float:
    text = reply.headers.get("Retry-After", "")
    return min(float(text), _LONGEST_RETRY_AFTER_S) if text.isascii() and text.isdigit() else 0.0
