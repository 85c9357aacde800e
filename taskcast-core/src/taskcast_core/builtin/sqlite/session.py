"""What an operation of the writer thread works with: one transaction, the hot logs, and the rows not written yet.

The rule of operations: first decide, then write. A TaskcastError before the first write concerns its caller alone; any
error after it undoes the whole transaction.
"""

# ruff: noqa: S608 - statements are put together from constants; all values are bound

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Collection, Iterable, Sequence
from typing import Any

from taskcast_core.builtin.sqlite.hot_logs import HotLog, HotLogs
from taskcast_core.builtin.sqlite.pending import Pending, insert_marks
from taskcast_core.builtin.sqlite.rows import MAX_INDEX, Row, insert_all, position
from taskcast_core.contracts.followers import kind_of
from taskcast_core.contracts.task_log import Stored
from taskcast_core.machine import KeyRecord, Outcome

Published = dict[str, tuple[Stored, int] | None]
"""Tasks as they are now, with the bytes of their records; None for those that are not open any more."""

_SWEPT_AT_ONCE = 1_000
_SMALL_TABLES = ("heads", "kinds", "series", "keys", "lanes", "timers", "tags")
_PLACED_TABLES = ("entries", "removed")
_LARGE_TABLES = ("texts", "holes", "checkpoints", "given_ids")


class Session:
    """One per store, used by the writer thread only.

    Attributes:
        has_written: whether the operation that is running has changed anything. has_leftovers: rows wait to be swept.
    """

    def __init__(self, connection: sqlite3.Connection, now_ms: Callable[[], int], log_cache_bytes: int) -> None:
        self.now_ms = now_ms
        self.has_written = False
        self._changed: dict[str, HotLog | None] = {}  # by this transaction; None: not open any more
        self._connection = connection
        self._logs = HotLogs(log_cache_bytes)
        self._pending = Pending()
        self._next_turn = self._next("SELECT max(turn) FROM lanes")
        self._next_num = self._next("SELECT max(num) FROM (SELECT max(num) AS num FROM tasks UNION ALL "
                                    "SELECT max(task_num) FROM leftovers)")  # fmt: skip
        self.has_leftovers = self.row("SELECT 1 FROM leftovers LIMIT 1") is not None

    def _next(self, sql: str) -> int:
        return int(self._connection.execute(sql).fetchone()[0] or 0) + 1

    # ── The tables ────────────────────────────────────────────────────────────────────────────────────────────────

    def rows(self, sql: str, values: Sequence[Any] = ()) -> list[Row]:
        """What a query finds; it sees all that this transaction has done so far."""
        self._flush()
        return self._connection.execute(sql, values).fetchall()

    def row(self, sql: str, values: Sequence[Any] = ()) -> Row | None:
        """The first row that a query finds."""
        self._flush()
        found: Row | None = self._connection.execute(sql, values).fetchone()
        return found

    def peek_row(self, sql: str, values: Sequence[Any] = ()) -> Row | None:
        """``row`` for tables that pending rows do not concern (or not this row): nothing is written for its sake."""
        found: Row | None = self._connection.execute(sql, values).fetchone()
        return found

    def execute(self, sql: str, values: Sequence[Any] = ()) -> int:
        """Change something: how many rows were changed."""
        return self.write().execute(sql, values).rowcount

    def insert(self, head: str, rows: Iterable[Row]) -> None:
        """See ``insert_all``."""
        insert_all(self.write(), head, rows)

    def write(self) -> sqlite3.Connection:
        """The connection, to write with; the operation is past its decisions."""
        self.has_written = True
        self._flush()
        return self._connection

    @property
    def connection(self) -> sqlite3.Connection:
        """The connection, to read with."""
        self._flush()
        return self._connection

    def _flush(self) -> None:
        if self._pending.has_rows:
            self._pending.write(self._connection)
            self._pending = Pending()

    # ── Tasks ─────────────────────────────────────────────────────────────────────────────────────────────────────

    def log(self, task_id: str) -> HotLog | None:
        """The open task of this id."""
        # A log that is not in memory has no pending rows: those of this transaction stay until it ends.
        return self._logs.get(self._connection, task_id)

    def new_num(self) -> int:
        """A number for a task."""
        self._next_num += 1
        return self._next_num - 1

    def adopt(self, log: HotLog) -> None:
        """A new open task, whose rows have been written."""
        self._logs.put(log)
        self.publish(log)

    def publish(self, log: HotLog) -> None:
        """The task is open, and will be as its log says when the transaction ends."""
        self._changed[log.state.stored.task.id] = log

    def apply(self, log: HotLog, outcome: Outcome, *, has_record: bool) -> None:
        """Make a commit true."""
        self.has_written = True
        self._pending.add(log, outcome, has_record=has_record)
        record = outcome.stored.record
        lanes = record.lanes
        if lanes and not log.dirty_lanes.issuperset(lanes):
            now = self.now_ms()
            for lane in lanes:
                if lane not in log.dirty_lanes:
                    self._pending.mark(log, lane, now, self.next_turn())
                    log.dirty_lanes.add(lane)
        self._changed[record.task.id] = log

    def pending_key(self, log: HotLog, name: str) -> KeyRecord | None:
        """A key that this transaction has brought."""
        return self._pending.key(log, name)

    def forget(self, task_id: str) -> None:
        """The task's rows were changed directly: read it anew when it is asked for. Its open record is withdrawn."""
        self.has_written = True
        self._logs.forget(task_id)
        self._changed[task_id] = None

    # ── Lanes ─────────────────────────────────────────────────────────────────────────────────────────────────────

    def next_turn(self) -> int:
        """The end of the line."""
        self._next_turn += 1
        return self._next_turn - 1

    def mark(self, num: int, lanes: Iterable[str]) -> None:
        """The task has something new for these lanes."""
        now = self.now_ms()
        insert_marks(self.write(), [(num, lane, kind_of(lane), now, self.next_turn()) for lane in lanes])

    def unmarked(self, task_id: str, lane: str) -> None:
        """A lane has left the line."""
        if log := self._logs.peek(task_id):
            log.dirty_lanes.discard(lane)

    # ── Removal ───────────────────────────────────────────────────────────────────────────────────────────────────

    def remove(self, num: int, task_id: str) -> None:
        """Remove a task: what can be found of it at once, its log piece by piece (see ``sweep``)."""
        self.forget(task_id)
        self.execute("DELETE FROM tasks WHERE num = ?", (num,))
        for table in _SMALL_TABLES:
            self.execute(f"DELETE FROM {table} WHERE task_num = ?", (num,))
        self.execute("INSERT INTO leftovers VALUES (?)", (num,))
        self.has_leftovers = True

    def sweep(self) -> None:
        """Remove a bounded number of rows of tasks that are gone."""
        found = self.row("SELECT task_num FROM leftovers LIMIT 1")
        if found is None:
            self.has_leftovers = False
            return
        (num,) = found
        for table in _PLACED_TABLES:
            if self.execute(
                f"DELETE FROM {table} WHERE pos IN (SELECT pos FROM {table} WHERE pos BETWEEN ? AND ? LIMIT ?)",
                (position(num, 0), position(num, MAX_INDEX), _SWEPT_AT_ONCE),
            ):
                return
        for table in _LARGE_TABLES:
            if self._sweep_table(table, num):
                return
        self.execute("DELETE FROM leftovers WHERE task_num = ?", (num,))

    def _sweep_table(self, table: str, num: int) -> bool:
        key = {"texts": "series, run, start", "holes": "last", "checkpoints": "idx", "given_ids": "id"}[table]
        some = f"SELECT {key} FROM {table} WHERE task_num = ? LIMIT ?"
        sql = f"DELETE FROM {table} WHERE task_num = ? AND ({key}) IN ({some})"
        return self.execute(sql, (num, num, _SWEPT_AT_ONCE)) > 0

    # ── The transaction ───────────────────────────────────────────────────────────────────────────────────────────

    def begin(self) -> None:
        """Begin a transaction."""
        self._changed = {}
        self._connection.execute("BEGIN IMMEDIATE")

    @property
    def changed(self) -> Collection[str]:
        """The tasks that the transaction has changed so far."""
        return self._changed.keys()

    def commit(self) -> Published:
        """Write what is pending and commit: the tasks as they are now."""
        self._flush()
        self._connection.execute("COMMIT")
        self._logs.shrink()
        return {
            task_id: None if log is None else (log.state.stored, log.record_size)
            for task_id, log in self._changed.items()
        }

    def roll_back(self) -> None:
        """Undo the transaction and all that memory holds of it."""
        self._pending = Pending()
        self._logs.clear()
        self._changed = {}
        if self._connection.in_transaction:
            try:
                self._connection.execute("ROLLBACK")
            except sqlite3.Error:  # the database has rolled back by itself, as it does on I/O errors
                assert not self._connection.in_transaction
        self.has_leftovers = True  # let the next sweep find out
