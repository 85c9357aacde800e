"""Values as they stand in rows, and back."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable, Sequence
from functools import lru_cache
from typing import Any

import orjson

from taskcast_core import wire
from taskcast_core.builtin.memory_queue import PRIORITIES
from taskcast_core.contracts.task_log import Key, Record, Segment, Stored
from taskcast_core.entries import Entry, Hole, Origin
from taskcast_core.errors import StoreUnavailable
from taskcast_core.machine import KeyRecord, Kind
from taskcast_core.models import SeriesMode, Task
from taskcast_core.packing import MODES, pack_or_none, unpack, unpack_counts, unpack_or_none
from taskcast_core.stretch import Columns, Stretch

Row = tuple[Any, ...]

SHIFT = 32
MAX_INDEX = (1 << SHIFT) - 1
MODE_CODES: dict[SeriesMode, int] = {mode: code for code, mode in enumerate(MODES)}

OPEN, HIDDEN, RESTORED = 0, 1, 2
"""States of a task's row."""


# ── Tasks ─────────────────────────────────────────────────────────────────────────────────────────────────────────


def pack_record(record: Record) -> bytes:
    """A record as JSON."""
    return wire.encode(record)


def unpack_record(blob: bytes) -> Record:
    """``pack_record`` read back."""
    return wire.decode(blob, Record)


def pack_segments(segments: Sequence[Segment]) -> bytes:
    """Segments as JSON."""
    return orjson.dumps([[one.first, one.epoch, one.salt] for one in segments])


def unpack_segments(blob: bytes) -> tuple[Segment, ...]:
    """``pack_segments`` read back."""
    return tuple(Segment(*one) for one in orjson.loads(blob))


TASK_COLUMNS = "rev, first_index, segments, record, status, type, created_at, assign_mode, priority, epoch"


RECORD = 3
"""Where the record stands among them."""


def task_row(stored: Stored) -> Row:
    """The values of ``TASK_COLUMNS``."""
    task = stored.task
    return (
        stored.rev, stored.first_index, pack_segments(stored.segments), pack_record(stored.record), task.status,
        pack_or_none(task.type), task.created_at, task.assign_mode or "external",
        PRIORITIES[task.priority or "normal"], stored.epoch,
    )  # fmt: skip


STORED_COLUMNS = "t.record, t.segments, t.rev, h.last_index, h.last_timestamp, t.first_index"
"""Of ``tasks t`` and ``heads h``."""


def stored_of(row: Row) -> Stored:
    """A task from ``STORED_COLUMNS``."""
    return Stored(unpack_record(row[0]), unpack_segments(row[1]), *row[2:6])


def task_of(record: bytes) -> Task:
    """Only the task of a record."""
    return wire.from_wire(wire.loads(record)["task"], Task)


# ── Keys ──────────────────────────────────────────────────────────────────────────────────────────────────────────

KEY_COLUMNS = "body_hash, expires_at, epoch, first_index, count, stored"


def key_row(known: KeyRecord) -> Row:
    """The values of ``KEY_COLUMNS``."""
    return (
        known.body_hash, known.expires_at, known.epoch, known.first_index, known.count,
        None if known.stored is None else _pack_stored(known.stored),
    )  # fmt: skip


def key_of(key: Key, row: Row) -> KeyRecord:
    """What is remembered under a key, from ``KEY_COLUMNS``."""
    body_hash, expires_at, epoch, first_index, count, stored = row
    return KeyRecord(
        key.name, body_hash, expires_at, epoch, first_index, count, None if stored is None else _unpack_stored(stored)
    )


def _pack_stored(stored: Stored) -> bytes:
    """A whole task: its numbers and segments on the first line, its record on the second."""
    head = [
        [[one.first, one.epoch, one.salt] for one in stored.segments],
        stored.rev, stored.last_index, stored.last_timestamp, stored.first_index,
    ]  # fmt: skip
    return orjson.dumps(head) + b"\n" + pack_record(stored.record)


def _unpack_stored(blob: bytes) -> Stored:
    head, _, record = blob.partition(b"\n")
    segments, *numbers = orjson.loads(head)
    return Stored(unpack_record(record), tuple(Segment(*one) for one in segments), *numbers)


# ── Log ───────────────────────────────────────────────────────────────────────────────────────────────────────────

ENTRY_COLUMNS = "pos, timestamp, kind, series, mode, run, end, given_id, text"
PLAIN_COLUMNS = "pos, timestamp, CASE WHEN series IS NULL AND given_id IS NULL THEN kind END, text"
"""All that there is of an entry of no series and with an id of our own making; the kind of any other is NULL."""
HOLE_COLUMNS = "last, first, first_timestamp, last_timestamp, counts, cut_series, lost_series"


class LogNames:
    """What the numbers in one log's rows mean, and to whom its entries belong."""

    def __init__(self, connection: sqlite3.Connection, num: int, task_id: str, segments: Sequence[Segment]) -> None:
        self._connection, self._num = connection, num
        self._origins = [(one.first, Origin(task_id, one.epoch, one.salt)) for one in reversed(segments)]
        kinds = connection.execute("SELECT num, type, level FROM kinds WHERE task_num = ?", (num,))
        self.kinds: dict[int, Kind] = {kind: (unpack(type_), level) for kind, type_, level in kinds}
        self._series: dict[int, str] = {}

    @staticmethod
    def origin_in(task_id: str, segments: Sequence[Segment], index: int) -> Origin:
        """Of the entry at an index, where no more is asked of the log."""
        one = next((one for one in reversed(segments) if one.first <= index), segments[0])
        return Origin(task_id, one.epoch, one.salt)

    def origin(self, index: int) -> Origin:
        """Of the entry at an index."""
        if index >= self._origins[0][0]:  # nearly all logs have just one
            return self._origins[0][1]
        return next((origin for first, origin in self._origins if first <= index), self._origins[-1][1])

    def series(self, value: int | bytes | None) -> str | None:
        """The id of the series that an entry's row names."""
        if value is None:
            return None
        if isinstance(value, bytes):
            return unpack(value)
        if value not in self._series:
            found = self._connection.execute(
                "SELECT id FROM series WHERE task_num = ? AND num = ?", (self._num, value)
            ).fetchone()
            self._series[value] = unpack(found[0])
        return self._series[value]

    def stretch(self, rows: Sequence[Row]) -> Stretch | None:
        """Entries from ``PLAIN_COLUMNS``, unless these are not enough; in ascending order."""
        places, timestamps, kinds, texts = zip(*rows, strict=True)
        first, last = places[0] & MAX_INDEX, places[-1] & MAX_INDEX
        origin = self.origin(first)
        if None in kinds or last - first != len(rows) - 1 or self.origin(last) is not origin:
            return None
        return Stretch(Columns(origin, range(first, last + 1), timestamps, texts), kinds, self.kinds)

    def entry(self, row: Row) -> Entry:
        """An entry from ``ENTRY_COLUMNS``."""
        pos, timestamp, kind, series, mode, run, end, given_id, text = row
        type_, level = self.kinds[kind]
        index = pos & MAX_INDEX
        if series is None and given_id is None:
            return Entry.stored(self.origin(index), index, timestamp, text, type=type_, level=level)
        return Entry.stored(
            self.origin(index), index, timestamp, text, type=type_, level=level, series_id=self.series(series),
            series_mode=None if mode is None else MODES[mode], given_id=unpack_or_none(given_id), run=run, end=end,
        )  # fmt: skip

    def hole(self, row: Row) -> Hole:
        """A hole from ``HOLE_COLUMNS``."""
        last, first, first_timestamp, last_timestamp, counts, cut, lost = row
        named = {self.kinds[kind]: n for kind, n in unpack_counts(counts).items()}
        return Hole(first, last, first_timestamp, last_timestamp, named, bool(cut), bool(lost))


def position(num: int, index: int) -> int:
    """Where the entry at an index stands in the table."""
    return num << SHIFT | index


# ── Statements ────────────────────────────────────────────────────────────────────────────────────────────────────

_MANY = 16


@lru_cache(maxsize=64)
def _insert(head: str, width: int, rows: int) -> str:
    one = "(" + ",".join("?" * width) + ")"
    return f"{head} VALUES {','.join([one] * rows)}"


def insert_all(connection: sqlite3.Connection, head: str, rows: Iterable[Row]) -> None:
    """Run an INSERT (``head``: all of it but the VALUES) for all rows, several to a statement: that saves much time."""
    waiting = list(rows)
    if not waiting:
        return
    width = len(waiting[0])
    whole = len(waiting) - len(waiting) % _MANY
    for start in range(0, whole, _MANY):
        values = [value for row in waiting[start : start + _MANY] for value in row]
        connection.execute(_insert(head, width, _MANY), values)
    if whole < len(waiting):
        connection.executemany(_insert(head, width, 1), waiting[whole:])


# ── Errors ────────────────────────────────────────────────────────────────────────────────────────────────────────

_KINDS = {
    sqlite3.SQLITE_FULL: "disk_full",
    sqlite3.SQLITE_IOERR: "io_error",
    sqlite3.SQLITE_BUSY: "busy",
    sqlite3.SQLITE_LOCKED: "busy",
    sqlite3.SQLITE_CORRUPT: "corrupt",
    sqlite3.SQLITE_NOTADB: "corrupt",
    sqlite3.SQLITE_READONLY: "read_only",
    sqlite3.SQLITE_CANTOPEN: "cannot_open",
    sqlite3.SQLITE_NOMEM: "out_of_memory",
    sqlite3.SQLITE_INTERRUPT: "timeout",
}


def translated(error: Exception) -> Exception:
    """What a caller gets to see: trouble with the file is StoreUnavailable; anything else is somebody's mistake."""
    code = getattr(error, "sqlite_errorcode", None)
    kind = None if code is None else _KINDS.get(code & 0xFF)
    if kind is None:
        return error
    unavailable = StoreUnavailable("sqlite", kind)
    unavailable.__cause__ = error
    return unavailable
