"""The record beside the log: where the open copy is, timers of cold tasks, deletion, and the workers' audit log."""

# ruff: noqa: S608 - statements are put together from constants; all values are bound

from __future__ import annotations

from collections.abc import Sequence

from taskcast_core import wire
from taskcast_core.contracts.followers import Due
from taskcast_core.contracts.long_term import Watermark
from taskcast_core.contracts.task_log import Record, Stored, TimerKind
from taskcast_core.models import WorkerAudit
from taskcast_core.packing import pack, unpack, within
from taskcast_postgres.database import Session
from taskcast_postgres.rows import STORED_COLUMNS, stored_of

_CHUNK = 20_000
"""Rows of a deleted task that are removed in one transaction, at most."""

OF_A_TASK = ("texts", "series", "holes", "removed", "checkpoints", "dead_rows", "timers")
"""Tables of few rows per task, besides ``events``."""

_AUDIT = (
    "INSERT INTO taskcast.worker_audit (id, worker_id, at, action, data) VALUES (%s, %s, %s, %s, %s) "
    "ON CONFLICT (id) DO NOTHING"
)


async def get(session: Session, task_id: str) -> Stored | None:
    """See LongTermStore.get."""
    row = await session.row(f"SELECT {STORED_COLUMNS} FROM taskcast.tasks WHERE id = %s", pack(task_id))
    return stored_of(row) if row else None


async def watermark(session: Session, task_id: str) -> Watermark | None:
    """See LongTermStore.watermark."""
    row = await session.row("SELECT epoch, last_index, rev, state FROM taskcast.tasks WHERE id = %s", pack(task_id))
    return Watermark(*row) if row else None


async def set_state(session: Session, task_id: str, expected: Watermark, state: str) -> bool:
    """See LongTermStore.set_state."""
    row = await session.row(
        "UPDATE taskcast.tasks SET state = %s "
        "WHERE id = %s AND epoch = %s AND last_index = %s AND rev = %s AND state = %s RETURNING num, record",
        state, pack(task_id), expected.epoch, within(expected.last_index), within(expected.rev), expected.state,
    )  # fmt: skip
    if row is None:
        return False
    await replace_timers(session, row[0], wire.decode(row[1], Record) if state == "cold" else None)
    return True


async def replace_timers(session: Session, num: int, record: Record | None) -> None:
    """Watch the timers of a record; of none, if the open copy is elsewhere."""
    await session.run("DELETE FROM taskcast.timers WHERE task = %s", num)
    timers = record.timers if record is not None else {}
    await session.many(
        "INSERT INTO taskcast.timers (task, kind, due_at) VALUES (%s, %s, %s)",
        [(num, kind, within(due_at)) for kind, due_at in timers.items()],
    )


async def due(session: Session, kind: TimerKind, limit: int) -> list[Due]:
    """See LongTermStore.due."""
    rows = await session.rows(
        "SELECT t.id, w.due_at FROM taskcast.timers w JOIN taskcast.tasks t ON t.num = w.task "
        "WHERE w.kind = %s AND w.due_at <= floor(extract(epoch FROM clock_timestamp()) * 1000)::bigint "
        "ORDER BY w.due_at LIMIT %s",
        kind, limit,
    )  # fmt: skip
    return [Due(unpack(task_id), kind, due_at) for task_id, due_at in rows]


# ── Deleting ──────────────────────────────────────────────────────────────────────────────────────────────────────


async def bury(session: Session, task_id: str, epoch: int) -> None:
    """Forget a task and keep its epochs out; its rows are left over (``remove_leftovers``)."""
    packed = pack(task_id)
    # Whoever is just writing this id for the first time is waited for: a row in its place makes us meet.
    await session.run(
        "INSERT INTO taskcast.tasks (id, epoch, rev, last_index, last_timestamp, segments, kinds, record, status, "
        "created_at, assign_mode, tags) VALUES (%s, 0, 0, -1, 0, '[]', '[]', '', '', 0, '', '{}') "
        "ON CONFLICT (id) DO UPDATE SET id = excluded.id",
        packed,
    )
    await session.run(
        "INSERT INTO taskcast.tombstones (id, epoch) VALUES (%s, %s) "
        "ON CONFLICT (id) DO UPDATE SET epoch = greatest(tombstones.epoch, excluded.epoch), deleted_at = now()",
        packed, epoch,
    )  # fmt: skip
    row = await session.row("DELETE FROM taskcast.tasks WHERE id = %s RETURNING num", packed)
    assert row is not None
    await session.run("DELETE FROM taskcast.timers WHERE task = %s", row[0])
    await session.run("INSERT INTO taskcast.leftovers (task) VALUES (%s)", row[0])


async def remove_leftovers(session: Session) -> bool:
    """Remove some rows of a deleted task; False when there are none left."""
    row = await session.row("SELECT task FROM taskcast.leftovers LIMIT 1 FOR UPDATE SKIP LOCKED")
    if row is None:
        return False
    removed = await session.run(
        "DELETE FROM taskcast.events WHERE task = %s AND idx IN "
        "(SELECT idx FROM taskcast.events WHERE task = %s ORDER BY idx LIMIT %s)",
        row[0], row[0], _CHUNK,
    )  # fmt: skip
    if removed < _CHUNK:
        for table in OF_A_TASK:
            await session.run(f"DELETE FROM taskcast.{table} WHERE task = %s", row[0])
        await session.run("DELETE FROM taskcast.leftovers WHERE task = %s", row[0])
    return True


# ── Audit ─────────────────────────────────────────────────────────────────────────────────────────────────────────


async def write_audit(session: Session, entries: Sequence[WorkerAudit]) -> None:
    """See LongTermStore.write_audit."""
    await session.many(
        _AUDIT,
        [
            (
                pack(one.id), pack(one.worker_id), within(one.timestamp), one.action,
                None if one.data is None else wire.dumps(one.data).decode(),
            )
            for one in entries
        ],
    )  # fmt: skip


async def read_audit(session: Session, worker_id: str, limit: int, before: str | None) -> list[WorkerAudit]:
    """See LongTermStore.read_audit."""
    rows = await session.rows(
        "SELECT id, at, action, data FROM taskcast.worker_audit "
        "WHERE worker_id = %s AND (%s::bytea IS NULL OR id < %s) ORDER BY id DESC LIMIT %s",
        pack(worker_id), None if before is None else pack(before), None if before is None else pack(before), limit,
    )  # fmt: skip
    return [
        WorkerAudit(unpack(id_), worker_id, at, action, None if data is None else wire.loads(data))
        for id_, at, action, data in rows
    ]
