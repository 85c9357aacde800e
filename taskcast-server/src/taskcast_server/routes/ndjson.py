"""Publishing a stream of lines: each a JSON event, committed in bounded chunks while the rest is still coming."""

from __future__ import annotations

from typing import Any, NoReturn

from attrs import field

from taskcast_core import wire
from taskcast_core.errors import InvalidInput, TaskcastError
from taskcast_core.models import EventDraft
from taskcast_core.values import define
from taskcast_server.calls import Call
from taskcast_server.errors import CLOSE, BodyTooLarge
from taskcast_server.options import LimitOptions
from taskcast_server.requests import read_event
from taskcast_server.responses import Reply, error_reply, json_reply

MEDIA_TYPE = "application/x-ndjson"
CHUNK = 500
"""Events committed at once."""


@define
class _Published:
    """What has been stored so far."""

    count: int = 0
    first_index: int | None = None
    last_index: int | None = None

    def shown(self) -> dict[str, Any]:
        facts = {"count": self.count, "firstIndex": self.first_index, "lastIndex": self.last_index}
        return {name: value for name, value in facts.items() if value is not None}


@define
class _Lines:
    """Splits a body that comes in parts; a line is bounded. ``is_over``: the last part has come."""

    maximum: int
    rest: bytearray = field(factory=bytearray)
    is_over: bool = False

    def take(self, part: bytes, *, is_last: bool) -> list[bytes]:
        self.is_over = is_last
        self.rest += part
        *lines, rest = bytes(self.rest).split(b"\n")
        if is_last:
            lines.append(rest)
            rest = b""
        self.rest = bytearray(rest)
        if max(map(len, (rest, *lines))) > self.maximum:
            raise BodyTooLarge(self.maximum)
        return [line for line in lines if line.strip()]


async def publish_lines(call: Call) -> Reply:
    """Commit line after line; the next part of the body is asked for when the last one is stored.

    With an idempotency key the chunks depend on the lines alone, so that a repeat finds them; without one, what has
    come is stored at once. An error ends it: what was stored stays, and the reply says how much that is.
    """
    await call.check_rules()
    published = _Published()
    lines = _Lines(call.services.limits.max_body_bytes)
    try:
        await _publish(call, lines, published)
    except TaskcastError as error:
        reply = error_reply(error)
        body = {**wire.loads(reply.body), "published": published.shown()}
        is_read = lines.is_over or await call.drain()
        return json_reply(body, reply.status, reply.headers[1:] if is_read else (*reply.headers[1:], CLOSE))
    call.note = f"{published.count} events"
    return json_reply(published.shown(), 201)


async def _publish(call: Call, lines: _Lines, published: _Published) -> None:
    limits = call.services.limits
    waiting: list[EventDraft] = []
    number = 0
    key = call.idempotency_key()
    while not lines.is_over:
        part, more = await call.next_part()
        come = lines.take(part, is_last=not more)
        while come:
            room = CHUNK - len(waiting)
            some, come = come[:room], come[room:]
            waiting += _read_lines(some, number, limits)
            number += len(some)
            if len(waiting) == CHUNK:
                await _commit(call, waiting, key, published)
        if waiting and (key is None or lines.is_over):
            await _commit(call, waiting, key, published)


def _read_lines(lines: list[bytes], number: int, limits: LimitOptions) -> list[EventDraft]:
    """Drafts of some lines, the first of which has this number in the whole body."""
    try:
        values = wire.loads_each(lines)
    except InvalidInput:
        _until_malformed(lines, number, limits)
    return [read_event(value, at, limits) for at, value in enumerate(values, number)]


def _until_malformed(lines: list[bytes], number: int, limits: LimitOptions) -> NoReturn:
    """Raise what is wrong with the first faulty line."""
    for at, line in enumerate(lines, number):
        try:
            value = wire.loads(line)
        except InvalidInput:
            raise InvalidInput([(f"[{at}]", "malformed JSON")]) from None
        read_event(value, at, limits)
    raise AssertionError("all lines are well-formed")


async def _commit(call: Call, waiting: list[EventDraft], key: str | None, published: _Published) -> None:
    drafts = tuple(waiting)
    waiting.clear()
    chunk_key = None if key is None else f"{key}\x1f{published.count}"
    committed = await call.services.engine.append(
        call.task_id, drafts, idempotency_key=chunk_key, assignment_id=call.assignment_id()
    )
    published.count += len(committed.entries)
    if committed.entries:
        if published.first_index is None:
            published.first_index = committed.entries[0].index
        published.last_index = committed.entries[-1].index
