"""Release and restore. Each means what the memory store's verb means."""

from __future__ import annotations

from taskcast_core.builtin.sqlite import copies, log
from taskcast_core.builtin.sqlite.followers import have_passed
from taskcast_core.builtin.sqlite.rows import HIDDEN, OPEN, RESTORED, Row
from taskcast_core.builtin.sqlite.session import Session
from taskcast_core.contracts.cold import RestoreTicket
from taskcast_core.contracts.task_log import LogCopy, Stored
from taskcast_core.errors import TaskDeleting, TaskExists, TicketRefused
from taskcast_core.ids import new_ulid
from taskcast_core.packing import pack


def release(session: Session, task_id: str, epoch: int, last_index: int, rev: int) -> bool:
    """See Cold.release."""
    hot = session.log(task_id)
    if hot is None:
        return False
    stored = hot.state.stored
    is_same = (stored.epoch, stored.last_index, stored.rev) == (epoch, last_index, rev)
    if not is_same or not have_passed(session.connection, hot.num, stored):
        return False
    session.remove(hot.num, task_id)
    return True


def begin_restore(session: Session, task_id: str, lease_ms: int) -> RestoreTicket:
    """See Cold.begin_restore."""
    state = session.row("SELECT state FROM tasks WHERE id = ? AND state != ?", (pack(task_id), RESTORED))
    if state is not None:
        raise TaskDeleting(task_id) if state[0] == HIDDEN else TaskExists(task_id)
    now = session.now_ms()
    running = session.row("SELECT lease_until, task_num FROM restores WHERE task_id = ?", (pack(task_id),))
    if running is not None and running[0] > now:
        raise TicketRefused("the restore of this task")
    if running is not None and running[1] is not None:
        session.remove(running[1], task_id)
    token = new_ulid(now)
    session.execute("INSERT OR REPLACE INTO restores VALUES (?, ?, ?, NULL)", (pack(task_id), token, now + lease_ms))
    return RestoreTicket(task_id, token)


def restore(session: Session, ticket: RestoreTicket, copy: LogCopy) -> None:
    """See Cold.restore."""
    (brought,) = _ticketed(session, ticket)
    tombstone = log.tombstone(session, ticket.task_id)
    if tombstone is not None and copy.segments[-1].epoch <= tombstone:
        raise TicketRefused("an epoch that was not deleted")
    if brought is not None:
        session.remove(brought, ticket.task_id)
    hot = copies.insert(session, copy, RESTORED)
    session.execute("UPDATE restores SET task_num = ? WHERE task_id = ?", (hot.num, pack(ticket.task_id)))


def open_restored(session: Session, ticket: RestoreTicket) -> Stored:
    """See Cold.open."""
    (num,) = _ticketed(session, ticket)
    if num is None:
        raise TicketRefused("a restored copy")
    session.execute("DELETE FROM restores WHERE task_id = ?", (pack(ticket.task_id),))
    session.execute("UPDATE tasks SET state = ? WHERE num = ?", (OPEN, num))
    hot = session.log(ticket.task_id)
    assert hot is not None
    stored = hot.state.stored
    # The copy came from what the lanes had passed.
    session.insert(
        "INSERT OR REPLACE INTO lanes (task_num, name, kind, cursor, rev)",
        [(num, lane, lane.partition(":")[0], stored.last_index, stored.rev) for lane in stored.record.lanes],
    )
    log.show(session, hot, dirty=False)
    return stored


def _ticketed(session: Session, ticket: RestoreTicket) -> Row:
    """The number of the copy that came with a ticket, if one did.

    Raises:
        TicketRefused: it has expired or was replaced.
    """
    row = session.row(
        "SELECT task_num FROM restores WHERE task_id = ? AND token = ? AND lease_until > ?",
        (pack(ticket.task_id), ticket.token, session.now_ms()),
    )
    if row is None:
        raise TicketRefused("the restore ticket")
    return row
