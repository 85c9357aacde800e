"""Task archives: a task with its whole history as one JSON document, as the reference writes and reads them.

In an archive each accumulate or latest series is one event, and indexes count from 0 (wire spec, storage section 7).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from attrs import evolve, frozen

from taskcast_core import machine, wire
from taskcast_core.contracts.log_reader import LogReader
from taskcast_core.contracts.task_log import Change, LogCopy, Record, SeriesCopy, Stored
from taskcast_core.deliveries import Delivery
from taskcast_core.entries import Entry
from taskcast_core.errors import InvalidArchive, InvalidInput
from taskcast_core.filters import View
from taskcast_core.history import read_history
from taskcast_core.models import Event, EventDraft, Task, TaskArchive

SCHEMA = "taskcast.taskArchive"
VERSION = 1


@frozen
class ImportResult:
    """What an import did. ``overwritten``: a task with that id existed."""

    task_id: str
    event_count: int
    overwritten: bool


async def export(reader: LogReader, stored: Stored, now: int) -> TaskArchive:
    """The archive of a task."""
    history = await read_history(reader, stored, since=None, view=View(), limit=None, collapse=True)
    events = tuple(_exported(delivery, index) for index, delivery in enumerate(history.deliveries))
    return TaskArchive(stored.task, events, now)


def _exported(delivery: Delivery, index: int) -> Event:
    return evolve(delivery.entry.event(), index=index)


def parse(value: Any) -> TaskArchive:
    """Read an archive.

    Raises:
        InvalidArchive: naming the first defect.
    """
    try:
        return _parse(value)
    except InvalidArchive:
        raise
    except InvalidInput as error:
        raise InvalidArchive(error.details[:1]) from error


def _parse(value: Any) -> TaskArchive:
    if not isinstance(value, dict):
        raise InvalidArchive("archive: expected an object")
    if value.get("schema") != SCHEMA or value.get("version") != VERSION:
        raise InvalidArchive([("schema", f"expected {SCHEMA} version {VERSION}")])
    exported_at = value.get("exportedAt")
    if isinstance(exported_at, bool) or not isinstance(exported_at, int | float) or not math.isfinite(exported_at):
        raise InvalidArchive([("exportedAt", "expected a time in milliseconds")])
    task = _task(value.get("task"))
    events = value.get("events")
    if not isinstance(events, list):
        raise InvalidArchive([("events", "expected a list")])
    parsed = sorted((_event(one, at, task.id) for at, one in enumerate(events)), key=lambda event: event.index)
    _check_sequence(parsed)
    return TaskArchive(task, tuple(parsed), int(exported_at))


def _task(value: Any) -> Task:
    try:
        task = wire.from_wire(value, Task)
    except InvalidInput as error:
        path, reason = error.details[0]
        raise InvalidArchive([(f"task.{path}" if path else "task", reason)]) from error
    if not task.id:
        raise InvalidArchive([("task.id", "must not be empty")])
    return task


def _event(value: Any, at: int, task_id: str) -> Event:
    where = f"events[{at}]"
    try:
        event = wire.from_wire(value, Event)
    except InvalidInput as error:
        path, reason = error.details[0]
        raise InvalidArchive([(f"{where}.{path}" if path else where, reason)]) from error
    if not event.id:
        raise InvalidArchive([(f"{where}.id", "must not be empty")])
    if event.task_id != task_id:
        raise InvalidArchive([(f"{where}.taskId", "expected the archive's task")])
    if event.index < 0:
        raise InvalidArchive([(f"{where}.index", "must not be negative")])
    if "data" not in value:
        raise InvalidArchive([(f"{where}.data", "is required")])
    if "seriesSnapshot" in value or "_accumulatedData" in value:
        raise InvalidArchive([(where, "is a presentation, not a stored event")])
    return event


def _check_sequence(events: Sequence[Event]) -> None:
    if len({event.id for event in events}) < len(events):
        raise InvalidArchive([("events", "two events have one id")])
    for expected, event in enumerate(events):
        if event.index != expected:
            raise InvalidArchive([("events", f"indexes must be contiguous from 0; {expected} is missing")])


def log_copy(archive: TaskArchive, record: Record) -> LogCopy:
    """The log that an archive describes, with its events' own ids; series are rebuilt by replaying it."""
    started = archive.events[0].timestamp if archive.events else archive.task.created_at
    state = machine.new_state(record, salt=0, now=started)
    entries: list[Entry] = []
    texts: dict[str, dict[int, str]] = {}
    for event in archive.events:
        draft = EventDraft(
            event.type, event.level, event.data, event.series_id, event.series_mode, event.series_acc_field
        )
        outcome = machine.apply(state, Change(events=(draft,)), event.timestamp)
        state.merge(outcome)
        (made,) = outcome.entries
        entry = Entry(made.origin, made.index, made.timestamp, made.draft, event.id)
        entry.run, entry.end = made.run, made.end
        entries.append(entry)
        for part in outcome.parts:
            runs = texts.setdefault(part.series_id, {})
            runs[part.run] = runs.get(part.run, part.prefix) + (part.text or "")
    return LogCopy(
        record=record,
        rev=1,
        segments=state.stored.segments,
        items=tuple(entries),
        last_index=len(entries) - 1,
        last_timestamp=state.stored.last_timestamp,
        series=tuple(SeriesCopy(name, one, texts.get(name, {})) for name, one in state.series.items()),
    )
