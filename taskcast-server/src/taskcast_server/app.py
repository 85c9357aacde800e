"""The ASGI application: it finds the route, knows the caller, answers in JSON whatever happens.

Plain ASGI from end to end: one middleware that wraps every message would cost more than everything else.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Mapping, MutableMapping
from contextlib import AbstractAsyncContextManager, AsyncExitStack, aclosing, asynccontextmanager
from typing import Any

from taskcast_core.config import Config
from taskcast_core.contracts.auth import Authenticator
from taskcast_core.engine import TaskEngine
from taskcast_core.errors import TaskcastError
from taskcast_core.meters import PENDING
from taskcast_core.plugins import Plugins
from taskcast_server import request_ids
from taskcast_server.auth.admin import AdminDesk
from taskcast_server.auth.assembly import as_authenticator
from taskcast_server.auth.custom import Authenticate
from taskcast_server.auth.none import OpenAuthenticator
from taskcast_server.auth.tickets import TicketOffice
from taskcast_server.calls import Call
from taskcast_server.dependencies import Check
from taskcast_server.errors import BrokenOff, ClientGone, HttpError, RouteNotFound, TooManyRequests
from taskcast_server.exchange import as_sent
from taskcast_server.failures import report_failure
from taskcast_server.metrics import MetricsOptions, ServerMeters
from taskcast_server.metrics.meters import LONG
from taskcast_server.options import CorsOptions, LimitOptions
from taskcast_server.request_log import log_refused, request_line
from taskcast_server.responses import Reply, error_reply, internal_error
from taskcast_server.routes.table import route_table
from taskcast_server.routes.worker_socket import serve_socket
from taskcast_server.routing import Doc, Route, Router, path_of
from taskcast_server.services import Services, providers_of
from taskcast_server.streaming import EventStream, Receive, Send
from taskcast_server.tracing import TracingOptions, find_tracer
from taskcast_server.webhooks.follower import WebhookFollower

Scope = Mapping[str, Any]
OpenServices = Callable[[], AbstractAsyncContextManager[Services]]
OnRequest = Callable[[str], None]

_BEHIND_AUTH = frozenset({"tasks", "events", "workers"})
_REQUEST_ID = request_ids.HEADER + b": "
_CLIENT_GONE = 499
"""What is counted where nobody was left to be answered."""
_FIRST_ANSWERS = {"websocket.accept": 101, "websocket.close": 403}


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
        metrics: MetricsOptions | None = None,
    ) -> None:
        self._open = None if isinstance(services, Services) else services
        self.services = services if isinstance(services, Services) else None
        self.failure: BaseException | None = None
        self._router = Router(route_table(has_docs=has_docs))
        self._meters = ServerMeters(self.routes) if metrics is None or metrics.enabled else None
        self._on_request = on_request
        if self.services is not None:
            self._equip(self.services)
        self._http: Any = None
        self.set_cors(cors)

    @property
    def routes(self) -> tuple[Route, ...]:
        """The table that requests are dispatched by."""
        return self._router.routes

    @property
    def generated_admin_token(self) -> str | None:
        """The admin token, if it was made at start and has to be told to somebody."""
        desk = self.services.admin if self.services else None
        return desk.token if desk is not None and desk.was_generated else None

    def set_cors(self, cors: CorsOptions | None) -> None:
        """Which pages of other origins may call, from now on."""
        self._http = _with_cors(self._serve, cors)

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
            await self._serve_socket(scope, receive, send)

    # ── Requests ───────────────────────────────────────────────────────────────────────────────────────────────────

    async def _serve(self, scope: Scope, receive: Receive, send: Send) -> None:
        assert self.services is not None, "the application has not been started"
        call = self._find(path_of(scope), scope, receive, send)
        request_ids.current.set(call.request_id.decode("latin-1"))
        began = time.perf_counter()
        tracer = self.services.tracer
        if tracer is None:
            status = await self._answer(call)
        else:
            with tracer.request(call) as span:
                status = await self._answer(call)
                span.answered(status)
        took_s = time.perf_counter() - began
        if (meters := self._meters) is not None:
            pending = meters.pending.get(call.route)
            times = None if pending is None else pending.get(status)
            if times is None or call.is_long or len(times) >= PENDING:
                meters.answered(call.route, scope["method"], status, LONG if call.is_long else took_s)
            else:
                times.append(took_s)
        if 400 <= status < 500:
            log_refused(call, status, took_s)
        if self._on_request is not None:
            self._on_request(request_line(call, status, took_s))

    async def _answer(self, call: Call) -> int:
        """Do the request and send the reply; its status."""
        try:
            if call.route.scope is not None or call.route.asks_caller:
                if call.needs_proof():
                    await call.authenticate()
                if call.services.callers.rate is not None:
                    call.services.callers.rate.take(call.caller)
                call.check_scope()
            reply = await call.route.handler(call)
        except ClientGone:
            return _CLIENT_GONE
        except BrokenOff as broken:
            self._report(call, 500, broken.__cause__ or broken)
            return 500
        except Exception as error:  # noqa: BLE001 - whatever it is, the caller gets a JSON reply, and we a log line
            reply = self._refusal(call, error)
        if reply is None:
            return 200
        if call.direct is not None and reply.chunks is None:
            further = _REQUEST_ID + call.request_id + b"\r\n"
            if call.further_headers:
                further += as_sent(call.further_headers)
            if call.direct.reply(reply.status, reply.headers, reply.body, further):
                return reply.status
        return await self._send(call, reply)

    def _refusal(self, call: Call, error: Exception) -> Reply:
        """The reply to what went wrong."""
        if not isinstance(error, TaskcastError):
            reply = internal_error()
            self._report(call, reply.status, error)
            return reply
        call.error_code = error.code
        reply = error_reply(error, is_terse=call.route.is_terse)
        if isinstance(error, TooManyRequests) and self._meters is not None:
            self._meters.refused(error)
        if reply.status >= 500:
            self._report(call, reply.status, error)
        return reply

    async def _send(self, call: Call, reply: Reply) -> int:
        if reply.chunks is not None:
            return await self._send_chunks(call, reply, reply.chunks)
        headers = [*reply.headers, *call.reply_headers]
        if reply.status != 204:
            headers.append((b"content-length", b"%d" % len(reply.body)))
        await call.send({"type": "http.response.start", "status": reply.status, "headers": headers})
        await call.send({"type": "http.response.body", "body": reply.body})
        return reply.status

    def _find(self, path: str, scope: Scope, receive: Receive, send: Send) -> Call:
        assert self.services is not None
        try:
            route, params = self._router.find(scope["method"], path)
            if route.is_about_workers and self.services.engine.workers is None:
                raise RouteNotFound
        except HttpError as error:
            # Below these paths callers are asked who they are before they learn what exists.
            route = _nowhere(error, asks_caller=path.partition("/")[2].partition("/")[0] in _BEHIND_AUTH)
            params = {}
        return Call(self.services, route, params, scope, receive, send)

    async def _send_chunks(self, call: Call, reply: Reply, chunks: AsyncGenerator[bytes]) -> int:
        """Send a reply that is made on the way, for as long as somebody is there to take it; its status."""
        gone = asyncio.ensure_future(_wait_until_gone(call.receive))
        headers = [*reply.headers, *call.reply_headers]
        try:
            await call.send({"type": "http.response.start", "status": reply.status, "headers": headers})
            async with aclosing(chunks):
                async for chunk in chunks:
                    if gone.done():
                        return _CLIENT_GONE
                    await call.send({"type": "http.response.body", "body": chunk, "more_body": True})
            await call.send({"type": "http.response.body", "body": b""})
        except Exception as error:  # noqa: BLE001 - the status is sent; only the missing end can tell the caller
            self._report(call, 500, error)
            return 500
        finally:
            gone.cancel()
        return reply.status

    def _report(self, call: Call, status: int, error: BaseException) -> None:
        engine, task_id = call.services.engine, call.params.get("taskId")
        report_failure(engine, call.scope["method"], path_of(call.scope), status, error, task_id)

    async def _serve_socket(self, scope: Scope, receive: Receive, send: Send) -> None:
        """A WebSocket counts as one request, answered when it has been let in or refused."""
        assert self.services is not None, "the application has not been started"
        call = self._find(path_of(scope), {**scope, "method": "GET"}, receive, send)
        request_ids.current.set(call.request_id.decode("latin-1"))

        async def watched(message: MutableMapping[str, Any]) -> None:
            status = _FIRST_ANSWERS.get(message["type"]) or message.get("status")
            if status is not None and not call.is_answered:
                call.is_answered = True
                if self._meters is not None:
                    self._meters.answered(call.route, "GET", status, LONG)
            await send(message)

        if self.services.tracer is None:
            await serve_socket(self.services, scope, receive, watched)
            return
        with self.services.tracer.request(call):
            await serve_socket(self.services, scope, receive, watched)

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
            self._equip(self.services)
        elif self.services is not None and not self.services.engine.is_open:
            await stack.enter_async_context(self.services.engine)

    def _equip(self, services: Services) -> None:
        services.meters, services.is_verbose = self._meters, self._on_request is not None


async def _wait_until_gone(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass


def _nowhere(error: HttpError, *, asks_caller: bool) -> Route:
    """The route of requests that have none."""

    async def refuse(_: Call) -> Reply:
        raise error

    return Route("", "", refuse, Doc("", "", {}), asks_caller=asks_caller)


def _with_cors(app: Any, cors: CorsOptions | None) -> Any:
    if cors is None or not cors.origins:
        return app
    from taskcast_server.cors import Cors

    return Cors(
        app,
        allow_origins=cors.origins,
        allow_methods=cors.methods,
        allow_headers=cors.headers,
        allow_credentials=cors.credentials,
        expose_headers=("Taskcast-Gap", "Retry-After", "X-Request-Id"),
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
    metrics: MetricsOptions | None = None,
    tracing: TracingOptions | None = None,
) -> TaskcastApp:
    """An ASGI application over an engine, to be served or to be mounted into another program under any prefix.

    The engine's life is the caller's: enter it before requests come (in the lifespan of the outer program). Only where
    the application is served on its own and the engine is not open, the application's lifespan opens and closes it.

    ``auth``: an authenticator, a function from connection to claims (see `taskcast_server.auth.custom`), or None: open
    to everybody. ``ticket_secret``: what stream tickets are sealed with; the same on all nodes. ``max_stream_s``: life
    of a stream whose caller never expires. ``admin`` enables ``POST /admin/token``. ``webhooks``: the follower that the
    engine was given as a handler, so that dead letters can be retried. ``checks``: what ``/health/ready`` asks.
    ``metrics`` and ``tracing`` are about requests; what the engine counts and records is said by its ``instruments``.
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
        metrics=metrics or MetricsOptions(),
        tracer=find_tracer(tracing),
    )
    return TaskcastApp(services, cors=cors, has_docs=has_docs, metrics=metrics)


def assemble_app(config: Config, plugins: Plugins | None = None, *, on_request: OnRequest | None = None) -> TaskcastApp:
    """The standalone server's application: its lifespan opens stores, engine, authenticator and webhooks.

    ``on_request`` is given a line about each request (verbose mode).

    Raises:
        InvalidConfig: a section cannot be read.
    """
    from taskcast_server.assembly import open_services
    from taskcast_server.live_config import LiveConfig
    from taskcast_server.options import DocsOptions

    plugins = plugins or Plugins()
    config = config.with_plugins(plugins)

    @asynccontextmanager
    async def opened() -> AsyncIterator[Services]:
        async with open_services(config, plugins) as services:
            services.config = LiveConfig(config, plugins, services, app.set_cors)
            yield services

    app = TaskcastApp(
        opened,
        cors=config.section(CorsOptions),
        has_docs=config.section(DocsOptions).enabled,
        on_request=on_request,
        metrics=config.section(MetricsOptions),
    )
    return app
