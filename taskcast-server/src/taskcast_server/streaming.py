"""An open event stream: batches out, disconnects in; no task, timer or queue per event.

Per connection there is the task that the HTTP server made, which writes, and one that waits for the client to leave.
Back-pressure is ``await send``: a reader that does not read is only its cursor, and closed if that lasts too long.
Where the server can be gone around, streams need less: see `taskcast_server.direct_streaming`.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator, Awaitable, Callable, MutableMapping, Sequence
from contextlib import aclosing
from typing import Any, Literal, Protocol

from taskcast_core.deliveries import Batch
from taskcast_server.errors import BrokenOff, ClientGone
from taskcast_server.sse import HEARTBEAT, HELLO, done_frame, farewell
from taskcast_server.wheel import Wheel

Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]

STALLED_S = 300.0
"""A reader that has taken nothing for so long, although there is something for it, is cut off."""
GRACE_S = 5.0
"""How long a stream that has been told to end may be stuck in writing."""
_RETRY_MS = (500, 5000)

HEADERS = (
    (b"content-type", b"text/event-stream; charset=utf-8"),
    (b"cache-control", b"no-cache, no-transform"),
    (b"x-accel-buffering", b"no"),
)


class Source(Protocol):
    """What a stream reads from: a subscription of one task, or the stream of all."""

    def batches(self) -> AsyncIterator[Batch]:
        """What is new, as soon as there is something; an empty batch after a ``wake`` without news."""

    def wake(self) -> None:
        """Have ``batches`` yield."""

    def close(self) -> None:
        """Have ``batches`` end."""


class StallMeter(Protocol):
    """Counts readers that were cut off because they took nothing."""

    stalled: int


class EventStream:
    """One reader's connection; a spoke of the wheel."""

    __slots__ = (
        "_encode", "_ended", "_is_beat_due", "_meters", "_receive", "_send", "_source", "_wheel", "_writer",
        "_writing_since",
    )  # fmt: skip

    def __init__(
        self,
        source: Source,
        encode: Callable[[Batch], bytes | Awaitable[bytes]],
        wheel: Wheel,
        receive: Receive | None,
        send: Send,
        meters: StallMeter | None = None,
    ) -> None:
        """``meters``: what counts readers that are cut off."""
        self._source, self._encode, self._wheel = source, encode, wheel
        self._receive, self._send, self._meters = receive, send, meters
        self._ended: Literal["", "expired", "dismissed", "stalled"] = ""
        self._is_beat_due = False
        self._writing_since: float | None = None
        self._writer: asyncio.Task[Any] | None = None

    async def run(
        self,
        *,
        lives_for_s: float | None = None,
        http_version: str = "1.1",
        headers: Sequence[tuple[bytes, bytes]] = (),
    ) -> None:
        """Stream until the task has ended, the client is gone, or the time is over; ``headers`` besides its own.

        Raises:
            ClientGone. BrokenOff: because of an error.
        """
        watcher = asyncio.get_running_loop().create_task(self._watch())
        self._mount(lives_for_s)
        try:
            await self._begin(http_version, headers)
            await self._pump()
        except BaseException as error:  # noqa: BLE001 - raised again under the name that it has for the caller
            self._explain(error)
        finally:
            self._dismount()
            watcher.cancel()

    def _mount(self, lives_for_s: float | None) -> None:
        loop = asyncio.get_running_loop()
        self._writer = asyncio.current_task()
        self._wheel.add(self, None if lives_for_s is None else loop.time() + max(0.0, lives_for_s))

    def _dismount(self) -> None:
        self._wheel.remove(self)
        self._source.close()

    def _explain(self, error: BaseException) -> None:
        """Raise what the end is called, unless it is one that was meant."""
        if isinstance(error, asyncio.CancelledError):
            if self._ended != "stalled" or self._writer is None:
                raise error
            self._writer.uncancel()  # our own doing; the connection is closed by the server
        elif isinstance(error, OSError | ClientGone):  # an error of the system is how some servers say so
            raise ClientGone from None
        elif isinstance(error, Exception):
            raise BrokenOff from error
        else:
            raise error

    async def _begin(self, http_version: str, headers: Sequence[tuple[bytes, bytes]]) -> None:
        sent = [*HEADERS, *headers]
        if http_version == "1.1":
            sent.append((b"connection", b"keep-alive"))
        await self._send({"type": "http.response.start", "status": 200, "headers": sent})
        await self._write(HELLO)

    async def _pump(self) -> None:
        """Write what comes, up to the end."""
        async with aclosing(self._source.batches()) as batches:  # type: ignore[type-var]
            async for batch in batches:
                chunk = await self._encoded(batch)
                if batch.ended is not None:
                    await self._end_with(chunk + done_frame(batch.ended))
                    return
                if chunk or self._is_beat_due:
                    self._is_beat_due = False
                    await self._write(chunk or HEARTBEAT)
        await self._say_goodbye()

    async def _encoded(self, batch: Batch) -> bytes:
        if not batch.deliveries:
            return b""
        encoded = self._encode(batch)
        return encoded if isinstance(encoded, bytes) else await encoded

    async def _say_goodbye(self) -> None:
        await self._end_with(farewell(random.randint(*_RETRY_MS)) if self._ended == "dismissed" else b"")

    async def _end_with(self, last: bytes) -> None:
        await self._send({"type": "http.response.body", "body": last, "more_body": False})

    async def _write(self, chunk: bytes) -> None:
        self._writing_since = asyncio.get_running_loop().time()
        await self._send({"type": "http.response.body", "body": chunk, "more_body": True})
        self._writing_since = None

    async def _watch(self) -> None:
        """Free everything as soon as the client is gone."""
        assert self._receive is not None
        try:
            while (await self._receive())["type"] != "http.disconnect":
                pass
        finally:
            self._source.close()

    # ── On the wheel ───────────────────────────────────────────────────────────────────────────────────────────────

    def beat(self) -> None:
        """A heartbeat is due, unless the stream is writing anyway."""
        if self._writing_since is None:
            self._is_beat_due = True
            self._source.wake()
        elif asyncio.get_running_loop().time() - self._writing_since > STALLED_S:
            self._cut()

    def expire(self) -> None:
        """The caller's time is over; or the grace of a stream that has been told to end."""
        if self._ended:
            self._cut()
        else:
            self._end("expired")

    def dismiss(self) -> None:
        """The server is going away."""
        if not self._ended:
            self._end("dismissed")

    def _end(self, reason: Literal["expired", "dismissed"]) -> None:
        self._ended = reason
        self._source.close()
        self._wheel.expire_at(self, asyncio.get_running_loop().time() + GRACE_S)

    def _cut(self) -> None:
        if self._meters is not None and self._ended != "stalled":
            self._meters.stalled += 1
        self._ended = "stalled"
        if self._writer is not None:
            self._writer.cancel()
