"""The application under a real uvicorn on a free port, in the test's own event loop."""

import asyncio
import json
import socket
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from typing import Any, Literal

import httpx
import uvicorn

from taskcast_core import MemoryBroadcastProvider, MemoryShortTermStore, TaskEngine
from taskcast_server.protocol import DirectProtocol
from tests.fixtures.eventually import eventually


class _Quiet(uvicorn.Server):
    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


@asynccontextmanager
async def serving(
    app: Any,
    *,
    lifespan: Literal["auto", "on", "off"] = "on",
    ws: Any = "none",
    http: Any = DirectProtocol,
    keep_alive_s: int = 5,
) -> AsyncIterator[str]:
    """Serve an ASGI application, as `taskcast start` does; its base URL."""
    # With the protocol named, asyncio switches Nagle's algorithm off; else each reply takes 40 ms.
    listener = socket.socket(socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    listener.bind(("127.0.0.1", 0))
    config = uvicorn.Config(
        app, http=http, ws=ws, lifespan=lifespan, access_log=False, log_config=None,
        timeout_graceful_shutdown=5, timeout_keep_alive=keep_alive_s,
    )  # fmt: skip
    server = _Quiet(config)
    running = asyncio.create_task(server.serve(sockets=[listener]))
    try:
        await eventually(lambda: server.started or running.done())
        if running.done():
            running.result()
        yield f"http://127.0.0.1:{listener.getsockname()[1]}"
    finally:
        server.should_exit = True
        await asyncio.wait_for(running, 15)
        listener.close()
        assert not server.server_state.tasks, "requests that are over are still counted"


@asynccontextmanager
async def memory_engine(**options: Any) -> AsyncIterator[TaskEngine]:
    """An open engine in memory."""
    async with MemoryShortTermStore() as store:
        engine = TaskEngine(broadcast=MemoryBroadcastProvider(), short_term_store=store, **options)
        async with engine:
            yield engine


class Frames:
    """Server-Sent Events, read as they come; comments are kept apart."""

    def __init__(self, response: httpx.Response) -> None:
        self._chunks = response.aiter_bytes()
        self._buffer = b""
        self.comments: list[str] = []
        self.retry: str | None = None

    async def next(self) -> dict[str, Any] | None:
        """The next frame with data; None at the end of the stream."""
        while True:
            frame, found, rest = self._buffer.partition(b"\n\n")
            if found:
                self._buffer = rest
                if (parsed := self._parse(frame.decode())) is not None:
                    return parsed
                continue
            try:
                self._buffer += await anext(self._chunks)
            except StopAsyncIteration:
                return None

    async def rest(self) -> list[dict[str, Any]]:
        """All frames until the stream ends."""
        frames = []
        while (frame := await self.next()) is not None:
            frames.append(frame)
        return frames

    def _parse(self, text: str) -> dict[str, Any] | None:
        fields: dict[str, Any] = {}
        for line in text.split("\n"):
            name, _, value = line.partition(":")
            if not name:
                self.comments.append(value.strip())
            elif name == "retry":
                self.retry = value.strip()
            else:
                fields[name] = value.removeprefix(" ")
        if "data" not in fields:
            return None
        return {**fields, "json": json.loads(fields["data"])}


@asynccontextmanager
async def client(url: str, **options: Any) -> AsyncIterator[httpx.AsyncClient]:
    """A client that trusts nothing in the environment."""
    limits = httpx.Limits(max_connections=None, max_keepalive_connections=20)
    async with httpx.AsyncClient(base_url=url, trust_env=False, timeout=20, limits=limits, **options) as http:
        yield http


@asynccontextmanager
async def following(http: httpx.AsyncClient, path: str, **options: Any) -> AsyncIterator[Frames]:
    """An open event stream."""
    async with http.stream("GET", path, **options) as response:
        assert response.status_code == 200, await response.aread()
        yield Frames(response)
