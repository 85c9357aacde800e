"""Moving a task between the hot and the cold copy without ever having none."""

from __future__ import annotations

from typing import Protocol

from taskcast_core.contracts.task_log import LogCopy, Stored
from taskcast_core.values import frozen


@frozen
class RestoreTicket:
    """The right to bring one task back, for a while; a later ticket of the same task replaces it."""

    task_id: str
    token: str


class Cold(Protocol):
    """The hot side of release and restore. While a ticket's lease runs, the id cannot be created anew."""

    async def shed(self, task_id: str, epoch: int, before: int, limit: int = 2_000) -> int:
        """Let go of the oldest entries, at most ``limit`` and none from ``before`` on: the log's first index then.

        The durable copy has them, as the caller knows. Never passes the slowest lane, and never cuts a hole. Counts
        per kind and every series with its text stay; the idempotency keys of entries that went expire with them.

        Raises:
            NotHot, EpochChanged.
        """

    async def replace(self, task_id: str, epoch: int, copy: LogCopy) -> Stored | None:
        """Put a copy of a later epoch in the place of the open one of ``epoch``; None if that is not there any more.

        Nothing in between is ever seen. Lanes keep their places as far as the copy goes, and all have to look again.
        """

    async def release(self, task_id: str, epoch: int, last_index: int, rev: int) -> bool:
        """Drop the hot copy, if it is still exactly this far and every lane has passed it; else False."""

    async def begin_restore(self, task_id: str, lease_ms: int) -> RestoreTicket:
        """Take the ticket of a task that has no open hot copy.

        Raises:
            TaskExists: it has one. TicketRefused: another ticket's lease is running.
            TaskDeleting: a tombstone keeps this id out.
        """

    async def restore(self, ticket: RestoreTicket, copy: LogCopy) -> None:
        """Bring a copy in. It is not readable or writable before ``open``.

        Raises:
            TicketRefused: the ticket has expired or was replaced; or the copy's epoch is older than a tombstone.
        """

    async def open(self, ticket: RestoreTicket) -> Stored:
        """Make the restored copy the hot one. Its lanes have passed all of it: the copy is what they left behind.

        Raises:
            TicketRefused: see ``restore``; the copy is dropped.
        """
