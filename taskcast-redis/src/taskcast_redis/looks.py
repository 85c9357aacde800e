"""Looks at tasks on their way: those that queue while others are in flight travel together, and equal ones are one."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any

from attrs import Factory, define

from taskcast_core.errors import StoreUnavailable
from taskcast_redis.connection import Argument, Call, RedisConnection
from taskcast_redis.failures import COMMAND

FLIGHTS = 4
"""Calls at once to one server, or for one shard of a Cluster."""

MOST_WEIGHT = 32
"""What one call carries."""

WEIGHTS = {"read": 8, "series_all": 8}
"""Looks whose replies can be large; others weigh 1."""


@define(eq=False)
class _Line:
    """Looks that wait, in order, and how many calls are in flight."""

    waiting: dict[Call, asyncio.Future[Any]] = Factory(dict)
    flights: int = 0

    def take(self) -> list[tuple[Call, asyncio.Future[Any]]]:
        """What goes next."""
        some: list[tuple[Call, asyncio.Future[Any]]] = []
        weight = 0
        while self.waiting and weight < MOST_WEIGHT:
            call = next(iter(self.waiting))
            weight += WEIGHTS.get(call[0], 1)
            some.append((call, self.waiting.pop(call)))
        return some


class LookQueue:
    """All looks of one store at single tasks. A crowd that asks the same at once is one asker."""

    def __init__(self, connection: RedisConnection) -> None:
        self._connection = connection
        self._lines: dict[str, _Line] = {}
        self._senders: set[asyncio.Task[None]] = set()
        self._waiting = 0

    async def close(self) -> None:
        """Wait for the calls in flight; they are bounded in time."""
        await asyncio.gather(*self._senders, return_exceptions=True)

    async def look(self, verb: str, tag: str, arguments: Sequence[Argument]) -> Any:
        """Call the script of a verb that changes nothing.

        Only a look that has not been sent yet is shared: whoever asks sees what was true when it asked, or later.

        Raises:
            StoreUnavailable: see RedisConnection.run; or too many wait already.
        """
        line = self._lines.setdefault(tag if self._connection.is_cluster else "", _Line())
        call: Call = (verb, tag, tuple(arguments))
        outcome = line.waiting.get(call)
        if outcome is None:
            if self._waiting >= self._connection.options.queue_size:
                raise StoreUnavailable(COMMAND, "overloaded")
            outcome = line.waiting[call] = asyncio.get_running_loop().create_future()
            self._waiting += 1
            if line.flights < FLIGHTS:
                line.flights += 1
                sender = asyncio.get_running_loop().create_task(self._send_all(line))
                self._senders.add(sender)
                sender.add_done_callback(self._senders.discard)
        reply = await asyncio.shield(outcome)
        if isinstance(reply, StoreUnavailable):
            raise StoreUnavailable(reply.dependency, reply.kind) from reply
        if isinstance(reply, Exception):
            raise reply
        return reply

    async def _send_all(self, line: _Line) -> None:
        try:
            while line.waiting:
                some = line.take()
                self._waiting -= len(some)
                replies: Sequence[Any] = [StoreUnavailable(COMMAND, "broken")] * len(some)
                try:
                    replies = await self._connection.look([call for call, _ in some])
                except StoreUnavailable as error:
                    replies = [error] * len(some)
                finally:  # after a defect or the end of the loop, too: nobody may wait forever
                    for (_, outcome), reply in zip(some, replies, strict=True):
                        if not outcome.done():
                            outcome.set_result(reply)
        finally:
            line.flights -= 1
