"""The writing half of TaskLog, as operations of the writer thread. Each means what the memory store's verb means."""

# ruff: noqa: S608 - statements are put together from constants; all values are bound

from __future__ import annotations

from collections.abc import Sequence

from attrs import evolve

from taskcast_core import machine
from taskcast_core.builtin.memory_replies import KEPT_REPLIES
from taskcast_core.builtin.sqlite import copies
from taskcast_core.builtin.sqlite.followers import have_passed
from taskcast_core.builtin.sqlite.hot_logs import HotLog
from taskcast_core.builtin.sqlite.pending import insert_task, replace_timers
from taskcast_core.builtin.sqlite.rows import (
    ENTRY_COLUMNS,
    HIDDEN,
    KEY_COLUMNS,
    MAX_INDEX,
    OPEN,
    STORED_COLUMNS,
    LogNames,
    Row,
    key_of,
    key_row,
    position,
    stored_of,
)
from taskcast_core.builtin.sqlite.session import Session
from taskcast_core.contracts.task_log import Change, Committed, Key, LogCopy, Record, Segment, Stored
from taskcast_core.entries import Entry
from taskcast_core.errors import LimitExceeded, NotHot, ReplyExpired, TaskDeleting, TaskExists
from taskcast_core.ids import new_salt
from taskcast_core.machine import KeyRecord
from taskcast_core.packing import pack, unpack

_PRUNE_EVERY = 256


# ── Creating ──────────────────────────────────────────────────────────────────────────────────────────────────────


def reserve(session: Session, key: Key, task_id: str) -> str:
    """See TaskLog.reserve."""
    now = session.now_ms()
    known = session.row("SELECT body_hash, task_id, expires_at FROM reserved WHERE name = ?", (pack(key.name),))
    if known is not None and known[2] > now:
        KeyRecord(key.name, known[0], known[2], 0, 0, 0, None).check(key)
        return unpack(known[1])
    session.execute("DELETE FROM reserved WHERE name = ?", (pack(key.name),))
    session.execute(
        "INSERT INTO reserved (name, body_hash, task_id, expires_at) VALUES (?, ?, ?, ?)",
        (pack(key.name), key.body_hash, pack(task_id), now + key.ttl_ms),
    )
    _prune(session, "reserved", now)
    return task_id


def create(session: Session, record: Record, key: Key | None) -> Committed:
    """See TaskLog.create."""
    now = session.now_ms()
    if key is not None and (known := known_reply(session, key, now)) and known.stored:
        return Committed(known.stored, (), replayed=True)
    epoch = free_epoch(session, record.task.id)
    state = machine.new_state(record, epoch=epoch, salt=new_salt(), now=now)
    log = HotLog.new(session.new_num(), state)
    insert_task(session.write(), log, OPEN)
    show(session, log)
    if key is not None:
        keep_reply(session, KeyRecord(key.name, key.body_hash, now + key.ttl_ms, epoch, 0, 0, state.stored))
    return Committed(state.stored, ())


def load(session: Session, copy: LogCopy, *, overwrite: bool) -> Stored:
    """See TaskLog.load."""
    task_id = copy.record.task.id
    old = session.log(task_id)
    if old is not None and not overwrite:
        raise TaskExists(task_id)
    epoch = old.state.stored.epoch + 1 if old else free_epoch(session, task_id)
    rev = old.state.stored.rev + 1 if old else 1
    if old is not None:
        session.remove(old.num, task_id)
    # Imported ids are kept with the entries; the log itself continues in an epoch of its own.
    log = copies.insert(session, evolve(copy, segments=(Segment(0, epoch, new_salt()),), rev=rev), OPEN)
    show(session, log)
    return log.state.stored


def free_epoch(session: Session, task_id: str) -> int:
    """The epoch in which a new log of this id begins.

    Raises:
        TaskExists, TaskDeleting: see TaskLog.create.
    """
    row = session.row("SELECT state FROM tasks WHERE id = ?", (pack(task_id),))
    if row is not None and row[0] == HIDDEN:
        raise TaskDeleting(task_id)
    if row is not None or session.row("SELECT 1 FROM restores WHERE task_id = ?", (pack(task_id),)):
        raise TaskExists(task_id)
    return (tombstone(session, task_id) or 0) + 1


def tombstone(session: Session, task_id: str) -> int | None:
    """The newest deleted epoch of an id, while it is remembered."""
    row = session.row("SELECT epoch FROM tombstones WHERE task_id = ? AND until > ?", (pack(task_id), session.now_ms()))
    return row[0] if row else None


def show(session: Session, log: HotLog, *, dirty: bool = True) -> None:
    """The task is open from now on: its timers run, its lanes are marked."""
    record = log.state.stored.record
    replace_timers(session.write(), log.num, None, record)
    if dirty:
        session.mark(log.num, record.lanes)
        log.dirty_lanes.update(record.lanes)
    session.adopt(log)


# ── Committing ────────────────────────────────────────────────────────────────────────────────────────────────────


def commit(session: Session, task_id: str, change: Change) -> Committed:
    """See TaskLog.commit."""
    log, key, now = session.log(task_id), change.key, session.now_ms()
    if key is not None:
        known = known_reply(session, key, now) or (log and known_key(session, log, key, now))
        if known:
            known.check(key)
            return _replay(session, task_id, log, known)
    if log is None:
        raise NotHot(task_id)
    outcome = machine.apply(log.state, change, now)
    if outcome.stored.last_index > MAX_INDEX:
        raise LimitExceeded("maxEventsPerTask", MAX_INDEX + 1)
    session.apply(log, outcome, has_record=change.record is not None)
    if change.record is not None and outcome.key is not None:
        keep_reply(session, outcome.key)
    return outcome


def _replay(session: Session, task_id: str, log: HotLog | None, known: KeyRecord) -> Committed:
    if log is None:
        if known.stored is None:
            raise NotHot(task_id)
        return Committed(known.stored, (), replayed=True)
    entries = _between(session, log, known.first_index, known.count)
    stored = log.state.stored
    if known.stored is not None:
        return Committed(known.stored, tuple(entries), replayed=True)
    if stored.epoch != known.epoch or len(entries) < known.count:
        raise ReplyExpired(task_id)
    return Committed(stored, tuple(entries), replayed=True)


def _between(session: Session, log: HotLog, first: int, count: int) -> Sequence[Entry]:
    rows = session.rows(
        f"SELECT {ENTRY_COLUMNS} FROM entries WHERE pos >= ? AND pos < ? ORDER BY pos",
        (position(log.num, first), position(log.num, first + count)),
    )
    stored = log.state.stored
    names = LogNames(session.connection, log.num, stored.task.id, stored.segments)
    return [names.entry(row) for row in rows]


# ── Keys ──────────────────────────────────────────────────────────────────────────────────────────────────────────


def known_key(session: Session, log: HotLog, key: Key, now: int) -> KeyRecord | None:
    """What the task remembers under a key, if its time is not over and it is among the newest."""
    known = session.pending_key(log, key.name)
    if known is None and log.keys:
        row: Row | None = session.peek_row(
            f"SELECT {KEY_COLUMNS} FROM keys WHERE task_num = ? AND name = ? AND num > ?",
            (log.num, pack(key.name), log.keys - machine.NEWEST_KEYS),
        )
        known = key_of(key, row) if row else None
    return known if known is not None and known.expires_at > now else None


def known_reply(session: Session, key: Key, now: int) -> KeyRecord | None:
    """The reply that is kept under a key, if its time is not over.

    Raises:
        IdempotencyConflict: it was for another body.
    """
    row = session.peek_row(
        f"SELECT {KEY_COLUMNS} FROM replies WHERE name = ? AND expires_at > ?", (pack(key.name), now)
    )
    if row is None:
        return None
    known = key_of(key, row)
    known.check(key)
    return known


def keep_reply(session: Session, reply: KeyRecord) -> None:
    """Remember a reply."""
    session.execute("DELETE FROM replies WHERE name = ?", (pack(reply.name),))
    session.execute(
        f"INSERT INTO replies (name, {KEY_COLUMNS}) VALUES (?, ?, ?, ?, ?, ?, ?)", (pack(reply.name), *key_row(reply))
    )
    _prune(session, "replies", session.now_ms())


def _prune(session: Session, table: str, now: int) -> None:
    """Now and then, forget what has expired and what is more than the store remembers."""
    newest = session.row(f"SELECT max(num) FROM {table}")
    if newest is not None and newest[0] % _PRUNE_EVERY == 0:
        session.execute(f"DELETE FROM {table} WHERE expires_at <= ?", (now,))
        session.execute(f"DELETE FROM {table} WHERE num <= ?", (newest[0] - KEPT_REPLIES,))


# ── Deleting ──────────────────────────────────────────────────────────────────────────────────────────────────────


def delete(session: Session, task_id: str, linger_ms: int) -> bool:
    """See TaskLog.delete."""
    log = session.log(task_id)
    if log is None:
        return False
    until = session.now_ms() + linger_ms
    session.execute("UPDATE tasks SET state = ?, linger_until = ? WHERE num = ?", (HIDDEN, until, log.num))
    session.execute("DELETE FROM timers WHERE task_num = ?", (log.num,))
    session.execute("INSERT INTO timers (task_num, kind, due_at) VALUES (?, 'purge', ?)", (log.num, until))
    session.mark(log.num, log.state.stored.record.lanes)
    session.forget(task_id)
    return True


def purge(session: Session, task_id: str, tombstone_ms: int) -> bool:
    """See TaskLog.purge."""
    row = session.row(
        f"SELECT {STORED_COLUMNS}, t.num, t.linger_until FROM tasks t JOIN heads h ON h.task_num = t.num "
        "WHERE t.id = ? AND t.state = ?",
        (pack(task_id), HIDDEN),
    )
    if row is None:
        return True
    stored, num, linger_until = stored_of(row), row[6], row[7]
    now = session.now_ms()
    if linger_until > now or not have_passed(session.connection, num, stored):
        return False
    session.remove(num, task_id)
    session.execute(
        "INSERT OR REPLACE INTO tombstones VALUES (?, ?, ?)", (pack(task_id), stored.epoch, now + tombstone_ms)
    )
    session.execute("DELETE FROM tombstones WHERE until <= ?", (now,))
    return True
