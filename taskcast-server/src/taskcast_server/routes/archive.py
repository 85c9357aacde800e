"""Task archives: export and import; and the release of a task's hot copy (wire spec, rest sections 3.9 to 3.11)."""

from __future__ import annotations

from typing import Any

import attrs

from taskcast_core import transfer, wire
from taskcast_core.errors import Forbidden, InvalidArchive, InvalidInput
from taskcast_core.models import Event, TaskArchive
from taskcast_server.calls import Call
from taskcast_server.requests import depth_faults, is_deeper, task_faults, text_faults
from taskcast_server.responses import Reply, json_reply, shown_task
from taskcast_server.routing import Doc, Parameter, Route


async def export(call: Call) -> Reply:
    """``GET /tasks/{taskId}/archive``."""
    with_secrets = call.query.get("secrets") == "include"
    if with_secrets:
        call.require("task:manage")
    await call.check_rules()
    archive = await call.services.engine.export_archive(call.task_id)
    shown: dict[str, Any] = wire.to_wire(archive)
    if not with_secrets:
        shown["task"] = shown_task(archive.task)
    return json_reply(shown)


async def import_(call: Call) -> Reply:
    """``POST /tasks/import``."""
    body = await call.json_object(call.services.limits.max_import_bytes)
    overwrite = body.get("overwrite")
    if "archive" not in body:
        raise InvalidInput([("archive", "is required")])
    if not (overwrite is None or isinstance(overwrite, bool)):
        raise InvalidInput([("overwrite", "expected true or false")])
    archive = transfer.parse(body["archive"])
    if not call.principal.may_see(archive.task.id):
        raise Forbidden
    check_archive(call, archive)
    if archive.task.webhooks and not call.principal.allows("webhook:create"):
        raise Forbidden("Forbidden: webhooks need the scope webhook:create")
    if overwrite:
        existing = await call.services.engine.get_task(archive.task.id)
        if existing is not None and not call.meets_rules(existing):
            raise Forbidden
    done = await call.services.engine.import_archive(archive, overwrite=bool(overwrite))
    reply = {"ok": True, "taskId": done.task_id, "eventCount": done.event_count, "overwritten": done.overwritten}
    return json_reply(reply)


def check_archive(call: Call, archive: TaskArchive) -> None:
    """Hold an archive to the bounds of what is created and published here.

    Raises:
        InvalidArchive: with the first fault.
    """
    limits = call.services.limits
    faults = [(f"task.{path}", reason) for path, reason in task_faults(archive.task, limits)]
    for name in ("result", "error", "blocked_request"):
        value = getattr(archive.task, name)
        if value is not None:
            faults += depth_faults(wire.to_wire(value), f"task.{wire.camel(name)}", limits)
    if faults:
        raise InvalidArchive(faults[:1])
    for at, event in enumerate(archive.events):
        if faults := _event_faults(call, event, f"events[{at}]"):
            raise InvalidArchive(faults[:1])


def _event_faults(call: Call, event: Event, where: str) -> list[tuple[str, str]]:
    limits = call.services.limits
    faults = text_faults(event.id, f"{where}.id", limits.max_id_length)
    faults += text_faults(event.type, f"{where}.type", limits.max_type_length)
    for name in ("series_id", "series_acc_field"):
        value = getattr(event, name)
        if value is not None:
            faults += text_faults(value, f"{where}.{wire.camel(name)}", limits.max_id_length)
    if is_deeper(event.data, limits.max_json_depth):
        faults.append((f"{where}.data", f"is nested deeper than {limits.max_json_depth} levels"))
    return faults


@attrs.frozen
class ReleaseRequest:
    """What the caller takes for granted about the task's storage; times in ms."""

    expected_last_event_index: int
    inactive_since: int


async def release(call: Call) -> Reply:
    """``POST /tasks/{taskId}/storage/release``."""
    wanted = wire.from_wire(await call.json(), ReleaseRequest)
    faults = []
    if wanted.expected_last_event_index < -1:
        faults.append(("expectedLastEventIndex", "expected at least -1"))
    if wanted.inactive_since < 0:
        faults.append(("inactiveSince", "expected at least 0"))
    if faults:
        raise InvalidInput(faults)
    await call.task()
    done = await call.services.engine.release_task(
        call.task_id, wanted.expected_last_event_index, wanted.inactive_since
    )
    return json_reply(
        {
            "taskId": done.task_id,
            "storageState": done.state,
            "archiveWatermark": done.watermark,
            "released": done.released,
        }
    )


ROUTES = (
    Route(
        "GET", "/tasks/{taskId}/archive", export,
        Doc(
            "A task with its whole history", "Tasks", {200: ("the archive", "TaskArchive")},
            parameters=(Parameter("secrets", "`include` shows webhook secrets; needs task:manage"),),
        ),
        scope="event:history",
    ),
    Route(
        "POST", "/tasks/import", import_,
        Doc(
            "Bring a task in", "Tasks", {200: ("what was done", "ImportTaskArchiveResult"), 409: "the id is taken"},
            body="ImportTaskArchiveInput",
        ),
        scope="task:manage",
    ),
    Route(
        "POST", "/tasks/{taskId}/storage/release", release,
        Doc(
            "Move an idle task to the long-term store", "Tasks",
            {200: ("where it is", "StorageReleaseResult"), 409: "not idle, or busy", 500: "copies disagree",
             503: "not supported, or unavailable"},
            body="StorageReleaseRequest",
        ),
        scope="task:manage", is_terse=True,
    ),
)  # fmt: skip
