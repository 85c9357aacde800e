"""Events: publishing, and reading those of the past."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from taskcast_client.calls.call import (
    NDJSON,
    Call,
    assignment_header,
    events_path,
    joined,
    reading,
    since_query,
    task_path,
    writing,
)
from taskcast_client.models import Cursor, Event, EventInput, Level, Published, SeriesFormat, SeriesMode
from taskcast_client.wire import dumps, from_wire, to_wire


def publish_event(
    task_id: str,
    type: str,
    data: Any = None,
    *,
    level: Level = "info",
    series_id: str | None = None,
    series_mode: SeriesMode | None = None,
    series_acc_field: str | None = None,
    assignment_id: str | None = None,
    idempotency_key: str | None = None,
) -> Call[Event]:
    """Append one event to a task's log.

    Raises:
        TaskEnded: the task has ended. TaskNotFound, StaleAssignment: as they say.
    """
    event = EventInput(type, data, level, series_id, series_mode, series_acc_field)
    path = f"{task_path(task_id)}/events"
    return writing("POST", path, Event, to_wire(event), key=idempotency_key, headers=assignment_header(assignment_id))


def publish_events(
    task_id: str,
    events: Sequence[EventInput],
    *,
    assignment_id: str | None = None,
    idempotency_key: str | None = None,
) -> Call[list[Event]]:
    """Append several events in one request, all or none, in this order."""
    path = f"{task_path(task_id)}/events"
    return writing(
        "POST", path, list[Event], to_wire(events), key=idempotency_key, headers=assignment_header(assignment_id)
    )


def publish_lines(
    task_id: str,
    events: Iterable[EventInput],
    *,
    assignment_id: str | None = None,
    idempotency_key: str | None = None,
) -> Call[Published]:
    """Append a great many events in one request; the server stores them in chunks, so not all or none."""
    body = b"".join([dumps(to_wire(each)) + b"\n" for each in events])
    return Call(
        "POST",
        events_path(task_id),
        lambda reply: from_wire(Published, reply.json()),
        body=body,
        content_type=NDJSON,
        repeat="keyed",
        key=idempotency_key,
        headers=assignment_header(assignment_id),
    )


def get_history(
    task_id: str,
    *,
    since: Cursor | str | None = None,
    types: Iterable[str] | None = None,
    levels: Iterable[Level] | None = None,
    limit: int | None = None,
    series_format: SeriesFormat | None = None,
) -> Call[list[Event]]:
    """The task's log so far. ``since``: an event id, or a cursor (whose index is the raw one here)."""
    query = {
        **since_query(since), "types": joined(types), "levels": joined(levels), "limit": limit,
        "seriesFormat": series_format,
    }  # fmt: skip
    return reading(f"{task_path(task_id)}/events/history", list[Event], query)
