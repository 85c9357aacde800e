"""Bells over Redis pub/sub: one supervised connection per process that hears only what somebody here follows."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import random
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Mapping, Sequence
from contextlib import asynccontextmanager
from types import TracebackType
from typing import Any, Self

from redis.asyncio import RedisCluster

from taskcast_core.backoff import Backoff
from taskcast_core.contracts.broadcast import ALL_TASKS, Bell, Listener
from taskcast_core.errors import StoreUnavailable
from taskcast_redis.bells import bell_of, ring_text
from taskcast_redis.connection import Argument, RedisConnection
from taskcast_redis.failures import COMMAND, PUB_SUB, TROUBLE, kind_of
from taskcast_redis.health import Dependency
from taskcast_redis.keys import channel_of, unpack
from taskcast_redis.stopping import stop

_log = logging.getLogger(__name__)

MOST_BELLS = 10_000
"""Bells that wait to be sent; then the oldest is dropped."""

BATCH = 500
"""Channels per command, bells per call."""


class RedisBroadcastProvider:
    """Broadcast over one Redis (or Sentinel group, or Cluster). Use it as a context manager.

    Where the short-term store of this process uses the same connection, it rings for tasks inside its commits, and
    ``publish`` only sends what is not about a task's log.

    Attributes:
        health: of the pub/sub connection. heard: messages that this process has received; for tests.
    """

    is_shared = True

    def __init__(self, connection: RedisConnection) -> None:
        self.connection = connection
        self.health = Dependency(PUB_SUB)
        self.heard = 0
        self._line = _Line(connection, self._on_message, self._on_return, self.health)
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
        self._tasks = [loop.create_task(self._line.run_forever()), loop.create_task(self._send_forever())]
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
        if is_of_task and self.connection.rings:
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
            tag = unpack(channel[: channel.index(b"}") + 1])
            by_tag.setdefault(tag if self.connection.is_cluster else self.connection.keys.tag(0), []).extend(
                (channel, text)
            )
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

    async def join(self, ear: _Ear, channels: Iterable[bytes]) -> None:
        """An ear follows these channels."""
        fresh: list[bytes] = []
        for channel in channels:
            followers = self._followers.setdefault(channel, set())
            if not followers:
                fresh.append(channel)
            followers.add(ear)
            ear.channels.add(channel)
        self._line.want(fresh)
        await self._line.until_heard(ear.channels)

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
        self._line.unwant(stale)

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


class _Line:
    """The connection itself: keeps what is subscribed equal to what is wanted, and finds out when it is dead."""

    def __init__(
        self,
        connection: RedisConnection,
        on_message: Callable[[bytes, bytes], None],
        on_return: Callable[[], None],
        health: Dependency,
    ) -> None:
        self._connection, self._health = connection, health
        self._on_message, self._on_return = on_message, on_return
        self._wanted: set[bytes] = set()
        self._asked: set[bytes] = set()  # SUBSCRIBE was sent
        self._heard: set[bytes] = set()  # … and answered
        self._changes = asyncio.Event()
        self._acks: dict[bytes, asyncio.Future[None]] = {}
        self._is_up = False

    def want(self, channels: Iterable[bytes]) -> None:
        """Hear these channels."""
        self._wanted.update(channels)
        self._changes.set()

    def unwant(self, channels: Iterable[bytes]) -> None:
        """Hear them no longer."""
        self._wanted.difference_update(channels)
        self._changes.set()

    async def until_heard(self, channels: Iterable[bytes]) -> None:
        """Wait until these wanted channels are heard, or the connection is gone; bounded in time."""
        if not self._is_up:
            return
        loop = asyncio.get_running_loop()
        waits = [
            self._acks.setdefault(channel, loop.create_future())
            for channel in channels
            if channel not in self._heard and channel in self._wanted
        ]
        if waits:
            await asyncio.wait(waits, timeout=self._connection.options.command_timeout_ms / 1000)

    async def run_forever(self) -> None:
        """Connect again and again."""
        options = self._connection.options
        backoff = Backoff(first_s=options.retry_first_ms / 1000, most_s=options.retry_most_ms / 1000)
        while True:
            try:
                await self._session(backoff)
            except TROUBLE as error:
                wait = backoff.next_s()
                self._health.is_away(kind_of(error), next_retry_s=wait)
                await asyncio.sleep(wait)

    async def _session(self, backoff: Backoff) -> None:
        options = self._connection.options
        line = _new_connection(self._connection.client)
        try:
            async with asyncio.timeout(options.connect_timeout_ms / 1000):
                await line.connect()
            self._asked, self._heard = set(), set()
            self._changes.set()
            sender = asyncio.get_running_loop().create_task(self._send_forever(line))
            try:
                await self._receive_forever(line, backoff)
            finally:
                await stop([sender])
        finally:
            self._is_up = False
            for ack in self._acks.values():
                if not ack.done():
                    ack.set_result(None)
            self._acks.clear()
            with contextlib.suppress(*TROUBLE):
                await line.disconnect(nowait=True)

    async def _send_forever(self, line: Any) -> None:
        """Subscribe and unsubscribe in batches; ask for a sign of life once per heartbeat."""
        loop, beat_s = asyncio.get_running_loop(), self._connection.options.heartbeat_ms / 1000
        next_beat = loop.time()
        try:
            while True:
                self._changes.clear()
                await self._ask(line, "UNSUBSCRIBE", self._asked - self._wanted)
                await self._ask(line, "SUBSCRIBE", self._wanted - self._asked)
                if loop.time() >= next_beat:
                    await line.send_command("PING", check_health=False)
                    next_beat = loop.time() + beat_s
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout_at(next_beat):
                        await self._changes.wait()
        except (*TROUBLE, AttributeError) as error:  # the latter where the receiver has just closed the driver's socket
            _log.debug("the pub/sub connection cannot be written to: %s", error)
            await line.disconnect(nowait=True)  # the receiver finds out

    async def _ask(self, line: Any, command: str, channels: set[bytes]) -> None:
        names = list(channels)
        for start in range(0, len(names), BATCH):
            some = names[start : start + BATCH]
            if command == "SUBSCRIBE":
                self._asked.update(some)
            else:
                self._asked.difference_update(some)
                self._heard.difference_update(some)
            await line.send_command(command, *some, check_health=False)

    async def _receive_forever(self, line: Any, backoff: Backoff) -> None:
        silence_s = 2 * self._connection.options.heartbeat_ms / 1000
        while True:
            reply = await line.read_response(timeout=silence_s)
            if reply is None:
                raise TimeoutError("no sign of life for two heartbeats")
            what = reply[0] if isinstance(reply, list) else reply
            if what == b"message":
                self._on_message(reply[1], reply[2])
            elif what == b"subscribe":
                self._heard.add(reply[1])
                if (ack := self._acks.pop(reply[1], None)) is not None and not ack.done():
                    ack.set_result(None)
            elif what in (b"pong", b"PONG") and not self._is_up:
                # Sent behind the first subscriptions, so these are in force.
                self._is_up = True
                backoff.reset()
                was_away = self._health.state != "starting"
                self._health.is_back()
                if was_away:
                    self._on_return()


def _new_connection(client: Any) -> Any:
    if isinstance(client, RedisCluster):
        node = random.choice(client.get_primaries())
        return node.connection_class(**node.connection_kwargs)
    return client.connection_pool.make_connection()
