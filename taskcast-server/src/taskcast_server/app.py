"""The ASGI application: it finds the route, knows the caller, answers in JSON whatever happens.

Plain ASGI from end to end: one middleware that wraps every message would cost more than everything else.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Mapping
from contextlib import AbstractAsyncContextManager, AsyncExitStack, aclosing, asynccontextmanager
from typing import Any

from starlette.middleware.cors import CORSMiddleware

from taskcast_core.config import Config
from taskcast_core.contracts.auth import Authenticator
from taskcast_core.engine import TaskEngine
from taskcast_core.errors import TaskcastError
from taskcast_core.plugins import Plugins
from taskcast_server.auth.admin import AdminDesk
from taskcast_server.auth.assembly import as_authenticator
from taskcast_server.auth.custom import Authenticate
from taskcast_server.auth.none import OpenAuthenticator
from taskcast_server.auth.tickets import TicketOffice
from taskcast_server.calls import Call
from taskcast_server.errors import BrokenOff, ClientGone, HttpError, RouteNotFound
from taskcast_server.failures import log_failure
from taskcast_server.options import CorsOptions, LimitOptions
from taskcast_server.request_log import request_line
from taskcast_server.responses import Header, Reply, error_reply, internal_error
from taskcast_server.routes.table import route_table
from taskcast_server.routes.worker_socket import serve_socket
from taskcast_server.routing import Doc, Route, Router, path_of, segments_of
from taskcast_server.services import Check, Services, providers_of
from taskcast_server.streaming import EventStream, Receive, Send
from taskcast_server.webhooks.follower import WebhookFollower

Scope = Mapping[str, Any]
OpenServices = Callable[[], AbstractAsyncContextManager[Services]]
OnRequest = Callable[[str], None]

_BEHIND_AUTH = frozenset({"tasks", "events", "workers"})


class TaskcastApp:
    """The application. It serves at the root or mounted under any prefix.

    Attributes:
        services: what the routes use; None until the lifespan has opened it, where that is the lifespan's business.
        failure: why the lifespan could not start.
    """

    def __init__(
        self,
        services: Services | OpenServices,
        *,
        cors: CorsOptions | None = None,
        has_docs: bool = True,
        on_request: OnRequest | None = None,
    ) -> None:
        self._open = None if isinstance(services, Services) else services
        self.services = services if isinstance(services, Services) else None
        self.failure: BaseException | None = None
        self._router = Router(route_table(has_docs=has_docs))
        self._on_request = on_request
        self._http = _with_cors(self._serve, cors)

    @property
    def routes(self) -> tuple[Route, ...]:
        """The table that requests are dispatched by."""
        return self._router.routes

    @property
    def generated_admin_token(self) -> str | None:
        """The admin token, if it was made at start and has to be told to somebody."""
        desk = self.services.admin if self.services else None
        return desk.token if desk is not None and desk.was_generated else None

    def dismiss_readers(self) -> None:
        """End all streams, telling their readers to come back; and open no new ones."""
        if self.services is not None:
            self.services.is_closing = True
            for stream in self.services.wheel:
                if isinstance(stream, EventStream):
                    stream.dismiss()
            if self.services.engine.workers is not None:
                self.services.engine.workers.queue.dismiss()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """ASGI."""
        if scope["type"] == "http":
            await self._http(scope, receive, send)
        elif scope["type"] == "lifespan":
            await self._live(receive, send)
        elif scope["type"] == "websocket":
            assert self.services is not None, "the application has not been started"
            await serve_socket(self.services, scope, receive, send)

    # ── Requests ───────────────────────────────────────────────────────────────────────────────────────────────────

    async def _serve(self, scope: Scope, receive: Receive, send: Send) -> None:
        if self._on_request is None:
            await self._answer(scope, receive, send)
            return
        status = [0]

        async def watched(message: Any) -> None:
            if message["type"] == "http.response.start":
                status[0] = message["status"]
            await send(message)

        began = time.monotonic()
        call = await self._answer(scope, receive, watched)
        self._on_request(request_line(scope, status[0], time.monotonic() - began, call))

    async def _answer(self, scope: Scope, receive: Receive, send: Send) -> Call | None:
        """Do the request and send the reply; the call, as far as it was understood."""
        call: Call | None = None
        path = path_of(scope)
        try:
            assert self.services is not None, "the application has not been started"
            call = self._find(path, scope, receive, send)
            reply = await self._run(call)
        except ClientGone:
            return call
        except BrokenOff as broken:
            self._report(scope, path, 500, broken.__cause__ or broken, call)
            return call
        except TaskcastError as error:
            reply = error_reply(error, is_terse=call is not None and call.route.is_terse)
            if reply.status >= 500:
                self._report(scope, path, reply.status, error, call)
        except Exception as error:  # noqa: BLE001 - whatever it is, the caller gets a JSON reply, and we a log line
            reply = internal_error()
            self._report(scope, path, reply.status, error, call)
        if reply is not None and reply.chunks is None:
            await send({"type": "http.response.start", "status": reply.status, "headers": _headers(reply)})
            await send({"type": "http.response.body", "body": reply.body})
        elif reply is not None and reply.chunks is not None:
            await self._send_chunks(reply.chunks, reply, scope, path, receive, send)
        return call

    def _find(self, path: str, scope: Scope, receive: Receive, send: Send) -> Call:
        assert self.services is not None
        segments = segments_of(path)
        try:
            route, params = self._router.find(scope["method"], segments)
            if route.path.startswith("/workers") and self.services.engine.workers is None:
                raise RouteNotFound
        except HttpError as error:
            # Below these paths callers are asked who they are before they learn what exists.
            route = _nowhere(error, asks_caller=bool(segments) and segments[0] in _BEHIND_AUTH)
            params = {}
        return Call(self.services, route, params, scope, receive, send)

    async def _run(self, call: Call) -> Reply | None:
        if call.route.scope is not None or call.route.asks_caller:
            await call.authenticate()
            if call.services.callers.rate is not None:
                call.services.callers.rate.take(call.caller)
            call.check_scope()
        return await call.route.handler(call)

    async def _send_chunks(
        self, chunks: AsyncGenerator[bytes], reply: Reply, scope: Scope, path: str, receive: Receive, send: Send
    ) -> None:
        """Send a reply that is made on the way, for as long as somebody is there to take it."""
        gone = asyncio.ensure_future(_wait_until_gone(receive))
        try:
            await send({"type": "http.response.start", "status": reply.status, "headers": list(reply.headers)})
            async with aclosing(chunks):
                async for chunk in chunks:
                    if gone.done():
                        return
                    await send({"type": "http.response.body", "body": chunk, "more_body": True})
            await send({"type": "http.response.body", "body": b""})
        except Exception as error:  # noqa: BLE001 - the status is sent; only the missing end can tell the caller
            self._report(scope, path, 500, error, None)
        finally:
            gone.cancel()

    def _report(self, scope: Scope, path: str, status: int, error: BaseException, call: Call | None) -> None:
        log_failure(scope["method"], path, status, error)
        unhandled = self.services.engine.observers.unhandled_error if self.services else None
        if unhandled is not None and not isinstance(error, TaskcastError):
            task_id = call.params.get("taskId") if call else None
            unhandled(error=error, operation=f"{scope['method']} {path}", task_id=task_id)

    # ── Lifespan ───────────────────────────────────────────────────────────────────────────────────────────────────

    async def _live(self, receive: Receive, send: Send) -> None:
        await receive()
        async with AsyncExitStack() as stack:
            try:
                await self._start(stack)
            except Exception as error:  # noqa: BLE001 - the server that runs us is told, and stops
                self.failure = error
                await send({"type": "lifespan.startup.failed", "message": str(error)})
                return
            await send({"type": "lifespan.startup.complete"})
            await receive()
            self.dismiss_readers()
        await send({"type": "lifespan.shutdown.complete"})

    async def _start(self, stack: AsyncExitStack) -> None:
        if self._open is not None:
            self.services = await stack.enter_async_context(self._open())
        elif self.services is not None and not self.services.engine.is_open:
            await stack.enter_async_context(self.services.engine)


async def _wait_until_gone(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass


def _headers(reply: Reply) -> list[Header]:
    if reply.status == 204:
        return list(reply.headers)
    return [*reply.headers, (b"content-length", b"%d" % len(reply.body))]


def _nowhere(error: HttpError, *, asks_caller: bool) -> Route:
    """The route of requests that have none."""

    async def refuse(_: Call) -> Reply:
        raise error

    return Route("", "", refuse, Doc("", "", {}), asks_caller=asks_caller)


def _with_cors(app: Any, cors: CorsOptions | None) -> Any:
    if cors is None or not cors.origins:
        return app
    return CORSMiddleware(
        app,
        allow_origins=cors.origins,
        allow_methods=cors.methods,
        allow_headers=cors.headers,
        allow_credentials=cors.credentials,
        expose_headers=("Taskcast-Gap", "Retry-After"),
        max_age=cors.max_age_seconds,
    )


def create_taskcast_app(
    engine: TaskEngine,
    auth: Authenticator | Authenticate | None = None,
    *,
    limits: LimitOptions | None = None,
    cors: CorsOptions | None = None,
    ticket_secret: str | None = None,
    max_stream_s: float = 86_400,
    admin: AdminDesk | None = None,
    webhooks: WebhookFollower | None = None,
    checks: Mapping[str, Check] | None = None,
    has_docs: bool = True,
) -> TaskcastApp:
    """An ASGI application over an engine, to be served or to be mounted into another program under any prefix.

    The engine's life is the caller's: enter it before requests come (in the lifespan of the outer program). Only where
    the application is served on its own and the engine is not open, the application's lifespan opens and closes it.

    ``auth``: an authenticator, a function from connection to claims (see `taskcast_server.auth.custom`), or None: open
    to everybody. ``ticket_secret``: what stream tickets are sealed with; the same on all nodes. ``max_stream_s``: life
    of a stream whose caller never expires. ``admin`` enables ``POST /admin/token``. ``webhooks``: the follower that the
    engine was given as a handler, so that dead letters can be retried. ``checks``: what ``/health/ready`` asks.
    """
    authenticator = as_authenticator(auth)
    is_open = isinstance(authenticator, OpenAuthenticator)
    services = Services(
        engine=engine,
        authenticator=authenticator,
        tickets=TicketOffice(ticket_secret, max_stream_s=max_stream_s),
        limits=limits or LimitOptions(),
        auth_mode="none" if is_open else "custom",
        max_stream_s=max_stream_s,
        admin=admin,
        webhooks=webhooks,
        providers=providers_of(engine),
        checks=checks or {},
    )
    return TaskcastApp(services, cors=cors, has_docs=has_docs)


def assemble_app(config: Config, plugins: Plugins | None = None, *, on_request: OnRequest | None = None) -> TaskcastApp:
    """The standalone server's application: its lifespan opens stores, engine, authenticator and webhooks.

    ``on_request`` is given a line about each request (verbose mode).

    Raises:
        InvalidConfig: a section cannot be read.
    """
    from taskcast_server.assembly import open_services
    from taskcast_server.options import DocsOptions

    plugins = plugins or Plugins()
    config = config.with_plugins(plugins)

    @asynccontextmanager
    async def opened() -> AsyncIterator[Services]:
        async with open_services(config, plugins) as services:
            yield services

    return TaskcastApp(
        opened,
        cors=config.section(CorsOptions),
        has_docs=config.section(DocsOptions).enabled,
        on_request=on_request,
    )
