"""Lanes, timers and dead letters. Each means what the memory store's verb means."""

# ruff: noqa: S608 - statements are put together from constants; all values are bound

from __future__ import annotations

import sqlite3

from taskcast_core import wire
from taskcast_core.builtin.sqlite.rows import OPEN, RESTORED, STORED_COLUMNS, stored_of
from taskcast_core.builtin.sqlite.session import Session
from taskcast_core.contracts.followers import Backlog, DeadLetter, Dirty, Due, FollowerKind
from taskcast_core.contracts.task_log import Stored, TimerKind
from taskcast_core.errors import TicketRefused
from taskcast_core.ids import new_ulid
from taskcast_core.packing import pack, unpack

# ── Lanes ─────────────────────────────────────────────────────────────────────────────────────────────────────────


def claim_dirty(session: Session, kind: FollowerKind, limit: int, lease_ms: int) -> list[Dirty]:
    """See Followers.claim_dirty. A leased lane goes to the end of the line."""
    now = session.now_ms()
    rows = session.rows(
        "SELECT l.task_num, t.id, l.name, t.epoch, l.cursor, l.rev, l.attempt, t.rev, t.state "
        "FROM lanes l JOIN tasks t ON t.num = l.task_num "
        "WHERE l.kind = ? AND l.turn IS NOT NULL AND l.held_until <= ? AND t.state != ? ORDER BY l.turn LIMIT ?",
        (kind, now, RESTORED, limit),
    )
    claimed: list[Dirty] = []
    for num, task_id, name, epoch, cursor, lane_rev, attempt, rev, state in rows:
        token = new_ulid(now)
        session.execute(
            "UPDATE lanes SET token = ?, held_until = ?, turn = ? WHERE task_num = ? AND name = ?",
            (token, now + lease_ms, session.next_turn(), num, name),
        )
        is_deleted = state != OPEN
        claimed.append(Dirty(token, unpack(task_id), name, epoch, cursor, lane_rev, attempt, rev, deleted=is_deleted))
    return claimed


def _held(session: Session, dirty: Dirty) -> int:
    """The number of the task of a lane that is still leased to the caller.

    Raises:
        TicketRefused: it is not.
    """
    row = session.row(
        "SELECT l.task_num FROM lanes l JOIN tasks t ON t.num = l.task_num "
        "WHERE t.id = ? AND l.name = ? AND l.token = ? AND l.held_until > ?",
        (pack(dirty.task_id), dirty.lane, dirty.token, session.now_ms()),
    )
    if row is None:
        raise TicketRefused("the lease of the lane")
    num: int = row[0]
    return num


def renew(session: Session, dirty: Dirty, lease_ms: int) -> None:
    """See Followers.renew."""
    session.execute(
        "UPDATE lanes SET held_until = ? WHERE task_num = ? AND name = ?",
        (session.now_ms() + lease_ms, _held(session, dirty), dirty.lane),
    )


def ack(session: Session, dirty: Dirty, last_index: int, rev: int) -> None:
    """See Followers.ack."""
    num = _held(session, dirty)
    newer = session.row(
        "SELECT 1 FROM heads h JOIN tasks t ON t.num = h.task_num WHERE t.num = ? AND (h.last_index > ? OR t.rev > ?)",
        (num, last_index, rev),
    )
    session.execute(
        "UPDATE lanes SET cursor = ?, rev = ?, attempt = 0, token = '', held_until = 0, dirty_since = ?, "
        "turn = CASE WHEN ? THEN turn END WHERE task_num = ? AND name = ?",
        (last_index, rev, session.now_ms() if newer else None, bool(newer), num, dirty.lane),
    )
    if not newer:
        session.unmarked(dirty.task_id, dirty.lane)


def defer(session: Session, dirty: Dirty, last_index: int, attempt: int, until: int) -> None:
    """See Followers.defer."""
    session.execute(
        "UPDATE lanes SET cursor = ?, attempt = ?, token = '', held_until = ? WHERE task_num = ? AND name = ?",
        (last_index, attempt, until, _held(session, dirty), dirty.lane),
    )


def have_passed(connection: sqlite3.Connection, num: int, stored: Stored) -> bool:
    """Whether every lane of a task has everything."""
    rows = connection.execute("SELECT name, cursor, rev FROM lanes WHERE task_num = ?", (num,))
    lanes = {name: (cursor, rev) for name, cursor, rev in rows}
    return all(lanes.get(name) == (stored.last_index, stored.rev) for name in stored.record.lanes)


def has_passed(connection: sqlite3.Connection, task_id: str) -> bool:
    """See Followers.has_passed."""
    row = connection.execute(
        f"SELECT {STORED_COLUMNS}, t.num FROM tasks t JOIN heads h ON h.task_num = t.num "
        "WHERE t.id = ? AND t.state != ?",
        (pack(task_id), RESTORED),
    ).fetchone()
    return row is None or have_passed(connection, row[6], stored_of(row))


def backlog(connection: sqlite3.Connection, kind: FollowerKind, now: int) -> Backlog:
    """See Followers.backlog."""
    lanes, events, oldest = connection.execute(
        "SELECT count(*), total(max(0, h.last_index - l.cursor)), min(l.dirty_since) "
        "FROM lanes l JOIN heads h ON h.task_num = l.task_num WHERE l.kind = ? AND l.turn IS NOT NULL",
        (kind,),
    ).fetchone()
    return Backlog(lanes, int(events), 0 if oldest is None else max(0, now - oldest))


# ── Dead letters ──────────────────────────────────────────────────────────────────────────────────────────────────

_LETTER = "id, task_id, lane, idx, created_at, detail"


def _letter(row: tuple[bytes, bytes, str, int, int, bytes]) -> DeadLetter:
    letter_id, task_id, lane, index, created_at, detail = row
    return DeadLetter(unpack(letter_id), unpack(task_id), lane, index, created_at, wire.loads(detail))


def add_dead_letter(session: Session, letter: DeadLetter) -> None:
    """See Followers.add_dead_letter."""
    session.execute(
        f"INSERT INTO letters ({_LETTER}) VALUES (?, ?, ?, ?, ?, ?) ON CONFLICT DO NOTHING",
        (
            pack(letter.id), pack(letter.task_id), letter.lane, letter.index, letter.created_at,
            wire.dumps(letter.detail),
        ),
    )  # fmt: skip


def dead_letters(connection: sqlite3.Connection, limit: int, after: str | None) -> list[DeadLetter]:
    """See Followers.dead_letters."""
    rows = connection.execute(
        f"SELECT {_LETTER} FROM letters WHERE id > ? ORDER BY id LIMIT ?", (pack(after or ""), limit)
    )
    return [_letter(row) for row in rows]


def take_dead_letter(session: Session, letter_id: str) -> DeadLetter | None:
    """See Followers.take_dead_letter."""
    row = session.row(f"SELECT {_LETTER} FROM letters WHERE id = ?", (pack(letter_id),))
    if row is None:
        return None
    session.execute("DELETE FROM letters WHERE id = ?", (pack(letter_id),))
    return _letter(row)


# ── Timers ────────────────────────────────────────────────────────────────────────────────────────────────────────


def due(session: Session, kind: TimerKind, limit: int, lease_ms: int) -> list[Due]:
    """See Deadlines.due."""
    now = session.now_ms()
    rows = session.rows(
        "SELECT r.task_num, t.id, r.due_at FROM timers r JOIN tasks t ON t.num = r.task_num "
        "WHERE r.kind = ? AND r.due_at <= ? AND r.hidden_until <= ? ORDER BY r.due_at, t.id LIMIT ?",
        (kind, now, now, limit),
    )
    for num, _, _ in rows:
        session.execute(
            "UPDATE timers SET hidden_until = ? WHERE task_num = ? AND kind = ?", (now + lease_ms, num, kind)
        )
    return [Due(unpack(task_id), kind, due_at) for _, task_id, due_at in rows]


def next_due(connection: sqlite3.Connection, kind: TimerKind) -> int | None:
    """See Deadlines.next_due."""
    found: int | None = connection.execute("SELECT min(due_at) FROM timers WHERE kind = ?", (kind,)).fetchone()[0]
    return found
