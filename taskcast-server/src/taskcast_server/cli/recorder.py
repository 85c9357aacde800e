"""A task's events on their way to the server: coalesced, in order, with a bounded buffer."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable
from typing import Any

MAX_EVENTS = 10_000
MAX_CHARS = 4 << 20
BATCH_EVENTS = 500
BATCH_CHARS = 256 << 10
LINGER_S = 0.05
_EVENT_CHARS = 100  # what an event needs besides its text


class Recorder:
    """Takes events one by one and posts them in batches.

    `put` waits while the buffer is full, so that whoever produces events is slowed down to what the server takes.

    Args:
        post: sends one batch; when it raises, recording is over, and what is in the buffer is dropped.
    """

    def __init__(self, post: Callable[[list[dict[str, Any]]], Awaitable[object]]) -> None:
        self._post = post
        self._waiting: deque[tuple[dict[str, Any], int]] = deque()
        self._chars = 0
        self._is_over = False
        self._is_closing = False
        self._filled, self._room, self._urgent = asyncio.Event(), asyncio.Event(), asyncio.Event()

    async def put(self, event: dict[str, Any], chars: int) -> None:
        """Add an event whose text has so many characters; dropped once recording is over."""
        while not self._is_over and self._is_full:
            self._room.clear()
            await self._room.wait()
        if self._is_over:
            return
        self._waiting.append((event, chars + _EVENT_CHARS))
        self._chars += chars + _EVENT_CHARS
        self._filled.set()
        if len(self._waiting) >= BATCH_EVENTS or self._chars >= BATCH_CHARS:
            self._urgent.set()

    def close(self) -> None:
        """No more events will come; `run` returns when the rest has been sent."""
        self._is_closing = True
        self._filled.set()
        self._urgent.set()

    async def run(self) -> None:
        """Send until closed and empty. Raises what ``post`` raises."""
        try:
            while self._waiting or not self._is_closing:
                if not self._waiting:
                    self._filled.clear()
                    await self._filled.wait()
                    continue
                await self._linger()
                await self._post(self._take())
        finally:
            self._is_over = True
            self._waiting.clear()
            self._room.set()

    @property
    def _is_full(self) -> bool:
        return len(self._waiting) >= MAX_EVENTS or self._chars >= MAX_CHARS

    async def _linger(self) -> None:
        """Give a batch a moment to grow."""
        try:
            async with asyncio.timeout(LINGER_S):
                await self._urgent.wait()
        except TimeoutError:
            pass

    def _take(self) -> list[dict[str, Any]]:
        batch: list[dict[str, Any]] = []
        chars = 0
        while self._waiting and len(batch) < BATCH_EVENTS and chars < BATCH_CHARS:
            event, size = self._waiting.popleft()
            batch.append(event)
            chars += size
        self._chars -= chars
        if not self._is_closing and len(self._waiting) < BATCH_EVENTS and self._chars < BATCH_CHARS:
            self._urgent.clear()
        if not self._is_full:
            self._room.set()
        return batch
