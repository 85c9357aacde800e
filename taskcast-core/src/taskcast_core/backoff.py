"""Waiting longer after each failure, never all at once: exponential backoff with equal jitter, bounded."""

from __future__ import annotations

import asyncio
import random


def delay_s(attempt: int, *, first_s: float, most_s: float) -> float:
    """Seconds before attempt 1, 2, …: half of the doubled bound, and a random part of the other half."""
    cap: float = min(most_s, first_s * 2.0 ** min(attempt - 1, 32))
    return cap / 2 + random.random() * cap / 2


class Backoff:
    """The waits of one repeated attempt."""

    def __init__(self, *, first_s: float, most_s: float) -> None:
        self.first_s, self.most_s = first_s, most_s
        self.attempt = 0

    def reset(self) -> None:
        """The attempt succeeded."""
        self.attempt = 0

    def next_s(self) -> float:
        """The next wait in seconds."""
        self.attempt += 1
        return delay_s(self.attempt, first_s=self.first_s, most_s=self.most_s)

    async def wait(self) -> None:
        """Wait that long."""
        await asyncio.sleep(self.next_s())
