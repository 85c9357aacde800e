"""Archives, and cold storage."""

from __future__ import annotations

from typing import Any

from taskcast_client.calls.call import (
    Call,
    reading,
    task_path,
    writing,
)
from taskcast_client.models import ImportResult, JsonObject, ReleaseResult, TaskArchive
from taskcast_client.wire import to_wire


def export_task_archive(task_id: str, *, include_secrets: bool = False) -> Call[TaskArchive]:
    """A task with its whole history; secrets of webhooks only on demand (scope ``task:manage``)."""
    query = {"secrets": "include" if include_secrets else None}
    return reading(f"{task_path(task_id)}/archive", TaskArchive, query)


def import_task_archive(archive: TaskArchive | JsonObject, *, overwrite: bool = False) -> Call[ImportResult]:
    """Take in an exported task.

    Raises:
        TaskExists: there is one of that id, and ``overwrite`` is off.
    """
    body: JsonObject = {"archive": _archive(archive)}
    if overwrite:
        body["overwrite"] = True
    return writing("POST", "/tasks/import", ImportResult, body, repeat="safe" if overwrite else "never")


def _archive(archive: TaskArchive | JsonObject) -> Any:
    if not isinstance(archive, TaskArchive):
        return archive
    return {
        "schema": archive.schema, "version": archive.version, "exportedAt": archive.exported_at,
        "task": to_wire(archive.task), "events": to_wire(archive.events),
    }  # fmt: skip


def release_task(task_id: str, *, expected_last_event_index: int, inactive_since: int) -> Call[ReleaseResult]:
    """Move a task to cold storage, if its log ends there and nothing has happened since (ms).

    Raises:
        StoragePreconditionFailed: that is no longer true.
    """
    body = {"expectedLastEventIndex": expected_last_event_index, "inactiveSince": inactive_since}
    return writing("POST", f"{task_path(task_id)}/storage/release", ReleaseResult, body, repeat="safe")
