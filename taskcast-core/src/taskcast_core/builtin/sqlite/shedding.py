"""Letting go of the oldest entries of a log, and putting another log in its place (see Cold)."""

# ruff: noqa: S608 - statements are put together from constants; all values are bound

from __future__ import annotations

from taskcast_core import wire
from taskcast_core.builtin.sqlite import copies, log, pending
from taskcast_core.builtin.sqlite.counting import counts_before
from taskcast_core.builtin.sqlite.hot_logs import HotLog
from taskcast_core.builtin.sqlite.rows import KEY_COLUMNS, OPEN, position
from taskcast_core.builtin.sqlite.session import Session
from taskcast_core.contracts.task_log import LogCopy, Stored
from taskcast_core.errors import EpochChanged, NotHot
from taskcast_core.packing import pack_counts


def shed(session: Session, task_id: str, epoch: int, before: int, limit: int) -> int:
    """See Cold.shed."""
    hot = session.log(task_id)
    if hot is None:
        raise NotHot(task_id)
    stored = hot.state.stored
    if stored.epoch != epoch:
        raise EpochChanged(task_id, stored.epoch)
    cut = _cut(session, hot, before, limit)
    if cut <= stored.first_index:
        return stored.first_index
    num, connection = hot.num, session.write()
    counts = counts_before(connection, num, cut)
    start, end = position(num, 0), position(num, cut)
    for table in ("entries", "removed"):
        connection.execute(f"DELETE FROM {table} WHERE pos >= ? AND pos < ?", (start, end))
    connection.execute("DELETE FROM holes WHERE task_num = ? AND last < ?", (num, cut))
    connection.execute("DELETE FROM given_ids WHERE task_num = ? AND idx < ?", (num, cut))
    connection.execute("DELETE FROM checkpoints WHERE task_num = ? AND idx <= ?", (num, cut))
    session.insert(pending.CHECKPOINTS, [(num, cut, pack_counts(counts))])
    session.insert(
        pending.SERIES,
        [
            pending.series_row(hot, name, wire.dumps(state.data))
            for name, state in hot.state.series.items()
            if stored.first_index <= state.last_index < cut
        ],
    )
    session.execute("UPDATE tasks SET first_index = ? WHERE num = ?", (cut, num))
    _publish_anew(session, task_id)
    return cut


def _cut(session: Session, hot: HotLog, before: int, limit: int) -> int:
    """Where the log may begin: as far as wanted and passed, and not within a hole."""
    end = min(before, copies.ceiling(session, hot) + 1)
    cut = min(end, hot.state.stored.first_index + limit)
    hole = session.row(
        "SELECT first, last FROM holes WHERE task_num = ? AND last >= ? ORDER BY last LIMIT 1", (hot.num, cut)
    )
    if hole is None or hole[0] >= cut:
        return cut
    return int(hole[1] + 1 if hole[1] < end else hole[0])


def replace(session: Session, task_id: str, epoch: int, copy: LogCopy) -> Stored | None:
    """See Cold.replace."""
    old = session.log(task_id)
    if old is None or old.state.stored.epoch != epoch:
        return None
    session.write()
    kept = session.rows("SELECT name, cursor, attempt FROM lanes WHERE task_num = ?", (old.num,))
    keys = session.rows(f"SELECT name, num, {KEY_COLUMNS} FROM keys WHERE task_num = ?", (old.num,))
    (used,) = session.row("SELECT keys FROM heads WHERE task_num = ?", (old.num,)) or (0,)
    session.remove(old.num, task_id)
    new = copies.insert(session, copy, OPEN)
    stored = new.state.stored
    session.insert(
        "INSERT INTO lanes (task_num, name, kind, cursor, attempt)",
        [
            (new.num, name, name.partition(":")[0], min(cursor, stored.last_index), attempt)
            for name, cursor, attempt in kept
        ],
    )
    session.insert(f"INSERT INTO keys (task_num, name, num, {KEY_COLUMNS})", [(new.num, *key) for key in keys])
    session.execute("UPDATE heads SET keys = ? WHERE task_num = ?", (used, new.num))
    log.show(session, new, dirty=True)
    _publish_anew(session, task_id)
    return stored


def _publish_anew(session: Session, task_id: str) -> None:
    session.forget(task_id)
    after = session.log(task_id)
    assert after is not None
    session.publish(after)
