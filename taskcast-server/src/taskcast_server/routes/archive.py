"""Task archives: export and import; and the release of a task's hot copy (wire spec, rest sections 3.9 to 3.11)."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import aclosing
from functools import partial
from typing import Any

import attrs

from taskcast_core import transfer, wire
from taskcast_core.contracts.task_log import Record
from taskcast_core.errors import Forbidden, InvalidArchive, InvalidInput, TaskcastError
from taskcast_core.models import Event, Task, TaskArchive
from taskcast_core.spooling import ArchiveSpool
from taskcast_core.transfer import ImportResult
from taskcast_server.calls import Call
from taskcast_server.errors import BodyTooLarge, MalformedBody
from taskcast_server.requests import depth_faults, is_deeper, task_faults, text_faults
from taskcast_server.responses import Reply, json_reply, shown_task
from taskcast_server.routing import Doc, Parameter, Route

LARGE = 4 << 20
"""An import from this size (bytes) on is kept on disk until all of it has come."""
_CHUNK = 64 << 10


async def export(call: Call) -> Reply:
    """``GET /tasks/{taskId}/archive``: sent while it is read."""
    with_secrets = call.query.get("secrets") == "include"
    if with_secrets:
        call.require("task:manage")
    await call.check_rules()
    archive = await call.services.engine.open_archive(call.task_id)
    head: dict[str, Any] = wire.to_wire(TaskArchive(archive.task, (), archive.exported_at))
    if not with_secrets:
        head["task"] = shown_task(archive.task)
    del head["events"]
    return Reply(200, chunks=_archive_text(head, archive.events))


async def _archive_text(head: dict[str, Any], events: AsyncGenerator[Event]) -> AsyncGenerator[bytes]:
    text = bytearray(wire.dumps(head)[:-1] + b',"events":[')
    separator = b""
    async with aclosing(events):
        async for event in events:
            text += separator + wire.encode(event)
            separator = b","
            if len(text) >= _CHUNK:
                yield bytes(text)
                text.clear()
    yield bytes(text + b"]}")


async def import_(call: Call) -> Reply:
    """``POST /tasks/import``: all of it or nothing."""
    maximum = call.services.limits.max_import_bytes
    length = call.header(b"content-length")
    if length is not None and length.isdigit() and int(length) > maximum:
        raise BodyTooLarge(maximum, is_read=await call.drain())
    body, more = bytearray(), True
    while more and len(body) < LARGE:
        part, more = await call.next_part()
        body += part
    if len(body) > maximum:
        raise BodyTooLarge(maximum, is_read=not more or await call.drain())
    if more:
        done = await _import_large(call, bytes(body))
    else:
        done = await _import_small(call, bytes(body))
    reply = {"ok": True, "taskId": done.task_id, "eventCount": done.event_count, "overwritten": done.overwritten}
    return json_reply(reply)


async def _import_small(call: Call, text: bytes) -> ImportResult:
    try:
        body = wire.loads(text)
    except InvalidInput:
        raise MalformedBody from None
    if not isinstance(body, dict):
        raise InvalidInput([("", "expected an object")])
    overwrite = _wants_overwrite(body)
    archive = transfer.parse(body["archive"])
    _check_task(call, archive.task)
    for at, event in enumerate(archive.events):
        _check_event(call, event, at)
    await _check_existing(call, archive.task.id, overwrite=overwrite)
    return await call.services.engine.import_archive(archive, overwrite=overwrite)


async def _import_large(call: Call, beginning: bytes) -> ImportResult:
    engine, size, more = call.services.engine, len(beginning), True
    maximum = call.services.limits.max_import_bytes

    def begin(task: Task) -> Record:
        _check_task(call, task)
        return engine.import_record(task)

    with ArchiveSpool(begin, partial(_check_event, call)) as spool:
        part = beginning
        while True:
            try:
                spool.feed(part)
            except TaskcastError:
                if more:
                    await call.drain()
                raise
            if not more:
                break
            part, more = await call.next_part()
            size += len(part)
            if size > maximum:
                raise BodyTooLarge(maximum, is_read=not more or await call.drain())
        copy, body = spool.finish()
        overwrite = _wants_overwrite(body)
        await _check_existing(call, copy.record.task.id, overwrite=overwrite)
        return await engine.import_copy(copy, overwrite=overwrite)


def _wants_overwrite(body: dict[str, Any]) -> bool:
    overwrite = body.get("overwrite")
    if "archive" not in body:
        raise InvalidInput([("archive", "is required")])
    if not (overwrite is None or isinstance(overwrite, bool)):
        raise InvalidInput([("overwrite", "expected true or false")])
    return bool(overwrite)


async def _check_existing(call: Call, task_id: str, *, overwrite: bool) -> None:
    """See that the caller meets the rules of the task that is to be replaced."""
    existing = await call.services.engine.get_task(task_id) if overwrite else None
    if existing is not None and not call.meets_rules(existing):
        raise Forbidden


def _check_task(call: Call, task: Task) -> None:
    """Hold an archive's task to the bounds of what is created here, and to what the caller may do.

    Raises:
        InvalidArchive: with the first fault. Forbidden.
    """
    if not call.principal.may_see(task.id):
        raise Forbidden
    limits = call.services.limits
    faults = [(f"task.{path}", reason) for path, reason in task_faults(task, limits)]
    for name in ("result", "error", "blocked_request"):
        value = getattr(task, name)
        if value is not None:
            faults += depth_faults(wire.to_wire(value), f"task.{wire.camel(name)}", limits)
    if faults:
        raise InvalidArchive(faults[:1])
    if task.webhooks and not call.principal.allows("webhook:create"):
        raise Forbidden("Forbidden: webhooks need the scope webhook:create")


def _check_event(call: Call, event: Event, at: int) -> None:
    """Hold an archive's event to the bounds of what is published here. Raises InvalidArchive."""
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
