"""Where entries have been: runs of removed ones, merged with their neighbours."""

# ruff: noqa: S608 - statements are put together from constants; all values are bound

from __future__ import annotations

import sqlite3
from collections.abc import Iterable, Iterator, Sequence

from attrs import define, frozen

from taskcast_core.builtin.sqlite.counting import SPAN, counts_before
from taskcast_core.builtin.sqlite.rows import HOLE_COLUMNS, Counts, Row, add_counts, pack_counts, unpack_counts
from taskcast_core.entries import Hole


@frozen
class Removed:
    """An entry whose row is gone. ``cut``, ``lost``: see ``Hole``."""

    index: int
    timestamp: int
    kind: int
    cut: bool = False
    lost: bool = False


@define
class _Run:
    first: int
    last: int
    first_timestamp: int
    last_timestamp: int
    counts: Counts
    cut: bool
    lost: bool


def dig(connection: sqlite3.Connection, num: int, removed: Iterable[Removed]) -> None:
    """Put holes where these entries (in index order) have been."""
    for run in _runs(removed):
        _put(connection, num, run)


def _runs(removed: Iterable[Removed]) -> Iterator[_Run]:
    run: _Run | None = None
    for one in removed:
        if run is None or one.index != run.last + 1:
            if run is not None:
                yield run
            run = _Run(one.index, one.index, one.timestamp, one.timestamp, {}, cut=False, lost=False)
        run.last, run.last_timestamp = one.index, one.timestamp
        run.counts[one.kind] = run.counts.get(one.kind, 0) + 1
        run.cut, run.lost = run.cut or one.cut, run.lost or one.lost
    if run is not None:
        yield run


def _put(connection: sqlite3.Connection, num: int, run: _Run) -> None:
    settled = run.first  # checkpoints up to here are as they have to be
    for row in _neighbours(connection, num, run):
        last, first, first_timestamp, last_timestamp, counts, cut, lost = row
        connection.execute("DELETE FROM holes WHERE task_num = ? AND last = ?", (num, last))
        if first < run.first:
            settled = last
            run.first, run.first_timestamp = first, first_timestamp
        else:
            run.last, run.last_timestamp = last, last_timestamp
        add_counts(run.counts, unpack_counts(counts))
        run.cut, run.lost = run.cut or bool(cut), run.lost or bool(lost)
    connection.execute(
        f"INSERT INTO holes (task_num, {HOLE_COLUMNS}) VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
        (num, run.last, run.first, run.first_timestamp, run.last_timestamp, pack_counts(run.counts), run.cut, run.lost),
    )
    if run.last // SPAN > settled // SPAN:
        # Entries of a hole count at its end: a checkpoint inside says what there is before the hole.
        connection.execute(
            "UPDATE checkpoints SET counts = ? WHERE task_num = ? AND idx > ? AND idx <= ?",
            (pack_counts(counts_before(connection, num, run.first)), num, run.first, run.last),
        )


def _neighbours(connection: sqlite3.Connection, num: int, run: _Run) -> Sequence[Row]:
    return connection.execute(
        f"SELECT {HOLE_COLUMNS} FROM holes WHERE task_num = ? AND last = ? UNION ALL "
        f"SELECT * FROM (SELECT {HOLE_COLUMNS} FROM holes WHERE task_num = ? AND last > ? ORDER BY last LIMIT 1)"
        " WHERE first = ?",
        (num, run.first - 1, num, run.last, run.last + 1),
    ).fetchall()


def part_of(hole: Hole, start: int, stop: int) -> Hole:
    """The part of a hole within [start, stop): its entries count at its end (see ``counting``)."""
    first, last = max(hole.first, start), min(hole.last, stop - 1)
    if (first, last) == (hole.first, hole.last):
        return hole
    has_end = last == hole.last
    return Hole(
        first, last,
        hole.first_timestamp if first < hole.last else hole.last_timestamp,
        hole.last_timestamp if has_end else hole.first_timestamp,
        hole.counts if has_end else {}, hole.cut_series, hole.lost_series,
    )  # fmt: skip


def cut_behind(connection: sqlite3.Connection, num: int, floor: int) -> None:
    """Drop all holes behind an index; of the one across it, the front remains, with as many entries as it is long."""
    across = connection.execute(
        f"SELECT {HOLE_COLUMNS} FROM holes WHERE task_num = ? AND last > ? AND first <= ?", (num, floor, floor)
    ).fetchone()
    connection.execute("DELETE FROM holes WHERE task_num = ? AND last > ?", (num, floor))
    if across is None:
        return
    _, first, first_timestamp, _, counts, cut, lost = across
    left, kept = floor - first + 1, dict[int, int]()
    for kind, n in unpack_counts(counts).items():
        kept[kind] = min(n, left)
        left -= kept[kind]
    connection.execute(
        f"INSERT INTO holes (task_num, {HOLE_COLUMNS}) VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
        (num, floor, first, first_timestamp, first_timestamp, pack_counts(kept), cut, lost),
    )
