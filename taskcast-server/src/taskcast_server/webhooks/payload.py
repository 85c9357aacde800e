"""The bodies that receivers get; made once per delivery and sent, byte for byte, on every attempt."""

from __future__ import annotations

from typing import Any

from taskcast_core import wire
from taskcast_core.models import Task

COMPLETION_TYPE = "taskcast:done"
"""``X-Taskcast-Event`` of the callback that a webhook with ``on: "terminal"`` gets."""


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
