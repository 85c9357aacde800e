"""Which task does which request: those that wait for nothing share one.

A task of asyncio's takes a twentieth of what a publish takes. Requests are done where their turn comes, not where they
are read: while many are read in a row, and many are done in a row, each finds its code in the processor's caches.
"""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine, Generator, Iterable
from contextvars import Context
from typing import Any

from taskcast_core.values import define
from taskcast_server.exchange import Exchange

Doing = Coroutine[Any, Any, None]
"""What does a request, from its beginning to its reply."""
_Request = tuple[Exchange, str, Doing, Context]

_ALONE = 2_000
"""So many requests of a method have tasks of their own behind one that had to wait.

Where the store is elsewhere, all will have to. Finding that out takes the others a turn of the loop more.
"""


class Turns:
    """The requests of one server that are to be done in the loop's next turn.

    They share a task until one of them waits, which then keeps that task: what was the current task for it stays that.
    The others, and the next ones, get tasks of their own.
    """

    def __init__(self, tasks: set[asyncio.Task[None]]) -> None:
        """``tasks``: of all requests; whatever is under way is in there."""
        self._tasks = tasks
        self._next: list[_Request] = []
        self._shared: asyncio.Task[None] | None = None  # that will do them
        self._alone: dict[str, int] = {}

    def __len__(self) -> int:
        """How many wait for the next turn."""
        return len(self._next)

    def add(self, exchange: Exchange, method: str, doing: Doing, context: Context) -> None:
        """Do a request of a method, in a context of its own, soon."""
        left = self._alone.get(method)
        if left:
            self._alone[method] = left - 1
            self._do_alone(exchange, doing, context)
            return
        self._next.append((exchange, method, doing, context))
        if self._shared is not None and self._shared.done():  # it was cancelled before it began
            self._tasks.discard(self._shared)
            self._shared = None
        if self._shared is None:
            # With a name, because one would be made up for it.
            self._shared = asyncio.get_running_loop().create_task(self._do_together(), name="requests")
            self._tasks.add(self._shared)

    def _do_alone(self, exchange: Exchange, doing: Doing, context: Context) -> None:
        task = asyncio.get_running_loop().create_task(doing, name="request", context=context)
        exchange.task = task
        self._tasks.add(task)

    def _do_each_alone(self, requests: Iterable[_Request]) -> None:
        for exchange, _, doing, context in requests:
            self._do_alone(exchange, doing, context)

    async def _do_together(self) -> None:
        task, self._shared = self._shared, None
        requests, self._next = iter(self._next), []
        try:
            for exchange, method, doing, context in requests:
                if not exchange.is_whole:
                    self._do_alone(exchange, doing, context)  # it waits for its client first of all
                    continue
                try:
                    awaited = context.run(doing.send, None)
                except StopIteration:
                    continue
                self._alone[method] = _ALONE
                self._do_each_alone(requests)
                await _Rest(doing, context, awaited)
        finally:
            self._tasks.discard(task)


@define
class _Rest:
    """What a request does from where it waits for the first time."""

    doing: Doing
    context: Context
    awaited: Any

    def __await__(self) -> Generator[Any, Any, None]:
        run, doing, awaited = self.context.run, self.doing, self.awaited
        try:
            while True:
                try:
                    given = yield awaited
                except BaseException as error:  # noqa: BLE001 - whatever it is, it is meant for the request
                    awaited = run(doing.throw, error)
                else:
                    awaited = run(doing.send, given)
        except StopIteration:
            return
