"""The followed tasks of one process: a channel for each, with the readers that wait for more.

A reader is only a cursor. All readers of a channel are woken by one call; readers of one view at one position share one
batch. The hub learns of new entries from this process' own commits and from bells, in any order: appending is
idempotent by index, and what is missing in between is read from the store.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine
from contextlib import asynccontextmanager
from functools import partial
from typing import Any

from taskcast_core.channel import Channel, Waiter
from taskcast_core.contracts.broadcast import Bell, Broadcast, Listener
from taskcast_core.contracts.log_reader import LogReader
from taskcast_core.contracts.task_log import Stored, TaskLog
from taskcast_core.errors import StoreUnavailable, TaskNotFound
from taskcast_core.firehose import Firehose, FirehoseReader
from taskcast_core.meters import Meters
from taskcast_core.observers import Observers
from taskcast_core.repairs import Repairs
from taskcast_core.ring import Ring
from taskcast_core.sharing import has_failed, once
from taskcast_core.stopping import stop
from taskcast_core.supervision import keep_running
from taskcast_core.values import define
from taskcast_core.wakeups import Wakeups

_log = logging.getLogger(__name__)


@define
class HubSettings:
    """Bounds and rhythm of the hub.

    Attributes:
        ring_entries, ring_bytes: what a channel keeps of its log; a reader further behind reads from the store.
        flush_interval_ms: at most one wake-up per channel in this time; 0 wakes at every commit.
        check_interval_s: how often followed tasks that are silent are compared with the store's heads.
    """

    ring_entries: int = 2048
    ring_bytes: int = 4 << 20
    flush_interval_ms: float = 2.0
    check_interval_s: float = 1.5


class Hub:
    """The channels of one process."""

    def __init__(
        self,
        log: TaskLog,
        reader: LogReader,
        broadcast: Broadcast,
        find: Callable[[str], Awaitable[Stored | None]],
        settings: HubSettings | None,
        observers: Observers,
    ) -> None:
        self._log, self._broadcast, self._find, self._observers = log, broadcast, find, observers
        self.settings = settings or HubSettings()
        self._wakeups = Wakeups(self.settings.flush_interval_ms / 1000, log.now_ms)
        self._repairs = Repairs(self, log, reader, self.settings.ring_entries)
        self._channels: dict[str, Channel] = {}
        self._opening: dict[str, asyncio.Future[None]] = {}
        self._joining: dict[str, set[Waiter]] = {}  # who waits for a channel to be opened
        self._overheard: set[str] = set()  # tasks of which a bell rang while their channel was being opened
        self._listener: Listener | None = None
        self._firehose = Firehose()
        self._callbacks: dict[str, list[Callable[[Bell], None]]] = {}
        self._tasks: set[asyncio.Task[Any]] = set()

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Listen to bells while open; at the end all readers are released."""
        self._loop = asyncio.get_running_loop()
        async with self._broadcast.listen(self.on_bell, self.on_absence) as listener:
            self._listener = listener
            silence = self.settings.check_interval_s
            checking = partial(self._repairs.check_forever, self._channels.values(), silence)
            checker = self._loop.create_task(keep_running("check of heads", checking, self._observers))
            try:
                yield
            finally:
                await stop((checker, *self._tasks))
                self._listener = None
                for channel in list(self._channels.values()):
                    self.lose(channel)
                self._firehose.close()

    @property
    def meters(self) -> Meters | None:
        """What counts readers and their delays, where somebody measures."""
        return self._wakeups.meters

    @meters.setter
    def meters(self, meters: Meters | None) -> None:
        self._wakeups.meters = meters

    @property
    def reads_ahead(self) -> bool:
        """Whether pages are worth asking for early: what processes share is in another one, and has to be fetched."""
        return self._log.is_shared

    def now_ms(self) -> int:
        """The store's time."""
        return self._log.now_ms()

    def spawn(self, coroutine: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        """Run something until it is done, or the hub closes."""
        task = self._loop.create_task(coroutine)
        self._tasks.add(task)
        task.add_done_callback(self._ended)
        return task

    def _ended(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        error = None if task.cancelled() else task.exception()
        if isinstance(error, Exception) and not isinstance(error, StoreUnavailable):
            self._observers.failed(_log, error, "readers' channels")

    # ── Following ──────────────────────────────────────────────────────────────────────────────────────────────────

    def subscribers(self, task_id: str) -> int:
        """How many readers of a task this process has."""
        channel = self._channels.get(task_id)
        return len(channel.readers) if channel else 0

    @property
    def followed(self) -> int:
        """How many tasks this process follows."""
        return len(self._channels)

    @property
    def readers(self) -> int:
        """How many readers of single tasks this process has."""
        return sum(len(channel.readers) for channel in self._channels.values())

    async def join(self, task_id: str, reader: Waiter) -> Channel:
        """Add a reader to the task's channel, which is opened if need be.

        Raises:
            TaskNotFound: there is no such task, hot or cold.
        """
        ended = self._channels.get(task_id)
        if ended is not None and ended.is_ended:
            # A deletion rings no bell: the task may be gone, or another one may have its id by now.
            await once(ended, "exists", lambda: self._check_exists(ended))
        while (channel := self._channels.get(task_id)) is None:
            self._joining.setdefault(task_id, set()).add(reader)
            try:
                await self._open_once(task_id)
            except BaseException:
                self._stay_away(task_id, reader)
                raise
        channel.readers.add(reader)
        return channel

    def leave(self, channel: Channel, reader: Waiter) -> None:
        """Remove a reader; the last one closes the channel."""
        channel.readers.discard(reader)
        channel.waiting.discard(reader)
        if not channel.readers and self._channels.get(channel.task_id) is channel:
            del self._channels[channel.task_id]
            channel.is_lost = True
            if channel.flush is not None:
                channel.flush.cancel()
            self._spawn_unfollow(channel.task_id)

    def _stay_away(self, task_id: str, reader: Waiter) -> None:
        """A reader will not join after all."""
        self._joining.get(task_id, set()).discard(reader)
        if channel := self._channels.get(task_id):
            self.leave(channel, reader)

    def _spawn_unfollow(self, task_id: str) -> None:
        if self._listener is not None:
            self.spawn(self._unfollow(task_id))

    async def _unfollow(self, task_id: str) -> None:
        if task_id not in self._channels and task_id not in self._opening and self._listener:
            await self._listener.unfollow((task_id,))
            if task_id in self._channels or task_id in self._opening:
                await self._listener.follow((task_id,))  # somebody came while we were leaving

    async def _open_once(self, task_id: str) -> None:
        opening = self._opening.get(task_id)
        if opening is None:
            opening = self._opening[task_id] = self._loop.create_task(self._open(task_id))
            opening.add_done_callback(lambda done: self._opened(task_id, done))
        await asyncio.shield(opening)

    async def _open(self, task_id: str) -> None:
        assert self._listener is not None, "the hub is not running"
        await self._listener.follow((task_id,))  # before the head is read, so that no news falls in between
        stored = await self.stored(task_id)
        ring = Ring(stored.last_index + 1, self.settings.ring_entries, self.settings.ring_bytes)
        channel = Channel(task_id, stored.segments, stored.last_index, stored.task.status, ring)
        channel.last_news = self._loop.time()
        channel.readers |= self._joining.pop(task_id, set())
        if channel.readers:
            self._channels[task_id] = channel
            if task_id in self._overheard:  # after the record was read, perhaps
                self._repairs.begin(channel)

    def _opened(self, task_id: str, opening: asyncio.Future[None]) -> None:
        """The end of an opening, whatever came of it; those who wait are told by the future."""
        del self._opening[task_id]
        self._overheard.discard(task_id)
        if task_id not in self._channels:
            self._joining.pop(task_id, None)
            self._spawn_unfollow(task_id)
        has_failed(opening)

    async def _check_exists(self, channel: Channel) -> None:
        try:
            is_same = (await self.stored(channel.task_id)).epoch == channel.epoch
        except TaskNotFound:
            is_same = False
        if not is_same:
            self.lose(channel)

    def lose(self, channel: Channel) -> None:
        """The task is gone (or the hub closes): readers end without a ``done``, unless they have all of it."""
        channel.is_lost = True
        if self._channels.get(channel.task_id) is channel:
            del self._channels[channel.task_id]
            self._spawn_unfollow(channel.task_id)
        self._wakeups.flush(channel)

    async def stored(self, task_id: str) -> Stored:
        """The task as it is, hot or cold.

        Raises:
            TaskNotFound: there is none.
        """
        stored = await self._find(task_id)
        if stored is None:
            raise TaskNotFound(task_id)
        return stored

    # ── News ───────────────────────────────────────────────────────────────────────────────────────────────────────

    def on_bell(self, bell: Bell) -> None:
        """A bell was heard. Own ones come back this way, too: readers of all tasks hear every bell from here only."""
        if bell.channel != bell.task_id:
            for callback in self._callbacks.get(bell.channel, ()):
                callback(bell)
            return
        self._firehose.offer(bell)
        self.take(bell)

    async def follow_channel(self, channel: str, callback: Callable[[Bell], None]) -> None:
        """Call back for every bell of a channel that is no task's, until the hub closes."""
        assert self._listener is not None, "the hub is not running"
        self._callbacks.setdefault(channel, []).append(callback)
        await self._listener.follow((channel,))

    def take(self, bell: Bell) -> None:
        """Take in news of one task; cheap when nobody follows it."""
        channel = self._channels.get(bell.task_id)
        if channel is None:
            if bell.task_id in self._opening:
                self._overheard.add(bell.task_id)
            return
        if bell.epoch != channel.epoch:
            self._repairs.begin(channel)
            return
        if bell.last_index <= channel.head == channel.rumour and bell.status == channel.status:
            channel.last_news = self._loop.time()  # an echo or a late bell: nothing new
            return
        head, was_ended = channel.head, channel.is_ended
        if bell.status != channel.status:
            channel.take_status(bell.status, bell.last_index)
        channel.extend(bell.entries, bell.last_index)
        channel.last_news = self._loop.time()
        if channel.head < channel.rumour:
            self._repairs.begin(channel)
        if channel.head != head or channel.is_ended != was_ended:
            self._wakeups.announce(channel)

    def announce(self, channel: Channel) -> None:
        """There are news for a channel's readers."""
        self._wakeups.announce(channel)

    def on_absence(self) -> None:
        """Bells may have been missed: look at every head."""
        for channel in self._channels.values():
            channel.last_news = 0.0
        if self._listener is not None:
            self.spawn(self._repairs.check(self._channels.values(), 0.0))

    async def refresh(self, channel: Channel) -> None:
        """Compare a channel with the store now."""
        await asyncio.wait({self._repairs.begin(channel)})

    # ── All tasks ──────────────────────────────────────────────────────────────────────────────────────────────────

    async def join_firehose(self, reader: FirehoseReader) -> None:
        """Hear the bells of all tasks."""
        assert self._listener is not None, "the hub is not running"
        await self._firehose.join(reader, self._listener)

    async def leave_firehose(self, reader: FirehoseReader) -> None:
        """Hear them no longer."""
        await self._firehose.leave(reader, self._listener)

    @property
    def has_firehose(self) -> bool:
        """Whether somebody in this process listens to all tasks."""
        return len(self._firehose) > 0
