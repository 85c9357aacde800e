"""The workers' WebSocket: text frames, one JSON object each (wire spec, workers section 5).

Beyond the wire spec: ``assignmentId`` beside ``taskId`` in ``offer``, ``assigned`` and ``claimed``; every ``error`` has
a ``code``; and ``{type: "cancelled", taskId, status}`` tells of a task that somebody else has ended. A refused upgrade
is answered with an ordinary error reply where the server can send one, else by refusing the handshake (403). The socket
closes with 4401 when the caller's token expires, with 1013 when the worker does not read what it is sent.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections import deque
from collections.abc import Awaitable, Callable, Mapping
from contextlib import suppress
from typing import Any

from taskcast_core import wire
from taskcast_core.contracts.auth import Principal
from taskcast_core.errors import (
    Forbidden,
    InvalidInput,
    StoreUnavailable,
    TaskcastError,
    TaskNotFound,
    WorkerNotFound,
)
from taskcast_core.models import MatchRule, Task, TaskStatus, Worker
from taskcast_core.stopping import stop
from taskcast_core.workers import ClaimFailed, Registration, WorkerLayer
from taskcast_core.workers.settings import DEFAULT_CAPACITY, DEFAULT_WEIGHT
from taskcast_server import request_ids
from taskcast_server.errors import RouteNotFound, ShuttingDown, TooManyRequests
from taskcast_server.requests import text_faults
from taskcast_server.responses import error_reply
from taskcast_server.routes.worker_messages import (
    Message,
    ProtocolError,
    code_of,
    facts_of,
    parsed,
    summary_of,
    task_id_of,
)
from taskcast_server.routing import path_of
from taskcast_server.services import Services
from taskcast_server.streaming import Receive, Send

_log = logging.getLogger(__name__)

PATH = "/workers/ws"
EXPIRED, OVERLOADED = 4401, 1013
_UNREAD = 1000  # messages that wait for a slow worker
_REPLIES = 100  # with so many waiting, no more of its own messages are followed
_FAREWELL_S = 5.0  # for the close frame; then the connection is dropped
_PER_S, _BURST = 500.0, 1000.0  # messages that are taken from a worker; faster ones wait


async def serve_socket(services: Services, scope: Mapping[str, Any], receive: Receive, send: Send) -> None:
    """Answer an upgrade, and talk to the worker until one of them leaves."""
    await receive()  # websocket.connect
    try:
        principal, layer = await _admit(services, scope)
    except TaskcastError as error:
        if isinstance(error, TooManyRequests) and services.meters is not None:
            services.meters.refused(error)
        await _refuse(error, scope, send)
        return
    await send({"type": "websocket.accept", "headers": _request_id()})
    await WorkerSocket(services, layer, principal, receive, send).run()


async def _admit(services: Services, scope: Mapping[str, Any]) -> tuple[Principal, WorkerLayer]:
    if path_of(scope) != PATH:
        raise RouteNotFound
    from starlette.requests import HTTPConnection  # few servers have workers at a socket

    principal = await services.authenticator.authenticate(HTTPConnection(dict(scope)))
    if services.callers.rate is not None:
        services.callers.rate.take(principal.name)
    if not principal.allows("worker:connect"):
        raise Forbidden
    if services.engine.workers is None:
        raise RouteNotFound
    if services.is_closing:
        raise ShuttingDown
    return principal, services.engine.workers


async def _refuse(error: TaskcastError, scope: Mapping[str, Any], send: Send) -> None:
    if "websocket.http.response" not in scope.get("extensions", {}):
        await send({"type": "websocket.close", "code": 1008})
        return
    reply = error_reply(error)
    headers = [*reply.headers, (b"content-length", b"%d" % len(reply.body)), *_request_id()]
    await send({"type": "websocket.http.response.start", "status": reply.status, "headers": headers})
    await send({"type": "websocket.http.response.body", "body": reply.body})


def _request_id() -> list[tuple[bytes, bytes]]:
    found = request_ids.current.get()
    return [] if found is None else [(request_ids.HEADER, found.encode("latin-1"))]


class WorkerSocket:
    """One connection; a ``Socket`` of the dispatcher."""

    def __init__(
        self, services: Services, layer: WorkerLayer, principal: Principal, receive: Receive, send: Send
    ) -> None:
        self._services, self._layer, self._principal = services, layer, principal
        self._receive, self._send = receive, send
        self._worker: Worker | None = None
        self._held: set[str] = set()
        self._outbox: deque[Message] = deque()
        self._news = asyncio.Event()
        self._read = asyncio.Event()
        self._closing = asyncio.Event()
        self._close_code: int | None = None
        self._tokens, self._filled_at = _BURST, time.monotonic()
        self._verbs: dict[str, Callable[[Message], Awaitable[None]]] = {
            "register": self._register,
            "update": self._update,
            "accept": self._accept,
            "claim": self._claim,
            "decline": self._decline,
            "drain": self._drain,
            "pong": self._pong,
        }

    # ── What the dispatcher tells ──────────────────────────────────────────────────────────────────────────────────

    def offer(self, task: Task, assignment_id: str) -> None:
        """See Socket."""
        self._say(type="offer", taskId=task.id, task=summary_of(task), assignmentId=assignment_id)

    def announce(self, task: Task) -> None:
        """See Socket."""
        self._say(type="available", taskId=task.id, task=summary_of(task))

    def lost(self, task_id: str, status: TaskStatus) -> None:
        """See Socket."""
        self._held.discard(task_id)
        self._say(type="cancelled", taskId=task_id, status=status)

    def _say(self, **message: Any) -> None:
        if len(self._outbox) >= _UNREAD:
            self._close(OVERLOADED)
            return
        self._outbox.append(message)
        self._news.set()

    def _close(self, code: int) -> None:
        self._close_code = self._close_code or code
        self._closing.set()
        self._news.set()

    # ── The connection ─────────────────────────────────────────────────────────────────────────────────────────────

    async def run(self) -> None:
        """Talk until the worker leaves, or is made to."""
        loops = {asyncio.create_task(each) for each in (self._listen(), self._speak(), self._beat(), self._end())}
        try:
            done, _ = await asyncio.wait(loops, return_when=asyncio.FIRST_COMPLETED)
            for each in done:
                with suppress(OSError):  # the connection is gone
                    each.result()
        finally:
            await stop(loops)
            await self._leave()

    async def _listen(self) -> None:
        while True:
            message = await self._receive()
            if message["type"] == "websocket.disconnect":
                return
            await self._not_too_fast()
            while len(self._outbox) >= _REPLIES:
                self._read.clear()
                await self._read.wait()
            text = message.get("text")
            await self._hear(message.get("bytes") or b"" if text is None else text)

    async def _not_too_fast(self) -> None:
        now = time.monotonic()
        self._tokens = min(_BURST, self._tokens + (now - self._filled_at) * _PER_S) - 1
        self._filled_at = now
        if self._tokens < 0:
            await asyncio.sleep(-self._tokens / _PER_S)

    async def _speak(self) -> None:
        while self._close_code is None:
            await self._news.wait()
            self._news.clear()
            while self._outbox and self._close_code is None:
                text = wire.dumps(self._outbox.popleft()).decode()
                self._read.set()
                await self._send({"type": "websocket.send", "text": text})
        await self._send({"type": "websocket.close", "code": self._close_code})

    async def _beat(self) -> None:
        """Ping, and make up for cancellations that this node has not heard of."""
        while True:
            await asyncio.sleep(self._layer.settings.heartbeat_interval_ms / 1000)
            if self._worker is not None:
                self._say(type="ping")
                with suppress(StoreUnavailable):
                    await self._look_for_losses(self._worker.id)

    async def _look_for_losses(self, worker_id: str) -> None:
        held = await self._layer.claims.held_by(worker_id)
        for task_id in self._held - held.keys():
            task = await self._services.engine.get_task(task_id)
            if task_id in self._held and task is not None and task.status in ("cancelled", "timeout"):
                self.lost(task_id, task.status)
            self._held.discard(task_id)
        self._held |= held.keys()

    async def _end(self) -> None:
        """Return when the connection has to go, whether the worker reads or not."""
        until = self._principal.expires_at
        with suppress(TimeoutError):
            async with asyncio.timeout(None if until is None else max(0.0, until - time.time())):
                await self._closing.wait()
        self._close(EXPIRED)
        await asyncio.sleep(_FAREWELL_S)

    async def _leave(self) -> None:
        worker = self._worker
        if worker is None:
            return
        self._worker = None
        try:
            if await self._layer.dispatcher.disconnect(worker.id, self):
                await self._layer.leave(worker)
        except StoreUnavailable as error:
            _log.warning("worker %s is found missing by its silence: %s", worker.id, error)

    # ── Messages ───────────────────────────────────────────────────────────────────────────────────────────────────

    async def _hear(self, text: str | bytes) -> None:
        """Follow one message; whatever is wrong with it is answered, and never closes the socket."""
        task_id: str | None = None
        kind = ""
        try:
            message = parsed(text)
            given = message.get("taskId")
            task_id = given if isinstance(given, str) else None
            kind = message["type"]
            verb = self._verbs.get(kind)
            if verb is None:
                raise ProtocolError(f"Unknown message type: {kind}", "PARSE_ERROR")
            await verb(message)
        except (TaskcastError, RecursionError) as error:
            self._complain(str(error), code_of(error, kind), task_id)
        except Exception as error:  # noqa: BLE001 - whatever it is, the worker is told, and stays connected
            self._services.engine.observers.failed(_log, error, f"worker message {kind}", task_id)
            self._complain("Internal server error", "INTERNAL_ERROR", task_id)

    def _complain(self, message: str, code: str, task_id: str | None) -> None:
        about = {} if task_id is None else {"taskId": task_id}
        self._say(type="error", message=message, code=code, **about)

    @property
    def _registered(self) -> Worker:
        if self._worker is None:
            raise ProtocolError("Not registered", "NOT_REGISTERED")
        return self._worker

    async def _register(self, message: Message) -> None:
        bound = self._principal.worker_id
        worker_id = message.get("workerId", bound)
        if worker_id is not None and (
            faults := text_faults(worker_id, "workerId", self._services.limits.max_id_length)
        ):
            raise InvalidInput(faults)
        if bound is not None and worker_id != bound:
            raise Forbidden("Forbidden: worker ID mismatch")
        if self._worker is not None and worker_id not in (None, self._worker.id):
            raise ProtocolError(f"Already registered as {self._worker.id}", "REGISTER_ERROR")
        if worker_id is None and self._worker is not None:
            worker_id = self._worker.id
        weight, capacity, rule = facts_of(message)
        self._worker = await self._layer.register(
            Registration(
                worker_id or None,
                rule or MatchRule(),
                DEFAULT_CAPACITY if capacity is None else capacity,
                DEFAULT_WEIGHT if weight is None else weight,
                "websocket",
            )
        )
        self._held = set(await self._layer.claims.held_by(self._worker.id))
        self._say(type="registered", workerId=self._worker.id)
        self._layer.dispatcher.connect(self._worker.id, self)

    async def _update(self, message: Message) -> None:
        worker = self._registered
        weight, capacity, rule = facts_of(message)
        await self._layer.roster.update(worker.id, weight=weight, capacity=capacity, match_rule=rule)

    async def _accept(self, message: Message) -> None:
        task = await self._take(self._registered, task_id_of(message))
        self._say(type="assigned", taskId=task.id, assignmentId=task.assignment_id)

    async def _claim(self, message: Message) -> None:
        worker, task_id = self._registered, task_id_of(message)
        try:
            task = await self._take(worker, task_id)
        except ClaimFailed as error:
            self._say(type="claimed", taskId=task_id, success=False, message=str(error))
        else:
            self._say(type="claimed", taskId=task.id, success=True, assignmentId=task.assignment_id)

    async def _take(self, worker: Worker, task_id: str) -> Task:
        self._layer.dispatcher.answered(task_id, worker.id)
        try:
            task = await self._layer.claims.claim(task_id, worker.id)
        except ClaimFailed:
            self._layer.dispatcher.not_taken(task_id, worker.id)
            raise
        except TaskNotFound:
            raise ClaimFailed("Task not found") from None
        self._held.add(task.id)
        return task

    async def _decline(self, message: Message) -> None:
        worker, task_id = self._registered, task_id_of(message)
        self._layer.dispatcher.answered(task_id, worker.id)
        await self._layer.claims.decline(task_id, worker.id, blacklist=message.get("blacklist") is True)
        self._held.discard(task_id)
        self._say(type="declined", taskId=task_id)

    async def _drain(self, _: Message) -> None:
        await self._layer.roster.update(self._registered.id, status="draining")

    async def _pong(self, _: Message) -> None:
        try:
            await self._layer.roster.heartbeat(self._registered.id)
        except WorkerNotFound:
            # Somebody has removed the worker. It may register again.
            worker, self._worker = self._registered, None
            await self._layer.dispatcher.disconnect(worker.id, self)
            raise ProtocolError("Not registered", "NOT_REGISTERED") from None
