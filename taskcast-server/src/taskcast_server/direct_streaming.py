"""An open event stream that writes into the transport, and for which nobody waits.

News are written at the moment that they come, without waking any task. A reader who has all that there is, is a few
objects: the task that has begun the stream is done, and another one is made when there is something that cannot be
written at once: a page from the store, more than the transport has room for (so that back-pressure is an ``await``
here, too), the end.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from contextvars import Context

from taskcast_core.deliveries import Batch
from taskcast_core.subscription import Subscription
from taskcast_server.errors import ClientGone
from taskcast_server.exchange import Exchange, as_sent, in_chunks
from taskcast_server.sse import HEARTBEAT, HELLO, done_frame
from taskcast_server.streaming import HEADERS, EventStream, StallMeter
from taskcast_server.wheel import Wheel

_HEADERS = (*HEADERS, (b"connection", b"keep-alive"), (b"transfer-encoding", b"chunked"))
_FRAMED_HELLO = in_chunks(HELLO)
_FRAMED_HEARTBEAT = in_chunks(HEARTBEAT)

OnEnd = Callable[[Exception | None], None]


class DirectStream(EventStream):
    """One reader's connection around `Exchange`; a taker of its subscription's news."""

    __slots__ = ("_direct", "_is_over", "_news", "_on_end", "_stays", "_subscription")

    def __init__(
        self,
        subscription: Subscription,
        encode: Callable[[Batch], bytes],
        wheel: Wheel,
        direct: Exchange,
        on_end: OnEnd,
        meters: StallMeter | None = None,
        *,
        stays: bool = False,
    ) -> None:
        """``on_end`` is called once, with the error that has ended the stream unless ``run`` raises it. ``stays``: not
        before that is ``run`` to return; else it does as soon as there is nothing to write.
        """
        super().__init__(subscription, encode, wheel, None, direct.send, meters)
        self._subscription, self._direct, self._on_end, self._stays = subscription, direct, on_end, stays
        self._news: asyncio.Future[None] | None = None
        self._is_over = False

    async def run(
        self,
        *,
        lives_for_s: float | None = None,
        http_version: str = "1.1",
        headers: Sequence[tuple[bytes, bytes]] = (),
    ) -> None:
        """See EventStream; the stream may go on when this has returned."""
        self._mount(lives_for_s)
        self._direct.leaving.append(self.leave)
        self._stays = self._stays or http_version != "1.1"  # nothing can be pushed: a task is wanted at all times
        try:
            if self._direct.is_gone:
                raise ClientGone
            await self._open(http_version, headers)
            is_over = await self._write_on()
            while not is_over and self._stays:
                self._news = asyncio.get_running_loop().create_future()
                await self._news
                is_over = await self._write_on()
        except BaseException as error:  # noqa: BLE001 - raised again under the name that it has for the caller
            self._finish(None)
            self._explain(error)
            return
        if is_over:
            self._finish(None)
        else:
            self._direct.leave_open()
            self._writer = None

    async def _open(self, http_version: str, headers: Sequence[tuple[bytes, bytes]]) -> None:
        """Begin; what is at hand already goes along."""
        first = self._subscription.poll()
        framed = b"" if first is None else self._framed(first)
        more = as_sent(headers)
        if framed is None or not self._direct.begin(200, _HEADERS, _FRAMED_HELLO + framed, more):
            await self._begin(http_version, headers)
            if first is not None:
                await self._write(await self._encoded(first))

    async def _write_on(self) -> bool:
        """Write all that there is; whether that was the end."""
        source = self._subscription
        while True:
            if self._is_beat_due:
                self._is_beat_due = False
                await self._write(HEARTBEAT)
            if source.listen(self):
                return False
            batch = await source.read_on()
            if batch is None:
                await self._say_goodbye()
                return True
            if batch.ended is not None:
                await self._end_with(await self._encoded(batch) + done_frame(batch.ended))
                return True
            if not self.take(batch):
                await self._write(await self._encoded(batch))

    async def _go_on(self) -> None:
        """``run``, continued: nobody waits for it, so that ``on_end`` is told what it would raise."""
        failure: Exception | None = None
        try:
            if not await self._write_on():
                self._writer = None
                return
        except asyncio.CancelledError:
            self._finish(None)
            if self._ended != "stalled":
                raise
            return
        except (OSError, ClientGone):
            pass  # the client has left, which is an end like others
        except Exception as error:  # noqa: BLE001 - whatever it is, it is told
            failure = error
        self._finish(failure)

    def _finish(self, error: Exception | None) -> None:
        self._is_over = True
        self._dismount()
        self._direct.leaving.remove(self.leave)
        if self._direct.is_left_open and not self._direct.is_answered:
            self._direct.break_off()
        self._on_end(error)

    # ── Called by the subscription, the connection and the wheel ───────────────────────────────────────────────────

    def take(self, batch: Batch) -> bool:
        """See Taker: what is new goes right into the transport, unless that is full."""
        framed = batch.memo.get(self._encode)
        if framed is None and (framed := self._framed(batch)) is None:
            return False
        return not framed or self._direct.push(framed)

    def _framed(self, batch: Batch) -> bytes | None:
        """What the batch looks like on the line; None if it cannot be encoded, which a task has to find out, too."""
        framed = batch.memo.get(self._encode)
        if framed is None:
            if not batch.deliveries:
                return b""
            try:
                chunk = self._encode(batch)
            except Exception:  # noqa: BLE001 - it is raised again in a task, where it can be told
                return None
            assert isinstance(chunk, bytes)
            framed = batch.memo[self._encode] = in_chunks(chunk)
        return framed

    def wake(self) -> None:
        """See Taker."""
        if self._news is not None:
            if not self._news.done():
                self._news.set_result(None)
        elif self._writer is None and not self._is_over:
            # Whose news these are has nothing to do with this reader: no context of theirs.
            self._writer = asyncio.get_running_loop().create_task(self._go_on(), context=Context())

    def leave(self) -> None:
        """The client has left."""
        if self._writer is None:
            self._finish(None)
        else:
            self._source.close()

    def beat(self) -> None:
        """See Spoke."""
        if self._writing_since is not None:
            super().beat()
        elif not self._direct.push(_FRAMED_HEARTBEAT):
            self._is_beat_due = True
            self.wake()
