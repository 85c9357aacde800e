"""An open event stream: batches out, disconnects in; no task, timer or queue per event.

Per connection there is the task that the HTTP server made, which writes, and one that waits for the client to leave.
Back-pressure is ``await send``: a reader that does not read is only its cursor, and closed if that lasts too long.
Where the server can be gone around, news are written at the moment that they come, without waking any task; only what
the transport has no room for is left to the task, which waits. See `taskcast_server.direct`.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator, Awaitable, Callable, MutableMapping, Sequence
from contextlib import aclosing
from typing import Any, Literal, Protocol

from taskcast_core.deliveries import Batch
from taskcast_core.subscription import Subscription
from taskcast_server.errors import BrokenOff, ClientGone
from taskcast_server.exchange import Exchange, in_chunks
from taskcast_server.sse import HEARTBEAT, HELLO, done_frame, farewell
from taskcast_server.wheel import Wheel

Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]

STALLED_S = 300.0
"""A reader that has taken nothing for so long, although there is something for it, is cut off."""
GRACE_S = 5.0
"""How long a stream that has been told to end may be stuck in writing."""
_RETRY_MS = (500, 5000)
_FRAMED_HEARTBEAT = in_chunks(HEARTBEAT)

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
        "_direct", "_encode", "_ended", "_is_beat_due", "_meters", "_receive", "_send", "_source", "_wheel", "_writer",
        "_writing_since",
    )  # fmt: skip

    def __init__(
        self,
        source: Source,
        encode: Callable[[Batch], bytes | Awaitable[bytes]],
        wheel: Wheel,
        receive: Receive,
        send: Send,
        direct: Exchange | None = None,
        meters: StallMeter | None = None,
    ) -> None:
        """``direct``: the way around ``send``, where there is one. ``meters``: what counts readers that are cut off."""
        self._direct, self._meters = direct, meters
        self._source, self._encode, self._wheel = source, encode, wheel
        self._receive, self._send = receive, send
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
        """Stream until the task has ended, the client is gone, or the time is over; ``headers`` besides its own."""
        loop = asyncio.get_running_loop()
        self._writer = asyncio.current_task()
        headers = [*HEADERS, *headers]
        if http_version == "1.1":
            headers.append((b"connection", b"keep-alive"))
        watcher = loop.create_task(self._watch()) if self._direct is None else None
        self._wheel.add(self, None if lives_for_s is None else loop.time() + max(0.0, lives_for_s))
        try:
            if self._direct is not None:
                self._direct.forget_request()
                self._direct.leaving.append(self._source.close)
                if self._direct.is_gone:
                    raise ClientGone
            await self._send({"type": "http.response.start", "status": 200, "headers": headers})
            await self._write(HELLO)
            await self._pump()
        except asyncio.CancelledError:
            if self._ended != "stalled" or self._writer is None:
                raise
            self._writer.uncancel()  # our own doing; the connection is closed by the server
        except (OSError, ClientGone):
            raise ClientGone from None  # an error of the system is how some servers say so
        except Exception as error:
            raise BrokenOff from error
        finally:
            self._wheel.remove(self)
            self._source.close()
            if watcher is not None:
                watcher.cancel()
            if self._direct is not None:
                self._direct.leaving.remove(self._source.close)

    async def _pump(self) -> None:
        last = b""
        if isinstance(self._source, Subscription):
            while not last and (batch := await self._source.next_batch()) is not None:
                last = await self._pass_on(batch)
        else:
            async with aclosing(self._source.batches()) as batches:  # type: ignore[type-var]
                async for batch in batches:
                    last = await self._pass_on(batch)
        if self._ended == "dismissed" and not last:
            last = farewell(random.randint(*_RETRY_MS))
        await self._send({"type": "http.response.body", "body": last, "more_body": False})

    async def _pass_on(self, batch: Batch) -> bytes:
        """Write a batch, or the heartbeat that is due; of the last batch, return what goes with the end."""
        chunk = b""
        if batch.deliveries:
            encoded = self._encode(batch)
            chunk = encoded if isinstance(encoded, bytes) else await encoded
        if batch.ended is not None:
            return chunk + done_frame(batch.ended)
        if chunk or self._is_beat_due:
            self._is_beat_due = False
            await self._write(chunk or HEARTBEAT)
        return b""

    def take(self, batch: Batch) -> bool:
        """See Taker: what is new goes right into the transport, unless that is full."""
        if not batch.deliveries:
            return True
        framed = batch.memo.get(self._encode)
        if framed is None:
            try:
                chunk = self._encode(batch)
            except Exception:  # noqa: BLE001 - it is raised again in our own task, where it can be told
                return False
            assert isinstance(chunk, bytes)
            framed = batch.memo[self._encode] = in_chunks(chunk)
        return self._direct is not None and self._direct.push(framed)

    async def _write(self, chunk: bytes) -> None:
        self._writing_since = asyncio.get_running_loop().time()
        await self._send({"type": "http.response.body", "body": chunk, "more_body": True})
        self._writing_since = None

    async def _watch(self) -> None:
        """Free everything as soon as the client is gone."""
        try:
            while (await self._receive())["type"] != "http.disconnect":
                pass
        finally:
            self._source.close()

    # ── On the wheel ───────────────────────────────────────────────────────────────────────────────────────────────

    def beat(self) -> None:
        """A heartbeat is due, unless the stream is writing anyway."""
        if self._writing_since is None:
            if self._direct is not None and self._direct.push(_FRAMED_HEARTBEAT):
                return
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
