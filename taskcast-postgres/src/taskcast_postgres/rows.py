"""Values as they stand in rows, and back."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

import orjson

from taskcast_core import wire
from taskcast_core.contracts.task_log import Record, Segment, Stored
from taskcast_core.entries import Entry, Hole, Origin, draft_of
from taskcast_core.machine import Kind
from taskcast_core.models import SeriesMode, Task
from taskcast_core.packing import (
    MODES,
    Counts,
    pack,
    pack_counts,
    pack_or_none,
    unpack,
    unpack_counts,
    unpack_or_none,
    within,
)
from taskcast_core.series import SeriesState
from taskcast_postgres.database import Row

MODE_CODES: dict[SeriesMode | None, int | None] = {mode: code for code, mode in enumerate(MODES)} | {None: None}


# ── Kinds ─────────────────────────────────────────────────────────────────────────────────────────────────────────────


class Kinds:
    """The distinct (type, level) pairs of one log, numbered in the order in which they came."""

    def __init__(self, text: str = "[]") -> None:
        self.names: list[Kind] = [(type_, level) for type_, level in wire.loads(text)]
        self._numbers = {kind: number for number, kind in enumerate(self.names)}

    def number(self, kind: Kind) -> int:
        """The number of a kind, a new one if need be."""
        number = self._numbers.get(kind)
        if number is None:
            number = self._numbers[kind] = len(self.names)
            self.names.append(kind)
        return number

    def text(self) -> str:
        """As it is stored."""
        return wire.dumps(self.names).decode()

    def numbered(self, counts: Mapping[Kind, int]) -> Counts:
        """Counts by number."""
        return {self.number(kind): n for kind, n in counts.items()}

    def named(self, counts: Mapping[int, int]) -> dict[Kind, int]:
        """Counts by name."""
        return {self.names[number]: n for number, n in counts.items()}


# ── Tasks ─────────────────────────────────────────────────────────────────────────────────────────────────────────

RECORD_COLUMNS = "epoch, rev, segments, record, status, type, created_at, assign_mode, tags"
STORED_COLUMNS = "record, segments, rev, last_index, last_timestamp"


def record_row(record: Record, segments: Sequence[Segment], rev: int) -> Row:
    """The values of ``RECORD_COLUMNS``."""
    task = record.task
    return (
        segments[-1].epoch, rev, pack_segments(segments), wire.encode(record).decode(), task.status,
        pack_or_none(task.type), within(task.created_at), task.assign_mode or "external",
        [pack(tag) for tag in task.tags or ()],
    )  # fmt: skip


def stored_of(row: Row) -> Stored:
    """A task from ``STORED_COLUMNS``."""
    return Stored(wire.decode(row[0], Record), unpack_segments(row[1]), *row[2:5])


def task_of(record: str) -> Task:
    """Only the task of a record."""
    return wire.from_wire(wire.loads(record)["task"], Task)


def pack_segments(segments: Sequence[Segment]) -> str:
    """Segments as JSON."""
    return orjson.dumps([[one.first, one.epoch, one.salt] for one in segments]).decode()


def unpack_segments(text: str) -> tuple[Segment, ...]:
    """``pack_segments`` read back."""
    return tuple(Segment(*one) for one in orjson.loads(text))


# ── Log ───────────────────────────────────────────────────────────────────────────────────────────────────────────

SPAN = 1_000
"""A checkpoint is written with the first line that begins in each stretch of so many indexes."""

ENTRY_COLUMNS = "idx, ts, kind, mode, run, ends_at, series, given_id, text"
HOLE_COLUMNS = "last, first, first_timestamp, last_timestamp, counts, cut_series, lost_series"


class Origins:
    """To whom the entries of one log belong."""

    def __init__(self, task_id: str, segments: Sequence[Segment]) -> None:
        self._origins = [(one.first, Origin(task_id, one.epoch, one.salt)) for one in reversed(segments)]

    def at(self, index: int) -> Origin:
        """Of the entry at an index."""
        return next((origin for first, origin in self._origins if first <= index), self._origins[-1][1])

    def id_of(self, index: int, timestamp: int, given_id: bytes | None) -> str:
        """The id of the entry at an index."""
        return self.at(index).event_id(timestamp, index) if given_id is None else unpack(given_id)


def entry_of(row: Row, origins: Origins, kinds: Kinds) -> Entry:
    """An entry from ``ENTRY_COLUMNS``."""
    index, timestamp, kind, mode, run, end, series, given_id, text = row
    type_, level = kinds.names[kind]
    return Entry.stored(
        origins.at(index), index, timestamp, text.encode(), type=type_, level=level, series_id=unpack_or_none(series),
        series_mode=None if mode is None else MODES[mode], given_id=unpack_or_none(given_id), run=run, end=end,
    )  # fmt: skip


def hole_of(row: Row, kinds: Kinds) -> Hole:
    """A hole from ``HOLE_COLUMNS``."""
    last, first, first_timestamp, last_timestamp, counts, cut, lost = row
    return Hole(first, last, first_timestamp, last_timestamp, kinds.named(unpack_counts(counts)), cut, lost)


def hole_row(hole: Hole, kinds: Kinds) -> Row:
    """The values of ``HOLE_COLUMNS``."""
    return (
        hole.last, hole.first, hole.first_timestamp, hole.last_timestamp, pack_counts(kinds.numbered(hole.counts)),
        hole.cut_series, hole.lost_series,
    )  # fmt: skip


def merged(holes: Iterable[Hole]) -> list[Hole]:
    """Holes in index order, adjacent ones as one."""
    found: list[Hole] = []
    for hole in sorted(holes, key=lambda one: one.first):
        if found and found[-1].last + 1 == hole.first:
            found[-1] = found[-1].merge(hole)
        else:
            found.append(hole)
    return found


# ── Series ────────────────────────────────────────────────────────────────────────────────────────────────────────

SERIES_COLUMNS = "id, mode, last_index, field, default_field, run, length, last_by_kind, data"
SERIES_READ = "s.id, s.mode, s.last_index, s.field, s.default_field, s.run, s.length, s.last_by_kind, s.data, e.text"
"""Of ``series s`` and the entry ``e`` that brought the newest payload, if it has a row."""


def series_row(series_id: str, state: SeriesState, kinds: Kinds, *, has_row: bool) -> Row:
    """The values of ``SERIES_COLUMNS``; ``has_row``: whether the newest payload is in the table of events."""
    seen = [[kinds.number(kind), index] for kind, index in state.last_by_kind.items()]
    return (
        pack(series_id), MODE_CODES[state.mode], state.last_index, pack_or_none(state.field),
        pack_or_none(state.default_field), state.run, state.length, orjson.dumps(seen).decode(),
        None if has_row else wire.dumps(state.data),
    )  # fmt: skip


def series_of(row: Row, kinds: Kinds) -> tuple[str, SeriesState]:
    """A series' id and state from ``SERIES_READ``."""
    series_id, mode, last_index, field, default_field, run, length, seen, data, text = row
    payload = draft_of(wire.loads(text)).data if text is not None else wire.loads(data) if data is not None else None
    state = SeriesState(
        MODES[mode], last_index, unpack_or_none(field), unpack_or_none(default_field), run, length, payload,
        {kinds.names[kind]: index for kind, index in orjson.loads(seen)},
    )  # fmt: skip
    return unpack(series_id), state
