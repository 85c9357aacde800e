"""Task archives: a task with its whole history as one JSON document, as the reference writes and reads them.

In an archive each accumulate or latest series is one event, and indexes count from 0 (wire spec, storage section 7).
"""

from __future__ import annotations

import math
from collections.abc import AsyncGenerator, Sequence
from typing import Any

from attrs import evolve

from taskcast_core import machine, wire
from taskcast_core.commits import Commits
from taskcast_core.contracts.log_reader import LogReader, SeriesPage
from taskcast_core.contracts.task_log import Change, Guard, LogCopy, Record, SeriesCopy, Stored
from taskcast_core.entries import Entry, Hole
from taskcast_core.errors import InvalidArchive, InvalidInput, TaskExists
from taskcast_core.history import PAGE, entry_at
from taskcast_core.lifecycle import Lifecycle
from taskcast_core.models import Event, EventDraft, Task, TaskArchive
from taskcast_core.presentation import accumulates
from taskcast_core.storage import Storage
from taskcast_core.values import frozen

SCHEMA = "taskcast.taskArchive"
VERSION = 1


@frozen
class ImportResult:
    """What an import did. ``overwritten``: a task with that id existed."""

    task_id: str
    event_count: int
    overwritten: bool


@frozen
class ArchiveStream:
    """An archive that is read while it is sent: the log as far as it goes now."""

    task: Task
    exported_at: int
    events: AsyncGenerator[Event]


async def export(reader: LogReader, stored: Stored, now: int) -> TaskArchive:
    """The archive of a task."""
    return TaskArchive(stored.task, tuple([event async for event in exported(reader, stored)]), now)


async def exported(reader: LogReader, stored: Stored) -> AsyncGenerator[Event]:
    """The events of a task's archive, with a page of the log in memory at a time."""
    task_id, epoch = stored.task.id, stored.epoch
    begun = await reader.series(task_id, epoch=epoch)
    values = {state.last_index: name for name, state in begun.states.items() if state.mode == "latest"}
    seen: set[str] = set()
    index, after = 0, -1
    while after < begun.log_last:
        page = await reader.read(task_id, epoch=epoch, after=after, before=begun.log_last + 1, limit=PAGE)
        for item in page.items:
            for entry in await _standing(reader, task_id, epoch, item, values):
                shown = entry
                if accumulates(entry):
                    name = entry.series_id or ""
                    if name in seen:
                        continue
                    seen.add(name)
                    shown = await _totalled(reader, task_id, epoch, entry, begun)
                yield evolve(shown.event(), index=index)
                index += 1
        after = page.last


async def _standing(
    reader: LogReader, task_id: str, epoch: int, item: Entry | Hole, values: dict[int, str]
) -> list[Entry]:
    """What an item of the log comes to; in a hole, the values that were replaced since the export began."""
    if isinstance(item, Entry):
        return [item]
    replaced = [name for index, name in values.items() if item.first <= index <= item.last]
    now = (await reader.series(task_id, epoch=epoch)).states if replaced else {}
    newest = [await entry_at(reader, task_id, epoch, now[name].last_index) for name in replaced if name in now]
    return [entry for entry in newest if entry is not None]


async def _totalled(reader: LogReader, task_id: str, epoch: int, first: Entry, begun: SeriesPage) -> Entry:
    """The one event that an accumulate series is in an archive: its newest entry, with the total."""
    name = first.series_id or ""
    state = begun.states.get(name)
    last = None if state is None else await entry_at(reader, task_id, epoch, max(state.last_by_kind.values()))
    before: int | None = begun.log_last + 1
    while last is None and before is not None:  # cleanup has taken the newest one: look for what it has left
        page = await reader.read(task_id, epoch=epoch, before=before, limit=PAGE, reverse=True)
        left = [e for e in page.items if isinstance(e, Entry) and accumulates(e) and e.series_id == name]
        last, before = (left[-1] if left else None), page.last if page.items else None
    last = last or first
    return last.with_data(await reader.fold(task_id, name, last.index, epoch=epoch))


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
    task, exported_at = parse_head(value)
    events = value.get("events")
    if not isinstance(events, list):
        raise InvalidArchive([("events", "expected a list")])
    parsed = sorted((parse_event(one, at, task.id) for at, one in enumerate(events)), key=lambda event: event.index)
    _check_sequence(parsed)
    return TaskArchive(task, tuple(parsed), exported_at)


def parse_head(value: Any) -> tuple[Task, int]:
    """Everything of an archive but its events: the task, and when it was exported (ms).

    Raises:
        InvalidArchive, InvalidInput.
    """
    if not isinstance(value, dict):
        raise InvalidArchive("archive: expected an object")
    if value.get("schema") != SCHEMA or value.get("version") != VERSION:
        raise InvalidArchive([("schema", f"expected {SCHEMA} version {VERSION}")])
    exported_at = value.get("exportedAt")
    if isinstance(exported_at, bool) or not isinstance(exported_at, int | float) or not math.isfinite(exported_at):
        raise InvalidArchive([("exportedAt", "expected a time in milliseconds")])
    return _task(value.get("task")), int(exported_at)


def _task(value: Any) -> Task:
    try:
        task = wire.from_wire(value, Task)
    except InvalidInput as error:
        path, reason = error.details[0]
        raise InvalidArchive([(f"task.{path}" if path else "task", reason)]) from error
    if not task.id:
        raise InvalidArchive([("task.id", "must not be empty")])
    return task


def parse_event(value: Any, at: int, task_id: str) -> Event:
    """One event of a task's archive.

    Raises:
        InvalidArchive.
    """
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
    replay = Replay(record, archive.events[0].timestamp if archive.events else archive.task.created_at)
    return replay.copy(tuple([replay.add(event) for event in archive.events]))


class Replay:
    """Makes a log of an archive's events, one after the other; ``started``: when (ms) the first one happened."""

    def __init__(self, record: Record, started: int) -> None:
        self._state = machine.new_state(record, salt=0, now=started)
        self._texts: dict[str, dict[int, list[str]]] = {}
        self.origin = self._state.origin

    def add(self, event: Event) -> Entry:
        """The entry that the next event becomes."""
        draft = EventDraft(
            event.type, event.level, event.data, event.series_id, event.series_mode, event.series_acc_field
        )
        outcome = machine.apply(self._state, Change(events=(draft,)), event.timestamp)
        self._state.merge(outcome)
        (made,) = outcome.entries
        entry = Entry(made.origin, made.index, made.timestamp, made.draft, event.id)
        entry.run, entry.end = made.run, made.end
        for part in outcome.series.parts:
            pieces = self._texts.setdefault(part.series_id, {}).setdefault(part.run, [part.prefix])
            pieces.append(part.text or "")
        return entry

    def copy(self, entries: Sequence[Entry]) -> LogCopy:
        """The log of all that was added; ``entries``: what ``add`` gave."""
        stored = self._state.stored
        return LogCopy(
            record=stored.record,
            rev=1,
            segments=stored.segments,
            items=entries,
            last_index=stored.last_index,
            last_timestamp=stored.last_timestamp,
            series=tuple(
                SeriesCopy(name, one, {run: "".join(pieces) for run, pieces in self._texts.get(name, {}).items()})
                for name, one in self._state.series.items()
            ),
        )


class Transfers:
    """Exports tasks, and imports them."""

    def __init__(self, storage: Storage, commits: Commits, lifecycle: Lifecycle) -> None:
        self._storage, self._commits, self._lifecycle = storage, commits, lifecycle

    async def export(self, task_id: str) -> TaskArchive:
        """A task with its whole history. Raises TaskNotFound."""
        reader, now = self._storage.reader, self._storage.hot.now_ms
        return await self._storage.read_whole(task_id, lambda stored: export(reader, stored, now()))

    async def open(self, task_id: str) -> ArchiveStream:
        """The same, to be read a page at a time. Raises TaskNotFound."""
        stored = await self._storage.existing(task_id)
        return ArchiveStream(stored.task, self._storage.hot.now_ms(), exported(self._storage.reader, stored))

    def record(self, task: Task) -> Record:
        """The record that an imported task begins with."""
        return self._lifecycle.first_record(task, self._storage.hot.now_ms())

    async def load(self, copy: LogCopy, *, overwrite: bool) -> ImportResult:
        """Bring a log in, in place of both copies of another one if there are such.

        The archive is told to forget the old log while the new one is not its business yet. A process that dies on the
        way leaves the new log whole and hot, but without an archive, until the import, which nobody was told to have
        been done, is repeated.

        Raises:
            TaskExists: and ``overwrite`` was not asked for. TaskDeleting.
        """
        existed = await self._load(copy, overwrite=overwrite)
        if not existed:
            self._lifecycle.tell_created(copy.record.task)
        return ImportResult(copy.record.task.id, copy.last_index + 1, existed)

    async def _load(self, copy: LogCopy, *, overwrite: bool) -> bool:
        """Whether there was another log."""
        hot, cold = self._storage.hot, self._storage.cold
        task_id, lanes = copy.record.task.id, copy.record.lanes
        is_hot = await hot.get(task_id) is not None
        is_archived = cold is not None and await cold.watermark(task_id) is not None
        if (is_hot or is_archived) and not overwrite:
            raise TaskExists(task_id)
        if cold is None or not is_archived:
            await hot.load(copy, overwrite=overwrite)
            return is_hot
        if not is_hot:
            await self._storage.rehydrate(task_id)  # so that the new log's epoch is later than the old one's
        rest = tuple(lane for lane in lanes if lane != "archive")
        stored = await hot.load(evolve(copy, record=evolve(copy.record, lanes=rest)), overwrite=True)
        await cold.delete(task_id, stored.epoch - 1)
        await self._commits.update(
            task_id, lambda now: Change(record=evolve(now.record, lanes=lanes), guard=Guard(rev=now.rev))
        )
        return True
