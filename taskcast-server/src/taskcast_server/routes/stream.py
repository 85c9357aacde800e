"""Event streams: of one task, and of all tasks (wire spec, sse); and the tickets that open one from a browser."""

from __future__ import annotations

import time
from collections import OrderedDict
from collections.abc import Awaitable

from taskcast_core.deliveries import Batch
from taskcast_core.filters import View
from taskcast_core.models import SubscribeFilter
from taskcast_server.auth.none import OPEN_NAME
from taskcast_server.calls import Call
from taskcast_server.direct_streaming import DirectStream
from taskcast_server.requests import comma_list, read_filter
from taskcast_server.responses import Reply, json_reply
from taskcast_server.routes.documents import INTEGER, LEVELS, SINCE, STREAM, TYPES, record
from taskcast_server.routing import Doc, Parameter, Route
from taskcast_server.sse import encode_bare, encode_batch, encode_wrapped
from taskcast_server.streaming import EventStream
from taskcast_server.visits import Visit

_REMEMBERED_TASKS = 10_000


async def subscribe(call: Call) -> None:
    """``GET /tasks/{taskId}/events``: errors come before the first byte; then frames until the task has ended."""
    wanted = read_filter(call.query, _last_event_id(call))
    await call.check_rules()
    services = call.services
    visit = Visit(call)
    subscription = services.engine.subscribe(call.task_id, wanted)
    try:
        await subscription.open()
        await _link_creator(call)
        visit.tell()
    except BaseException:
        subscription.close()
        visit(None)
        raise
    call.note, call.is_long = "subscriber connected", True
    _measure_resume(call, wanted)
    encode = encode_wrapped if wanted.wrap else encode_bare
    if call.direct is not None:
        stays = services.tracer is not None or services.is_verbose
        await _run(
            call,
            DirectStream(subscription, encode, services.wheel, call.direct, visit, services.meters, stays=stays),
        )
    else:
        try:
            await _run(
                call, EventStream(subscription, encode, services.wheel, call.receive, call.send, services.meters)
            )
        finally:
            visit(None)


async def subscribe_all(call: Call) -> None:
    """``GET /events``: tasks created from now on, as far as the caller may see them."""
    view = View(comma_list(call.query.get("types")) or None, comma_list(call.query.get("levels")))
    services, visit = call.services, Visit(call)
    try:
        async with services.engine.subscribe_all(view, call.principal.may_see) as source:
            call.note, call.is_long = "global subscriber connected", True
            encode = _VisibleTasks(call).encode
            await _run(call, EventStream(source, encode, services.wheel, call.receive, call.send, services.meters))
    finally:
        visit(None)


def _run(call: Call, stream: EventStream) -> Awaitable[None]:
    """Stream until it ends, for whatever reason, or can go on by itself."""
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


def _lives_for_s(call: Call) -> float | None:
    """How long the caller may stay; None is for ever (where authentication is off)."""
    if call.principal.name == OPEN_NAME:
        return None
    expires_at = call.principal.expires_at
    longest = call.services.max_stream_s
    return longest if expires_at is None else min(longest, expires_at - time.time())


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
        scope="event:subscribe", is_terse=True, takes_ticket=True, answers_head=False,
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
        scope="event:subscribe", answers_head=False,
    ),
)  # fmt: skip
