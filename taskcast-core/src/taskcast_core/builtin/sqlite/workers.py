"""Workers and assignments. Each means what the memory store's verb means."""

# ruff: noqa: S608 - statements are put together from constants; all values are bound

from __future__ import annotations

import sqlite3
from collections.abc import Sequence
from typing import Any

from attrs import evolve

from taskcast_core import wire
from taskcast_core.builtin.memory_queue import queue_key
from taskcast_core.builtin.sqlite.reader import get
from taskcast_core.builtin.sqlite.rows import OPEN, task_of
from taskcast_core.builtin.sqlite.session import Session
from taskcast_core.contracts.workers import Assignment
from taskcast_core.models import AssignMode, Task, Worker
from taskcast_core.packing import pack, unpack

_ASSIGNMENT = "id, task_id, worker_id, cost, assigned_at, lease_until, confirmed, status"
_USED = "(SELECT coalesce(sum(a.cost), 0) FROM assignments a WHERE a.worker_id = w.id)"


def _worker(row: tuple[bytes, int]) -> Worker:
    return evolve(wire.decode(row[0], Worker), used_slots=row[1])


def _assignment(row: tuple[Any, ...]) -> Assignment:
    id_, task_id, worker_id, cost, assigned_at, lease_until, confirmed, status = row
    return Assignment(
        unpack(id_), unpack(task_id), unpack(worker_id), cost, assigned_at, lease_until, bool(confirmed), status
    )


# ── Workers ───────────────────────────────────────────────────────────────────────────────────────────────────────


def get_worker(connection: sqlite3.Connection, worker_id: str) -> Worker | None:
    """See Workers.get_worker."""
    row = connection.execute(f"SELECT w.worker, {_USED} FROM workers w WHERE w.id = ?", (pack(worker_id),)).fetchone()
    return _worker(row) if row else None


def list_workers(connection: sqlite3.Connection) -> list[Worker]:
    """See Workers.list_workers."""
    return [_worker(row) for row in connection.execute(f"SELECT w.worker, {_USED} FROM workers w ORDER BY w.id")]


def put_worker(session: Session, worker: Worker) -> Worker:
    """See Workers.put_worker."""
    session.execute("INSERT OR REPLACE INTO workers VALUES (?, ?)", (pack(worker.id), wire.encode(worker)))
    stored = get_worker(session.connection, worker.id)
    assert stored is not None
    return stored


def remove_worker(session: Session, worker_id: str) -> bool:
    """See Workers.remove_worker."""
    return session.execute("DELETE FROM workers WHERE id = ?", (pack(worker_id),)) > 0


def heartbeat(session: Session, worker_id: str, lease_ms: int) -> Worker | None:
    """See Workers.heartbeat."""
    worker = get_worker(session.connection, worker_id)
    if worker is None:
        return None
    now = session.now_ms()
    session.execute(
        "UPDATE assignments SET lease_until = ?, hidden_until = 0 WHERE worker_id = ? AND confirmed",
        (now + lease_ms, pack(worker_id)),
    )
    return put_worker(session, evolve(worker, last_heartbeat_at=now))


# ── The queue ─────────────────────────────────────────────────────────────────────────────────────────────────────


def queue(connection: sqlite3.Connection, modes: frozenset[AssignMode], limit: int, after: str | None) -> list[Task]:
    """See Workers.queue."""
    last = get(connection, after) if after is not None else None
    place, values = "", list[Any]()
    if last is not None:
        priority, created_at, task_id = queue_key(last.task)
        place, values = "AND (priority, created_at, id) > (?, ?, ?)", [priority, created_at, pack(task_id)]
    rows = connection.execute(
        f"SELECT record FROM tasks t WHERE state = {OPEN} AND status = 'pending' "
        f"AND assign_mode IN ({','.join('?' * len(modes))}) {place} "
        "AND NOT EXISTS (SELECT 1 FROM assignments a WHERE a.task_id = t.id) "
        "ORDER BY priority, created_at, id LIMIT ?",
        (*modes, *values, limit),
    )
    return [task_of(record) for (record,) in rows]


# ── Assignments ───────────────────────────────────────────────────────────────────────────────────────────────────


def reserve_slot(session: Session, wanted: Assignment) -> bool:
    """See Workers.reserve_slot."""
    worker = get_worker(session.connection, wanted.worker_id)
    if worker is None or worker.used_slots + wanted.cost > worker.capacity:
        return False
    task_id, assignment_id = pack(wanted.task_id), pack(wanted.id)
    if session.row("SELECT 1 FROM assignments WHERE task_id = ? OR id = ?", (task_id, assignment_id)):
        return False
    now = session.now_ms()
    session.execute(
        f"INSERT INTO assignments ({_ASSIGNMENT}) VALUES (?, ?, ?, ?, ?, ?, 0, ?)",
        (assignment_id, task_id, pack(wanted.worker_id), wanted.cost, now, now + wanted.lease_until, wanted.status),
    )
    return True


def confirm(session: Session, assignment_id: str) -> bool:
    """See Workers.confirm."""
    return session.execute("UPDATE assignments SET confirmed = 1 WHERE id = ?", (pack(assignment_id),)) > 0


def extend(session: Session, assignment_id: str, lease_ms: int) -> bool:
    """See Workers.extend."""
    until = session.now_ms() + lease_ms
    sql = "UPDATE assignments SET lease_until = ?, hidden_until = 0 WHERE id = ?"
    return session.execute(sql, (until, pack(assignment_id))) > 0


def release_slot(session: Session, assignment_id: str) -> Assignment | None:
    """See Workers.release_slot."""
    row = session.row(f"SELECT {_ASSIGNMENT} FROM assignments WHERE id = ?", (pack(assignment_id),))
    if row is None:
        return None
    session.execute("DELETE FROM assignments WHERE id = ?", (pack(assignment_id),))
    return _assignment(row)


def assignments(connection: sqlite3.Connection, worker_id: str | None, task_id: str | None) -> Sequence[Assignment]:
    """See Workers.assignments."""
    parts = [(column, value) for column, value in (("worker_id", worker_id), ("task_id", task_id)) if value is not None]
    where = " AND ".join(["1", *(f"{column} = ?" for column, _ in parts)])
    rows = connection.execute(
        f"SELECT {_ASSIGNMENT} FROM assignments WHERE {where} ORDER BY num", [pack(value) for _, value in parts]
    )
    return [_assignment(row) for row in rows]


def expired(session: Session, limit: int, lease_ms: int) -> list[Assignment]:
    """See Workers.expired."""
    now = session.now_ms()
    rows = session.rows(
        f"SELECT {_ASSIGNMENT} FROM assignments WHERE lease_until <= ? AND hidden_until <= ? "
        "ORDER BY lease_until, num LIMIT ?",
        (now, now, limit),
    )
    for row in rows:
        session.execute("UPDATE assignments SET hidden_until = ? WHERE id = ?", (now + lease_ms, row[0]))
    return [_assignment(row) for row in rows]
