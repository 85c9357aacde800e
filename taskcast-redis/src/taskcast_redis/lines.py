"""All pub/sub connections of a process: one, or one to each node of a Cluster that has sharded pub/sub."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Iterable
from functools import partial
from typing import Any

from taskcast_core.stopping import stop
from taskcast_redis.connection import RedisConnection
from taskcast_redis.failures import TROUBLE
from taskcast_redis.health import Dependency
from taskcast_redis.line import PLAIN_WORDS, SHARDED_WORDS, Line, Reports, tag_of
from taskcast_redis.link import unopened

ANYWHERE = ""
"""The name of the only line, where any node hears all."""


class Lines:
    """Hears what is wanted, wherever that is said.

    Attributes:
        health: of all lines together.
    """

    def __init__(
        self, connection: RedisConnection, on_message: Callable[[bytes, bytes], None], on_return: Callable[[], None],
        health: Dependency,
    ) -> None:  # fmt: skip
        self.health = health
        self._connection, self._on_message, self._on_return = connection, on_message, on_return
        self._wanted: set[bytes] = set()
        self._lines: dict[str, Line] = {}
        self._tasks: dict[str, asyncio.Task[None]] = {}
        self._nodes: dict[bytes, str] = {}  # which line hears a tag's channels
        self._trouble = asyncio.Event()

    def want(self, channels: Iterable[bytes]) -> None:
        """Hear these channels."""
        for channel in channels:
            self._wanted.add(channel)
            if (line := self._line_of(channel)) is not None:
                line.want([channel])

    def unwant(self, channels: Iterable[bytes]) -> None:
        """Hear them no longer."""
        for channel in channels:
            self._wanted.discard(channel)
            if (line := self._line_of(channel)) is not None:
                line.unwant([channel])

    async def until_heard(self, channels: Iterable[bytes]) -> None:
        """Wait until these wanted channels are heard, as far as there is a connection; bounded in time."""
        by_line: dict[Line, list[bytes]] = {}
        for channel in channels:
            if (line := self._line_of(channel)) is not None:
                by_line.setdefault(line, []).append(channel)
        await asyncio.gather(*(line.until_heard(some) for line, some in by_line.items()))

    def _line_of(self, channel: bytes) -> Line | None:
        if not self._connection.has_sharded_bells:
            return self._lines.get(ANYWHERE)
        return self._lines.get(self._nodes.get(tag_of(channel), ANYWHERE))

    async def run_forever(self) -> None:
        """Keep a line to everywhere, also when the Cluster changes its shape."""
        beat_s = self._connection.options.heartbeat_ms / 1000
        try:
            while True:
                await self._follow_shape()
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(beat_s if self._connection.has_sharded_bells else None):
                        await self._trouble.wait()
                if self._trouble.is_set():
                    self._trouble.clear()
                    await self._look_again()
        finally:
            await stop(self._tasks.values())

    async def _look_again(self) -> None:
        """Something is wrong with a line: its slots may be elsewhere by now."""
        client: Any = self._connection.client
        if self._connection.has_sharded_bells:
            with contextlib.suppress(*TROUBLE):
                async with asyncio.timeout(self._connection.options.connect_timeout_ms / 1000):
                    await client.nodes_manager.initialize()

    async def _follow_shape(self) -> None:
        places = self._shape()
        if places is None or (places == self._nodes and self._lines):
            return
        names = set(places.values()) or {ANYWHERE}
        gone = [self._tasks.pop(name) for name in self._lines.keys() - names]
        self._nodes = places
        self._lines = {name: self._lines.get(name) or self._new_line(name) for name in names}
        await stop(gone)
        for name, line in self._lines.items():
            of_line = {c for c in self._wanted if self._line_of(c) is line}
            line.unwant(self._wanted - of_line)
            line.want(of_line)
            if name not in self._tasks:
                self._tasks[name] = asyncio.get_running_loop().create_task(line.run_forever())
        if gone and self._are_up():  # whoever was away is no longer needed
            self._on_up()

    def _shape(self) -> dict[bytes, str] | None:
        """Which node serves which tag; None while the driver does not know it for some."""
        if not self._connection.has_sharded_bells:
            return {}
        client: Any = self._connection.client
        try:
            return {
                tag.encode(): client.nodes_manager.get_node_from_slot(client.keyslot(tag)).name
                for tag in self._connection.keys.tags
            }
        except TROUBLE:
            return None

    def _new_line(self, name: str) -> Line:
        is_sharded = self._connection.has_sharded_bells
        words = SHARDED_WORDS if is_sharded else PLAIN_WORDS
        reports = Reports(self._on_message, self._on_up, self._on_down)
        return Line(self._connection.options, words, partial(unopened, self._connection.client, name), reports)

    # ── What lines report ─────────────────────────────────────────────────────────────────────────────────────────

    def _on_up(self) -> None:
        was_away = self.health.state != "starting"
        if self._are_up():
            self.health.is_back()
        if was_away:
            self._on_return()

    def _are_up(self) -> bool:
        return all(line.is_up for line in self._lines.values())

    def _on_down(self, kind: str, next_retry_s: float) -> None:
        self.health.is_away(kind, next_retry_s=next_retry_s)
        self._trouble.set()
