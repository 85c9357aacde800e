"""One channel per followed task: a bounded ring of its newest entries, and the readers that wait for more.

A reader is only a cursor. All readers of a channel are woken by one call, at once when the channel was idle and then at
most once per flush interval; readers of one view at one position share one batch. The hub learns of new entries from
this process' own commits and from bells, in any order: appending is idempotent by index, and what is missing in between
is read from the store.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Sequence
from contextlib import asynccontextmanager
from typing import Any, Protocol, TypeVar

from attrs import define, field

from taskcast_core.contracts.broadcast import ALL_TASKS, Bell, Broadcast, Listener
from taskcast_core.contracts.log_reader import LogReader
from taskcast_core.contracts.task_log import Held, Segment, Stored, TaskLog
from taskcast_core.entries import Entry
from taskcast_core.errors import EpochChanged, NotHot, NotRetained, StoreUnavailable, TaskNotFound
from taskcast_core.meters import Meters
from taskcast_core.models import TaskStatus
from taskcast_core.ring import Ring
from taskcast_core.states import TERMINAL
from taskcast_core.stopping import stop

T = TypeVar("T")

_log = logging.getLogger(__name__)
_FOLDS = 32  # folded payloads remembered per channel
_STEPS = 32  # shared batches remembered per channel


@define
class HubSettings:
    """Bounds and rhythm of the hub.

    Attributes:
        ring_entries, ring_bytes: what a channel keeps of its log; a reader further behind reads from the store.
        flush_interval_ms: at most one wake-up per channel in this time; 0 wakes at every commit.
        check_interval_s: followed tasks that were silent for so long are compared with the store's heads.
    """

    ring_entries: int = 2048
    ring_bytes: int = 4 << 20
    flush_interval_ms: float = 2.0
    check_interval_s: float = 1.0


class Waiter(Protocol):
    """Something that wants to know when a channel has news."""

    def wake(self) -> None:
        """There may be more to read. Must not block; may be called when there is nothing."""


@define(eq=False)
class Channel:
    """A followed task. ``head`` is the newest index up to which the channel knows the log without a gap."""

    task_id: str
    segments: tuple[Segment, ...]
    head: int
    status: TaskStatus
    ring: Ring
    rumour: int = -1  # newest index that somebody spoke of
    measured: int = -1  # newest index whose way to the readers was timed
    readers: set[Waiter] = field(factory=set)
    waiting: set[Waiter] = field(factory=set)
    steps: dict[object, object] = field(factory=dict)
    shared: dict[int, tuple[object, object]] = field(factory=dict)
    making: dict[object, asyncio.Future[Any]] = field(factory=dict)
    folds: dict[int, asyncio.Future[Any]] = field(factory=dict)
    last_news: float = 0.0
    last_flush: float = 0.0
    flush: asyncio.TimerHandle | None = None
    repair: asyncio.Task[None] | None = None
    is_lost: bool = False

    @property
    def epoch(self) -> int:
        """The log's current epoch."""
        return self.segments[-1].epoch

    @property
    def is_ended(self) -> bool:
        """Whether the task has ended and the channel knows its last entry."""
        return self.status in TERMINAL and self.head >= self.rumour

    def remember(self, key: object, step: object) -> None:
        """Keep what readers at equal places share, until there is news."""
        while len(self.steps) >= _STEPS:
            del self.steps[next(iter(self.steps))]
        self.steps[key] = step

    def share(self, place: object, step: object) -> None:
        """Keep what readers at the very same place share, until there is news; the place is kept, so its id is too."""
        while len(self.shared) >= _STEPS:
            del self.shared[next(iter(self.shared))]
        self.shared[id(place)] = place, step


class Hub:
    """The channels of one process."""

    def __init__(
        self,
        log: TaskLog,
        reader: LogReader,
        broadcast: Broadcast,
        find: Callable[[str], Awaitable[Stored | None]],
        settings: HubSettings | None = None,
    ) -> None:
        self._log, self._reader, self._broadcast, self._find = log, reader, broadcast, find
        self.settings = settings or HubSettings()
        self.meters: Meters | None = None
        self._channels: dict[str, Channel] = {}
        self._opening: dict[str, asyncio.Future[None]] = {}
        self._joining: dict[str, set[Waiter]] = {}  # who waits for a channel to be opened
        self._overheard: set[str] = set()  # tasks of which a bell rang while their channel was being opened
        self._listener: Listener | None = None
        self._firehose: set[FirehoseReader] = set()
        self._callbacks: dict[str, list[Callable[[Bell], None]]] = {}
        self._tasks: set[asyncio.Task[Any]] = set()

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Listen to bells while open; at the end all readers are released."""
        self._loop = asyncio.get_running_loop()
        async with self._broadcast.listen(self.on_bell, self.on_absence) as listener:
            self._listener = listener
            checker = self._loop.create_task(self._check_heads_forever())
            try:
                yield
            finally:
                await stop((checker, *self._tasks))
                self._listener = None
                for channel in list(self._channels.values()):
                    self._lose(channel)
                for reader in list(self._firehose):
                    reader.close()

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
            await self.once(ended, "exists", lambda: self._check_exists(ended))
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
            self._spawn(self._unfollow(task_id))

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
        stored = await self._stored(task_id)
        ring = Ring(stored.last_index + 1, self.settings.ring_entries, self.settings.ring_bytes)
        channel = Channel(task_id, stored.segments, stored.last_index, stored.task.status, ring)
        channel.last_news = self._loop.time()
        channel.readers |= self._joining.pop(task_id, set())
        if channel.readers:
            self._channels[task_id] = channel
            if task_id in self._overheard:  # after the record was read, perhaps
                self._repair(channel)

    def _opened(self, task_id: str, opening: asyncio.Future[None]) -> None:
        """The end of an opening, whatever came of it; those who wait are told by the future."""
        del self._opening[task_id]
        self._overheard.discard(task_id)
        if task_id not in self._channels:
            self._joining.pop(task_id, None)
            self._spawn_unfollow(task_id)
        _retrieve(opening)

    async def _check_exists(self, channel: Channel) -> None:
        try:
            is_same = (await self._stored(channel.task_id)).epoch == channel.epoch
        except TaskNotFound:
            is_same = False
        if not is_same:
            self._lose(channel)

    async def _stored(self, task_id: str) -> Stored:
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
        for reader in self._firehose:
            reader.offer(bell)
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
            self._repair(channel)
            return
        before = channel.head, channel.is_ended
        self._take_status(channel, bell.status, bell.last_index)
        self._extend(channel, bell.entries, bell.last_index)
        if (channel.head, channel.is_ended) != before:  # an echo or a late bell wakes nobody
            self._news(channel)

    def on_absence(self) -> None:
        """Bells may have been missed: look at every head."""
        for channel in self._channels.values():
            channel.last_news = 0.0
        if self._listener is not None:
            self._spawn(self._check_heads(0.0))

    def _take_status(self, channel: Channel, status: TaskStatus, last_index: int) -> None:
        # Bells come in any order; a task that has ended stays so, and nothing is ever appended to it.
        if channel.status not in TERMINAL and last_index >= channel.rumour:
            channel.status = status

    def _extend(self, channel: Channel, entries: Sequence[Entry], last_index: int) -> None:
        channel.rumour = max(channel.rumour, last_index)
        fresh = [entry for entry in entries if entry.index > channel.head]
        if fresh and fresh[0].index == channel.head + 1:
            channel.ring.extend(fresh)
            channel.head = fresh[-1].index
        channel.last_news = self._loop.time()
        if channel.head < channel.rumour:
            self._repair(channel)

    def _news(self, channel: Channel) -> None:
        """Wake the readers: at once after a pause, else when the flush interval is over."""
        if channel.flush is not None:
            return
        now = self._loop.time()
        wait = channel.last_flush + self.settings.flush_interval_ms / 1000 - now
        if wait <= 0:
            self._flush(channel)
        else:
            channel.flush = self._loop.call_later(wait, self._flush, channel)

    def _flush(self, channel: Channel) -> None:
        channel.flush = None
        channel.last_flush = self._loop.time()
        channel.steps.clear()
        channel.shared.clear()
        waiting, channel.waiting = channel.waiting, set()
        for reader in waiting:
            reader.wake()
        newest = channel.ring.newest
        if self.meters is not None and newest is not None and newest.index > channel.measured:
            channel.measured = newest.index
            # The loop runs this behind all that it has just been asked to run: when those readers have written.
            self._loop.call_soon(self._measure, self.meters, newest.timestamp, len(waiting))

    def _measure(self, meters: Meters, published_at: int, readers: int) -> None:
        meters.lag_s.add(max(0, self._log.now_ms() - published_at) / 1000, readers)

    # ── Repair ─────────────────────────────────────────────────────────────────────────────────────────────────────

    def _spawn(self, coroutine: Any) -> None:
        task = self._loop.create_task(coroutine)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    def _repair(self, channel: Channel) -> None:
        """Bring a channel up to date from the store; one repair at a time."""
        if channel.repair is None or channel.repair.done():
            channel.repair = self._loop.create_task(self._catch_up(channel))
            self._tasks.add(channel.repair)
            channel.repair.add_done_callback(self._tasks.discard)

    async def refresh(self, channel: Channel) -> None:
        """Compare a channel with the store now."""
        self._repair(channel)
        assert channel.repair is not None
        await asyncio.wait({channel.repair})

    async def _catch_up(self, channel: Channel) -> None:
        try:
            while True:
                head = channel.head
                await self._compare(channel)
                # Bells that rang meanwhile need another round, as long as there is progress.
                if channel.is_lost or channel.head >= channel.rumour or channel.head == head:
                    break
        except (NotHot, TaskNotFound, EpochChanged):
            self._lose(channel)
        except (StoreUnavailable, NotRetained):
            _log.debug("channel of %s stays behind until the next check", channel.task_id)

    async def _compare(self, channel: Channel) -> None:
        held = channel.head
        (head,) = await self._log.heads([Held(channel.task_id, held)])
        if head is None or head.epoch != channel.epoch:
            stored = await self._stored(channel.task_id)
            if (stored.epoch, stored.last_index, stored.task.status) != (channel.epoch, held, channel.status):
                self._renew(channel, stored)
        elif head.last_index < held or not _agrees(channel, held, head.id_at):
            # The hot store has lost what we have seen: what is left of the log continues in a new epoch.
            _log.warning("log of %s was rewound to %d", channel.task_id, head.last_index)
            founded = await self._log.found_epoch(channel.task_id, head.epoch, head.last_index)
            self._renew(channel, founded or await self._stored(channel.task_id))
        else:
            await self._fill(channel, head.last_index)
            self._take_status(channel, head.status, head.last_index)
            self._news(channel)

    async def _fill(self, channel: Channel, last_index: int) -> None:
        """Read what the ring lacks; whatever it cannot hold is left to the readers, who find it in the store."""
        room = self.settings.ring_entries
        start = max(channel.head, last_index - room)
        while start < last_index:
            page = await self._reader.read(channel.task_id, epoch=channel.epoch, after=start, limit=room)
            if not page.items:
                break
            self._adopt(channel, [item for item in page.items if isinstance(item, Entry)], page.last)
            start = page.last

    def _adopt(self, channel: Channel, entries: Sequence[Entry], last_index: int) -> None:
        """Take entries from the store; where they leave out indexes, the ring begins anew behind the gap."""
        run: list[Entry] = []
        for entry in entries:
            if run and entry.index != run[-1].index + 1:
                run.clear()
            run.append(entry)
        if run and run[0].index == channel.head + 1:
            self._extend(channel, run, last_index)
        elif run and run[-1].index > channel.head:
            channel.ring.restart(run[0].index, run)
            channel.head = run[-1].index
        if last_index > channel.head:  # it ends with holes
            channel.ring.restart(last_index + 1)
            channel.head = last_index
        channel.rumour = max(channel.rumour, last_index)

    def _renew(self, channel: Channel, stored: Stored) -> None:
        """The log continues in another epoch; readers find out by comparing segments."""
        channel.segments, channel.head, channel.status = stored.segments, stored.last_index, stored.task.status
        channel.ring.restart(stored.last_index + 1)
        channel.folds.clear()
        channel.rumour = stored.last_index
        self._news(channel)

    def _lose(self, channel: Channel) -> None:
        """The task is gone (or the hub closes): readers end without a ``done``, unless they have all of it."""
        channel.is_lost = True
        if self._channels.get(channel.task_id) is channel:
            del self._channels[channel.task_id]
            self._spawn_unfollow(channel.task_id)
        self._flush(channel)

    async def _check_heads_forever(self) -> None:
        interval = self.settings.check_interval_s
        while True:
            await asyncio.sleep(interval)
            await self._check_heads(interval)

    async def _check_heads(self, silent_s: float) -> None:
        """Compare channels that were silent for so long with the store: a lost last bell is found here."""
        deadline = self._loop.time() - silent_s
        silent = [c for c in self._channels.values() if c.last_news <= deadline and not c.is_ended]
        if not silent:
            return
        try:
            heads = await self._log.heads([Held(c.task_id, c.head) for c in silent])
        except StoreUnavailable as error:
            _log.warning("heads could not be checked: %s", error)
            return
        for channel, head in zip(silent, heads, strict=True):
            is_current = head is not None and (head.epoch, head.last_index, head.status) == (
                channel.epoch, channel.head, channel.status
            )  # fmt: skip
            if not is_current or not _agrees(channel, channel.head, head.id_at if head else None):
                self._repair(channel)

    # ── Sharing ──────────────────────────────────────────────────────────────────────────────────────────────────────

    def now_ms(self) -> int:
        """The store's time."""
        return self._log.now_ms()

    async def once(self, channel: Channel, key: object, make: Callable[[], Coroutine[Any, Any, T]]) -> T:
        """Make something that several readers of a channel want at the same time only once."""
        future = channel.making.get(key)
        if future is None:
            future = channel.making[key] = self._loop.create_task(make())
            future.add_done_callback(lambda done: (channel.making.pop(key, None), _retrieve(done)))
        result: T = await asyncio.shield(future)
        return result

    async def fold(self, channel: Channel, entry: Entry) -> Entry:
        """An accumulate entry with its series' total as payload; asked of the store once per entry and process."""
        future = channel.folds.get(entry.index)
        if future is None:
            assert entry.series_id is not None
            folding = self._reader.fold(channel.task_id, entry.series_id, entry.index, epoch=channel.epoch)
            future = channel.folds[entry.index] = asyncio.ensure_future(folding)
            while len(channel.folds) > _FOLDS:
                del channel.folds[next(iter(channel.folds))]
            future.add_done_callback(lambda done: _forget_failure(channel, entry.index, done))
        return entry.with_data(await asyncio.shield(future))

    # ── Firehose ───────────────────────────────────────────────────────────────────────────────────────────────────

    async def join_firehose(self, reader: FirehoseReader) -> None:
        """Hear the bells of all tasks."""
        assert self._listener is not None, "the hub is not running"
        self._firehose.add(reader)
        await self._listener.follow((ALL_TASKS,))

    async def leave_firehose(self, reader: FirehoseReader) -> None:
        """Hear them no longer."""
        self._firehose.discard(reader)
        if not self._firehose and self._listener:
            await self._listener.unfollow((ALL_TASKS,))

    @property
    def has_firehose(self) -> bool:
        """Whether somebody in this process listens to all tasks."""
        return bool(self._firehose)


class FirehoseReader(Protocol):
    """Something that hears of every task."""

    def offer(self, bell: Bell) -> None:
        """A task's log grew. Must not block."""

    def close(self) -> None:
        """The hub closes: nothing follows."""


def _agrees(channel: Channel, index: int, id_there: str | None) -> bool:
    """Whether the store's entry at an index is the one that the ring has there (as far as both know one)."""
    newest = channel.ring.newest
    return newest is None or newest.index != index or id_there is None or newest.id == id_there


def _retrieve(future: asyncio.Future[Any]) -> bool:
    """Whether it failed; an exception that all who waited have turned away from is not reported as forgotten."""
    return future.cancelled() or future.exception() is not None


def _forget_failure(channel: Channel, index: int, future: asyncio.Future[Any]) -> None:
    if _retrieve(future):
        channel.folds.pop(index, None)
