"""A clock that stands still until a test moves it."""

from __future__ import annotations

import asyncio
import heapq
import itertools

from taskcast_core.clock import Clock

START_MS = 1_750_000_000_000


class ManualClock(Clock):
    """Stands in for the system's clocks; sleepers wake when their time has come."""

    def __init__(self, now_ms: int = START_MS) -> None:
        self._now_ms = now_ms
        self._elapsed_ms = 0
        self._order = itertools.count()
        self._sleepers: list[tuple[int, int, asyncio.Future[None]]] = []

    def now_ms(self) -> int:
        """Wall-clock time: Unix milliseconds."""
        return self._now_ms

    def monotonic(self) -> float:
        """Seconds that have been let pass; stepping the wall clock does not touch it."""
        return self._elapsed_ms / 1000

    async def sleep(self, seconds: float) -> None:
        """Wait until so many seconds have been let pass."""
        if seconds <= 0:
            await asyncio.sleep(0)
            return
        woken: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        wake_at = self._elapsed_ms + max(1, round(seconds * 1000))
        heapq.heappush(self._sleepers, (wake_at, next(self._order), woken))
        await woken

    def advance(self, ms: int) -> None:
        """Let time pass."""
        self._now_ms += ms
        self._elapsed_ms += ms
        while self._sleepers and self._sleepers[0][0] <= self._elapsed_ms:
            _, _, woken = heapq.heappop(self._sleepers)
            if not woken.done():
                woken.set_result(None)

    def step(self, ms: int) -> None:
        """Set the wall clock forwards or back, as an administrator would: no time passes."""
        self._now_ms += ms
