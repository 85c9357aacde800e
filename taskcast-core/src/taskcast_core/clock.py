"""Time behind one object, so that tests can hold it in their hands."""

from __future__ import annotations

import asyncio
import time


class Clock:
    """The system's clocks. ``taskcast_core.testing.ManualClock`` stands in for it in tests."""

    def now_ms(self) -> int:
        """Wall-clock time: Unix milliseconds."""
        return time.time_ns() // 1_000_000

    def monotonic(self) -> float:
        """Seconds of a clock that never steps; only differences mean something."""
        return time.monotonic()

    async def sleep(self, seconds: float) -> None:
        """Wait for so many seconds."""
        await asyncio.sleep(seconds)
