"""Bells over Redis pub/sub: a process hears only what somebody here follows."""

from __future__ import annotations

import asyncio
import contextlib
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Mapping, Sequence
from contextlib import asynccontextmanager
from types import TracebackType
from typing import Self

from taskcast_core.contracts.broadcast import ALL_TASKS, Bell, Listener
from taskcast_core.errors import StoreUnavailable
from taskcast_core.stopping import stop
from taskcast_redis.bells import bell_of, ring_text
from taskcast_redis.connection import Argument, RedisConnection
from taskcast_redis.failures import COMMAND, PUB_SUB
from taskcast_redis.health import Dependency
from taskcast_redis.keys import channel_of, unpack
from taskcast_redis.line import tag_of
from taskcast_redis.lines import Lines

MOST_BELLS = 10_000
"""Bells that wait to be sent; then the oldest is dropped."""

BATCH = 500
"""Bells per call."""


class RedisBroadcastProvider:
    """Broadcast over one Redis (or Sentinel group, or Cluster). Use it as a context manager.

    Where a short-term store of this process uses the same connection, it rings inside its commits, and ``publish``
    only sends what those have not rung.

    Attributes:
        health: of the pub/sub connection. heard: messages that this process has received; for tests.
    """

    is_shared = True

    def __init__(self, connection: RedisConnection) -> None:
        self.connection = connection
        self.health = Dependency(PUB_SUB)
        self.heard = 0
        self._lines = Lines(connection, self._on_message, self._on_return, self.health)
        self._ears: list[_Ear] = []
        self._followers: dict[bytes, set[_Ear]] = {}
        self._bells: deque[tuple[bytes, bytes]] = deque(maxlen=MOST_BELLS)
        self._tasks: list[asyncio.Task[None]] = []
        self._has_bells = asyncio.Event()

    async def __aenter__(self) -> Self:
        """Connect.

        Raises:
            StoreUnavailable, ConfigError: see RedisConnection.
        """
        await self.connection.__aenter__()
        self.connection.broadcasts += 1
        loop = asyncio.get_running_loop()
        self._tasks = [loop.create_task(self._lines.run_forever()), loop.create_task(self._send_forever())]
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await stop(self._tasks)
        self.connection.broadcasts -= 1
        await self.connection.__aexit__(kind, error, trace)

    def dependency_checks(self) -> Mapping[str, Callable[[], Awaitable[None]]]:
        """What this broadcast needs outside of this process: functions that raise StoreUnavailable while it is away."""
        return {COMMAND: self.connection.check, PUB_SUB: self._check}

    async def _check(self) -> None:
        if not self.health.is_healthy:
            raise StoreUnavailable(PUB_SUB, self.health.error_kind or "unavailable")

    # ── Ringing ───────────────────────────────────────────────────────────────────────────────────────────────────

    def publish(self, bell: Bell) -> None:
        """See Broadcast."""
        is_of_task = bell.channel == bell.task_id
        if is_of_task and self.connection.has_rung(bell.task_id, bell.epoch, bell.last_index):
            return
        keys, text = self.connection.keys, ring_text(bell)
        self._bells.append((keys.bell(bell.channel), text))
        if is_of_task:
            self._bells.append((keys.all_bells_with(bell.task_id), text))
        self._has_bells.set()

    async def _send_forever(self) -> None:
        while True:
            await self._has_bells.wait()
            some = [self._bells.popleft() for _ in range(min(len(self._bells), BATCH))]
            if not self._bells:
                self._has_bells.clear()
            with contextlib.suppress(StoreUnavailable):  # lost bells are found by a look at the heads
                await self._send(some)

    async def _send(self, bells: Sequence[tuple[bytes, bytes]]) -> None:
        by_tag: dict[str, list[Argument]] = {}
        for channel, text in bells:
            tag = unpack(tag_of(channel)) if self.connection.is_cluster else self.connection.keys.tag(0)
            by_tag.setdefault(tag, [self.connection.bell_command]).extend((channel, text))
        for tag, messages in by_tag.items():
            await self.connection.run("ring", [tag], messages)

    # ── Listening ─────────────────────────────────────────────────────────────────────────────────────────────────

    @asynccontextmanager
    async def listen(self, on_bell: Callable[[Bell], None], on_absence: Callable[[], None]) -> AsyncIterator[Listener]:
        """See Broadcast."""
        ear = _Ear(self, on_bell, on_absence)
        self._ears.append(ear)
        try:
            yield ear
        finally:
            self._ears.remove(ear)
            self.leave(ear, list(ear.channels))

    async def join(self, ear: _Ear, channels: Sequence[bytes]) -> None:
        """An ear follows these channels."""
        fresh: list[bytes] = []
        for channel in channels:
            followers = self._followers.setdefault(channel, set())
            if not followers:
                fresh.append(channel)
            followers.add(ear)
            ear.channels.add(channel)
        self._lines.want(fresh)
        await self._lines.until_heard(channels)

    def leave(self, ear: _Ear, channels: Iterable[bytes]) -> None:
        """An ear no longer follows these channels."""
        stale: list[bytes] = []
        for channel in channels:
            ear.channels.discard(channel)
            followers = self._followers.get(channel)
            if followers is None:
                continue
            followers.discard(ear)
            if not followers:
                del self._followers[channel]
                stale.append(channel)
        self._lines.unwant(stale)

    def _on_message(self, channel: bytes, message: bytes) -> None:
        self.heard += 1
        followers = self._followers.get(channel)
        if not followers:
            return
        try:
            bell = bell_of(channel_of(channel), message)
        except (ValueError, IndexError, KeyError):
            bell = None
        for ear in tuple(followers):
            if bell is None:  # of another release: what it would have said, the store knows
                ear.on_absence()
            else:
                ear.on_bell(bell)

    def _on_return(self) -> None:
        for ear in tuple(self._ears):
            ear.on_absence()


class _Ear:
    """One listener."""

    def __init__(
        self, provider: RedisBroadcastProvider, on_bell: Callable[[Bell], None], on_absence: Callable[[], None]
    ) -> None:
        self._provider, self.on_bell, self.on_absence = provider, on_bell, on_absence
        self.channels: set[bytes] = set()

    def _names(self, channels: Iterable[str]) -> list[bytes]:
        keys = self._provider.connection.keys
        return [name for c in channels for name in (keys.all_bells() if c == ALL_TASKS else [keys.bell(c)])]

    async def follow(self, channels: Iterable[str]) -> None:
        """See Listener. While the connection is away it returns at once: ``on_absence`` follows when it is back."""
        await self._provider.join(self, self._names(channels))

    async def unfollow(self, channels: Iterable[str]) -> None:
        """See Listener."""
        self._provider.leave(self, [name for name in self._names(channels) if name in self.channels])
