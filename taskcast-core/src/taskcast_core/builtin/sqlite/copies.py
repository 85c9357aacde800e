"""Logs that come or go as a whole: copies brought in, logs cut behind an index, entries trimmed away."""

# ruff: noqa: S608 - statements are put together from constants; all values are bound

from __future__ import annotations

from collections.abc import Iterator
from itertools import islice

from taskcast_core import machine, wire
from taskcast_core.builtin.sqlite import holes, pending
from taskcast_core.builtin.sqlite.counting import SPAN
from taskcast_core.builtin.sqlite.hot_logs import HotLog
from taskcast_core.builtin.sqlite.rows import (
    ENTRY_COLUMNS,
    HOLE_COLUMNS,
    MODE_CODES,
    LogNames,
    Row,
    pack_segments,
    position,
)
from taskcast_core.builtin.sqlite.session import Session
from taskcast_core.contracts.task_log import LogCopy, SeriesCopy, Stored, TrimRule
from taskcast_core.entries import Entry, Hole, Origin
from taskcast_core.errors import EpochChanged, NotHot
from taskcast_core.filters import matches_any_type
from taskcast_core.ids import new_salt
from taskcast_core.machine import LogState
from taskcast_core.packing import add_counts, pack, pack_counts, unpack

_ROWS_AT_ONCE = 1_024
_PIECE = 64 << 10


# ── Bringing in ───────────────────────────────────────────────────────────────────────────────────────────────────


def insert(session: Session, copy: LogCopy, state: int) -> HotLog:
    """Write a copy as a task in a state; the id is free."""
    segment = copy.segments[-1]
    stored = Stored(copy.record, copy.segments, copy.rev, copy.last_index, copy.last_timestamp, copy.first_index)
    origin = Origin(copy.record.task.id, segment.epoch, segment.salt)
    series = {one.series_id: one.state for one in copy.series}
    kinds = dict(copy.base_counts)
    for item in copy.items:
        for kind, n in _counts_of(item).items():
            kinds[kind] = kinds.get(kind, 0) + n
    size = sum(len(item.text) for item in copy.items if isinstance(item, Entry))
    log = HotLog.new(session.new_num(), LogState(stored, origin, series, kinds, size))
    pending.insert_task(session.write(), log, state)
    entries = _entry_rows(log, copy)
    while chunk := list(islice(entries, _ROWS_AT_ONCE)):
        session.insert(pending.ENTRIES, chunk)
    session.insert("INSERT OR REPLACE INTO given_ids", _given_ids(log, copy))
    session.insert(f"INSERT INTO holes (task_num, {HOLE_COLUMNS})", _hole_rows(log, copy))
    session.insert(holes.REMOVED, _removed_rows(log, copy))
    session.insert(pending.CHECKPOINTS, _checkpoints(log, copy))
    _insert_series(session, log, copy)
    session.insert(pending.KINDS, [pending.kind_row(log, kind) for kind in log.kinds])
    return log


def _counts_of(item: Entry | Hole) -> dict[machine.Kind, int]:
    return {(item.type, item.level): 1} if isinstance(item, Entry) else item.counts


def _given_id(log: HotLog, entry: Entry) -> str | None:
    """The id that has to be kept, because the log's segments do not give it."""
    if entry.given_id is not None:
        return entry.given_id
    segments = log.state.stored.segments
    salt = next((one.salt for one in reversed(segments) if one.first <= entry.index), None)
    return None if salt == entry.origin.salt else entry.id


def _entry_rows(log: HotLog, copy: LogCopy) -> Iterator[Row]:
    for item in copy.items:
        if isinstance(item, Entry):
            yield pending.entry_row(log, item, _given_id(log, item))


def _given_ids(log: HotLog, copy: LogCopy) -> list[Row]:
    return [
        (log.num, pack(given_id), item.index)
        for item in copy.items
        if isinstance(item, Entry) and (given_id := _given_id(log, item)) is not None
    ]


def _hole_rows(log: HotLog, copy: LogCopy) -> list[Row]:
    return [
        (
            log.num, item.last, item.first, item.first_timestamp, item.last_timestamp,
            pack_counts({log.kind_number(kind): n for kind, n in item.counts.items()}),
            item.cut_series, item.lost_series,
        )
        for item in copy.items
        if isinstance(item, Hole)
    ]  # fmt: skip


def _removed_rows(log: HotLog, copy: LogCopy) -> list[Row]:
    return [
        (position(log.num, one.first), one.n, one.kind)
        for item in copy.items
        if isinstance(item, Hole)
        for one in _stretches(log, item)
    ]


def _stretches(log: HotLog, item: Entry | Hole) -> Iterator[holes.Stretch]:
    """An item of a log, and where it is a hole, what stood in it."""
    if isinstance(item, Entry):
        yield holes.Stretch(item.index, 1, log.kind_number((item.type, item.level)))
    else:
        counts = {log.kind_number(kind): n for kind, n in item.counts.items()}
        yield from holes.spread(item.first, item.last, counts)


def _checkpoints(log: HotLog, copy: LogCopy) -> list[Row]:
    counts = {log.kind_number(kind): n for kind, n in copy.base_counts.items()}
    rows: list[Row] = [(log.num, copy.first_index, pack_counts(counts))] if copy.first_index else []
    for item in copy.items:
        for one in _stretches(log, item):
            if one.first % SPAN == 0 and one.first > copy.first_index:
                rows.append((log.num, one.first, pack_counts(counts)))
            add_counts(counts, {one.kind: one.n})
    return rows


def _insert_series(session: Session, log: HotLog, copy: LogCopy) -> None:
    present = {item.index for item in copy.items if isinstance(item, Entry) and item.series_id is not None}
    rows: list[Row] = []
    for one in copy.series:
        data = None if one.state.last_index in present else wire.dumps(one.state.data)
        rows.append(pending.series_row(log, one.series_id, data))
        number = log.series_number(one.series_id)
        session.insert(pending.TEXTS, [(log.num, number, *piece) for piece in _pieces(one)])
    session.insert(pending.SERIES, rows)


def _pieces(one: SeriesCopy) -> Iterator[Row]:
    for run, text in one.texts.items():
        if run > one.state.run:
            continue
        whole = text[: one.state.length] if run == one.state.run else text
        for start in range(0, len(whole), _PIECE):
            yield run, start, pack(whole[start : start + _PIECE])


# ── Cutting ───────────────────────────────────────────────────────────────────────────────────────────────────────


def found_epoch(session: Session, task_id: str, seen_epoch: int, floor: int) -> Stored | None:
    """See TaskLog.found_epoch."""
    log = session.log(task_id)
    if log is None:
        return None
    stored = log.state.stored
    if stored.epoch != seen_epoch:
        return stored
    last = min(floor, stored.last_index)
    renewed = machine.next_epoch(stored, floor=last, epoch=seen_epoch + 1, salt=new_salt())
    if last < stored.last_index:
        _cut(session, log, last)
    session.execute(
        "UPDATE tasks SET epoch = ?, segments = ? WHERE num = ?",
        (renewed.epoch, pack_segments(renewed.segments), log.num),
    )
    for lane in stored.record.lanes:
        session.execute(
            "UPDATE lanes SET cursor = min(cursor, ?), rev = 0, token = '', held_until = 0 "
            "WHERE task_num = ? AND name = ?",
            (floor, log.num, lane),
        )
    session.mark(log.num, stored.record.lanes)
    session.forget(task_id)
    after = session.log(task_id)
    assert after is not None
    session.publish(after)
    return after.state.stored


def _cut(session: Session, log: HotLog, last: int) -> None:
    num, stored = log.num, log.state.stored
    connection = session.write()
    end = position(num, last)
    connection.execute("DELETE FROM entries WHERE pos > ? AND pos < ?", (end, position(num + 1, 0)))
    connection.execute("DELETE FROM given_ids WHERE task_num = ? AND idx > ?", (num, last))
    connection.execute(
        "DELETE FROM checkpoints WHERE task_num = ? AND idx > ? AND idx > ?", (num, last + 1, stored.first_index)
    )
    holes.cut_behind(connection, num, last)
    _cut_series(session, log, last)
    row = connection.execute(
        "SELECT timestamp FROM entries WHERE pos = ? UNION ALL "
        "SELECT last_timestamp FROM holes WHERE task_num = ? AND last = ?", (end, num, last)
    ).fetchone()  # fmt: skip
    size = connection.execute(
        "SELECT total(length(text)) FROM entries WHERE pos >= ? AND pos <= ?", (position(num, 0), end)
    ).fetchone()[0]
    connection.execute(
        "UPDATE heads SET last_index = ?, last_timestamp = ?, size = ? WHERE task_num = ?",
        (last, row[0] if row else stored.last_timestamp, int(size), num),
    )


def _cut_series(session: Session, log: HotLog, last: int) -> None:
    """Bring those series back to where they stood that have gone on behind the cut."""
    num, stored = log.num, log.state.stored
    cut = {log.series[name]: name for name, state in log.state.series.items() if state.last_index > last}
    if not cut:
        return
    names = LogNames(session.connection, num, stored.task.id, stored.segments)
    numbers = ",".join(map(str, cut))
    rows = session.rows(
        f"SELECT {ENTRY_COLUMNS} FROM entries WHERE pos BETWEEN ? AND ? AND series IN ({numbers}) ORDER BY pos",
        (position(num, 0), position(num, last)),
    )
    states = machine.series_states(names.entry(row) for row in rows)
    for number, name in cut.items():
        state = states.get(name)
        if state is None:
            _drop_series(session, num, number)
            continue
        log.state.series[name] = state
        session.insert(pending.SERIES, [pending.series_row(log, name)])
        session.execute("DELETE FROM texts WHERE task_num = ? AND series = ? AND run > ?", (num, number, state.run))
        if state.length is not None:
            _cut_text(session, (num, number, state.run), state.length)


def _cut_text(session: Session, run: tuple[int, int, int], length: int) -> None:
    where = "task_num = ? AND series = ? AND run = ?"
    session.execute(f"DELETE FROM texts WHERE {where} AND start >= ?", (*run, length))
    row = session.row(f"SELECT start, text FROM texts WHERE {where} ORDER BY start DESC LIMIT 1", run)
    if row is not None:
        session.insert(pending.TEXTS, [(*run, row[0], pack(unpack(row[1])[: length - row[0]]))])


def _drop_series(session: Session, num: int, number: int) -> None:
    session.execute("DELETE FROM series WHERE task_num = ? AND num = ?", (num, number))
    session.execute("DELETE FROM texts WHERE task_num = ? AND series = ?", (num, number))


# ── Trimming ──────────────────────────────────────────────────────────────────────────────────────────────────────


def trim(session: Session, task_id: str, epoch: int, rule: TrimRule, limit: int) -> int:
    """See TaskLog.trim."""
    log = session.log(task_id)
    if log is None:
        raise NotHot(task_id)
    if log.state.stored.epoch != epoch:
        raise EpochChanged(task_id, log.state.stored.epoch)
    doomed = _doomed(session, log, rule, limit)
    if not doomed:
        return 0
    connection = session.write()
    connection.executemany("DELETE FROM entries WHERE pos = ?", [(position(log.num, index),) for index, *_ in doomed])
    lost = _lost(session, log, {series for *_, series, _ in doomed if isinstance(series, int)})
    lost_values = {log.series[name] for name in lost} | {pack(name) for name in lost}
    accumulate = MODE_CODES["accumulate"]
    holes.dig(
        connection,
        {
            log.num: [
                holes.Removed(index, at, kind, cut=mode == accumulate, lost=series in lost_values)
                for index, at, kind, series, mode in doomed
            ]
        },
    )
    for name in lost:
        _drop_series(session, log.num, log.series[name])
    _keep_newest(session, log, {index for index, *_ in doomed}, lost)
    session.forget(task_id)
    session.publish(log)
    return len(doomed)


def _doomed(session: Session, log: HotLog, rule: TrimRule, limit: int) -> list[tuple[int, int, int, int | bytes, int]]:
    """The entries to remove: index, timestamp, kind, series and mode, as in their rows."""
    kinds = [
        number
        for (type_, level), number in log.kinds.items()
        if matches_any_type(rule.types, type_) and (rule.levels is None or level in rule.levels)
    ]
    modes = range(len(MODE_CODES)) if rule.series_modes is None else [
        code for mode, code in MODE_CODES.items() if mode in rule.series_modes
    ]  # fmt: skip
    ends = {state.last_index for state in log.state.series.values()} if rule.keep_series_ends else set()
    first = position(log.num, 0)
    rows = session.connection.execute(
        f"SELECT pos - ?, timestamp, kind, series, mode FROM entries WHERE pos BETWEEN ? AND ? "
        f"AND kind IN ({','.join(map(str, kinds))}) AND (mode IS NULL OR mode IN ({','.join(map(str, modes))})) "
        f"AND (? IS NULL OR timestamp < ?) ORDER BY pos",
        (first, first, first + ceiling(session, log), rule.older_than, rule.older_than),
    )
    return list(islice((row for row in rows if row[0] not in ends), limit))


def ceiling(session: Session, log: HotLog) -> int:
    """The newest index that every lane has passed."""
    stored = log.state.stored
    cursors: dict[str, int] = dict(session.rows("SELECT name, cursor FROM lanes WHERE task_num = ?", (log.num,)))
    return min((cursors.get(name, -1) for name in stored.record.lanes), default=stored.last_index)


def _lost(session: Session, log: HotLog, losing: set[int]) -> set[str]:
    """Those of the series that have no entry any more."""
    if not losing:
        return set()
    rows = session.rows(
        f"SELECT DISTINCT series FROM entries WHERE pos BETWEEN ? AND ? AND series IN ({','.join(map(str, losing))})",
        (position(log.num, 0), position(log.num, log.state.stored.last_index)),
    )
    losing -= {number for (number,) in rows}
    return {name for name, number in log.series.items() if number in losing}


def _keep_newest(session: Session, log: HotLog, gone: set[int], lost: set[str]) -> None:
    """Keep the payload of series whose newest entry is gone, though others of its entries are not."""
    rows = [
        pending.series_row(log, name, wire.dumps(state.data))
        for name, state in log.state.series.items()
        if state.last_index in gone and name not in lost
    ]
    session.insert(pending.SERIES, rows)
