"""What the writer keeps in memory of the tasks that are being written: the commit machine's state, and row numbers."""

# ruff: noqa: S608 - statements are put together from constants; all values are bound

from __future__ import annotations

import sqlite3
from collections import OrderedDict

import orjson
from attrs import field

from taskcast_core import wire
from taskcast_core.builtin.sqlite.counting import counts_before
from taskcast_core.builtin.sqlite.rows import OPEN, STORED_COLUMNS, stored_of
from taskcast_core.contracts.task_log import Record
from taskcast_core.entries import Origin, draft_of
from taskcast_core.machine import Kind, LogState
from taskcast_core.packing import MODES, pack, unpack, unpack_or_none
from taskcast_core.series import SeriesState
from taskcast_core.values import define

_TASK_WEIGHT = 2_000
_SERIES_WEIGHT = 600
_WEIGH_EVERY = 64  # transactions


@define
class Tail:
    """The pieces of a series' text that have not been joined yet. ``start``: character at which the first begins."""

    run: int
    start: int
    pieces: int = 0
    size: int = 0


@define(eq=False)
class HotLog:
    """One task's state.

    Attributes:
        written: the record that the tables hold. kinds, series: their row numbers. keys: how many keys it has had.
        dirty_lanes: lanes that are known to be marked. record_size, payloads: bytes of the record, and of the newest
        entry of each series.
    """

    num: int
    state: LogState
    written: Record
    keys: int
    kinds: dict[Kind, int]
    series: dict[str, int]
    next_series: int
    dirty_lanes: set[str]
    record_size: int
    payloads: dict[str, int] = field(factory=dict)
    tails: dict[str, Tail] = field(factory=dict)

    @classmethod
    def new(cls, num: int, state: LogState) -> HotLog:
        """A log that has no rows yet."""
        return cls(num, state, state.stored.record, 0, {}, {}, 0, set(), 0)

    @property
    def weight(self) -> int:
        """How many bytes this takes, about."""
        return _TASK_WEIGHT + self.record_size + _SERIES_WEIGHT * len(self.series) + sum(self.payloads.values())

    def kind_number(self, kind: Kind) -> int:
        """The row number of a kind; a new one if it is new."""
        number = self.kinds.get(kind)
        if number is None:
            number = self.kinds[kind] = len(self.kinds)
        return number

    def series_number(self, series_id: str) -> int:
        """The row number of a series; a new one if it is new."""
        number = self.series.get(series_id)
        if number is None:
            number = self.series[series_id] = self.next_series
            self.next_series += 1
        return number


class HotLogs:
    """The least recently written go first, once all together pass the limit (bytes)."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._age = 0
        self._logs: OrderedDict[str, HotLog] = OrderedDict()

    def get(self, connection: sqlite3.Connection, task_id: str) -> HotLog | None:
        """The open task of this id, read from the tables if need be."""
        log = self._logs.get(task_id)
        if log is not None:
            self._logs.move_to_end(task_id)
            return log
        log = _load(connection, task_id)
        if log is not None:
            self._logs[task_id] = log
        return log

    def put(self, log: HotLog) -> None:
        """Keep the state of a task that was just made."""
        self._logs[log.state.stored.task.id] = log

    def peek(self, task_id: str) -> HotLog | None:
        """What is in memory."""
        return self._logs.get(task_id)

    def forget(self, task_id: str) -> None:
        """The tables know better from now on."""
        self._logs.pop(task_id, None)

    def clear(self) -> None:
        """Forget all: a transaction was rolled back."""
        self._logs.clear()

    def shrink(self) -> None:
        """Keep to the limit; only when the tables are up to date."""
        self._age += 1
        if self._age % _WEIGH_EVERY and len(self._logs) * _TASK_WEIGHT <= self._limit:
            return  # weighing them all takes a while where they are many
        total = sum(log.weight for log in self._logs.values())
        while total > self._limit and self._logs:
            _, log = self._logs.popitem(last=False)
            total -= log.weight


def _load(connection: sqlite3.Connection, task_id: str) -> HotLog | None:
    row = connection.execute(
        f"SELECT {STORED_COLUMNS}, t.num, h.size, h.keys FROM tasks t JOIN heads h ON h.task_num = t.num "
        "WHERE t.id = ? AND t.state = ?",
        (pack(task_id), OPEN),
    ).fetchone()
    if row is None:
        return None
    stored, num = stored_of(row), row[6]
    segment = stored.segments[-1]
    names = {
        number: (unpack(type_), level)
        for number, type_, level in connection.execute("SELECT num, type, level FROM kinds WHERE task_num = ?", (num,))
    }
    counts = counts_before(connection, num, max(stored.last_index + 1, stored.first_index))
    totals = {names[number]: n for number, n in counts.items()}
    numbers, states, payloads = load_series(connection, num, names)
    state = LogState(stored, Origin(task_id, segment.epoch, segment.salt), states, totals, row[7])
    lanes = connection.execute("SELECT name FROM lanes WHERE task_num = ? AND turn IS NOT NULL", (num,))
    return HotLog(
        num, state, stored.record, row[8], {kind: n for n, kind in names.items()}, numbers,
        max(numbers.values(), default=-1) + 1,
        {name for (name,) in lanes}, len(row[0]), payloads,
    )  # fmt: skip


def load_series(
    connection: sqlite3.Connection, num: int, kinds: dict[int, Kind]
) -> tuple[dict[str, int], dict[str, SeriesState], dict[str, int]]:
    """The series of a task: their numbers, their states, and how many bytes their newest entries have."""
    numbers: dict[str, int] = {}
    states: dict[str, SeriesState] = {}
    payloads: dict[str, int] = {}
    for number, id_, mode, last_index, field_, default_field, run, length, by_kind, data, text in connection.execute(
        "SELECT s.num, s.id, s.mode, s.last_index, s.field, s.default_field, s.run, s.length, s.last_by_kind, s.data, "
        "e.text FROM series s LEFT JOIN entries e ON e.pos = (s.task_num << 32) + s.last_index WHERE s.task_num = ?",
        (num,),
    ):
        series_id = unpack(id_)
        numbers[series_id] = number
        states[series_id] = SeriesState(
            MODES[mode], last_index, unpack_or_none(field_), unpack_or_none(default_field), run, length,
            draft_of(wire.loads(text)).data if data is None else wire.loads(data),
            {kinds[kind]: index for kind, index in orjson.loads(by_kind)},
        )  # fmt: skip
        payloads[series_id] = len(text or data)
    return numbers, states, payloads
