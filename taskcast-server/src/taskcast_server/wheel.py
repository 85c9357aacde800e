"""One timer for all open connections: heartbeats, and deadlines such as a token's expiry."""

from __future__ import annotations

import asyncio
import heapq
import math
from collections.abc import Iterator
from typing import Protocol

BEAT_S = 15.0
"""Between two heartbeats of a connection."""
TICK_S = 0.25
"""How exact the wheel is."""


class Spoke(Protocol):
    """A connection on the wheel; none of these may block."""

    def beat(self) -> None:
        """Called every ``BEAT_S``."""

    def expire(self) -> None:
        """Called once, when the connection's deadline has passed."""


class Wheel:
    """Turns while it carries connections. Adding and removing cost the same however many there are."""

    def __init__(self, beat_s: float = BEAT_S, tick_s: float = TICK_S) -> None:
        self._beat_s, self._tick_s = beat_s, tick_s
        self._beats: dict[Spoke, float] = {}
        self._slots: dict[int, set[Spoke]] = {}
        self._order: list[int] = []
        self._slot_of: dict[Spoke, int] = {}
        self._timer: asyncio.TimerHandle | None = None

    def __len__(self) -> int:
        return len(self._beats)

    def __iter__(self) -> Iterator[Spoke]:
        return iter(tuple(self._beats))

    def add(self, spoke: Spoke, deadline: float | None = None) -> None:
        """Carry a connection, with a deadline (loop time) if there is one."""
        loop = asyncio.get_running_loop()
        self._beats[spoke] = loop.time() + self._beat_s
        if deadline is not None:
            self.expire_at(spoke, deadline)
        if self._timer is None:
            self._timer = loop.call_later(self._tick_s, self._turn)

    def expire_at(self, spoke: Spoke, deadline: float) -> None:
        """Replace the deadline (loop time) of a connection that is on the wheel."""
        self._forget_deadline(spoke)
        slot = math.ceil(deadline / self._tick_s)
        if slot not in self._slots:
            self._slots[slot] = set()
            heapq.heappush(self._order, slot)
        self._slots[slot].add(spoke)
        self._slot_of[spoke] = slot

    def remove(self, spoke: Spoke) -> None:
        """Carry it no longer; harmless when it is not there."""
        self._beats.pop(spoke, None)
        self._forget_deadline(spoke)
        if not self._beats and self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _forget_deadline(self, spoke: Spoke) -> None:
        slot = self._slot_of.pop(spoke, None)
        if slot is not None:
            self._slots[slot].discard(spoke)

    def _turn(self) -> None:
        loop = asyncio.get_running_loop()
        now = loop.time()
        self._timer = loop.call_later(self._tick_s, self._turn)
        while self._beats:
            spoke, due = next(iter(self._beats.items()))
            if due > now:
                break
            del self._beats[spoke]
            self._beats[spoke] = now + self._beat_s  # behind all others
            spoke.beat()
        while self._order and self._order[0] * self._tick_s <= now:
            for spoke in self._slots.pop(heapq.heappop(self._order)):
                del self._slot_of[spoke]
                spoke.expire()
