"""Commits on their way: those that queue while a call is in flight travel together in the next one."""

from __future__ import annotations

import asyncio
from collections import OrderedDict, deque
from collections.abc import Callable, Sequence
from functools import partial

from attrs import define
from redis.exceptions import ResponseError

from taskcast_core.contracts.task_log import Change, Committed
from taskcast_core.errors import StoreUnavailable
from taskcast_redis.changes import Hint, Known, Needs, change_arguments, committed
from taskcast_redis.codec import Reply
from taskcast_redis.connection import Argument, RedisConnection
from taskcast_redis.failures import COMMAND

MOST_CHANGES = 256
"""Changes in one call."""

MOST_BYTES = 1 << 20
"""A call is full when the arguments of its changes pass this."""

KNOWN_TASKS = 4_096
"""So many tasks' newest records are known, so that a publish need not bring its record back."""

TRIES = 8
"""So often a change is sent again, because a series went on while its text was looked at."""


@define(eq=False)
class _Waiting:
    tag: str
    arguments: list[Argument]
    size: int
    outcome: asyncio.Future[Reply]


class CommitQueue:
    """All commits of one store. On a single server one call is in flight, on a Cluster one per shard."""

    def __init__(self, connection: RedisConnection) -> None:
        self._connection = connection
        self._lines: dict[str, deque[_Waiting]] = {}
        self._senders: dict[str, asyncio.Task[None]] = {}
        self._waiting = 0
        self._known: OrderedDict[str, Known] = OrderedDict()

    async def close(self) -> None:
        """Wait for the calls in flight; they are bounded in time."""
        await asyncio.gather(*self._senders.values(), return_exceptions=True)

    async def commit(self, task_id: str, change: Change) -> Committed:
        """See TaskLog.commit."""
        hints: Sequence[Hint] = ()
        for _ in range(TRIES):
            known = self._known.get(task_id)
            ring = self._connection.bell_command if self._connection.rings else ""
            arguments = change_arguments(task_id, change, ring=ring, known=known, hints=hints)
            reply = await self._send(self._connection.keys.of(task_id), arguments)
            try:
                done = committed(task_id, change, reply, known)
            except Needs as needs:
                hints = needs.hints
                continue
            if not done.replayed:
                self._learn(task_id, done)
                if ring:
                    self._connection.note_rung(task_id, done.stored.epoch, done.stored.last_index)
            return done
        raise StoreUnavailable(COMMAND, "busy")

    def _learn(self, task_id: str, done: Committed) -> None:
        stored = done.stored
        self._known[task_id] = Known(stored.segments[-1].salt, stored.rev, stored.record)
        self._known.move_to_end(task_id)
        if len(self._known) > KNOWN_TASKS:
            self._known.popitem(last=False)

    async def _send(self, tag: str, arguments: list[Argument]) -> Reply:
        if self._waiting >= self._connection.options.queue_size:
            raise StoreUnavailable(COMMAND, "overloaded")
        loop = asyncio.get_running_loop()
        size = sum(len(each) if isinstance(each, bytes | str) else 8 for each in arguments)
        waiting = _Waiting(tag, arguments, size, loop.create_future())
        name = tag if self._connection.is_cluster else ""
        self._lines.setdefault(name, deque()).append(waiting)
        self._waiting += 1
        if name not in self._senders:
            self._senders[name] = loop.create_task(self._send_all(name))
        # Whoever gives up waiting leaves the change in the line: it is made or not, but the others' are made.
        return await waiting.outcome

    async def _send_all(self, name: str) -> None:
        line = self._lines[name]
        try:
            while line:
                some = self._take(line)
                try:
                    await self._call(some)
                except StoreUnavailable as error:
                    _fail(some, partial(StoreUnavailable, error.dependency, error.kind))
                except ResponseError as error:
                    _fail(some, partial(ResponseError, str(error)))
                except BaseException:  # a defect, or the end of the loop: nobody may wait forever
                    _fail(some, partial(StoreUnavailable, COMMAND, "broken"))
                    raise
        finally:
            del self._lines[name], self._senders[name]
            for one in line:  # only when this task was cancelled
                self._waiting -= 1
                one.outcome.cancel()

    def _take(self, line: deque[_Waiting]) -> list[_Waiting]:
        some: list[_Waiting] = []
        size = 0
        while line and len(some) < MOST_CHANGES and size < MOST_BYTES:
            one = line.popleft()
            self._waiting -= 1
            size += one.size
            some.append(one)
        return some

    async def _call(self, some: Sequence[_Waiting]) -> None:
        tags = {tag: number for number, tag in enumerate(dict.fromkeys(one.tag for one in some), 1)}
        arguments: list[Argument] = [len(some)]
        for one in some:
            arguments.append(tags[one.tag])
            arguments += one.arguments
        reply = await self._connection.run_and_wait("commit", list(tags), arguments)
        for one, outcome in zip(some, reply[1:], strict=True):
            if not one.outcome.done():
                one.outcome.set_result(outcome)


def _fail(some: Sequence[_Waiting], error: Callable[[], Exception]) -> None:
    """Give everybody an error of their own."""
    for one in some:
        if not one.outcome.done():
            one.outcome.set_exception(error())
