"""Event streams: of one task, and of all tasks (wire spec, sse); and the tickets that open one from a browser."""

from __future__ import annotations

import asyncio
import time
from collections import OrderedDict
from collections.abc import Awaitable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager, nullcontext

from taskcast_core.deliveries import Batch
from taskcast_core.filters import View
from taskcast_core.ids import new_ulid
from taskcast_core.models import SubscribeFilter
from taskcast_server.auth.none import OPEN_NAME
from taskcast_server.calls import Call
from taskcast_server.direct import direct_of
from taskcast_server.errors import ShuttingDown
from taskcast_server.requests import comma_list, read_filter
from taskcast_server.responses import Reply, json_reply
from taskcast_server.routes.documents import INTEGER, LEVELS, SINCE, STREAM, TYPES, record
from taskcast_server.routing import Doc, Parameter, Route
from taskcast_server.sse import encode_bare, encode_batch, encode_wrapped
from taskcast_server.streaming import EventStream

_REMEMBERED_TASKS = 10_000
_NOTHING = nullcontext()


async def subscribe(call: Call) -> None:
    """``GET /tasks/{taskId}/events``: errors come before the first byte; then frames until the task has ended."""
    wanted = read_filter(call.query, _last_event_id(call))
    await call.check_rules()
    engine = call.services.engine
    with _open_stream(call):
        subscription = await engine.subscribe(call.task_id, wanted).open()
        try:
            await _link_creator(call)
            call.note, call.is_long = "subscriber connected", True
            _measure_resume(call, wanted)
            encode = encode_wrapped if wanted.wrap else encode_bare
            direct = direct_of(call.scope)
            stream = EventStream(
                subscription, encode, call.services.wheel, call.receive, call.send, direct, call.services.meters
            )
            if direct is not None:
                subscription.taker = stream
            with _observed(call):
                await _run(call, stream)
        finally:
            subscription.close()


async def subscribe_all(call: Call) -> None:
    """``GET /events``: tasks created from now on, as far as the caller may see them."""
    view = View(comma_list(call.query.get("types")) or None, comma_list(call.query.get("levels")))
    with _open_stream(call):
        async with call.services.engine.subscribe_all(view, call.principal.may_see) as source:
            call.note, call.is_long = "global subscriber connected", True
            visible = _VisibleTasks(call)
            await _run(
                call,
                EventStream(
                    source, visible.encode, call.services.wheel, call.receive, call.send, meters=call.services.meters
                ),
            )


def _run(call: Call, stream: EventStream) -> Awaitable[None]:
    """Stream until it ends, for whatever reason. No coroutine of its own: idle readers are many."""
    return stream.run(
        lives_for_s=_lives_for_s(call), http_version=call.scope.get("http_version", "1.1"), headers=call.reply_headers
    )


def _measure_resume(call: Call, wanted: SubscribeFilter) -> None:
    if call.services.meters is not None:
        kind, since = "none", wanted.since
        if since is not None:
            kind = "id" if since.id is not None else "index" if since.index is not None else "timestamp"
            if kind == "id" and "since.id" not in call.query:
                kind = "last-event-id"
        call.services.meters.resumes[kind] += 1


async def _link_creator(call: Call) -> None:
    """Relate the stream's span to what the task's creator was recorded to do."""
    if call.services.tracer is not None and (task := await call.services.engine.get_task(call.task_id)):
        call.services.tracer.link(task.traceparent)


class _VisibleTasks:
    """Leaves out of the stream of all tasks those whose own rules the caller does not meet."""

    def __init__(self, call: Call) -> None:
        self._call = call
        self._verdicts: OrderedDict[str, bool] = OrderedDict()

    async def encode(self, batch: Batch) -> bytes:
        if self._call.principal.name != OPEN_NAME:
            visible = [each for each in batch.deliveries if await self._is_visible(each.entry.origin.task_id)]
            batch = Batch(visible, batch.after, batch.position)
        return encode_batch(batch, wrap=True)

    async def _is_visible(self, task_id: str) -> bool:
        verdict = self._verdicts.get(task_id)
        if verdict is None:
            task = await self._call.services.engine.get_task(task_id)
            verdict = self._verdicts[task_id] = task is not None and self._call.meets_rules(task)
            if len(self._verdicts) > _REMEMBERED_TASKS:
                self._verdicts.popitem(last=False)
        return verdict


def _last_event_id(call: Call) -> str | None:
    """The header as it was meant: browsers send it in UTF-8, while headers are read as Latin-1."""
    given = call.header(b"last-event-id")
    return None if given is None else given.encode("latin-1").decode("utf-8", "replace")


def _open_stream(call: Call) -> AbstractContextManager[object]:
    """Count the stream for its caller, and keep its ticket alive, while it is open.

    Raises:
        ShuttingDown. TooManyRequests: now, or when it is entered.
    """
    if call.services.is_closing:
        raise ShuttingDown
    streams = call.services.callers.streams
    counted = _NOTHING if streams is None else streams.opened(call.caller)
    if call.ticket is None:
        return counted  # idle readers are many: no more of these objects than needed
    with ExitStack() as entering:
        entering.enter_context(counted)
        entering.enter_context(call.services.tickets.streaming(call.ticket))
        return entering.pop_all()


def _lives_for_s(call: Call) -> float | None:
    """How long the caller may stay; None is for ever (where authentication is off)."""
    if call.principal.name == OPEN_NAME:
        return None
    expires_at = call.principal.expires_at
    longest = call.services.max_stream_s
    return longest if expires_at is None else min(longest, expires_at - time.time())


def _observed(call: Call) -> AbstractContextManager[object]:
    """Tell the observers, if there are any, that a reader comes and goes."""
    observers = call.services.engine.observers
    return _telling(call) if observers.subscriber_connected or observers.subscriber_disconnected else _NOTHING


@contextmanager
def _telling(call: Call) -> Iterator[None]:
    observers = call.services.engine.observers
    client_id, loop = new_ulid(call.services.engine.now_ms()), asyncio.get_running_loop()
    began = loop.time()
    if observers.subscriber_connected:
        observers.subscriber_connected(task_id=call.task_id, client_id=client_id)
    try:
        yield
    finally:
        if observers.subscriber_disconnected:
            duration_ms = round((loop.time() - began) * 1000)
            observers.subscriber_disconnected(task_id=call.task_id, client_id=client_id, duration_ms=duration_ms)


async def issue_ticket(call: Call) -> Reply:
    """``POST /tasks/{taskId}/ticket``."""
    task = await call.task()
    ticket = call.services.tickets.issue(call.principal, task.id, task.auth_config)
    return json_reply({"ticket": ticket.text, "expiresAt": ticket.expires_at}, 201)


ROUTES = (
    Route(
        "GET", "/tasks/{taskId}/events", subscribe,
        Doc(
            "Follow a task", "Events", dict((STREAM,)),
            parameters=(
                *SINCE, TYPES, LEVELS,
                Parameter("Last-Event-ID", "as since.id, where no since.* is given", "header"),
                Parameter("includeStatus", "`false` hides status events"),
                Parameter("wrap", "`false` sends bare events"),
                Parameter("seriesFormat", "`accumulated` sends totals in place of deltas"),
                Parameter("resume", "`snapshot` begins each series with its total after a cursor"),
                Parameter("limit", "without a cursor, replay the last so many frames only", schema=INTEGER),
                Parameter("ticket", "a stream ticket, in place of a token"),
            ),
        ),
        scope="event:subscribe", is_terse=True, takes_ticket=True,
    ),
    Route(
        "POST", "/tasks/{taskId}/ticket", issue_ticket,
        Doc(
            "A ticket that opens this task's stream within a minute", "Events",
            {201: ("the ticket; expiresAt is Unix seconds", record(ticket={"type": "string"}, expiresAt=INTEGER))},
        ),
        scope="event:subscribe", is_terse=True,
    ),
    Route(
        "GET", "/events", subscribe_all,
        Doc("Follow all tasks that are created from now on", "Events", dict((STREAM,)), parameters=(TYPES, LEVELS)),
        scope="event:subscribe",
    ),
)  # fmt: skip
