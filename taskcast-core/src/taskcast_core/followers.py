"""The loop of a background consumer of logs: claim a dirty lane, read on from its cursor, hand over, acknowledge.

A crash repeats work and never loses any: the cursor moves only by ``ack`` and ``defer``, under a lease. One owner per
lane at a time keeps its order; lanes are worked on side by side, a bounded number at once.
"""

from __future__ import annotations

import asyncio
import heapq
import logging
from collections.abc import Sequence
from contextlib import suppress
from typing import Protocol

from attrs import evolve

from taskcast_core.backoff import Backoff
from taskcast_core.contracts.followers import Dirty, FollowerKind, Followers
from taskcast_core.contracts.hot_store import ShortTermStore
from taskcast_core.contracts.log_reader import LogReader
from taskcast_core.contracts.task_log import Stored, TaskLog
from taskcast_core.entries import Entry, Hole
from taskcast_core.errors import EpochChanged, NotHot, StoreUnavailable, TicketRefused
from taskcast_core.instruments import Instruments
from taskcast_core.observers import Observers
from taskcast_core.stopping import stop
from taskcast_core.values import frozen

_log = logging.getLogger(__name__)

_REMEMBERED = 10_000
"""Put-off lanes that are met on time; those beyond are found by the next look."""
_LATE_S = 0.01
"""Clocks and timers round: a lane is asked for a little after its time, not a little before."""


@frozen
class Progress:
    """How far a handler got with a page.

    Attributes:
        last_index: newest index that is done with. retry_at: the rest waits until then (store's ms), after ``attempt``
        tries; None: all of the page is done.
    """

    last_index: int
    attempt: int = 0
    retry_at: int | None = None


class Host(Protocol):
    """What a handler may use of the engine that runs it."""

    @property
    def store(self) -> ShortTermStore:
        """The hot store."""

    @property
    def observers(self) -> Observers:
        """Whom to tell of what goes wrong."""

    @property
    def instruments(self) -> Instruments:
        """What it is measured and traced with."""

    def now_ms(self) -> int:
        """The store's time."""


class Handler(Protocol):
    """What a follower does with the entries of a lane."""

    kind: FollowerKind

    def attach(self, host: Host) -> None:
        """Called once, by the engine that will run it, before it is handed anything."""

    async def handle(self, dirty: Dirty, stored: Stored | None, items: Sequence[Entry | Hole]) -> Progress:
        """Take the items behind the lane's cursor (possibly none: then only the record is new).

        ``stored`` is None for a task that is being deleted. Must be idempotent: after a crash items come again. After
        an exception the lane is tried again from where it was, when its lease is over.
        """


@frozen
class FollowerSettings:
    """Rhythm and bounds of a follower.

    Attributes:
        poll_s: how often it looks for lanes that other processes marked or put off. lanes: worked on at once.
        page: items read. turn: pages of one lane before its place is kept and others have their turn.
    """

    poll_s: float = 1.0
    lanes: int = 32
    page: int = 200
    turn: int = 10
    lease_ms: int = 10_000


class Follower:
    """Runs one handler over all dirty lanes of its kind."""

    def __init__(
        self,
        log: TaskLog,
        reader: LogReader,
        followers: Followers,
        handler: Handler,
        owner: str,
        observers: Observers,
        settings: FollowerSettings | None = None,
    ) -> None:
        self._log, self._reader, self._followers = log, reader, followers
        self._handler, self._owner, self._observers = handler, owner, observers
        self.settings = settings or FollowerSettings()
        self._news = asyncio.Event()
        self._working: set[asyncio.Task[None]] = set()
        self._put_off: list[float] = []  # a heap: when (loop time) lanes that this process put off may be had again
        self._is_closing = False

    @property
    def operation(self) -> str:
        """What its work is called where something goes wrong."""
        return f"{self._handler.kind} follower"

    def notify(self) -> None:
        """A lane of this kind may have been marked by this process."""
        self._news.set()

    async def run(self) -> None:
        """Follow for ever."""
        backoff = Backoff(first_s=0.2, most_s=30.0)
        try:
            while not self._is_closing:
                self._news.clear()
                try:
                    claimed = await self._claim()
                    backoff.reset()
                except StoreUnavailable as error:
                    _log.warning("%s follower waits: %s", self._handler.kind, error)
                    await backoff.wait()
                    continue
                if not claimed:
                    await self._pause()
            if self._working:
                await asyncio.wait(self._working)
        finally:
            await stop(self._working)

    async def drain(self, deadline_s: float) -> None:
        """Begin nothing new, and let the work that has begun end, for at most so long."""
        self._is_closing = True
        self.notify()
        if self._working:
            await asyncio.wait(self._working, timeout=deadline_s)

    async def _claim(self) -> bool:
        room = self.settings.lanes - len(self._working)
        if room <= 0:
            await asyncio.wait(self._working, return_when=asyncio.FIRST_COMPLETED)
            return True
        claimed = await self._followers.claim_dirty(self._handler.kind, self._owner, room, self.settings.lease_ms)
        for dirty in claimed:
            task = asyncio.get_running_loop().create_task(self._work(dirty))
            self._working.add(task)
            task.add_done_callback(self._finished)
        return bool(claimed)

    def _finished(self, task: asyncio.Task[None]) -> None:
        self._working.discard(task)
        self._news.set()  # the lane may have been marked again meanwhile

    async def _pause(self) -> None:
        """Wait for news, for the next look, or for the first lane that was put off."""
        now = asyncio.get_running_loop().time
        until = now() + self.settings.poll_s
        try:
            async with asyncio.timeout_at(min([until, *self._put_off[:1]])):
                await self._news.wait()
        except TimeoutError:
            pass
        while self._put_off and self._put_off[0] <= now():
            heapq.heappop(self._put_off)

    def _expect(self, at_ms: int) -> None:
        """A lane was put off until then (store's ms)."""
        if len(self._put_off) < _REMEMBERED:
            left_s = max(at_ms - self._log.now_ms(), 0) / 1000
            heapq.heappush(self._put_off, asyncio.get_running_loop().time() + left_s + _LATE_S)

    async def _work(self, dirty: Dirty) -> None:
        holding = asyncio.get_running_loop().create_task(self._hold(dirty))
        try:
            await self._follow(dirty)
        except (TicketRefused, EpochChanged):
            _log.debug("lane %s of %s is somebody else's now", dirty.lane, dirty.task_id)
        except StoreUnavailable as error:
            _log.warning("lane %s of %s waits: %s", dirty.lane, dirty.task_id, error)
        except Exception as error:  # noqa: BLE001 - one lane must not stop the others
            # The lease runs out, and the lane is tried again.
            self._observers.failed(_log, error, f"lane {dirty.lane}", dirty.task_id)
        finally:
            await stop((holding,))

    async def _hold(self, dirty: Dirty) -> None:
        """Keep the lease while the handler works: a page may take longer than that."""
        with suppress(TicketRefused):  # the work itself finds out when it acknowledges
            while True:
                await asyncio.sleep(self.settings.lease_ms / 3000)
                with suppress(StoreUnavailable):
                    await self._followers.renew(dirty, self.settings.lease_ms)

    async def _follow(self, dirty: Dirty) -> None:
        for _ in range(self.settings.turn):
            stored = None if dirty.deleted else await self._log.get(dirty.task_id)
            try:
                page = await self._reader.read(
                    dirty.task_id, epoch=dirty.epoch, after=dirty.cursor, limit=self.settings.page
                )
            except NotHot:
                return  # purged or released under a lane that had nothing left to do
            progress = await self._handler.handle(dirty, stored, page.items)
            rev = stored.rev if stored else dirty.task_rev
            if progress.retry_at is not None:
                await self._followers.defer(dirty, progress.last_index, progress.attempt, progress.retry_at)
                self._expect(progress.retry_at)
                return
            dirty = evolve(dirty, cursor=max(progress.last_index, dirty.cursor), attempt=0)
            if page.last >= page.log_last:
                await self._followers.ack(dirty, dirty.cursor, rev)
                return
            await self._followers.renew(dirty, self.settings.lease_ms)
        await self._followers.defer(dirty, dirty.cursor, 0, self._log.now_ms())
