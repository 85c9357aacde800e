"""One pub/sub connection: keeps what is subscribed equal to what is wanted, and finds out when it is dead."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Iterable
from typing import Any

from attrs import frozen
from redis.exceptions import ConnectionError as LostConnection

from taskcast_core.backoff import Backoff
from taskcast_redis.failures import TROUBLE, kind_of
from taskcast_redis.health import LATENESS, MOST_LATE
from taskcast_redis.link import Link, pack_command
from taskcast_redis.options import RedisOptions

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
        self._sign_at, self._late = 0.0, 0
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
        ended: asyncio.Future[Exception] = asyncio.get_running_loop().create_future()

        def on_lost(reason: Exception) -> None:
            ended.set_result(reason)
            self._changes.set()

        link = Link(lambda reply: self._on_reply(reply, link, backoff), on_lost)
        connection = self._connect()
        try:
            async with asyncio.timeout(self._options.connect_timeout_ms / 1000):
                await link.open(connection)
            self._asked, self._heard = set(), set()
            await self._tend(link, ended)
        finally:
            self.is_up = False
            link.abort(LostConnection("the connection was given up"))
            for ack in self._acks.values():
                if not ack.done():
                    ack.set_result(None)
            self._acks.clear()
            with contextlib.suppress(*TROUBLE):
                await connection.disconnect(nowait=True)

    async def _tend(self, link: Link, ended: asyncio.Future[Exception]) -> None:
        """Subscribe and unsubscribe in batches; ask for a sign of life once per heartbeat, and see that there is one.

        Raises:
            TimeoutError: none for two heartbeats. What the link was lost of.
        """
        loop, beat_s = asyncio.get_running_loop(), self._options.heartbeat_ms / 1000
        next_beat = self._sign_at = loop.time()
        while not ended.done():
            self._changes.clear()
            self._ask(link, self._words.unsubscribe, self._asked - self._wanted)
            self._ask(link, self._words.subscribe, self._wanted - self._asked)
            if loop.time() >= next_beat:
                link.write(pack_command(("PING",)))
                next_beat = loop.time() + beat_s
            until = min(next_beat, self._sign_at + 2 * beat_s)
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout_at(until):
                    await self._changes.wait()
            self._check_silence(until, 2 * beat_s)
        raise ended.result()

    def _check_silence(self, until: float, silence_s: float) -> None:
        """``until``: when this was meant to be looked at; much later, this process was busy, and it says nothing."""
        now = asyncio.get_running_loop().time()
        if now < self._sign_at + silence_s:
            return
        if self._late == MOST_LATE or now - until < (LATENESS - 1) * silence_s:
            raise TimeoutError("no sign of life for two heartbeats")
        self._late += 1
        self._sign_at = now

    def _ask(self, link: Link, command: str, channels: set[bytes]) -> None:
        names = sorted(channels)  # those of one shard side by side: a Cluster takes one slot per command
        for start, end in _portions(names, by_slot=self._words is SHARDED_WORDS):
            some = names[start:end]
            if command == self._words.subscribe:
                self._asked.update(some)
            else:
                self._asked.difference_update(some)
                self._heard.difference_update(some)
            link.write(pack_command((command, *some)))

    def _on_reply(self, reply: Any, link: Link, backoff: Backoff) -> None:
        words = self._words
        self._sign_at, self._late = asyncio.get_running_loop().time(), 0
        what = reply[0] if isinstance(reply, list) else reply
        if what == words.message:
            self._reports.on_message(reply[1], reply[2])
        elif what == words.subscribed:
            self._heard.add(reply[1])
            if (ack := self._acks.pop(reply[1], None)) is not None and not ack.done():
                ack.set_result(None)
        elif what == words.unsubscribed:
            if reply[1] in self._asked and reply[1] in self._heard:
                link.abort(LostConnection("the channel's slot has moved to another node"))
        elif isinstance(what, Exception):
            link.abort(what)
        elif what in (b"pong", b"PONG") and not self.is_up:
            # Sent behind the first subscriptions, so these are in force.
            self.is_up = True
            backoff.reset()
            self._reports.on_up()


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
