"""Cold, and TaskLog.load: copies that come in whole or not at all."""

from __future__ import annotations

from attrs import evolve

from taskcast_core.contracts.cold import RestoreTicket
from taskcast_core.contracts.task_log import LogCopy, Segment, Stored
from taskcast_core.errors import EpochChanged, NotHot, TaskDeleting, TaskExists, TicketRefused
from taskcast_core.ids import new_salt, new_ulid
from taskcast_redis.codec import stored_of
from taskcast_redis.connection import Argument, RedisConnection
from taskcast_redis.keys import pack
from taskcast_redis.staging import Staging


class Copies:
    """Moving tasks in and out."""

    def __init__(self, connection: RedisConnection) -> None:
        self._connection = connection

    async def _stage(self, tag: str, copy: LogCopy) -> int:
        generation = int(await self._connection.run("generation", [tag]))
        await Staging(self._connection, tag, generation, copy).write()
        return generation

    async def load(self, copy: LogCopy, *, overwrite: bool) -> Stored:
        """See TaskLog."""
        task_id = copy.record.task.id
        tag, salt = self._connection.keys.of(task_id), new_salt()
        # Imported ids are kept with the entries; the log itself continues in an epoch of its own.
        generation = await self._stage(tag, evolve(copy, segments=(Segment(0, 0, salt),)))
        arguments: list[Argument] = [pack(task_id), generation, salt, "1" if overwrite else "0"]
        reply = await self._connection.run_and_wait("load", [tag], arguments)
        if reply[0] == b"exists":
            raise TaskExists(task_id)
        if reply[0] == b"deleting":
            raise TaskDeleting(task_id)
        return stored_of(reply[1])

    async def shed(self, task_id: str, epoch: int, before: int, limit: int) -> int:
        """See Cold."""
        tag = self._connection.keys.of(task_id)
        what, *facts = await self._connection.run("shed", [tag], [pack(task_id), epoch, before, limit])
        if what == b"not_hot":
            raise NotHot(task_id)
        if what == b"epoch":
            raise EpochChanged(task_id, facts[0])
        return int(facts[0])

    async def replace(self, task_id: str, epoch: int, copy: LogCopy) -> Stored | None:
        """See Cold."""
        tag = self._connection.keys.of(task_id)
        generation = await self._stage(tag, copy)
        reply = await self._connection.run_and_wait("replace", [tag], [pack(task_id), epoch, generation])
        return None if reply is None else stored_of(reply)

    async def release(self, task_id: str, epoch: int, last_index: int, rev: int) -> bool:
        """See Cold."""
        tag = self._connection.keys.of(task_id)
        return bool(await self._connection.run_and_wait("release", [tag], [pack(task_id), epoch, last_index, rev]))

    async def begin_restore(self, task_id: str, lease_ms: int) -> RestoreTicket:
        """See Cold."""
        token = new_ulid(self._connection.now_ms())
        tag = self._connection.keys.of(task_id)
        reply = await self._connection.run_and_wait("begin_restore", [tag], [pack(task_id), token, lease_ms])
        if reply[0] == b"exists":
            raise TaskExists(task_id)
        if reply[0] == b"deleting":
            raise TaskDeleting(task_id)
        if reply[0] == b"refused":
            raise TicketRefused("the restore of this task")
        return RestoreTicket(task_id, token)

    async def restore(self, ticket: RestoreTicket, copy: LogCopy) -> None:
        """See Cold."""
        tag = self._connection.keys.of(ticket.task_id)
        generation = await self._stage(tag, copy)
        arguments: list[Argument] = [pack(ticket.task_id), ticket.token, generation, copy.segments[-1].epoch]
        if not await self._connection.run_and_wait("restore", [tag], arguments):
            raise TicketRefused("the restore ticket")

    async def open(self, ticket: RestoreTicket) -> Stored:
        """See Cold."""
        tag = self._connection.keys.of(ticket.task_id)
        reply = await self._connection.run_and_wait("open", [tag], [pack(ticket.task_id), ticket.token])
        if reply is None:
            raise TicketRefused("the restore ticket, or a restored copy")
        return stored_of(reply)
