"""One request on its way to a route: who calls, what is in the URL and the headers, what the body says."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from contextlib import suppress
from typing import Any
from urllib.parse import parse_qsl

from taskcast_core import wire
from taskcast_core.contracts.auth import Principal, Scope
from taskcast_core.errors import Forbidden, InvalidInput, TaskNotFound
from taskcast_core.models import Task
from taskcast_server.auth.admin import may_administer
from taskcast_server.auth.none import OPEN, OPEN_NAME, OpenAuthenticator
from taskcast_server.auth.rules import satisfies
from taskcast_server.auth.tickets import Ticket
from taskcast_server.direct import direct_of
from taskcast_server.errors import BodyTooLarge, ClientGone, MalformedBody
from taskcast_server.request_ids import HEADER, request_id
from taskcast_server.routing import Route
from taskcast_server.services import Services
from taskcast_server.streaming import Receive, Send

REPLY_HEADERS = "taskcast.reply_headers"
"""In a scope: headers that its reply carries, whatever it is."""

_PARTS_OF_A_QUERY = 200
_DRAIN_BYTES = 64 << 20
_DRAIN_S = 5.0


class Call:
    """A request that has found its route.

    Attributes:
        principal: who calls; open until ``authenticate``. ticket: by which, if that was the proof.
        note: what the request log is to say about it. request_id: what the request is called everywhere.
        direct: the way around ``receive`` and ``send``, where nothing stands between. error_code: of the refusal.
        further_headers: of the reply, as the scope brought them along.
        is_long: how long it takes says nothing about this server (streams, waiting pulls).
        is_answered: the reply has begun; kept for WebSockets only.
    """

    __slots__ = (
        "_headers", "_query", "direct", "error_code", "further_headers", "is_answered", "is_long", "note", "params",
        "principal", "receive", "request_id", "route", "scope", "send", "services", "ticket",
    )  # fmt: skip

    def __init__(
        self,
        services: Services,
        route: Route,
        params: Mapping[str, str],
        scope: Mapping[str, Any],
        receive: Receive,
        send: Send,
    ) -> None:
        self.services, self.route, self.params = services, route, params
        self.scope, self.receive, self.send = scope, receive, send
        direct = direct_of(scope)
        self.direct = direct if direct is not None and direct.is_right_behind(send, receive) else None
        self.principal: Principal = OPEN
        self.ticket: Ticket | None = None
        self.note = ""
        self._headers: dict[bytes, bytes] = dict(scope["headers"][::-1])  # of repeated ones the first
        self.request_id = request_id(self._headers.get(HEADER))
        self.further_headers: tuple[tuple[bytes, bytes], ...] = scope.get(REPLY_HEADERS, ())
        self.error_code = ""
        self.is_long = self.is_answered = False
        self._query: dict[str, str] | None = None

    # ── What was sent ──────────────────────────────────────────────────────────────────────────────────────────────

    @property
    def task_id(self) -> str:
        """The task that the path names."""
        return self.params["taskId"]

    @property
    def query(self) -> Mapping[str, str]:
        """The query parameters; of repeated ones the first."""
        if self._query is None:
            text = self.scope.get("query_string", b"").decode("latin-1")
            try:
                pairs = parse_qsl(text, keep_blank_values=True, max_num_fields=_PARTS_OF_A_QUERY) if text else []
            except ValueError:
                raise InvalidInput([("query", f"expected at most {_PARTS_OF_A_QUERY} parameters")]) from None
            self._query = dict(reversed(pairs))
        return self._query

    def header(self, name: bytes) -> str | None:
        """A header's value; ``name`` in lower case."""
        value = self._headers.get(name)
        return None if value is None else value.decode("latin-1")

    @property
    def client_host(self) -> str:
        """Where the connection comes from."""
        client = self.scope.get("client")
        return client[0] if client else "unknown"

    async def body(self, maximum: int | None = None) -> bytes:
        """The whole body.

        Raises:
            BodyTooLarge. ClientGone: the client left before it was complete.
        """
        whole = self.body_at_hand(maximum)
        if whole is not None:
            return whole
        maximum = maximum or self.services.limits.max_body_bytes
        length = self.header(b"content-length")
        if length is not None and length.isdigit() and int(length) > maximum:
            raise BodyTooLarge(maximum, is_read=int(length) <= _DRAIN_BYTES)
        body, more = await self.next_part()
        if not more and len(body) <= maximum:
            return body
        parts = bytearray(body)
        while len(parts) <= maximum and more:
            part, more = await self.next_part()
            parts += part
        if len(parts) > maximum:
            raise BodyTooLarge(maximum, is_read=not more or await self.drain())
        return bytes(parts)

    def body_at_hand(self, maximum: int | None = None) -> bytes | None:
        """The body, where it is all there and need not be waited for; once. Raises BodyTooLarge."""
        whole = None if self.direct is None else self.direct.whole_body()
        if whole is not None and len(whole) > (maximum or self.services.limits.max_body_bytes):
            raise BodyTooLarge(maximum or self.services.limits.max_body_bytes)
        return whole

    async def drain(self) -> bool:
        """Read the rest of the body and forget it, within bounds; whether that was all of it.

        A connection that is closed while its client is still sending is reset, and the reply lost.
        """
        size = 0
        with suppress(TimeoutError):
            async with asyncio.timeout(_DRAIN_S):
                while size <= _DRAIN_BYTES:
                    part, more = await self.next_part()
                    size += len(part)
                    if not more:
                        return True
        return False

    async def next_part(self) -> tuple[bytes, bool]:
        """Some more of the body, and whether that was not all: for bodies that are read as they come.

        Raises:
            ClientGone.
        """
        message = await self.receive()
        if message["type"] == "http.disconnect":
            raise ClientGone
        return message.get("body", b""), message.get("more_body", False)

    async def json(self, maximum: int | None = None) -> Any:
        """The body as JSON. Raises MalformedBody, and as ``body`` does."""
        return as_json(await self.body(maximum))

    async def json_object(self, maximum: int | None = None) -> dict[str, Any]:
        """The body as a JSON object. Raises InvalidInput when it is something else, and as ``json`` does."""
        value = await self.json(maximum)
        if not isinstance(value, dict):
            raise InvalidInput([("", "expected an object")])
        return value

    @property
    def reply_headers(self) -> tuple[tuple[bytes, bytes], ...]:
        """What every reply carries."""
        return ((HEADER, self.request_id), *self.further_headers)

    # ── Who sent it ────────────────────────────────────────────────────────────────────────────────────────────────

    @property
    def caller(self) -> str:
        """Whom limits are kept for: the principal; where nobody is asked who they are, the address."""
        return self.client_host if self.is_anybody() else self.principal.name

    def needs_proof(self) -> bool:
        """Whether the caller has to say who it is."""
        return self.route.takes_ticket or not isinstance(self.services.authenticator, OpenAuthenticator)

    async def authenticate(self) -> None:
        """Find out who calls.

        Raises:
            Unauthorized.
        """
        text = self.query.get("ticket") if self.route.takes_ticket else None
        if text:
            self.ticket = self.services.tickets.admit(text, self.task_id)
            self.principal = self.ticket.principal
        else:
            authenticator = self.services.authenticator
            if not isinstance(authenticator, OpenAuthenticator):
                from starlette.requests import HTTPConnection

                self.principal = await authenticator.authenticate(HTTPConnection(dict(self.scope)))

    def check_scope(self) -> None:
        """Compare the route's scope, and the task that it names, with what the caller may do.

        Raises:
            Forbidden.
        """
        scope = self.route.scope
        if scope == "admin":
            if not may_administer(self.principal):
                raise Forbidden
        elif scope is not None and self.principal is not OPEN:
            self.require(scope)

    def require(self, scope: Scope) -> None:
        """Ask for a further scope. Raises Forbidden."""
        if not self.principal.allows(scope, self.params.get("taskId")):
            raise Forbidden

    def meets_rules(self, task: Task, scope: Scope | None = None) -> bool:
        """Whether the caller meets the task's own rules about this scope (the route's, if none is given)."""
        wanted = scope or self.route.scope
        return wanted is None or satisfies(task.auth_config, wanted, self.principal)

    async def task(self, task_id: str | None = None) -> Task:
        """The task that the path names, if the caller meets its rules.

        Raises:
            TaskNotFound, Forbidden.
        """
        wanted = self.task_id if task_id is None else task_id
        task = await self.services.engine.get_task(wanted)
        if task is None:
            raise TaskNotFound(wanted)
        if not self.meets_rules(task):
            raise Forbidden
        return task

    def is_anybody(self) -> bool:
        """Whether callers are not told apart, so that no rules of tasks are about them."""
        return self.principal.name == OPEN_NAME

    async def check_rules(self) -> None:
        """``task``, where only its rules matter."""
        if not self.is_anybody():
            await self.task()

    def idempotency_key(self) -> str | None:
        """The ``Idempotency-Key`` header, told apart by caller.

        Raises:
            InvalidInput: it is too long.
        """
        given = self._headers.get(b"idempotency-key")
        if not given:
            return None
        key = given.decode("latin-1")
        if len(key) > self.services.limits.max_id_length:
            raise InvalidInput([("Idempotency-Key", f"at most {self.services.limits.max_id_length} characters")])
        return f"{self.principal.name}\x1f{key}"

    def assignment_id(self) -> str | None:
        """The ``X-Taskcast-Assignment`` header."""
        given = self._headers.get(b"x-taskcast-assignment")
        return given.decode("latin-1") if given else None


def as_json(body: bytes) -> Any:
    """A body as JSON. Raises MalformedBody."""
    try:
        return wire.loads(body)
    except InvalidInput:
        raise MalformedBody from None
