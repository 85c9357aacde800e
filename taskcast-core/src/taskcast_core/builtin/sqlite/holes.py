"""Where entries have been: runs of removed ones, merged with their neighbours, and of what kind each entry was."""

# ruff: noqa: S608 - statements are put together from constants; all values are bound

from __future__ import annotations

import sqlite3
from collections.abc import Iterable, Iterator, Mapping, Sequence

from attrs import field

from taskcast_core.builtin.sqlite.counting import SPAN, counts_between
from taskcast_core.builtin.sqlite.rows import HOLE_COLUMNS, LogNames, Row, insert_all, position
from taskcast_core.entries import Hole
from taskcast_core.packing import Counts, add_counts, pack_counts, unpack_counts
from taskcast_core.values import define, frozen

REMOVED = "INSERT INTO removed (pos, n, kind)"


@frozen
class Removed:
    """An entry whose row is gone. ``cut``, ``lost``: see ``Hole``."""

    index: int
    timestamp: int
    kind: int
    cut: bool = False
    lost: bool = False


@define
class Stretch:
    """Removed entries of one kind that stood in a row, within one span."""

    first: int
    n: int
    kind: int


@define
class _Run:
    first: int
    last: int
    first_timestamp: int
    last_timestamp: int
    counts: Counts
    cut: bool
    lost: bool
    stretches: list[Stretch] = field(factory=list)

    def add(self, one: Removed) -> None:
        """The entry behind the run's last one, or the first of all."""
        self.last, self.last_timestamp = one.index, one.timestamp
        self.counts[one.kind] = self.counts.get(one.kind, 0) + 1
        self.cut, self.lost = self.cut or one.cut, self.lost or one.lost
        if self.stretches and self.stretches[-1].kind == one.kind and one.index % SPAN:
            self.stretches[-1].n += 1
        else:
            self.stretches.append(Stretch(one.index, 1, one.kind))


# ── Digging ───────────────────────────────────────────────────────────────────────────────────────────────────────


def dig(connection: sqlite3.Connection, removed: Mapping[int, Iterable[Removed]]) -> None:
    """Put holes where these entries (per task, in index order) have been."""
    rows: list[Row] = []
    for num, those in removed.items():
        for run in _runs(those):
            goes_on = _put(connection, num, run)
            rows += _new_stretches(connection, num, run.stretches, goes_on=goes_on)
    insert_all(connection, REMOVED, rows)


def _runs(removed: Iterable[Removed]) -> Iterator[_Run]:
    run: _Run | None = None
    for one in removed:
        if run is None or one.index != run.last + 1:
            if run is not None:
                yield run
            run = _Run(one.index, one.index, one.timestamp, one.timestamp, {}, cut=False, lost=False)
        run.add(one)
    if run is not None:
        yield run


def _new_stretches(
    connection: sqlite3.Connection, num: int, stretches: Sequence[Stretch], *, goes_on: bool
) -> list[Row]:
    """Rows that note of what kind removed entries were; where a hole goes on, the first may be part of a row there."""
    rows = [(position(num, one.first), one.n, one.kind) for one in stretches]
    if goes_on and stretches[0].first % SPAN and _prolong(connection, *rows[0]):
        del rows[0]
    return rows


def _prolong(connection: sqlite3.Connection, pos: int, n: int, kind: int) -> bool:
    """Whether the entries before these are noted in one row that these could join."""
    return connection.execute(
        "UPDATE removed SET n = n + ? WHERE pos = (SELECT max(pos) FROM removed WHERE pos < ?) "
        "AND pos + n = ? AND kind = ?",
        (n, pos, pos, kind),
    ).rowcount > 0  # fmt: skip


def _put(connection: sqlite3.Connection, num: int, run: _Run) -> bool:
    """Make a hole of the run and its neighbours: whether one of them was before it."""
    start = run.first
    for row in _neighbours(connection, num, run):
        last, first, first_timestamp, last_timestamp, counts, cut, lost = row
        connection.execute("DELETE FROM holes WHERE task_num = ? AND last = ?", (num, last))
        if first < run.first:
            run.first, run.first_timestamp = first, first_timestamp
        else:
            run.last, run.last_timestamp = last, last_timestamp
        add_counts(run.counts, unpack_counts(counts))
        run.cut, run.lost = run.cut or bool(cut), run.lost or bool(lost)
    connection.execute(
        f"INSERT INTO holes (task_num, {HOLE_COLUMNS}) VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
        (num, run.last, run.first, run.first_timestamp, run.last_timestamp, pack_counts(run.counts), run.cut, run.lost),
    )
    return run.first < start


def _neighbours(connection: sqlite3.Connection, num: int, run: _Run) -> Sequence[Row]:
    return connection.execute(
        f"SELECT {HOLE_COLUMNS} FROM holes WHERE task_num = ? AND last = ? UNION ALL "
        f"SELECT * FROM (SELECT {HOLE_COLUMNS} FROM holes WHERE task_num = ? AND last > ? ORDER BY last LIMIT 1)"
        " WHERE first = ?",
        (num, run.first - 1, num, run.last, run.last + 1),
    ).fetchall()


# ── Holes that come from elsewhere ────────────────────────────────────────────────────────────────────────────────


def spread(first: int, last: int, counts: Mapping[int, int]) -> Iterator[Stretch]:
    """Stretches that fill a hole of which only the counts are known: kind after kind."""
    for kind, n in counts.items():
        end = min(first + n, last + 1)
        while first < end:
            stop = min(end, first - first % SPAN + SPAN)
            yield Stretch(first, stop - first, kind)
            first = stop


# ── Parts ─────────────────────────────────────────────────────────────────────────────────────────────────────────


def part_of(connection: sqlite3.Connection, num: int, names: LogNames, hole: Hole, start: int, stop: int) -> Hole:
    """The part of a hole within [start, stop); of its times, those of the whole are the nearest that are known."""
    first, last = max(hole.first, start), min(hole.last, stop - 1)
    if (first, last) == (hole.first, hole.last):
        return hole
    counts = counts_between(connection, num, first, last + 1)
    return Hole(
        first, last,
        hole.first_timestamp if first < hole.last else hole.last_timestamp,
        hole.last_timestamp if last == hole.last else hole.first_timestamp,
        {names.kinds[kind]: n for kind, n in counts.items()}, hole.cut_series, hole.lost_series,
    )  # fmt: skip


def cut_behind(connection: sqlite3.Connection, num: int, floor: int) -> None:
    """Drop all holes behind an index; of the one across it, the front remains."""
    across = connection.execute(
        f"SELECT {HOLE_COLUMNS} FROM holes WHERE task_num = ? AND last > ? AND first <= ?", (num, floor, floor)
    ).fetchone()
    end = position(num, floor + 1)
    connection.execute("DELETE FROM holes WHERE task_num = ? AND last > ?", (num, floor))
    connection.execute("DELETE FROM removed WHERE pos >= ? AND pos < ?", (end, position(num + 1, 0)))
    if across is None:
        return
    _, first, first_timestamp, _, _, cut, lost = across
    connection.execute(
        "UPDATE removed SET n = min(n, ? - pos) WHERE pos = (SELECT max(pos) FROM removed WHERE pos < ?)", (end, end)
    )
    kept = counts_between(connection, num, first, floor + 1)
    connection.execute(
        f"INSERT INTO holes (task_num, {HOLE_COLUMNS}) VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
        (num, floor, first, first_timestamp, first_timestamp, pack_counts(kept), cut, lost),
    )
