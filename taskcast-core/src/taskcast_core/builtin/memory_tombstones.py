"""Which epochs of deleted tasks must not come back."""

from __future__ import annotations

from itertools import islice

from taskcast_core.clock import Clock


class TombstoneTable:
    """One per id, until its time is over."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._stones: dict[str, tuple[int, int]] = {}  # newest epoch that is out, and until when

    def __len__(self) -> int:
        return len(self._stones)

    def put(self, task_id: str, epoch: int, ttl_ms: int) -> None:
        """Set up a tombstone, and clear away the oldest ones whose time is over."""
        now = self._clock.now_ms()
        self._stones.pop(task_id, None)
        self._stones[task_id] = epoch, now + ttl_ms
        for old in list(islice(self._stones, 2)):
            if self._stones[old][1] <= now:
                del self._stones[old]

    def epoch(self, task_id: str) -> int | None:
        """The newest deleted epoch of an id, while it is remembered."""
        found = self._stones.get(task_id)
        if found is None:
            return None
        if found[1] <= self._clock.now_ms():
            del self._stones[task_id]
            return None
        return found[0]
