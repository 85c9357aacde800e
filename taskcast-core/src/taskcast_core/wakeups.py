"""When the readers of a channel are woken: at once after a pause, and then at most once per flush interval."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from taskcast_core.channel import Channel
from taskcast_core.meters import Meters


class Wakeups:
    """Tells readers of news. ``meters``: count how long the news took, where somebody measures."""

    def __init__(self, flush_interval_s: float, now_ms: Callable[[], int]) -> None:
        """``now_ms``: the clock that dates entries."""
        self.meters: Meters | None = None
        self._interval_s, self._now_ms = flush_interval_s, now_ms

    def announce(self, channel: Channel) -> None:
        """There are news: wake the readers now, or when the flush interval is over."""
        if channel.flush is not None:
            return
        loop = asyncio.get_running_loop()
        now = loop.time()
        wait = channel.last_flush + self._interval_s - now
        if wait <= 0:
            self._flush(channel, loop, now)
        else:
            channel.flush = loop.call_later(wait, self.flush, channel)

    def flush(self, channel: Channel) -> None:
        """Wake them now."""
        loop = asyncio.get_running_loop()
        self._flush(channel, loop, loop.time())

    def _flush(self, channel: Channel, loop: asyncio.AbstractEventLoop, now: float) -> None:
        channel.flush = None
        channel.last_flush = now
        channel.forget_steps()
        waiting, channel.waiting = channel.waiting, set()
        for reader in waiting:
            reader.wake()
        newest = channel.ring.newest
        if waiting and self.meters is not None and newest is not None and newest.index > channel.measured:
            channel.measured = newest.index
            if len(channel.waiting) == len(waiting):  # they have taken it, and wait again
                self._measure(self.meters, newest.timestamp, len(waiting))
            else:  # the loop runs this behind all that it has just been asked to run: when those readers have written
                loop.call_soon(self._measure, self.meters, newest.timestamp, len(waiting))

    def _measure(self, meters: Meters, published_at: int, readers: int) -> None:
        meters.lag_s.add(max(0, self._now_ms() - published_at) / 1000, readers)
