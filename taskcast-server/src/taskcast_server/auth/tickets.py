"""Stream tickets: what a browser puts into a URL, since ``EventSource`` cannot send headers.

A ticket is for reading (``event:subscribe``) one task. Its holder may open a stream with it for 60 seconds; how
long that stream lives is decided by the expiry of the principal whom the ticket was made for, or
``auth.maxStreamSeconds`` if there is none. Principal and expiry travel in the ticket itself, sealed with
AES-256-GCM: nobody can read or change them, no node keeps them, and every node with the same secret accepts
them. A ticket never goes into a log, and neither does its content.

Renewal. ``EventSource`` reconnects with the very URL that it was given, so an expired ticket has to open the
stream again:

- while a stream opened with it is running in this process, and for 60 seconds after its end, a ticket is
  accepted here again, whatever its age, until the principal expires. At most two streams of one ticket are open
  at a time: the new one, and the old one of which the server has not noticed yet that it is dead;
- another node cannot know of that stream. Behind a balancer without affinity the client gets 401 there once the
  60 seconds are over, and asks for a new ticket. `renew` makes one without asking the principal again, as long
  as the stream is running.

Within its 60 seconds a ticket may be used more than once, since nothing is written down when it is used.

"""

from __future__ import annotations

import base64
import binascii
import logging
import os
from collections import Counter, OrderedDict
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import cached_property
from typing import TYPE_CHECKING, Any

from attrs import evolve, field

from taskcast_core import wire
from taskcast_core.clock import Clock
from taskcast_core.contracts.auth import Principal
from taskcast_core.errors import Forbidden, InvalidInput, Unauthorized
from taskcast_core.models import TaskAuthConfig
from taskcast_core.values import frozen
from taskcast_server.auth.claims import MalformedClaims, seconds
from taskcast_server.auth.options import AuthOptions, JwtOptions
from taskcast_server.auth.rules import claims_asked_for

if TYPE_CHECKING:
    from taskcast_server.auth.seal import Seal

_log = logging.getLogger(__name__)

SCOPE = "event:subscribe"
OPENS_FOR_S = 60
GRACE_S = 60
MAX_LENGTH = 8192
_MAX_STREAMS_OF_ONE = 2
_MAX_REMEMBERED = 10_000
_PREFIX = "tct1."


@frozen
class IssuedTicket:
    """A ticket for its holder. ``expires_at``: Unix seconds after which it no longer opens a stream."""

    text: str = field(repr=False)
    expires_at: int


@frozen
class Ticket:
    """A ticket that has been accepted.

    Attributes:
        id: the same in its renewals. principal: confined to the one task, and to reading it.
    """

    id: str
    task_id: str
    principal: Principal


class TicketOffice:
    """Issues tickets, and admits those who show one.

    Attributes:
        counts: how many were ``issued``, ``admitted``, ``refused`` (shown, and not admitted).
    """

    def __init__(
        self,
        secret: str | bytes | None = None,
        *,
        max_stream_s: float = 86_400,
        clock: Clock | None = None,
    ) -> None:
        """Without a secret, a random key is made, and tickets are good in this process only."""
        self._secret = os.urandom(32) if not secret else secret.encode() if isinstance(secret, str) else secret
        self._max_stream_s = max_stream_s
        self._clock = clock or Clock()
        self._open: dict[str, int] = {}
        self._closed: OrderedDict[str, float] = OrderedDict()
        self.counts: Counter[str] = Counter()

    @cached_property
    def _seal(self) -> Seal:
        """Made with the first ticket: a server that issues none need not load cryptography."""
        from taskcast_server.auth.seal import Seal

        return Seal(self._secret)

    def issue(self, principal: Principal, task_id: str, auth_config: TaskAuthConfig | None = None) -> IssuedTicket:
        """A ticket to read this task in the principal's name.

        Of the principal's claims it carries those that the task's ``auth_config`` asks for.

        Raises:
            Forbidden: the principal may not read the task itself, or its ticket would be too long for a URL.
        """
        if not principal.allows(SCOPE, task_id):
            raise Forbidden
        now = self._now()
        limit = now + self._max_stream_s
        asked = claims_asked_for(auth_config)
        confined = evolve(
            principal,
            scopes=frozenset({SCOPE}),
            task_ids=frozenset({task_id}),
            expires_at=limit if principal.expires_at is None else min(principal.expires_at, limit),
            claims={name: value for name, value in principal.claims.items() if name in asked},
        )
        issued = self._write(Ticket(os.urandom(12).hex(), task_id, confined), now)
        self.counts["issued"] += 1
        return issued

    def admit(self, text: str, task_id: str) -> Ticket:
        """Accept a ticket for a stream of this task.

        Raises:
            Unauthorized: it is not one of ours, is for another task, is no longer good, or is in use.
        """
        try:
            ticket = self._admit(text, task_id)
        except Unauthorized:
            self.counts["refused"] += 1
            raise
        self.counts["admitted"] += 1
        return ticket

    def _admit(self, text: str, task_id: str) -> Ticket:
        ticket, opens_until = self._read(text)
        now = self._now()
        expires_at = ticket.principal.expires_at
        if ticket.task_id != task_id or expires_at is None or now >= expires_at:
            raise _invalid()
        if now >= opens_until and not self._was_running(ticket.id, now):
            raise _invalid()
        if self._open.get(ticket.id, 0) >= _MAX_STREAMS_OF_ONE:
            raise Unauthorized("Ticket is in use")
        return ticket

    @contextmanager
    def streaming(self, ticket: Ticket) -> Iterator[None]:
        """Keep the ticket good for reconnecting while its stream runs, and for 60 seconds after that."""
        self._open[ticket.id] = self._open.get(ticket.id, 0) + 1
        try:
            yield
        finally:
            self._open[ticket.id] -= 1
            if not self._open[ticket.id]:
                del self._open[ticket.id]
            self._closed[ticket.id] = self._now()
            self._closed.move_to_end(ticket.id)
            self._forget_closed()

    def renew(self, ticket: Ticket) -> IssuedTicket:
        """The same ticket, good for opening a stream for another 60 seconds; for a stream that is running."""
        return self._write(ticket, self._now())

    def _was_running(self, ticket_id: str, now: float) -> bool:
        closed_at = self._closed.get(ticket_id)
        return ticket_id in self._open or (closed_at is not None and now < closed_at + GRACE_S)

    def _forget_closed(self) -> None:
        """Oldest first; what is over its grace, and what is too much."""
        over = self._now() - GRACE_S
        while self._closed:
            oldest = next(iter(self._closed))
            if len(self._closed) <= _MAX_REMEMBERED and self._closed[oldest] > over:
                return
            del self._closed[oldest]

    def _now(self) -> float:
        return self._clock.now_ms() / 1000

    def _write(self, ticket: Ticket, now: float) -> IssuedTicket:
        principal = ticket.principal
        opens_until = int(now) + OPENS_FOR_S
        content = wire.dumps({
            "id": ticket.id, "task": ticket.task_id, "opens": opens_until, "exp": principal.expires_at,
            "sub": principal.subject, "name": principal.name, "claims": dict(principal.claims),
        })  # fmt: skip
        sealed = self._seal.close(content, _PREFIX.encode())
        text = _PREFIX + base64.urlsafe_b64encode(sealed).rstrip(b"=").decode()
        if len(text) > MAX_LENGTH:
            raise Forbidden("The claims of this token do not fit into a ticket")
        return IssuedTicket(text, opens_until)

    def _read(self, text: str) -> tuple[Ticket, float]:
        if len(text) > MAX_LENGTH or not text.startswith(_PREFIX):
            raise _invalid()
        try:
            padded = text[len(_PREFIX) :] + "=" * (-(len(text) - len(_PREFIX)) % 4)
            sealed = base64.b64decode(padded.encode("ascii"), altchars=b"-_", validate=True)
            content = self._seal.open(sealed, _PREFIX.encode())
            return _ticket(wire.loads(content))
        except (UnicodeEncodeError, binascii.Error, ValueError, InvalidInput) as error:
            raise _invalid() from error


def ticket_secret(auth: AuthOptions, jwt: JwtOptions | None = None) -> str | None:
    """What tickets are sealed with, by the configuration: ``auth.ticketSecret``, else the JWT secret, else nothing."""
    secret = auth.ticket_secret or (jwt.secret if jwt else None)
    if secret is None and auth.mode != "none":
        _log.info("no auth.ticketSecret: stream tickets are good on the node that issued them only")
    return secret


def _ticket(content: Mapping[str, Any]) -> tuple[Ticket, float]:
    """Read back what `_write` wrote; it was sealed, so only another release's layout can surprise."""
    try:
        principal = Principal(
            scopes=frozenset({SCOPE}),
            task_ids=frozenset({content["task"]}),
            subject=content["sub"],
            expires_at=seconds(content, "exp"),
            name=content["name"],
            claims=content["claims"],
        )
        return Ticket(content["id"], content["task"], principal), content["opens"]
    except (KeyError, MalformedClaims) as error:
        raise _invalid() from error


def _invalid() -> Unauthorized:
    return Unauthorized("Invalid or expired ticket")
