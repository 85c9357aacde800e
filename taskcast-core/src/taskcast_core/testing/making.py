"""Tasks, events and histories for the cases: short names for what they do all the time."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Awaitable, Callable, Iterable, Mapping
from typing import Any, TypeVar

from attrs import evolve

from taskcast_core.contracts import (
    Change,
    Committed,
    Guard,
    Key,
    LogCopy,
    LogLimits,
    LogReader,
    Record,
    SeriesCopy,
    Stored,
    TaskLog,
    TimerKind,
)
from taskcast_core.entries import STATUS_TYPE, Entry, Hole
from taskcast_core.errors import TaskcastError
from taskcast_core.models import EventDraft, Level, Task

T = TypeVar("T")

HOUR_MS = 3_600_000
DEFAULT_LIMITS = LogLimits()
NO_GUARD = Guard()


def fresh_id(word: str = "task") -> str:
    """An id that nobody else has."""
    return f"{word}-{os.urandom(6).hex()}"


# ── Values ────────────────────────────────────────────────────────────────────────────────────────────────────────────


def a_task(now_ms: int, **fields: Any) -> Task:
    """A pending task created now, unless the fields say otherwise."""
    given: dict[str, Any] = {"id": fresh_id(), "status": "pending", "created_at": now_ms, "updated_at": now_ms}
    return Task(**given | fields)


def a_key(name: str | None = None, body: str = "body", ttl_ms: int = HOUR_MS) -> Key:
    """An idempotency key."""
    return Key(name or fresh_id("key"), body, ttl_ms)


def message(type_: str = "message", data: Any = None, level: Level = "info") -> EventDraft:
    """An event outside any series."""
    return EventDraft(type_, level, data)


def delta(series_id: str, text: Any, field: str | None = None, **others: Any) -> EventDraft:
    """An accumulate event that adds ``text`` (under ``delta``, or the field) and has other data beside it."""
    data = {field or "delta": text} | others
    return EventDraft("delta", "info", data, series_id, "accumulate", field)


def piece(series_id: str, data: Any, field: str | None = None) -> EventDraft:
    """An accumulate event with just this payload."""
    return EventDraft("delta", "info", data, series_id, "accumulate", field)


def latest(series_id: str, data: Any, type_: str = "progress") -> EventDraft:
    """An event that replaces the one before it in its series."""
    return EventDraft(type_, "info", data, series_id, "latest")


def kept(series_id: str, data: Any) -> EventDraft:
    """A series event that leaves the earlier ones alone."""
    return EventDraft("step", "info", data, series_id, "keep-all")


def status(value: str) -> EventDraft:
    """What a transition appends."""
    return EventDraft(STATUS_TYPE, "info", {"status": value})


RICH_HISTORY: tuple[EventDraft, ...] = (
    status("running"),
    message("log.line", "first", "debug"),
    delta("answer", "Hel"),
    latest("progress", 10),
    delta("answer", "lo"),
    kept("steps", 1),
    message("log.line", {"deep": [1, {"er": None}]}, "warn"),
    latest("progress", 50),
    delta("thought", "hm", "text"),
    delta("answer", " wörld ", tokens=3),
    kept("steps", 2),
    piece("answer", {"delta": 7}),
    delta("answer", "again"),
    latest("progress", 100),
    message("tool.call", [], "error"),
    delta("answer", "st", "other"),
    delta("answer", "op", "other"),
    message("done", {}),
)
"""Every series mode, a restart, a change of field, three replaced values, all levels."""

HALF_SERIES = (
    EventDraft("step", "info", {"delta": "x"}, "s", None),
    EventDraft("step", "info", {"delta": "x"}, None, "accumulate"),
    EventDraft("step", "info", {"delta": "x"}, None, "latest"),
)
"""One of the two fields that make an event part of a series."""


# ── Verbs ─────────────────────────────────────────────────────────────────────────────────────────────────────────────


async def created(
    store: TaskLog,
    *events: EventDraft,
    lanes: tuple[str, ...] = (),
    timers: Mapping[TimerKind, int] | None = None,
    **fields: Any,
) -> Stored:
    """A task in the store, with these events."""
    record = Record(a_task(store.now_ms(), **fields), timers or {}, lanes)
    stored = (await store.create(record)).stored
    return (await publish(store, stored.task.id, *events)).stored if events else stored


async def publish(
    store: TaskLog,
    task_id: str,
    *events: EventDraft,
    key: Key | None = None,
    guard: Guard = NO_GUARD,
    limits: LogLimits = DEFAULT_LIMITS,
) -> Committed:
    """Append events, as one change."""
    return await store.commit(task_id, Change(events, guard=guard, key=key, limits=limits))


async def replace(
    store: TaskLog,
    stored: Stored,
    *events: EventDraft,
    key: Key | None = None,
    timers: Mapping[TimerKind, int] | None = None,
    lanes: tuple[str, ...] | None = None,
    **fields: Any,
) -> Committed:
    """Replace the record that ``stored`` had by one with other fields, if it still is the current one."""
    record = Record(
        evolve(stored.task, **fields),
        stored.record.timers if timers is None else timers,
        stored.record.lanes if lanes is None else lanes,
    )
    return await store.commit(stored.task.id, Change(events, record, Guard(rev=stored.rev), key))


async def current(store: TaskLog, task_id: str) -> Stored:
    """The task, which is there."""
    stored = await store.get(task_id)
    assert stored is not None, f"{task_id} is not there"
    return stored


# ── Reading ───────────────────────────────────────────────────────────────────────────────────────────────────────────


def span(item: Entry | Hole) -> tuple[int, int]:
    """First and last index of a line of the log."""
    return (item.index, item.index) if isinstance(item, Entry) else (item.first, item.last)


def entries_of(items: Iterable[Entry | Hole]) -> list[Entry]:
    """Without the holes."""
    return [item for item in items if isinstance(item, Entry)]


def holes_of(items: Iterable[Entry | Hole]) -> list[Hole]:
    """Without the entries."""
    return [item for item in items if isinstance(item, Hole)]


async def whole_log(
    reader: LogReader, task_id: str, *, epoch: int | None = None, after: int = -1, page: int = 1000
) -> list[Entry | Hole]:
    """Everything after an index, page by page; fails where a page leaves a gap or stands still."""
    items: list[Entry | Hole] = []
    while True:
        got = await reader.read(task_id, epoch=epoch, after=after, limit=page)
        if got.items:
            assert span(got.items[0])[0] == after + 1, "the page does not begin where the one before ended"
        else:
            assert after >= got.log_last, f"an empty page after {after}, but the log goes to {got.log_last}"
            return items
        for before, later in zip(got.items, got.items[1:], strict=False):
            assert span(later)[0] == span(before)[1] + 1, "a hidden gap"
        assert span(got.items[-1])[1] == got.last > after
        items += got.items
        after = got.last


async def copy_of(store: TaskLog, task_id: str, keep_last: int | None = None) -> LogCopy:
    """A task as it is carried to another tier, made with the contract's own verbs; optionally only its last items."""
    stored = await current(store, task_id)
    items = await whole_log(store, task_id, after=stored.first_index - 1)
    states = (await store.series(task_id)).states
    texts: dict[str, dict[int, str]] = {series_id: {} for series_id in states}
    for entry in entries_of(items):
        if entry.series_id is not None and entry.run is not None and entry.end is not None:
            field = entry.draft.series_acc_field or "delta"
            total = await store.fold(task_id, entry.series_id, entry.index)
            texts.setdefault(entry.series_id, {})[entry.run] = total[field]
    cut = len(items) if keep_last is None else keep_last
    base: dict[tuple[str, Level], int] = {}
    for item in items[: len(items) - cut]:
        for kind, n in ({(item.type, item.level): 1} if isinstance(item, Entry) else item.counts).items():
            base[kind] = base.get(kind, 0) + n
    carried = tuple(items[len(items) - cut :])
    return LogCopy(
        record=stored.record,
        rev=stored.rev,
        segments=stored.segments,
        items=carried,
        first_index=span(carried[0])[0] if carried else stored.last_index + 1,
        last_index=stored.last_index,
        last_timestamp=stored.last_timestamp,
        base_counts=base,
        series=tuple(SeriesCopy(name, state, texts.get(name, {})) for name, state in states.items()),
    )


# ── Races ─────────────────────────────────────────────────────────────────────────────────────────────────────────────


async def race(racers: int, call: Callable[[int], Awaitable[T]]) -> tuple[list[T], list[TaskcastError]]:
    """Call with 0, 1, 2 … at once: the results, and our errors. Anything else that is raised fails the case."""
    outcomes = await asyncio.gather(*(call(n) for n in range(racers)), return_exceptions=True)
    results: list[T] = []
    errors: list[TaskcastError] = []
    for outcome in outcomes:
        if isinstance(outcome, TaskcastError):
            errors.append(outcome)
        elif isinstance(outcome, BaseException):
            raise outcome
        else:
            results.append(outcome)
    return results, errors


async def eventually(condition: Callable[[], Awaitable[bool] | bool], within_s: float = 5.0) -> None:
    """Wait until a condition holds; fail after ``within_s`` seconds."""
    loop = asyncio.get_running_loop()
    deadline, pause = loop.time() + within_s, 0.002
    while True:
        result = condition()
        if await result if isinstance(result, Awaitable) else result:
            return
        assert loop.time() < deadline, f"did not hold within {within_s:g} s"
        await asyncio.sleep(pause)
        pause = min(pause * 2, 0.05)
