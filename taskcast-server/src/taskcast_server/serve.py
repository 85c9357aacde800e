"""Runs the server in this process: uvicorn on uvloop, until a signal asks it to stop (exit status 0).

Stopping, in this order: nothing new is accepted; readers are told to come back, at a time of their own each; requests
under way are finished; followers flush within their deadline; stores are closed.
"""

from __future__ import annotations

import asyncio
import logging
import os
import socket
import sys
from collections.abc import Callable
from contextlib import suppress
from types import FrameType
from typing import Any

import uvicorn
from uvicorn.lifespan.on import LifespanOn

from taskcast_core.config import Config
from taskcast_core.plugins import Plugins
from taskcast_core.values import frozen
from taskcast_server.app import TaskcastApp, assemble_app
from taskcast_server.cycles import look_less_often_for_cycles
from taskcast_server.failures import FAILURES
from taskcast_server.options import LimitOptions, ServerOptions
from taskcast_server.protocol import DirectProtocol

FINISH_S = 15
"""How long requests under way may take when the server stops."""
_KEEP_ALIVE_S = 75  # longer than the idle timeout of common proxies, so that they are the ones to close


@frozen
class Started:
    """What a server that has begun to listen has to tell.

    Attributes:
        url: as people on this machine reach it. admin_token: set if it was made at start, so that it has to be printed.
    """

    host: str
    port: int
    url: str
    admin_token: str | None = None


def serve(
    config: Config,
    plugins: Plugins | None = None,
    *,
    host: str | None = None,
    port: int | None = None,
    on_started: Callable[[Started], None] | None = None,
    on_request: Callable[[str], None] | None = None,
) -> None:
    """Serve until SIGTERM or SIGINT; returns when everything has been closed.

    ``host`` and ``port`` (0: any free one) stand above the configuration. ``on_started`` is called once, when
    connections are accepted; ``on_request`` is given a line about each request (verbose mode).

    Raises:
        ConfigError, PluginError, StoreUnavailable: the server cannot be assembled. OSError: nor the address be used.
    """
    plugins = plugins or Plugins()
    config = config.with_plugins(plugins)
    options = config.section(ServerOptions)
    app = assemble_app(config, plugins, on_request=on_request)
    listener = _listen(options.host if host is None else host, options.port if port is None else port)
    _log_failures_to_stderr()
    with listener:
        server = _Server(uvicorn_config(app, config.section(LimitOptions)), app, on_started)
        try:
            server.run(sockets=[listener])
        except SystemExit:
            # uvicorn's way to say that the lifespan did not start; the reason is known better here.
            if app.failure is not None:
                raise app.failure from None
            raise


def uvicorn_config(app: TaskcastApp, limits: LimitOptions) -> uvicorn.Config:
    """How uvicorn serves an application."""
    return uvicorn.Config(
        app,
        loop="uvloop" if _has_uvloop() else "asyncio",
        http=DirectProtocol,
        ws=_websocket,  # type: ignore[arg-type]  # called like the class that uvicorn expects here
        lifespan="on",
        access_log=False,
        log_config=None,
        server_header=False,
        timeout_keep_alive=_KEEP_ALIVE_S,
        timeout_graceful_shutdown=FINISH_S,
        ws_max_size=limits.max_socket_message_bytes,
    )


def _listen(host: str, port: int) -> socket.socket:
    """A bound socket, not yet listening: a taken address is found out before any store is opened."""
    family, kind, protocol, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
    listener = socket.socket(family, kind, protocol)
    try:
        if os.name == "posix":
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(address)
    except BaseException:
        listener.close()
        raise
    return listener


class _Server(uvicorn.Server):
    """uvicorn, with readers sent away before it waits for their connections, and exit status 0 after a signal."""

    def __init__(self, config: uvicorn.Config, app: TaskcastApp, on_started: Callable[[Started], None] | None) -> None:
        super().__init__(config)
        self._app, self._on_started = app, on_started
        self._loop: asyncio.AbstractEventLoop | None = None
        self._signalled = asyncio.Event()

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Start, then tell; unless a signal comes while something outside is still waited for."""
        self._loop = asyncio.get_running_loop()
        try:
            async with asyncio.timeout(None) as patience:
                giving_up = asyncio.create_task(self._give_up(patience))
                try:
                    await super().startup(sockets)
                finally:
                    giving_up.cancel()
        except TimeoutError:
            if isinstance(self.lifespan, LifespanOn):
                self.lifespan.startup_failed = True  # which nobody needs to be told; the loop's end ends it
            return
        look_less_often_for_cycles()
        if self._on_started is not None and sockets:
            host, port = sockets[0].getsockname()[:2]
            self._on_started(Started(host, port, _url(host, port), self._app.generated_admin_token))

    async def _give_up(self, patience: asyncio.Timeout) -> None:
        if not self.should_exit:
            await self._signalled.wait()
        patience.reschedule(asyncio.get_running_loop().time())

    async def main_loop(self) -> None:
        """As uvicorn's, but an idle server wakes up once a second, not ten times, and a signal is noticed at once."""
        while not await self.on_tick(0):
            with suppress(TimeoutError):
                async with asyncio.timeout(1.0):
                    await self._signalled.wait()

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Stop accepting, send the readers away, then wait as uvicorn does."""
        for each in self.servers:
            each.close()
        self._app.dismiss_readers()
        await super().shutdown(sockets)

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """Note the signal; uvicorn would raise it again at the end, and so change the exit status."""
        super().handle_exit(sig, frame)
        self._captured_signals.clear()
        if self._loop is not None:
            self._loop.call_soon_threadsafe(self._signalled.set)


def _url(host: str, port: int) -> str:
    """As people on this machine reach it."""
    name = "localhost" if host in ("127.0.0.1", "0.0.0.0", "::", "::1") else host  # noqa: S104 - compared, not bound
    return f"http://[{name}]:{port}" if ":" in name else f"http://{name}:{port}"


def _websocket(*args: Any, **given: Any) -> asyncio.Protocol:
    """The protocol of a connection that becomes a WebSocket; imported with the first one, few servers see any."""
    from uvicorn.protocols.websockets.websockets_sansio_impl import WebSocketsSansIOProtocol

    return WebSocketsSansIOProtocol(*args, **given)


def _has_uvloop() -> bool:
    try:
        import uvloop  # noqa: F401
    except ImportError:
        return False
    return True


def _log_failures_to_stderr() -> None:
    """One JSON line per failed request, whatever the format of the log (wire spec, rest section 7)."""
    if not FAILURES.handlers:
        handler = logging.StreamHandler(sys.stderr)
        handler.setFormatter(logging.Formatter("%(message)s"))
        FAILURES.addHandler(handler)
        FAILURES.propagate = False
