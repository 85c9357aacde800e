"""The same client without a network: requests go straight into an ASGI application in this process.

::

    async with TaskEngine(…) as engine:
        async with in_process(create_taskcast_app(engine)) as client:
            async with client.task(type="report") as task: ...

So tests and small programs share all of their code with production, and a program is its own job queue. Nothing here
knows the server: any ASGI application that speaks Taskcast's wire will do.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, MutableMapping
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any

import httpx

from taskcast_client.client import TaskcastClient
from taskcast_client.connection import Token

Message = MutableMapping[str, Any]
ASGIApp = Callable[[Any, Any, Any], Awaitable[None]]

BASE_URL = "http://taskcast.in-process"
_WAITING = 16
"""Pieces of an answer that wait to be read; then the application waits."""


@asynccontextmanager
async def in_process(
    app: ASGIApp, *, token: Token | None = None, service_key: str | None = None, lifespan: bool = True
) -> AsyncIterator[TaskcastClient]:
    """A client of an application in this process.

    Args:
        app: an ASGI application, as `taskcast_server.create_taskcast_app` makes it.
        token: as for `TaskcastClient`.
        service_key: as for `TaskcastClient`.
        lifespan: start the application up, and shut it down at the end; off where somebody else does.

    Raises:
        RuntimeError: the application could not be started.
    """
    async with AsyncExitStack() as stack:
        if lifespan:
            await stack.enter_async_context(_living(app))
        client = TaskcastClient(BASE_URL, token=token, service_key=service_key, transport=AppTransport(app))
        yield await stack.enter_async_context(client)


class AppTransport(httpx.AsyncBaseTransport):
    """Gives requests to an ASGI application; answers are passed on piece by piece, as streams need it.

    Attributes:
        has_sockets: whether there are WebSockets, too.
    """

    has_sockets = False

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        """One request; returns when the answer has begun.

        Raises:
            httpx.ReadTimeout: it did not in time. httpx.RemoteProtocolError: the application ended without one.
        """
        exchange = _Exchange(await request.aread(), request.extensions.get("timeout", {}).get("read"))
        exchange.run(self._app, _scope(request))
        try:
            start = await exchange.next_message()
        except BaseException:
            await exchange.aclose()
            raise
        if start is None or start["type"] != "http.response.start":
            await exchange.aclose()
            raise httpx.RemoteProtocolError("the application ended without an answer", request=request)
        return httpx.Response(start["status"], headers=start.get("headers", []), stream=exchange)


class _Exchange(httpx.AsyncByteStream):
    """One request at work in the application, and its answer on the way."""

    def __init__(self, body: bytes, read_timeout_s: float | None) -> None:
        self._body: bytes | None = body
        self._read_timeout_s = read_timeout_s
        self._messages: asyncio.Queue[Message | None] = asyncio.Queue(_WAITING)
        self._is_gone = asyncio.Event()
        self._task: asyncio.Task[None] | None = None

    def run(self, app: ASGIApp, scope: Mapping[str, Any]) -> None:
        self._task = asyncio.get_running_loop().create_task(self._serve(app, scope), name="taskcast in process")

    async def _serve(self, app: ASGIApp, scope: Mapping[str, Any]) -> None:
        try:
            await app(scope, self._receive, self._send)
        finally:
            if not self._is_gone.is_set():
                await self._messages.put(None)

    async def _receive(self) -> Message:
        if self._body is not None:
            body, self._body = self._body, None
            return {"type": "http.request", "body": body, "more_body": False}
        await self._is_gone.wait()
        return {"type": "http.disconnect"}

    async def _send(self, message: Message) -> None:
        if self._is_gone.is_set():
            raise OSError("the client has left")
        await self._messages.put(message)

    async def next_message(self) -> Message | None:
        """What the application says next; None after its end."""
        try:
            async with asyncio.timeout(self._read_timeout_s):
                return await self._messages.get()
        except TimeoutError:
            raise httpx.ReadTimeout("the application says nothing") from None

    async def __aiter__(self) -> AsyncIterator[bytes]:
        while True:
            message = await self.next_message()
            if message is None:
                raise httpx.RemoteProtocolError("the application ended in the middle of its answer")
            if message.get("body"):
                yield message["body"]
            if not message.get("more_body", False):
                return

    async def aclose(self) -> None:
        """Tell the application that nobody listens any more, and wait until it has ended."""
        self._is_gone.set()
        task, self._task = self._task, None
        if task is not None:
            while not self._messages.empty():
                self._messages.get_nowait()  # frees an application that waits for room
            await asyncio.wait({task}, timeout=1.0)
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)


def _scope(request: httpx.Request) -> dict[str, Any]:
    return {
        "type": "http",
        "asgi": {"version": "3.0", "spec_version": "2.4"},
        "http_version": "1.1",
        "method": request.method,
        "scheme": request.url.scheme,
        "path": request.url.path,
        "raw_path": request.url.raw_path.partition(b"?")[0],
        "query_string": request.url.query,
        "root_path": "",
        "headers": [(name.lower(), value) for name, value in request.headers.raw],
        "server": (request.url.host, request.url.port or 80),
        "client": ("127.0.0.1", 0),
    }


@asynccontextmanager
async def _living(app: ASGIApp) -> AsyncIterator[None]:
    """Run the lifespan of an application."""
    to_app: asyncio.Queue[Message] = asyncio.Queue(2)
    from_app: asyncio.Queue[Message] = asyncio.Queue(2)
    living = asyncio.ensure_future(app({"type": "lifespan", "asgi": {"version": "3.0"}}, to_app.get, from_app.put))
    try:
        await to_app.put({"type": "lifespan.startup"})
        answer = asyncio.ensure_future(from_app.get())
        await asyncio.wait({living, answer}, return_when=asyncio.FIRST_COMPLETED)
        if not answer.done():
            answer.cancel()
            living.result()
            raise RuntimeError("the application has no lifespan; use lifespan=False")
        if answer.result()["type"] != "lifespan.startup.complete":
            raise RuntimeError(f"the application could not be started: {answer.result().get('message', '')}")
        yield
        await to_app.put({"type": "lifespan.shutdown"})
        await living
    finally:
        living.cancel()
        await asyncio.gather(living, return_exceptions=True)
