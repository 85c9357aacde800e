"""The bodies that receivers get; made once per delivery and sent, byte for byte, on every attempt."""

from __future__ import annotations

from typing import Any

from taskcast_core import wire
from taskcast_core.entries import Entry
from taskcast_core.models import Task

COMPLETION_TYPE = "taskcast:done"
"""``X-Taskcast-Event`` of the callback that a webhook with ``on: "terminal"`` gets."""


def event_body(entry: Entry) -> bytes:
    """The event as compact JSON: what a webhook gets unless it asks for ``wrap``."""
    return b'{"id":%b,"index":%d,%b' % (wire.dumps(entry.id), entry.index, entry.tail)


def wrapped_body(entry: Entry, filtered_index: int) -> bytes:
    """The event in the envelope of the stream, for ``wrap: true``.

    ``filtered_index``: the event's position among those that the webhook's filter lets through.
    """
    return b'{"filteredIndex":%d,"rawIndex":%d,"eventId":%b,%b' % (
        filtered_index, entry.index, wire.dumps(entry.id), entry.tail,
    )  # fmt: skip


def completion_body(task: Task) -> bytes:
    """The one callback about an ended task: how it ended, and with what. Absent facts are omitted."""
    facts: dict[str, Any] = {
        "taskId": task.id,
        "status": task.status,
        "type": task.type,
        "result": task.result,
        "error": None if task.error is None else wire.to_wire(task.error),
        "reason": task.reason,
        "metadata": task.metadata,
        "createdAt": task.created_at,
        "startedAt": task.started_at,
        "finishedAt": task.completed_at if task.completed_at is not None else task.updated_at,
    }
    return wire.dumps({name: value for name, value in facts.items() if value is not None})
