"""Commands over one link that many share: each caller's go out at once, and replies come back in that order."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Sequence
from typing import Any

from attrs import Factory, define
from redis import exceptions as driver

from taskcast_redis.calls import Command
from taskcast_redis.link import Link, pack_command


@define(eq=False)
class _Asked:
    """Commands that were sent.

    Attributes:
        deadline: until when all replies are to be there, in seconds of the loop.
    """

    count: int
    deadline: float
    outcome: asyncio.Future[list[Any]]
    replies: list[Any] = Factory(list)


class Pipe:
    """A link that is opened when it is needed, again after every loss.

    ``connect`` makes a driver's connection. No reply within ``timeout_s`` means that the link is dead.
    """

    def __init__(self, connect: Callable[[], Any], *, connect_timeout_s: float, timeout_s: float) -> None:
        self._connect, self._connect_timeout_s, self._timeout_s = connect, connect_timeout_s, timeout_s
        self._link: Link | None = None
        self._opening: asyncio.Task[Link] | None = None
        self._asked: deque[_Asked] = deque()
        self._timer: asyncio.TimerHandle | None = None

    async def ask(self, commands: Sequence[Command]) -> list[Any]:
        """The replies to some commands; what the server refuses is among them.

        Raises:
            OSError, TimeoutError, driver.ConnectionError: the link was lost; whether the commands were executed is
            unknown. What the driver raises when it cannot connect.
        """
        packed = b"".join(map(pack_command, commands))
        link = self._link or await self._opened()
        link.write(packed)
        loop = asyncio.get_running_loop()
        asked = _Asked(len(commands), loop.time() + self._timeout_s, loop.create_future())
        self._asked.append(asked)
        if self._timer is None:
            self._timer = loop.call_at(asked.deadline, self._look_at_clock)
        return await asked.outcome

    def drop(self) -> None:
        """Do not use the present link again; who waits for it is told now."""
        if self._link is not None:
            self._link.abort(driver.ConnectionError("the connection was given up"))

    async def close(self) -> None:
        """Close for good."""
        if self._opening is not None:
            self._opening.cancel()
            await asyncio.wait([self._opening])
        self.drop()

    # ── Coming and going ──────────────────────────────────────────────────────────────────────────────────────────

    async def _opened(self) -> Link:
        if self._opening is None:
            self._opening = asyncio.get_running_loop().create_task(self._open())
            self._opening.add_done_callback(self._has_opened)
        return await asyncio.shield(self._opening)  # others wait for it, too

    async def _open(self) -> Link:
        link = Link(self._on_reply, self._on_lost)
        connection = self._connect()
        try:
            async with asyncio.timeout(self._connect_timeout_s):
                await link.open(connection)
        except BaseException:
            await connection.disconnect(nowait=True)
            raise
        self._link = link
        return link

    def _has_opened(self, opening: asyncio.Task[Link]) -> None:
        self._opening = None
        if not opening.cancelled():
            opening.exception()  # those who wait are told

    def _on_lost(self, reason: Exception) -> None:
        self._link = None
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        lost, self._asked = self._asked, deque()
        for asked in lost:
            if not asked.outcome.done():
                error = type(reason)(*reason.args)
                error.__cause__ = reason
                asked.outcome.set_exception(error)

    # ── Replies ───────────────────────────────────────────────────────────────────────────────────────────────────

    def _on_reply(self, reply: Any) -> None:
        if not self._asked:
            self.drop()  # nobody has asked
            return
        asked = self._asked[0]
        asked.replies.append(reply)
        if len(asked.replies) == asked.count:
            self._asked.popleft()
            if not asked.outcome.done():
                asked.outcome.set_result(asked.replies)
        if isinstance(reply, driver.ResponseError) and str(reply).startswith("READONLY"):
            self.drop()  # a master no longer: the next link looks for the new one

    def _look_at_clock(self) -> None:
        loop = asyncio.get_running_loop()
        self._timer = None
        if not self._asked:
            return
        first = self._asked[0]
        if loop.time() < first.deadline:
            self._timer = loop.call_at(first.deadline, self._look_at_clock)
        else:  # what lies there unread, because this process was busy, is read before that
            self._timer = loop.call_later(0, self._give_up, first)

    def _give_up(self, first: _Asked) -> None:
        self._timer = None
        if self._asked and self._asked[0] is first and self._link is not None:
            self._link.abort(TimeoutError("no reply in time"))
        else:
            self._look_at_clock()
