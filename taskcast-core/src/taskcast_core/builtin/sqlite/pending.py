"""Rows that commits have decided on and that go to the tables together, in few statements."""

# ruff: noqa: S608 - statements are put together from constants; all values are bound

from __future__ import annotations

import sqlite3

import orjson

from taskcast_core import machine
from taskcast_core.builtin.sqlite import holes
from taskcast_core.builtin.sqlite.counting import SPAN
from taskcast_core.builtin.sqlite.hot_logs import HotLog, Tail
from taskcast_core.builtin.sqlite.rows import (
    KEY_COLUMNS,
    MAX_INDEX,
    MODE_CODES,
    RECORD,
    TASK_COLUMNS,
    Row,
    insert_all,
    key_row,
    position,
    task_row,
)
from taskcast_core.contracts.followers import kind_of
from taskcast_core.contracts.task_log import Record
from taskcast_core.entries import Entry
from taskcast_core.machine import KeyRecord, Outcome, SeriesChanges
from taskcast_core.packing import pack, pack_counts, pack_or_none
from taskcast_core.series import SeriesState, TextPart

JOIN_AFTER = 256
"""So many pieces of a series' text are joined into one …"""
JOIN_BYTES = 64 << 10
"""… if they are smaller than this together."""

_KEYS_AT_ONCE = 128

# OR FAIL: no journal for the statement alone, which would copy every page first; the transaction is undone anyway.
ENTRIES = "INSERT OR FAIL INTO entries"
_PLAIN = f"{ENTRIES} (pos, timestamp, kind, text)"
TEXTS = "INSERT OR REPLACE INTO texts"
CHECKPOINTS = "INSERT OR REPLACE INTO checkpoints"
KINDS = "INSERT OR REPLACE INTO kinds"
HEADS = "INSERT OR REPLACE INTO heads"
SERIES = (
    "INSERT OR REPLACE INTO series "
    "(task_num, num, id, mode, last_index, field, default_field, run, length, last_by_kind, data)"
)
_KEYS = f"INSERT OR REPLACE INTO keys (task_num, name, num, {KEY_COLUMNS})"
_TIMERS = "INSERT OR REPLACE INTO timers (task_num, kind, due_at)"


class Pending:
    """The buffer of one transaction."""

    def __init__(self) -> None:
        self._entries: list[Row] = []
        self._plain: list[Row] = []  # of no series
        self._texts: list[Row] = []
        self._checkpoints: list[Row] = []
        self._keys: dict[tuple[int, str], tuple[int, KeyRecord]] = {}
        self._logs: dict[int, HotLog] = {}
        self._records: dict[int, HotLog] = {}
        self._kinds: list[tuple[int, machine.Kind]] = []
        self._series: set[tuple[int, str]] = set()
        self._joins: list[tuple[int, int, Tail]] = []
        self._removed: set[tuple[int, int]] = set()
        self._marks: list[Row] = []

    def add(self, log: HotLog, outcome: Outcome, *, has_record: bool) -> None:
        """Note what a commit does, and make the log's state the one after it."""
        self._logs[log.num] = log
        numbers, entries = log.kinds, outcome.entries
        for kind in outcome.kinds:
            if kind not in numbers:
                log.kind_number(kind)
                self._kinds.append((log.num, kind))
        if entries and entries[-1].index // SPAN != (entries[0].index - 1) // SPAN:
            self._add_checkpoints(log, entries)
        log.state.merge(outcome)
        base = position(log.num, 0)
        for entry in entries:
            if entry.series_id is None:
                # Bytes and None are looked up among sqlite3's adapters, value by value, which takes longer than all the
                # rest of an INSERT; an array of bytes is taken as it is.
                kind_number = numbers[entry.type, entry.level]
                self._plain.append((base | entry.index, entry.timestamp, kind_number, bytearray(entry.text)))
                continue
            self._entries.append(entry_row(log, entry))
            if entry.series_id in outcome.series.states:
                log.payloads[entry.series_id] = len(entry.text)
        if outcome.series.states:
            self._add_series(log, outcome.series)
        if has_record:
            self._records[log.num] = log
        if outcome.key is not None:
            log.keys += 1
            self._keys[log.num, outcome.key.name] = (log.keys, outcome.key)

    def _add_series(self, log: HotLog, series: SeriesChanges) -> None:
        for series_id in series.states:
            log.series_number(series_id)
            self._series.add((log.num, series_id))
        for part in series.parts:
            self._add_part(log, part)
        for index in series.replaced:
            self._removed.add((log.num, index))

    def mark(self, log: HotLog, lane: str, now: int, turn: int) -> None:
        """Note that a lane has something new."""
        self._marks.append((log.num, lane, kind_of(lane), now, turn))

    def key(self, log: HotLog, name: str) -> KeyRecord | None:
        """A key that has not been written yet."""
        found = self._keys.get((log.num, name))
        return found[1] if found else None

    def _add_checkpoints(self, log: HotLog, entries: tuple[Entry, ...]) -> None:
        counts = {log.kind_number(kind): n for kind, n in log.state.kinds.items()}
        for entry in entries:
            if entry.index % SPAN == 0 and entry.index > log.state.stored.first_index:
                self._checkpoints.append((log.num, entry.index, pack_counts(counts)))
            kind = log.kind_number((entry.type, entry.level))
            counts[kind] = counts.get(kind, 0) + 1

    def _add_part(self, log: HotLog, part: TextPart) -> None:
        if part.text is None or part.end is None:
            return
        number = log.series_number(part.series_id)
        start = part.end - len(part.text)
        tail = log.tails.get(part.series_id)
        if tail is None or tail.run != part.run:
            tail = log.tails[part.series_id] = Tail(part.run, start)
            if part.prefix:
                self._texts.append((log.num, number, part.run, 0, pack(part.prefix)))
        if part.text:
            text = pack(part.text)
            self._texts.append((log.num, number, part.run, start, text))
            tail.pieces += 1
            tail.size += len(text)
        if tail.pieces >= JOIN_AFTER:
            if tail.size <= JOIN_BYTES:
                self._joins.append((log.num, number, tail))
            log.tails[part.series_id] = Tail(part.run, part.end)

    # ── To the tables ─────────────────────────────────────────────────────────────────────────────────────────────

    @property
    def has_rows(self) -> bool:
        """Whether there is anything to write."""
        return bool(self._logs)

    def write(self, connection: sqlite3.Connection) -> None:
        """Write all rows."""
        self._write_records(connection)
        insert_all(connection, HEADS, [head_row(log) for log in self._logs.values()])
        self._write_entries(connection)
        self._write_keys(connection)
        insert_marks(connection, self._marks)

    def _write_records(self, connection: sqlite3.Connection) -> None:
        for log in self._records.values():
            stored = log.state.stored
            row = task_row(stored)
            log.record_size = len(row[RECORD])
            connection.execute(
                f"UPDATE tasks SET ({TASK_COLUMNS}) = (?,?,?,?,?,?,?,?,?,?) WHERE num = ?", (*row, log.num)
            )
            replace_timers(connection, log.num, log.written, stored.record)
            if log.written.task.tags != stored.task.tags:
                connection.execute("DELETE FROM tags WHERE task_num = ?", (log.num,))
                insert_tags(connection, log.num, stored.record)
            log.written = stored.record

    def _write_entries(self, connection: sqlite3.Connection) -> None:
        logs = self._logs
        insert_all(connection, KINDS, [kind_row(logs[num], kind) for num, kind in self._kinds])
        insert_all(connection, SERIES, [series_row(logs[num], series_id) for num, series_id in self._series])
        gone = {position(num, index) for num, index in self._removed}
        for head, rows in ((_PLAIN, self._plain), (ENTRIES, self._entries)):
            insert_all(connection, head, [row for row in rows if row[0] not in gone] if gone else rows)
        insert_all(connection, CHECKPOINTS, self._checkpoints)
        insert_all(connection, TEXTS, self._texts)
        for num, series, tail in self._joins:
            _join(connection, num, series, tail)
        if gone:
            self._dig(connection, gone)

    def _dig(self, connection: sqlite3.Connection, gone: set[int]) -> None:
        removed: dict[int, list[holes.Removed]] = {}
        written = {row[0]: row for row in (*self._plain, *self._entries) if row[0] in gone}
        for pos in sorted(gone):
            row = (
                written.get(pos)
                or connection.execute(
                    "DELETE FROM entries WHERE pos = ? RETURNING pos, timestamp, kind", (pos,)
                ).fetchone()
            )
            if row is not None:
                removed.setdefault(pos >> 32, []).append(holes.Removed(pos & MAX_INDEX, row[1], row[2]))
        holes.dig(connection, removed)

    def _write_keys(self, connection: sqlite3.Connection) -> None:
        rows = [(num, pack(name), count, *key_row(known)) for (num, name), (count, known) in self._keys.items()]
        insert_all(connection, _KEYS, rows)
        for num, _, count, *_ in rows:
            if count % _KEYS_AT_ONCE == 0:
                connection.execute(
                    "DELETE FROM keys WHERE task_num = ? AND num <= ?", (num, count - machine.NEWEST_KEYS)
                )


def _join(connection: sqlite3.Connection, num: int, series: int, tail: Tail) -> None:
    """Make one piece of the tail's pieces: the text stays what it is, and takes fewer rows to read."""
    where = "task_num = ? AND series = ? AND run = ? AND start >= ?"
    key = (num, series, tail.run, tail.start)
    pieces = connection.execute(
        f"SELECT start, text FROM texts WHERE {where} ORDER BY start LIMIT ?", (*key, tail.pieces)
    ).fetchall()
    connection.execute(f"DELETE FROM texts WHERE {where} AND start <= ?", (*key, pieces[-1][0]))
    text = b"".join(piece for _, piece in pieces)
    connection.execute(f"{TEXTS} VALUES (?, ?, ?, ?, ?)", (num, series, tail.run, pieces[0][0], text))


# ── Rows ──────────────────────────────────────────────────────────────────────────────────────────────────────────


def entry_row(log: HotLog, entry: Entry, given_id: str | None = None) -> Row:
    """The row of an entry."""
    series_id = entry.series_id
    series: int | bytes | None = None
    if series_id is not None:
        has_state = entry.series_mode != "keep-all" and series_id in log.state.series
        series = log.series_number(series_id) if has_state else pack(series_id)
    return (
        position(log.num, entry.index), entry.timestamp, log.kind_number((entry.type, entry.level)), series,
        None if entry.series_mode is None else MODE_CODES[entry.series_mode], entry.run, entry.end,
        pack_or_none(given_id), entry.text,
    )  # fmt: skip


def head_row(log: HotLog) -> Row:
    """The row of ``heads``."""
    stored = log.state.stored
    return log.num, stored.last_index, stored.last_timestamp, log.state.size, log.keys


def kind_row(log: HotLog, kind: machine.Kind) -> Row:
    """The row of a kind."""
    return log.num, log.kind_number(kind), pack(kind[0]), kind[1]


def series_row(log: HotLog, series_id: str, data: bytes | None = None) -> Row:
    """The row of a series."""
    state: SeriesState = log.state.series[series_id]
    by_kind = [[log.kind_number(kind), index] for kind, index in state.last_by_kind.items()]
    return (
        log.num, log.series_number(series_id), pack(series_id), MODE_CODES[state.mode], state.last_index,
        pack_or_none(state.field), pack_or_none(state.default_field), state.run, state.length,
        orjson.dumps(by_kind).decode(), data,
    )  # fmt: skip


def insert_task(connection: sqlite3.Connection, log: HotLog, state: int) -> None:
    """Write the rows of a task's record and head."""
    stored = log.state.stored
    row = task_row(stored)
    log.record_size = len(row[RECORD])
    connection.execute(
        f"INSERT INTO tasks (num, id, state, {TASK_COLUMNS}) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
        (log.num, pack(stored.task.id), state, *row),
    )
    insert_all(connection, HEADS, [head_row(log)])
    insert_tags(connection, log.num, stored.record)


def replace_timers(connection: sqlite3.Connection, num: int, before: Record | None, after: Record) -> None:
    """Set a record's timers; one that is due when it was before keeps its lease."""
    old = before.timers if before else {}
    for kind in old.keys() - after.timers.keys():
        connection.execute("DELETE FROM timers WHERE task_num = ? AND kind = ?", (num, kind))
    insert_all(
        connection, _TIMERS, [(num, kind, due_at) for kind, due_at in after.timers.items() if old.get(kind) != due_at]
    )


def insert_marks(connection: sqlite3.Connection, rows: list[Row]) -> None:
    """Put lanes (task, name, kind, since, turn) at the end of the line, unless they stand in it."""
    for row in rows:
        connection.execute(
            "INSERT INTO lanes (task_num, name, kind, dirty_since, turn) VALUES (?, ?, ?, ?, ?) ON CONFLICT DO UPDATE "
            "SET dirty_since = excluded.dirty_since, turn = excluded.turn WHERE turn IS NULL",
            row,
        )


def insert_tags(connection: sqlite3.Connection, num: int, record: Record) -> None:
    """Write a record's tags."""
    tags = dict.fromkeys(record.task.tags or ())
    insert_all(connection, "INSERT INTO tags", [(pack(tag), num) for tag in tags])
