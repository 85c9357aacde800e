"""Reading an archived log: each function is one look at one committed state."""

# ruff: noqa: S608 - statements are put together from constants; all values are bound

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from attrs import frozen

from taskcast_core import wire
from taskcast_core.contracts.log_reader import PAGE_BYTES, Page, SeriesPage
from taskcast_core.contracts.task_log import LogCopy, Record, Segment, SeriesCopy
from taskcast_core.entries import Entry, Hole
from taskcast_core.errors import EpochChanged, NotHot, NotRetained
from taskcast_core.filters import View
from taskcast_core.ids import parse_event_id
from taskcast_core.packing import Counts, pack, unpack
from taskcast_core.series import SeriesState, folded
from taskcast_postgres import counting
from taskcast_postgres.database import Row, Session
from taskcast_postgres.rows import (
    ENTRY_COLUMNS,
    HOLE_COLUMNS,
    SERIES_READ,
    Kinds,
    Origins,
    entry_of,
    hole_of,
    series_of,
    unpack_segments,
)
from taskcast_postgres.stretch import first_of, last_of

COPY_BYTES = 64 << 20
"""A copy holds fewer items than it was asked for, once their texts pass this size."""

_LOG = "SELECT num, epoch, segments, last_index, kinds FROM taskcast.tasks WHERE id = %s"

_ENTRIES = """
SELECT {columns} FROM (
    SELECT {columns}, sum(octet_length(text)) OVER (ORDER BY idx {order}) - octet_length(text) AS ahead FROM (
        SELECT {columns} FROM taskcast.events WHERE task = %s AND idx >= %s AND idx < %s ORDER BY idx {order} LIMIT %s
    ) AS candidates
) AS measured WHERE ahead < %s ORDER BY idx {order}
"""
_HOLES = """
SELECT {columns} FROM taskcast.holes WHERE task = %s AND last >= %s AND first < %s ORDER BY last {order} LIMIT %s
"""
_SERIES = f"""
SELECT {SERIES_READ} FROM taskcast.series s
LEFT JOIN taskcast.events e ON e.task = s.task AND e.idx = s.last_index WHERE s.task = %s
"""
_RUN = """
SELECT string_agg(text, ''::bytea ORDER BY starts_at) FROM taskcast.texts
WHERE task = %s AND series = %s AND run = %s AND starts_at < %s
"""
_RUNS = """
SELECT series, run, string_agg(text, ''::bytea ORDER BY starts_at) FROM taskcast.texts WHERE task = %s GROUP BY 1, 2
"""


@frozen
class OpenLog:
    """A log that may be read."""

    num: int
    task_id: str
    epoch: int
    segments: tuple[Segment, ...]
    last_index: int
    kinds: Kinds
    origins: Origins


async def open_log(session: Session, task_id: str, epoch: int | None) -> OpenLog:
    """The log as it is.

    Raises:
        NotHot, EpochChanged: see LogReader.
    """
    row = await session.row(_LOG, pack(task_id))
    if row is None:
        raise NotHot(task_id)
    if epoch is not None and row[1] != epoch:
        raise EpochChanged(task_id, row[1])
    segments = unpack_segments(row[2])
    return OpenLog(row[0], task_id, row[1], segments, row[3], Kinds(row[4]), Origins(task_id, segments))


# ── Pages ─────────────────────────────────────────────────────────────────────────────────────────────────────────


async def read(
    session: Session, task_id: str, epoch: int | None, after: int, before: int | None, limit: int, *, reverse: bool
) -> Page:
    """See LogReader.read."""
    log = await open_log(session, task_id, epoch)
    start = max(after + 1, 0)
    stop = log.last_index + 1 if before is None else min(before, log.last_index + 1)
    if start >= stop:
        return Page(log.epoch, (), stop if reverse else after, log.last_index)
    items = await _items(session, log, start, stop, limit, PAGE_BYTES, reverse=reverse)
    edge = first_of(items[0]) if reverse else last_of(items[-1])
    return Page(log.epoch, tuple(items), edge, log.last_index)


async def _items(
    session: Session, log: OpenLog, start: int, stop: int, limit: int, most_bytes: int, *, reverse: bool
) -> list[Entry | Hole]:
    """Entries and holes from one end of [start, stop) on, as many as make a page, in ascending order."""
    order = "DESC" if reverse else "ASC"
    rows = await session.rows(
        _ENTRIES.format(columns=ENTRY_COLUMNS, order=order), log.num, start, stop, limit, most_bytes
    )
    entries = [entry_of(row, log.origins, log.kinds) for row in rows]
    if len(entries) >= limit or sum(len(entry.text) for entry in entries) >= most_bytes:
        edge = entries[-1].index
        start, stop = (edge, stop) if reverse else (start, edge + 1)
    holes = await session.rows(_HOLES.format(columns=HOLE_COLUMNS, order=order), log.num, start, stop, limit)
    parts = [await _part_of(session, log, hole_of(row, log.kinds), start, stop) for row in holes]
    items: list[Entry | Hole] = [*entries, *parts]
    items.sort(key=first_of, reverse=reverse)
    del items[limit:]
    items.sort(key=first_of)
    return items


async def _part_of(session: Session, log: OpenLog, hole: Hole, start: int, stop: int) -> Hole:
    """The part of a hole within [start, stop); of its times, those of the whole are the nearest that are known."""
    first, last = max(hole.first, start), min(hole.last, stop - 1)
    if (first, last) == (hole.first, hole.last):
        return hole
    counts = await counting.counts_between(session, log.num, first, last + 1)
    return Hole(
        first, last,
        hole.first_timestamp if first < hole.last else hole.last_timestamp,
        hole.last_timestamp if last == hole.last else hole.first_timestamp,
        log.kinds.named(counts), hole.cut_series, hole.lost_series,
    )  # fmt: skip


# ── Series ────────────────────────────────────────────────────────────────────────────────────────────────────────


async def series(session: Session, task_id: str, epoch: int | None) -> SeriesPage:
    """See LogReader.series."""
    log = await open_log(session, task_id, epoch)
    return SeriesPage(log.epoch, log.last_index, await _states(session, log))


async def _states(session: Session, log: OpenLog) -> dict[str, SeriesState]:
    return dict(series_of(row, log.kinds) for row in await session.rows(_SERIES, log.num))


async def fold(session: Session, task_id: str, series_id: str, index: int, epoch: int | None) -> Any:
    """See LogReader.fold."""
    log = await open_log(session, task_id, epoch)
    row = await session.row(f"SELECT {ENTRY_COLUMNS} FROM taskcast.events WHERE task = %s AND idx = %s", log.num, index)
    entry = entry_of(row, log.origins, log.kinds) if row else None
    if entry is None or entry.series_id != series_id or entry.run is None:
        raise NotRetained(task_id, index)
    if entry.end is None:
        return folded(entry.draft, None)
    found = await session.row(_RUN, log.num, pack(series_id), entry.run, max(entry.end, 1))
    text = unpack(found[0] or b"")[: entry.end] if found else ""
    if len(text) < entry.end:
        raise NotRetained(task_id, index)
    return folded(entry.draft, text)


# ── Copies ────────────────────────────────────────────────────────────────────────────────────────────────────────


async def copy(session: Session, task_id: str, keep_last: int) -> LogCopy | None:
    """See LongTermStore.copy."""
    head = await session.row("SELECT record, rev, last_timestamp FROM taskcast.tasks WHERE id = %s", pack(task_id))
    if head is None:
        return None
    log = await open_log(session, task_id, None)
    items: list[Entry | Hole] = []
    if keep_last > 0 and log.last_index >= 0:
        items = await _items(session, log, 0, log.last_index + 1, keep_last, COPY_BYTES, reverse=True)
    first = first_of(items[0]) if items else log.last_index + 1
    base = log.kinds.named(await counting.counts_before(session, log.num, first))
    texts: dict[str, dict[int, str]] = {}
    for series_id, run, text in await session.rows(_RUNS, log.num):
        texts.setdefault(unpack(series_id), {})[run] = unpack(text)
    states = await _states(session, log)
    return LogCopy(
        wire.decode(head[0], Record), head[1], log.segments, tuple(items), first, log.last_index, head[2], base,
        tuple(SeriesCopy(name, state, texts.get(name, {})) for name, state in states.items()),
    )  # fmt: skip


# ── Positions ─────────────────────────────────────────────────────────────────────────────────────────────────────


async def count(session: Session, task_id: str, view: View, before: int, epoch: int | None) -> int:
    """See LogReader.count."""
    log = await open_log(session, task_id, epoch)
    before = min(max(before, 0), log.last_index + 1)
    if view.is_everything:
        return before
    return _visible(log, view)(await counting.counts_before(session, log.num, before))


def _visible(log: OpenLog, view: View) -> Callable[[Counts], int]:
    """How many of so many entries of each kind a view lets through."""
    kinds = {number for number, kind in enumerate(log.kinds.names) if view.matches(*kind)}
    return lambda counts: sum(n for number, n in counts.items() if number in kinds)


async def seek(session: Session, task_id: str, view: View, position: int, epoch: int | None) -> int | None:
    """See LogReader.seek."""
    log = await open_log(session, task_id, epoch)
    if view.is_everything:
        return position if 0 <= position <= log.last_index else None
    total = _visible(log, view)
    if position < 0 or total(await counting.counts_before(session, log.num, log.last_index + 1)) <= position:
        return None
    return await counting.seek(session, log.num, log.last_index, total, position)


async def seek_time(session: Session, task_id: str, timestamp: int, epoch: int | None) -> int:
    """See LogReader.seek_time."""
    log = await open_log(session, task_id, epoch)
    found = await _newest_entry(session, log, timestamp)
    hole = await session.row(
        "SELECT last, first_timestamp, last_timestamp FROM taskcast.holes WHERE task = %s AND first = %s",
        log.num, found + 1,
    )  # fmt: skip
    if hole is None or hole[1] > timestamp:
        return found
    last: int = hole[0]
    return last if hole[2] <= timestamp else last - 1


async def _newest_entry(session: Session, log: OpenLog, timestamp: int) -> int:
    """The newest entry that is old enough; times never decrease, so that checkpoints tell where to look."""
    low = await session.row(
        "SELECT idx FROM taskcast.checkpoints WHERE task = %s AND ts <= %s ORDER BY ts DESC, idx DESC LIMIT 1",
        log.num, timestamp,
    )  # fmt: skip
    high = await session.row(
        "SELECT idx FROM taskcast.checkpoints WHERE task = %s AND ts > %s ORDER BY ts, idx LIMIT 1", log.num, timestamp
    )
    start, stop = low[0] if low else 0, high[0] if high else log.last_index + 1
    found: Row | None = await session.row(
        "SELECT idx FROM taskcast.events WHERE task = %s AND idx >= %s AND idx < %s AND ts <= %s "
        "ORDER BY idx DESC LIMIT 1",
        log.num, start, stop, timestamp,
    ) or await session.row(
        "SELECT idx FROM taskcast.events WHERE task = %s AND idx < %s ORDER BY idx DESC LIMIT 1", log.num, start
    )  # fmt: skip
    return found[0] if found else -1


async def locate(session: Session, task_id: str, event_id: str, epoch: int | None) -> int | None:
    """See LogReader.locate."""
    log = await open_log(session, task_id, epoch)
    given = await session.row(
        "SELECT idx FROM taskcast.events WHERE task = %s AND given_id = %s", log.num, pack(event_id)
    )
    if given is not None:
        return int(given[0])
    place = parse_event_id(event_id)
    if place is None or place.index > log.last_index:
        return None
    row = await session.row(
        "SELECT ts, given_id FROM taskcast.events WHERE task = %s AND idx = %s", log.num, place.index
    )
    if row is not None:
        return place.index if log.origins.id_of(place.index, *row) == event_id else None
    hole = await session.row(
        "SELECT first_timestamp, last_timestamp FROM taskcast.holes WHERE task = %s AND last >= %s "
        "ORDER BY last LIMIT 1",
        log.num, place.index,
    )  # fmt: skip
    fits = hole is not None and hole[0] <= place.timestamp <= hole[1]
    return place.index if fits and place.salt == log.origins.at(place.index).salt else None
