"""One pub/sub connection: keeps what is subscribed equal to what is wanted, and finds out when it is dead."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from collections.abc import Callable, Iterable
from typing import Any

from attrs import frozen
from redis.exceptions import ConnectionError as LostConnection

from taskcast_core.backoff import Backoff
from taskcast_core.stopping import stop
from taskcast_redis.failures import TROUBLE, kind_of
from taskcast_redis.health import MOST_LATE, was_late
from taskcast_redis.options import RedisOptions

_log = logging.getLogger(__name__)

BATCH = 500
"""Channels per command."""


@frozen
class Words:
    """What the commands and messages of a kind of pub/sub are called."""

    subscribe: str
    unsubscribe: str
    subscribed: bytes
    unsubscribed: bytes
    message: bytes


PLAIN_WORDS = Words("SUBSCRIBE", "UNSUBSCRIBE", b"subscribe", b"unsubscribe", b"message")
SHARDED_WORDS = Words("SSUBSCRIBE", "SUNSUBSCRIBE", b"ssubscribe", b"sunsubscribe", b"smessage")


@frozen
class Reports:
    """Whom a line tells what.

    Attributes:
        on_message: of a channel and what was said there. on_up: it answers, and all that is wanted is heard.
        on_down: it does not: the kind of error, and in how many seconds it is tried again.
    """

    on_message: Callable[[bytes, bytes], None]
    on_up: Callable[[], None]
    on_down: Callable[[str, float], None]


class Line:
    """A connection that comes back by itself.

    Attributes:
        is_up: whether it answers.
    """

    def __init__(self, options: RedisOptions, words: Words, connect: Callable[[], Any], reports: Reports) -> None:
        self._options, self._words, self._connect, self._reports = options, words, connect, reports
        self._wanted: set[bytes] = set()
        self._asked: set[bytes] = set()  # SUBSCRIBE was sent
        self._heard: set[bytes] = set()  # … and answered
        self._changes = asyncio.Event()
        self._acks: dict[bytes, asyncio.Future[None]] = {}
        self.is_up = False

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
        if not self.is_up:
            return
        loop = asyncio.get_running_loop()
        waits = [
            self._acks.setdefault(channel, loop.create_future())
            for channel in channels
            if channel not in self._heard and channel in self._wanted
        ]
        if waits:
            await asyncio.wait(waits, timeout=self._options.command_timeout_ms / 1000)

    async def run_forever(self) -> None:
        """Connect again and again."""
        options = self._options
        backoff = Backoff(first_s=options.retry_first_ms / 1000, most_s=options.retry_most_ms / 1000)
        while True:
            try:
                await self._session(backoff)
            except TROUBLE as error:
                wait = backoff.next_s()
                self._reports.on_down(kind_of(error), wait)
                await asyncio.sleep(wait)

    async def _session(self, backoff: Backoff) -> None:
        connection = self._connect()
        try:
            async with asyncio.timeout(self._options.connect_timeout_ms / 1000):
                await connection.connect()
            self._asked, self._heard = set(), set()
            self._changes.set()
            sender = asyncio.get_running_loop().create_task(self._send_forever(connection))
            try:
                await self._receive_forever(connection, backoff)
            finally:
                await stop([sender])
        finally:
            self.is_up = False
            for ack in self._acks.values():
                if not ack.done():
                    ack.set_result(None)
            self._acks.clear()
            with contextlib.suppress(*TROUBLE):
                await connection.disconnect(nowait=True)

    async def _send_forever(self, connection: Any) -> None:
        """Subscribe and unsubscribe in batches; ask for a sign of life once per heartbeat."""
        loop, beat_s = asyncio.get_running_loop(), self._options.heartbeat_ms / 1000
        next_beat = loop.time()
        try:
            while True:
                self._changes.clear()
                await self._ask(connection, self._words.unsubscribe, self._asked - self._wanted)
                await self._ask(connection, self._words.subscribe, self._wanted - self._asked)
                if loop.time() >= next_beat:
                    await connection.send_command("PING", check_health=False)
                    next_beat = loop.time() + beat_s
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout_at(next_beat):
                        await self._changes.wait()
        except (*TROUBLE, AttributeError) as error:  # the latter where the receiver has just closed the driver's socket
            _log.debug("the pub/sub connection cannot be written to: %s", error)
            await connection.disconnect(nowait=True)  # the receiver finds out

    async def _ask(self, connection: Any, command: str, channels: set[bytes]) -> None:
        names = sorted(channels)  # those of one shard side by side: a Cluster takes one slot per command
        for start, end in _portions(names, by_slot=self._words is SHARDED_WORDS):
            some = names[start:end]
            if command == self._words.subscribe:
                self._asked.update(some)
            else:
                self._asked.difference_update(some)
                self._heard.difference_update(some)
            await connection.send_command(command, *some, check_health=False)

    async def _receive_forever(self, connection: Any, backoff: Backoff) -> None:
        words = self._words
        while True:
            reply = await self._next_reply(connection)
            what = reply[0] if isinstance(reply, list) else reply
            if what == words.message:
                self._reports.on_message(reply[1], reply[2])
            elif what == words.subscribed:
                self._heard.add(reply[1])
                if (ack := self._acks.pop(reply[1], None)) is not None and not ack.done():
                    ack.set_result(None)
            elif what == words.unsubscribed:
                if reply[1] in self._asked and reply[1] in self._heard:
                    raise LostConnection("the channel's slot has moved to another node")
            elif what in (b"pong", b"PONG") and not self.is_up:
                # Sent behind the first subscriptions, so these are in force.
                self.is_up = True
                backoff.reset()
                self._reports.on_up()

    async def _next_reply(self, connection: Any) -> Any:
        """What comes next.

        Raises:
            TimeoutError: no sign of life for two heartbeats.
        """
        silence_s = 2 * self._options.heartbeat_ms / 1000
        for _ in range(MOST_LATE):
            began = time.monotonic()
            reply = await connection.read_response(timeout=silence_s)
            if reply is not None:
                return reply
            if not was_late(began, silence_s):
                break
        raise TimeoutError("no sign of life for two heartbeats")


def _portions(names: list[bytes], *, by_slot: bool) -> list[tuple[int, int]]:
    """Where the commands begin and end that name all of them."""
    bounds: list[tuple[int, int]] = []
    start = 0
    for at in range(1, len(names) + 1):
        if at == len(names) or at - start == BATCH or (by_slot and tag_of(names[at]) != tag_of(names[start])):
            bounds.append((start, at))
            start = at
    return bounds


def tag_of(channel: bytes) -> bytes:
    """The tag with which a channel's name begins; it decides the slot."""
    return channel[: channel.index(b"}") + 1]
