"""Publishing events, and reading those of the past."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Sequence
from functools import lru_cache

from taskcast_core.deliveries import Delivery
from taskcast_core.history import PAGE, History
from taskcast_core.models import Cursor
from taskcast_server.calls import Call, as_json
from taskcast_server.event_text import event_text, event_texts
from taskcast_server.exchange import Header
from taskcast_server.requests import read_cursor, read_events, read_limit, read_view
from taskcast_server.responses import JSON, Reply
from taskcast_server.routes.documents import ASSIGNMENT, IDEMPOTENCY, INTEGER, LEVELS, SINCE, TYPES, lists_of, reference
from taskcast_server.routes.ndjson import MEDIA_TYPE, publish_lines
from taskcast_server.routes.workers import told_with_publish
from taskcast_server.routing import Doc, Parameter, Route


async def publish(call: Call) -> Reply:
    """``POST /tasks/{taskId}/events``: one event, a list, or a stream of lines."""
    if _are_lines(call.header(b"content-type")):
        return await publish_lines(call)
    text = call.body_at_hand()
    body = as_json(await call.body() if text is None else text)
    drafts = read_events(body, call.services.limits)
    if not call.is_anybody():
        await call.check_rules()
    assignment_id = call.assignment_id()
    committed = await call.services.engine.append(
        call.task_id, drafts, idempotency_key=call.idempotency_key(), assignment_id=assignment_id
    )
    headers: tuple[Header, ...] = (JSON,)
    if assignment_id is not None:
        headers += told_with_publish(call.services.engine, committed.stored.task)
    if isinstance(body, list):
        call.note = f"{len(drafts)} events"
        return Reply(201, b"[%b]" % b",".join(event_texts(committed.entries)), headers)
    call.note = f"type: {drafts[0].type}"
    return Reply(201, event_text(committed.entries[0]), headers)


@lru_cache(64)
def _are_lines(content_type: str | None) -> bool:
    return content_type is not None and content_type.partition(";")[0].strip().lower() == MEDIA_TYPE


async def history(call: Call) -> Reply:
    """``GET /tasks/{taskId}/events/history``: sent page by page, however long it is."""
    query = call.query
    since, limit, view = read_cursor(query), read_limit(query.get("limit")), read_view(query)
    collapse = query.get("seriesFormat") == "accumulated"
    await call.check_rules()
    engine = call.services.engine

    async def read(since: Cursor | None, limit: int | None) -> History:
        return await engine.read_history(call.task_id, since=since, view=view, limit=limit, collapse=collapse)

    if collapse or (limit is not None and limit <= PAGE):
        whole = await read(since, limit)
        return Reply(200, b"[%b]" % _join(whole.deliveries), _headers(whole))
    first = await read(since, PAGE)
    return Reply(200, headers=_headers(first), chunks=_pages(call, first, limit))


async def _pages(call: Call, page: History, limit: int | None) -> AsyncGenerator[bytes]:
    """The rest of a history behind its first page, as the text of one JSON list."""
    separator = b"["
    left = limit
    while True:
        if page.deliveries:
            yield separator + _join(page.deliveries)
            separator = b","
        left = None if left is None else left - page.scanned
        if page.scanned < PAGE or left == 0:
            break
        page = await call.services.engine.read_history(
            call.task_id,
            since=Cursor(index=page.last_index),
            view=read_view(call.query),
            limit=PAGE if left is None else min(PAGE, left),
        )
    yield b"]" if separator == b"," else b"[]"


def _join(deliveries: Sequence[Delivery]) -> bytes:
    return b",".join([event_text(one.entry, is_snapshot=one.is_snapshot) for one in deliveries])


def _headers(history: History) -> tuple[Header, ...]:
    return (JSON,) if history.gap is None else (JSON, (b"taskcast-gap", history.gap.encode()))


_STORED = {"anyOf": [reference("TaskEvent"), lists_of("TaskEvent"), reference("Published")]}

ROUTES = (
    Route(
        "POST", "/tasks/{taskId}/events", publish,
        Doc(
            "Publish one event, a list of them (all or none), or lines of JSON", "Events",
            {
                201: ("what was stored", _STORED),
                409: "a bound of the task, or an ended assignment", 422: "key reused",
            },
            body={"anyOf": [reference("PublishEventInput"), lists_of("PublishEventInput")]},
            parameters=(IDEMPOTENCY, ASSIGNMENT),
        ),
        scope="event:publish",
    ),
    Route(
        "GET", "/tasks/{taskId}/events/history", history,
        Doc(
            "Past events", "Events", {200: ("events, oldest first", lists_of("TaskEvent"))},
            parameters=(
                *SINCE, TYPES, LEVELS,
                Parameter("limit", "the first so many after the cursor, counted before the filters", schema=INTEGER),
                Parameter("seriesFormat", "`accumulated` gives each series as one snapshot"),
            ),
        ),
        scope="event:history", is_terse=True,
    ),
)  # fmt: skip
