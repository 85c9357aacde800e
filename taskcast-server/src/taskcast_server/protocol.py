"""uvicorn's HTTP protocol with the extension ``taskcast.direct``: ``uvicorn.Config(app, http=DirectProtocol)``."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol, RequestResponseCycle

from taskcast_server.direct import EXTENSION, Direct


class DirectProtocol(HttpToolsProtocol):
    """What `taskcast start` speaks HTTP with. It needs httptools."""

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """A client has come."""
        self.pipeline = _Pipeline()  # type: ignore[assignment]
        self._leaving: list[Callable[[], None]] = []
        super().connection_made(transport)

    def _start_asgi_task(self, cycle: RequestResponseCycle, app: Any) -> None:
        extensions: dict[str, Any] = {EXTENSION: Direct(cycle, self._leaving)}
        cycle.scope["extensions"] = extensions
        super()._start_asgi_task(cycle, app)

    def connection_lost(self, exc: Exception | None) -> None:
        """The client has left, or is made to."""
        super().connection_lost(exc)
        for callback in tuple(self._leaving):
            callback()


class _Pipeline(list[Any]):
    """Requests that were sent ahead of their turn. Hardly any connection has some, and a deque's room is large."""

    __slots__ = ()

    def appendleft(self, item: Any) -> None:
        """See `collections.deque`."""
        self.insert(0, item)
