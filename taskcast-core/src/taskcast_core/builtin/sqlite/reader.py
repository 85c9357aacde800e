"""The reading half of TaskLog: each function is one read of one committed state, in a reader's thread."""

# ruff: noqa: S608 - statements are put together from constants; all values are bound

from __future__ import annotations

import sqlite3
import threading
from collections.abc import Callable, Sequence
from typing import Any

from taskcast_core.builtin.sqlite import counting
from taskcast_core.builtin.sqlite.holes import part_of
from taskcast_core.builtin.sqlite.hot_logs import load_series
from taskcast_core.builtin.sqlite.rows import (
    ENTRY_COLUMNS,
    HIDDEN,
    HOLE_COLUMNS,
    MAX_INDEX,
    OPEN,
    PLAIN_COLUMNS,
    RESTORED,
    STORED_COLUMNS,
    LogNames,
    Row,
    position,
    stored_of,
    unpack_segments,
)
from taskcast_core.contracts.log_reader import PAGE_BYTES, Page, SeriesPage
from taskcast_core.contracts.task_log import Head, Held, Segment, Stored
from taskcast_core.entries import Entry, Hole
from taskcast_core.errors import EpochChanged, NotHot, NotRetained
from taskcast_core.filters import View
from taskcast_core.ids import parse_event_id
from taskcast_core.packing import Counts, pack, unpack
from taskcast_core.series import folded
from taskcast_core.stretch import Stretch
from taskcast_core.values import frozen

_CHUNK = 64  # rows: so little is read ahead of a page that ends early
_IS_MIXED = (
    "SELECT EXISTS (SELECT 1 FROM series WHERE task_num = ?1) OR EXISTS (SELECT 1 FROM given_ids WHERE task_num = ?1) "
    "OR EXISTS (SELECT 1 FROM holes WHERE task_num = ?1 AND last >= ?2)"
)


class Meter:
    """How many rows of the log have been looked at to count and to seek; for tests of the bounds."""

    def __init__(self) -> None:
        self.entries = 0
        self._lock = threading.Lock()

    def __call__(self, n: int) -> None:
        """So many more."""
        with self._lock:
            self.entries += n


@frozen
class OpenLog:
    """A log that may be read."""

    num: int
    task_id: str
    epoch: int
    segments: tuple[Segment, ...]
    first_index: int
    last_index: int

    def names(self, connection: sqlite3.Connection) -> LogNames:
        """What its rows mean."""
        return LogNames(connection, self.num, self.task_id, self.segments)


def open_log(connection: sqlite3.Connection, task_id: str, epoch: int | None) -> OpenLog:
    """The open log, or the hidden one for a reader that names its epoch.

    Raises:
        NotHot, EpochChanged: see LogReader.
    """
    row = connection.execute(
        "SELECT t.num, t.state, t.epoch, t.segments, t.first_index, h.last_index "
        "FROM tasks t JOIN heads h ON h.task_num = t.num WHERE t.id = ?",
        (pack(task_id),),
    ).fetchone()
    if row is None or row[1] == RESTORED or (row[1] == HIDDEN and row[2] != epoch):
        raise NotHot(task_id)
    if epoch is not None and row[2] != epoch:
        raise EpochChanged(task_id, row[2])
    return OpenLog(row[0], task_id, row[2], unpack_segments(row[3]), row[4], row[5])


def get(connection: sqlite3.Connection, task_id: str) -> Stored | None:
    """See TaskLog.get."""
    row = connection.execute(
        f"SELECT {STORED_COLUMNS} FROM tasks t JOIN heads h ON h.task_num = t.num WHERE t.id = ? AND t.state = ?",
        (pack(task_id), OPEN),
    ).fetchone()
    return stored_of(row) if row else None


def heads(connection: sqlite3.Connection, held: Sequence[Held]) -> list[Head | None]:
    """See TaskLog.heads."""
    return [_head(connection, one) for one in held]


def _head(connection: sqlite3.Connection, held: Held) -> Head | None:
    row = connection.execute(
        "SELECT t.num, t.epoch, t.segments, h.last_index, t.status FROM tasks t JOIN heads h ON h.task_num = t.num "
        "WHERE t.id = ? AND t.state != ?",
        (pack(held.task_id), RESTORED),
    ).fetchone()
    if row is None:
        return None
    num, epoch, segments, last_index, status = row
    id_at = None
    if 0 <= held.index <= last_index:
        id_at = _id_at(connection, num, held.task_id, unpack_segments(segments), held.index)
    return Head(held.task_id, epoch, last_index, status, id_at)


def _id_at(
    connection: sqlite3.Connection, num: int, task_id: str, segments: Sequence[Segment], index: int
) -> str | None:
    row = connection.execute(
        "SELECT timestamp, given_id FROM entries WHERE pos = ?", (position(num, index),)
    ).fetchone()
    if row is None:
        return None
    if row[1] is not None:
        return unpack(row[1])
    return LogNames.origin_in(task_id, segments, index).event_id(row[0], index)


# ── Pages ─────────────────────────────────────────────────────────────────────────────────────────────────────────


def read(
    connection: sqlite3.Connection, task_id: str, epoch: int | None, after: int, before: int | None, limit: int,
    *, reverse: bool,
) -> Page:  # fmt: skip
    """See LogReader.read."""
    log = open_log(connection, task_id, epoch)
    stop = log.last_index + 1 if before is None else min(before, log.last_index + 1)
    start = max(after + 1, 0)
    if start < log.first_index and start < stop and not reverse:
        raise NotRetained(task_id, log.first_index)
    start = max(start, log.first_index)
    if start >= stop:
        return Page(log.epoch, (), stop if reverse else after, log.last_index)
    if not reverse and (plain := _stretch(connection, log, start, stop, limit)):
        return Page(log.epoch, plain, plain[-1].index, log.last_index)
    items = _items(connection, log, start, stop, limit, reverse=reverse)
    edge = items[-1]
    if reverse:
        items.reverse()
        return Page(log.epoch, tuple(items), edge.index if isinstance(edge, Entry) else edge.first, log.last_index)
    return Page(log.epoch, tuple(items), edge.index if isinstance(edge, Entry) else edge.last, log.last_index)


def _stretch(connection: sqlite3.Connection, log: OpenLog, start: int, stop: int, limit: int) -> Stretch | None:
    """The same page as of ``_items``, if it is of plain entries alone and large enough for that to matter."""
    if min(limit, stop - start) < _CHUNK or connection.execute(_IS_MIXED, (log.num, start)).fetchone()[0]:
        return None
    query = f"SELECT {PLAIN_COLUMNS} FROM entries WHERE pos >= ? AND pos < ? ORDER BY pos"
    rows, _ = _page_of(connection.execute(query, (position(log.num, start), position(log.num, stop))), limit)
    return log.names(connection).stretch(rows) if rows else None


def _items(
    connection: sqlite3.Connection, log: OpenLog, start: int, stop: int, limit: int, *, reverse: bool
) -> list[Entry | Hole]:
    """Entries and holes from one end of [start, stop) on, as many as make a page; holes cut where they reach beyond."""
    names, order = log.names(connection), "DESC" if reverse else "ASC"
    rows, is_all = _page_of(
        connection.execute(
            f"SELECT {ENTRY_COLUMNS} FROM entries WHERE pos >= ? AND pos < ? ORDER BY pos {order}",
            (position(log.num, start), position(log.num, stop)),
        ),
        limit,
    )
    if not is_all:
        edge = rows[-1][0] & MAX_INDEX
        start, stop = (edge, stop) if reverse else (start, edge + 1)
    holes = connection.execute(
        f"SELECT {HOLE_COLUMNS} FROM holes WHERE task_num = ? AND last >= ? AND first < ? "
        f"ORDER BY last {order} LIMIT ?",
        (log.num, start, stop, limit),
    ).fetchall()
    items: list[Entry | Hole] = [names.entry(row) for row in rows]
    if holes:
        items += [part_of(connection, log.num, names, names.hole(row), start, stop) for row in holes]
        items.sort(key=_first_index, reverse=reverse)
        del items[limit:]
    return items


def _first_index(item: Entry | Hole) -> int:
    return item.index if isinstance(item, Entry) else item.first


def _page_of(cursor: sqlite3.Cursor, limit: int) -> tuple[list[Row], bool]:
    """The rows of a page, which ends when their texts pass its size, and whether these are all there are."""
    rows: list[Row] = []
    size = 0
    while len(rows) < limit:
        chunk = cursor.fetchmany(min(_CHUNK, limit - len(rows)))
        if not chunk:
            return rows, True
        size += sum([len(row[-1]) for row in chunk])
        rows += chunk
        while size - len(rows[-1][-1]) >= PAGE_BYTES:
            size -= len(rows.pop()[-1])
        if size >= PAGE_BYTES:
            return rows, False
    return rows, False


# ── Series ────────────────────────────────────────────────────────────────────────────────────────────────────────


def series(connection: sqlite3.Connection, task_id: str, epoch: int | None) -> SeriesPage:
    """See LogReader.series."""
    log = open_log(connection, task_id, epoch)
    _, states, _ = load_series(connection, log.num, log.names(connection).kinds)
    return SeriesPage(log.epoch, log.last_index, states)


def fold(connection: sqlite3.Connection, task_id: str, series_id: str, index: int, epoch: int | None) -> Any:
    """See LogReader.fold."""
    log = open_log(connection, task_id, epoch)
    if not log.first_index <= index <= log.last_index:
        raise NotRetained(task_id, index)
    row = connection.execute(
        f"SELECT {ENTRY_COLUMNS} FROM entries WHERE pos = ?", (position(log.num, index),)
    ).fetchone()
    entry = log.names(connection).entry(row) if row else None
    if entry is None or entry.series_id != series_id or entry.run is None:
        raise NotRetained(task_id, index)
    if entry.end is None:
        return folded(entry.draft, None)
    pieces = connection.execute(
        "SELECT text FROM texts WHERE task_num = ? AND series = ? AND run = ? AND start < ? ORDER BY start",
        (log.num, row[3], entry.run, entry.end),
    ).fetchall()
    text = unpack(b"".join(piece for (piece,) in pieces))[: entry.end]
    if len(text) < entry.end:  # the series' text went with its newest entry
        raise NotRetained(task_id, index)
    return folded(entry.draft, text)


# ── Positions ─────────────────────────────────────────────────────────────────────────────────────────────────────


def count(
    connection: sqlite3.Connection, task_id: str, view: View, before: int, epoch: int | None, meter: Meter
) -> int:
    """See LogReader.count."""
    log = open_log(connection, task_id, epoch)
    before = min(max(before, 0), log.last_index + 1)
    if view.is_everything:
        return before
    if before < log.first_index:
        raise NotRetained(task_id, log.first_index)
    total = _visible(log.names(connection), view)
    return total(counting.counts_before(connection, log.num, before, meter))


def _visible(names: LogNames, view: View) -> Callable[[Counts], int]:
    """How many of so many entries of each kind a view lets through."""
    kinds = {number for number, kind in names.kinds.items() if view.matches(*kind)}
    return lambda counts: sum([n for number, n in counts.items() if number in kinds])


def seek(
    connection: sqlite3.Connection, task_id: str, view: View, place: int, epoch: int | None, meter: Meter
) -> int | None:
    """See LogReader.seek."""
    log = open_log(connection, task_id, epoch)
    if view.is_everything:
        return place if 0 <= place <= log.last_index else None
    total = _visible(log.names(connection), view)

    def before(index: int) -> int:
        return total(counting.counts_before(connection, log.num, index, meter))

    if place < 0 or before(max(log.last_index + 1, log.first_index)) <= place:
        return None
    if log.first_index and before(log.first_index) > place:
        raise NotRetained(task_id, log.first_index)
    return counting.seek(connection, log.num, log.last_index, total, place, meter)


def seek_time(connection: sqlite3.Connection, task_id: str, timestamp: int, epoch: int | None) -> int:
    """See LogReader.seek_time."""
    log = open_log(connection, task_id, epoch)
    low, high = log.first_index, log.last_index
    found: int = low - 1
    while low <= high:  # the newest entry that is old enough, by halving: times never decrease
        row = connection.execute(
            "SELECT pos - ?, timestamp FROM entries WHERE pos BETWEEN ? AND ? ORDER BY pos DESC LIMIT 1",
            (position(log.num, 0), position(log.num, low), position(log.num, (low + high) // 2)),
        ).fetchone()
        if row is None:
            low = (low + high) // 2 + 1
        elif row[1] <= timestamp:
            found, low = row[0], (low + high) // 2 + 1
        else:
            high = row[0] - 1
    hole = connection.execute(
        "SELECT last, first, first_timestamp, last_timestamp FROM holes WHERE task_num = ? AND last > ? "
        "ORDER BY last LIMIT 1",
        (log.num, found),
    ).fetchone()
    if hole is not None and hole[1] == found + 1 and hole[2] <= timestamp:
        found = hole[0] if hole[3] <= timestamp else hole[0] - 1
    if found < log.first_index and log.first_index:
        raise NotRetained(task_id, log.first_index)
    return found


def locate(connection: sqlite3.Connection, task_id: str, event_id: str, epoch: int | None) -> int | None:
    """See LogReader.locate."""
    log = open_log(connection, task_id, epoch)
    given = connection.execute(
        "SELECT idx FROM given_ids WHERE task_num = ? AND id = ?", (log.num, pack(event_id))
    ).fetchone()
    if given is not None:
        return int(given[0])
    place = parse_event_id(event_id)
    if place is None or not log.first_index <= place.index <= log.last_index:
        return None
    if found := _id_at(connection, log.num, task_id, log.segments, place.index):
        return place.index if found == event_id else None
    hole = connection.execute(
        "SELECT first_timestamp, last_timestamp FROM holes WHERE task_num = ? AND last >= ? ORDER BY last LIMIT 1",
        (log.num, place.index),
    ).fetchone()
    fits = hole is not None and hole[0] <= place.timestamp <= hole[1]
    salt = LogNames.origin_in(task_id, log.segments, place.index).salt
    return place.index if fits and place.salt == salt else None
