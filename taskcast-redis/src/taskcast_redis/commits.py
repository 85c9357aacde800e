"""Commits on their way: those that queue while a call is in flight travel together in the next one."""

from __future__ import annotations

import asyncio
from collections import OrderedDict, deque
from collections.abc import Callable, Sequence
from functools import partial
from itertools import chain, islice

from attrs import Factory, define
from redis.exceptions import ResponseError

from taskcast_core.contracts.task_log import Change, Committed, Stored
from taskcast_core.errors import StoreUnavailable
from taskcast_redis.changes import Asking, Hint, Known, Needs, Sent, committed, sent
from taskcast_redis.codec import Reply
from taskcast_redis.connection import Argument, RedisConnection
from taskcast_redis.failures import COMMAND
from taskcast_redis.keys import pack

MOST_CHANGES = 256
"""Changes in one call."""

MOST_BYTES = 1 << 18
"""A call is full when the arguments of its changes pass this; Redis does nothing else while it makes them."""

FLIGHTS = 2
"""Calls at once over a connection that keeps their order: while Redis is at one, the next is prepared."""

KNOWN_TASKS = 4_096
"""So many tasks' newest records are known, so that a publish need not bring its record back."""

TRIES = 8
"""So often a change is sent again, because a series went on while its text was looked at."""


@define(eq=False)
class _Waiting:
    """A change that waits for its outcome."""

    tag: str
    sent: Sent
    outcome: asyncio.Future[Reply]


@define(eq=False)
class _Line:
    """Changes that wait for their turn, and how many calls are on their way.

    Attributes:
        is_called: somebody will take what waits, when this turn of the loop is over.
    """

    waiting: deque[_Waiting] = Factory(deque)
    flights: int = 0
    is_called: bool = False

    def take(self) -> list[_Waiting]:
        """What goes next."""
        some: list[_Waiting] = []
        size = 0
        while self.waiting and len(some) < MOST_CHANGES and size < MOST_BYTES:
            one = self.waiting.popleft()
            size += one.sent.size
            some.append(one)
        return some


class CommitQueue:
    """All commits of one store: a line of them on a single server, on a Cluster one per shard."""

    def __init__(self, connection: RedisConnection) -> None:
        self._connection = connection
        self._lines: dict[str, _Line] = {}
        self._senders: set[asyncio.Task[None]] = set()
        self._waiting = 0
        self._asking = Asking()
        self._known: OrderedDict[str, Known] = OrderedDict()

    async def close(self) -> None:
        """Wait for the calls in flight; they are bounded in time."""
        await asyncio.gather(*self._senders, return_exceptions=True)

    async def commit(self, task_id: str, change: Change) -> Committed:
        """See TaskLog.commit."""
        connection = self._connection
        hints: Sequence[Hint] = ()
        for _ in range(TRIES):
            known = self._known.get(task_id)
            ring = connection.ringing
            asked = self._asking.text(ring, change.guard, change.limits)
            made = sent(task_id, change, asked=asked, known=known, hints=hints)
            # Whoever gives up waiting leaves the change in the line: it is made or not, but the others' are made.
            reply = await self._put(connection.keys.of(task_id), made)
            try:
                done = committed(made, reply)
            except Needs as needs:
                hints = needs.hints
                continue
            if not done.replayed:
                self._learn(task_id, done.stored)
                if ring:
                    connection.note_rung(task_id, done.stored.epoch, done.stored.last_index)
            return done
        raise StoreUnavailable(COMMAND, "busy")

    def _learn(self, task_id: str, stored: Stored) -> None:
        known = self._known.get(task_id)
        if known is None or not known.is_of(stored):
            self._known[task_id] = Known.of(task_id, stored)
        self._known.move_to_end(task_id)
        if len(self._known) > KNOWN_TASKS:
            self._known.popitem(last=False)

    def _put(self, tag: str, made: Sent) -> asyncio.Future[Reply]:
        """Put a change in line."""
        connection = self._connection
        if self._waiting >= connection.options.queue_size:
            raise StoreUnavailable(COMMAND, "overloaded")
        loop = asyncio.get_running_loop()
        waiting = _Waiting(tag, made, loop.create_future())
        name = tag if connection.is_cluster else ""
        line = self._lines.get(name)
        if line is None:
            line = self._lines[name] = _Line()
        line.waiting.append(waiting)
        self._waiting += 1
        if not line.is_called and line.flights < (FLIGHTS if connection.keeps_order else 1):
            line.is_called = True
            line.flights += 1
            sender = loop.create_task(self._send_all(line))
            self._senders.add(sender)
            sender.add_done_callback(self._senders.discard)
        return waiting.outcome

    async def _send_all(self, line: _Line) -> None:
        some: list[_Waiting] = []
        try:
            line.is_called = False
            while line.waiting:
                some = line.take()
                self._waiting -= len(some)
                try:
                    await self._call(some)
                except StoreUnavailable as error:
                    _fail(some, partial(StoreUnavailable, error.dependency, error.kind))
                except ResponseError as error:
                    _fail(some, partial(ResponseError, str(error)))
        except BaseException:  # a defect, or the end of the loop: nobody may wait forever
            _fail([*some, *line.waiting], partial(StoreUnavailable, COMMAND, "broken"))
            self._waiting -= len(line.waiting)
            line.waiting.clear()
            raise
        finally:
            line.flights -= 1

    async def _call(self, some: Sequence[_Waiting]) -> None:
        runs = _runs_of(some)
        tags: dict[str, int] = {}
        arguments: list[Argument] = [len(runs)]
        for run in runs:
            first = run[0]
            made = first.sent
            known = made.known.text if made.known else ""
            number = tags.setdefault(first.tag, len(tags) + 1)
            arguments += (number, pack(made.task_id), known, made.asked, len(run) if made.appends else 0)
            for one in run:
                arguments += one.sent.arguments
        reply = await self._connection.run_and_wait("commit", list(tags), arguments)
        for one, outcome in zip(chain.from_iterable(runs), islice(reply, 1, None), strict=True):
            if not one.outcome.done():
                one.outcome.set_result(outcome)


def _runs_of(some: Sequence[_Waiting]) -> list[list[_Waiting]]:
    """Changes that only append to one task, of which the same is asked, as a run; others by themselves."""
    runs: list[list[_Waiting]] = []
    open_: dict[str, list[_Waiting]] = {}
    for one in some:
        made = one.sent
        run = open_.get(made.task_id)
        if run is None or not made.appends or made.asked != run[0].sent.asked or made.known is not run[0].sent.known:
            run = []
            runs.append(run)
            if made.appends:
                open_[made.task_id] = run
            else:
                open_.pop(made.task_id, None)
        run.append(one)
    return runs


def _fail(some: Sequence[_Waiting], error: Callable[[], Exception]) -> None:
    """Give everybody an error of their own."""
    for one in some:
        if not one.outcome.done():
            one.outcome.set_exception(error())
