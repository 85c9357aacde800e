"""What happens by time: execution deadlines, wake-ups, cleanup and retention, the end of deletions.

Any node may run this; timers are claimed from the store under a lease, and what is done about one is guarded by the
record it was read from, so that doing it twice does nothing.
"""

from __future__ import annotations

import asyncio
import heapq
import itertools
import logging
from collections.abc import Awaitable, Callable, Mapping, Sequence

from taskcast_core.clock import Clock
from taskcast_core.contracts.followers import Due
from taskcast_core.contracts.hot_store import ShortTermStore
from taskcast_core.contracts.long_term import LongTermStore
from taskcast_core.contracts.task_log import TimerKind
from taskcast_core.errors import StoreUnavailable, TaskcastError
from taskcast_core.log_events import tell_storage
from taskcast_core.observers import Observers
from taskcast_core.values import frozen

_log = logging.getLogger(__name__)

Action = Callable[[Due], Awaitable[bool | None]]
"""What is done about a timer. False: not yet, something else has to happen first."""

_NEARLY_MS = 50
"""A timer that ran out this short a time ago may have run out after the store was asked: clocks tick meanwhile, and a
wait can end a little early."""
_AGAIN_MS = 10
"""When it is asked again for such a one."""
_FIRST_DELAY_S = 0.25
_MOST_DELAYED = 1_000
"""Timers that had to wait and are tried again by this process; the store gives out any one when its lease is over."""


@frozen
class SweepSettings:
    """Rhythm and bounds of the sweeper.

    Attributes:
        interval_s: how often it looks, at the latest; timers set by this process are met on time.
        batch: due timers per look and kind. lease_ms: how long others leave a claimed timer alone.
    """

    interval_s: float = 5.0
    batch: int = 100
    lease_ms: int = 30_000


class Sweeper:
    """Runs the action of each kind of timer that has run out."""

    def __init__(
        self,
        store: ShortTermStore,
        cold: LongTermStore | None,
        clock: Clock,
        actions: Mapping[TimerKind, Action],
        settings: SweepSettings,
        observers: Observers,
    ) -> None:
        self._store, self._cold, self._clock, self._observers = store, cold, clock, observers
        self._actions, self._settings = actions, settings
        self._wanted: float | None = None  # monotonic seconds of the earliest timer that this process knows of
        self._changed = asyncio.Event()
        self._delayed: list[tuple[float, int, float, Due]] = []  # a heap: when (monotonic), number, delay, timer
        self._number = itertools.count()

    def expect(self, in_ms: int) -> None:
        """A timer was set that runs out in so many ms: look then, if that is before the next look."""
        wanted = self._clock.monotonic() + max(in_ms, 0) / 1000
        if self._wanted is None or wanted < self._wanted:
            self._wanted = wanted
            self._changed.set()

    async def run(self) -> None:
        """Sweep for ever; a failing store delays, a failing action concerns its own timer only."""
        while True:
            await self._pause()
            try:
                if done := await self.sweep():
                    tell_storage("storage_lifecycle_tick", logging.DEBUG, timers=done)
            except StoreUnavailable as error:
                tell_storage("storage_lifecycle_error", logging.WARNING, reason=str(error))

    async def _pause(self) -> None:
        ends = self._clock.monotonic() + self._settings.interval_s
        while True:
            self._changed.clear()
            until = ends if self._wanted is None else min(ends, self._wanted)
            wait = until - self._clock.monotonic()
            if wait <= 0:
                break
            try:
                async with asyncio.timeout(wait):
                    await self._changed.wait()
            except TimeoutError:
                break
        self._wanted = None

    async def sweep(self) -> int:
        """Act on everything that is due now, once: how many timers that was.

        Raises:
            StoreUnavailable: the store cannot be asked.
        """
        done = await self._try_again()
        for kind, action in self._actions.items():
            asked_at = self._store.now_ms()
            while due := await self._store.due(kind, self._settings.batch, self._settings.lease_ms):
                await self._act(action, due)
                done += len(due)
                if len(due) < self._settings.batch:
                    break
            if self._cold is not None:  # acting on a cold task brings it back, so it is not seen here again
                asleep = await self._cold.due(kind, self._settings.batch)
                await self._act(action, asleep)
                done += len(asleep)
            upcoming = await self._store.next_due(kind)
            if upcoming is not None and upcoming > asked_at - _NEARLY_MS:
                left_ms = max(upcoming - self._store.now_ms(), _AGAIN_MS)
                self.expect(min(left_ms, int(self._settings.interval_s * 1000)))
        if self._delayed:
            self.expect(int((self._delayed[0][0] - self._clock.monotonic()) * 1000) + 1)
        return done

    async def _try_again(self) -> int:
        """Act on the timers whose actions had to wait, as far as their time has come: how many that was."""
        now, done = self._clock.monotonic(), 0
        while self._delayed and self._delayed[0][0] <= now:
            _, _, delay_s, due = heapq.heappop(self._delayed)
            await self._act(self._actions[due.kind], (due,), 2 * delay_s)
            done += 1
        return done

    def _delay(self, due: Due, delay_s: float) -> None:
        """Keep a timer, in ever longer steps, for about as long as nobody else is given it."""
        if delay_s * 1000 < self._settings.lease_ms / 2 and len(self._delayed) < _MOST_DELAYED:
            at = self._clock.monotonic() + delay_s
            heapq.heappush(self._delayed, (at, next(self._number), delay_s, due))

    async def _act(self, action: Action, due: Sequence[Due], delay_s: float = _FIRST_DELAY_S) -> None:
        for one in due:
            try:
                if await action(one) is False:
                    self._delay(one, delay_s)
            except StoreUnavailable:
                raise
            except TaskcastError as error:
                _log.info("timer %s of %s: %s", one.kind, one.task_id, error)
            except Exception as error:  # noqa: BLE001 - one timer must not stop the others
                self._observers.failed(_log, error, f"timer {one.kind}", one.task_id)
