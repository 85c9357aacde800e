"""uvicorn's HTTP protocol with the extension ``taskcast.direct``: ``uvicorn.Config(app, http=DirectProtocol)``."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

from uvicorn.protocols.http.flow_control import FlowControl
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol, RequestResponseCycle

from taskcast_server.direct import EXTENSION, Direct


class DirectProtocol(HttpToolsProtocol):
    """What `taskcast start` speaks HTTP with. It needs httptools."""

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """A client has come."""
        self.pipeline = _Pipeline()  # type: ignore[assignment]
        self._leaving: list[Callable[[], None]] = []
        super().connection_made(transport)
        self.flow = _Flow(transport)

    def _start_asgi_task(self, cycle: RequestResponseCycle, app: Any) -> None:
        extensions: dict[str, Any] = {EXTENSION: Direct(cycle, self._leaving)}
        cycle.scope["extensions"] = extensions
        super()._start_asgi_task(cycle, app)

    def connection_lost(self, exc: Exception | None) -> None:
        """The client has left, or is made to."""
        super().connection_lost(exc)
        for callback in tuple(self._leaving):
            callback()


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


class _Pipeline(list[Any]):
    """Requests that were sent ahead of their turn. Hardly any connection has some, and a deque's room is large."""

    __slots__ = ()

    def appendleft(self, item: Any) -> None:
        """See `collections.deque`."""
        self.insert(0, item)
