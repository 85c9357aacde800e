"""Sends a producer's events in the background: few requests, in order, with bounded delay and bounded memory."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable

from attrs import frozen

from taskcast_client.errors import ConnectionFailed
from taskcast_client.models import EventInput
from taskcast_client.outbox import MAX_EVENTS, Outbox


@frozen
class Coalescing:
    """How events are put together into requests.

    Attributes:
        interval_ms: from one request's start to the next one's, at least; 0 sends as fast as replies come.
        max_events, max_bytes: bounds of what waits to be sent; beyond them, producers wait.
    """

    interval_ms: float = 50.0
    max_events: int = 10_000
    max_bytes: int = 8 << 20


class Sender:
    """Sends events at once when nothing was sent lately, else when the interval since the last request is over.

    What comes in between travels together. One request is under way at a time, so order is kept. A failure is kept,
    and raised to whoever puts, flushes or closes next.
    """

    def __init__(self, send: Callable[[list[bytes]], Awaitable[None]], coalescing: Coalescing) -> None:
        self._send, self._coalescing = send, coalescing
        self._outbox = Outbox()
        self._news = asyncio.Event()
        self._urgent = asyncio.Event()
        self._moved = asyncio.Event()  # something has been sent, or never will be
        self._put = self._sent = 0
        self._failure: Exception | None = None
        self._task: asyncio.Task[None] | None = None

    async def put(self, event: EventInput) -> None:
        """Have an event sent; waits only when too much is waiting already.

        Raises:
            ClientError: what kept earlier events from being sent. ValueError, TypeError: the data has no JSON form.
        """
        while self._failure is None and self._is_full():
            self._moved.clear()
            await self._moved.wait()
        self._check()
        self._outbox.add(event)
        self._put += 1
        if self._task is None:
            self._task = asyncio.get_running_loop().create_task(self._run(), name="taskcast sender")
        self._news.set()

    async def flush(self) -> None:
        """Send what waits now, and return when the server has it.

        Raises:
            ClientError: it could not be sent.
        """
        target = self._put
        while self._failure is None and self._sent < target:
            self._urgent.set()
            self._moved.clear()
            await self._moved.wait()
        self._check()

    async def close(self) -> None:
        """`flush`, and end the background task. Raises as `flush` does."""
        try:
            await self.flush()
        finally:
            await self.abandon()

    async def abandon(self) -> None:
        """End the background task; what is waiting is not sent."""
        if self._task is not None:
            self._task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._task
            self._task = None

    def _is_full(self) -> bool:
        waiting = len(self._outbox)
        return waiting >= self._coalescing.max_events or self._outbox.size >= self._coalescing.max_bytes

    def _check(self) -> None:
        if self._failure is not None:
            raise self._failure

    async def _run(self) -> None:
        now = asyncio.get_running_loop().time
        next_at = now()
        try:
            while True:
                await self._news.wait()
                await self._wait_until(next_at)
                self._news.clear()
                next_at = now() + self._coalescing.interval_ms / 1000
                await self._send_waiting()
        except Exception as failure:  # noqa: BLE001 - whoever puts or flushes next is told, and nobody waits for ever
            self._failure = failure
        except asyncio.CancelledError:
            self._failure = ConnectionFailed("the sender has been stopped")
            raise
        finally:
            self._moved.set()

    async def _wait_until(self, at: float) -> None:
        if len(self._outbox) < MAX_EVENTS and at > asyncio.get_running_loop().time():
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout_at(at):
                    await self._urgent.wait()

    async def _send_waiting(self) -> None:
        self._urgent.clear()
        while True:
            batch, count = self._outbox.take()
            if batch:
                await self._send(batch)
            self._sent += count
            self._moved.set()
            if len(self._outbox) < MAX_EVENTS:
                break
        if self._outbox:
            self._news.set()
