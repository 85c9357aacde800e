"""Reading a task as it runs: one async iterator over all of its events, whatever happens to the connection."""

from __future__ import annotations

import asyncio
import inspect
import logging
from collections import deque
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import aclosing
from types import TracebackType
from typing import Self, TypeVar

from taskcast_client.calls.call import events_path
from taskcast_client.connection import ByteStream, Connection
from taskcast_client.errors import (
    ClientError,
    ConnectionFailed,
    InvalidReply,
    RefusedError,
    StreamInterrupted,
    TextRestarted,
)
from taskcast_client.following import EVENT_FRAME, Position, StreamFilter, read_envelope
from taskcast_client.models import STATUS_TYPE, TERMINAL, Envelope, Level, TaskStatus
from taskcast_client.retries import MAX_RETRY_AFTER_S, RetryPolicy
from taskcast_client.sse import SseParser
from taskcast_client.texts import SeriesText
from taskcast_client.wire import loads

_log = logging.getLogger(__name__)

SILENCE_S = 45.0
"""Three heartbeats of a server: a stream that says nothing for so long is dead."""
GIVE_UP_AFTER_S = 300.0

_AGAIN = RetryPolicy(first_s=0.05, longest_s=10.0)
_LOST_S = 1.0  # a cut stream is opened again at once, but never more often than this allows

OnEvent = Callable[[Envelope], Awaitable[None] | None]
OnDone = Callable[[str], Awaitable[None] | None]
OnError = Callable[[ClientError], Awaitable[None] | None]


class TaskStream:
    """The events of one task: each once, in order, through every cut, until the task has ended.

    Iterate over it once. It ends when the task has ended, and then ``status`` says how. Leaving the loop early is
    fine; ``aclose()`` (or ``async with``) frees the connection at once. After a cut, the first event of an accumulate
    series may be a snapshot (``series_snapshot``): its ``data`` replaces what came before; `TaskcastClient.text` does
    that by itself. An event with ``is_gap`` says that the position was lost, and that texts begin anew.

    Raises while iterating:
        Unauthorized, Forbidden, NotFound: the server does not let us read (any more), or the task is gone.
        StreamInterrupted: cut, and not to be resumed within ``give_up_after_s``. ConnectionFailed: never connected.
    """

    def __init__(
        self,
        connection: Connection,
        task_id: str,
        wanted: StreamFilter,
        *,
        silence_s: float = SILENCE_S,
        give_up_after_s: float = GIVE_UP_AFTER_S,
    ) -> None:
        self.task_id = task_id
        self._connection, self._silence_s, self._give_up_after_s = connection, silence_s, give_up_after_s
        self._position = Position(wanted)
        self._status: str | None = None
        self._last_given: str | None = None
        self._connections = 0
        self._events: deque[Envelope] = deque()
        self._bytes: ByteStream | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._is_closed = False
        self._failures = 0
        self._alive_at = self._opened_at = 0.0

    @property
    def status(self) -> str | None:
        """How the task stands, as far as the events so far tell: at the end its terminal status."""
        return self._status if self._events else self._position.done or self._status

    @property
    def is_done(self) -> bool:
        """Whether the server has said that the task has ended."""
        return self._position.done is not None

    @property
    def last_event_id(self) -> str | None:
        """The id of the last event that was given: the cursor to go on from elsewhere, as ``since``."""
        return self._last_given

    @property
    def connections(self) -> int:
        """How often a connection was opened; more than 1 after a cut."""
        return self._connections

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> Envelope:
        while not self._events:
            if self._is_closed:
                raise StopAsyncIteration
            if self.is_done:
                await self.aclose()
                continue
            try:
                await self._read()
            except ConnectionFailed as failure:
                await self._recover(failure)
            except RefusedError as refusal:
                if not _may_recover(refusal):
                    await self.aclose()
                    raise
                await self._recover(refusal)
            except InvalidReply:
                await self.aclose()
                raise
        event = self._events.popleft()
        self._last_given = None if event.is_gap else event.event_id or self._last_given
        if event.type == STATUS_TYPE and isinstance(event.data, dict):
            self._status = event.data.get("status", self._status)
        return event

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.aclose()

    async def aclose(self) -> None:
        """Stop reading, and free the connection."""
        self._is_closed = True
        await self._hang_up()

    def __del__(self) -> None:
        """A loop that was left early, by ``break``, frees the connection, too."""
        stream, loop = getattr(self, "_bytes", None), getattr(self, "_loop", None)
        if stream is not None and loop is not None and not loop.is_closed():
            loop.call_soon_threadsafe(lambda: loop.create_task(stream.aclose()))

    async def _read(self) -> None:
        """Take in the next bytes, of a new connection if there is none."""
        if self._bytes is None:
            self._loop = asyncio.get_running_loop()
            self._opened_at = self._loop.time()
            self._alive_at = self._alive_at or self._opened_at
            self._bytes = await self._connection.open_stream(
                events_path(self.task_id), query=self._position.connect(), silence_s=self._silence_s
            )
            self._connections += 1
        try:
            piece = await anext(self._bytes)
        except StopAsyncIteration:
            raise ConnectionFailed("the stream ended before its task") from None
        self._events.extend(self._position.feed(piece))
        if self._events:
            self._failures, self._alive_at = 0, asyncio.get_running_loop().time()

    async def _recover(self, failure: ConnectionFailed | RefusedError) -> None:
        """Wait until the stream may be opened again.

        Raises:
            StreamInterrupted: that has been tried for long enough. The failure: it never was open.
        """
        await self._hang_up()
        if self._is_closed:
            return
        self._failures += 1
        now = asyncio.get_running_loop().time()
        if not self._connections and self._failures >= self._connection.retry.attempts:
            await self.aclose()
            raise failure
        if now - self._alive_at > self._give_up_after_s:
            await self.aclose()
            raise StreamInterrupted(self.task_id, self.last_event_id) from failure
        _log.debug("stream of task %s was cut, connecting again: %s", self.task_id, failure)
        await asyncio.sleep(self._pause_s(self._failures, failure, now - self._opened_at))

    async def _hang_up(self) -> None:
        if (stream := self._bytes) is not None:
            self._bytes = None
            await stream.aclose()

    def _pause_s(self, failures: int, failure: ClientError, lived_s: float) -> float:
        asked = failure.retry_after_s if isinstance(failure, RefusedError) else None
        if self._position.retry_ms is not None:
            asked = min(self._position.retry_ms / 1000, MAX_RETRY_AFTER_S)
        if asked is None and failures == 1 and lived_s >= _LOST_S:
            return 0.0
        return _AGAIN.pause_s(failures, asked)


def _may_recover(error: RefusedError) -> bool:
    """Whether the same request may succeed later: 401, 403, 404 and other faults of ours will not."""
    return error.status >= 500 or error.status in (408, 425, 429)


class Subscription:
    """The handle of a subscription by callbacks. Call it, or ``unsubscribe()``, to end it."""

    def __init__(
        self,
        stream: TaskStream,
        on_event: OnEvent | None,
        on_done: OnDone | None,
        on_error: OnError | None,
    ) -> None:
        self._stream = stream
        self._on_event, self._on_done, self._on_error = on_event, on_done, on_error
        self._task = asyncio.get_running_loop().create_task(self._run(), name=f"taskcast {stream.task_id}")

    def __call__(self) -> None:
        """End the subscription."""
        self.unsubscribe()

    def unsubscribe(self) -> None:
        """Call nothing any more, and free the connection; may be called twice."""
        self._task.cancel()

    async def wait(self) -> str | None:
        """Wait for the end; the terminal status, or None after ``unsubscribe``.

        Raises:
            ClientError: what ended the subscription, if there is no ``on_error``.
        """
        try:
            await asyncio.shield(self._task)
        except asyncio.CancelledError:
            if not self._task.cancelled():
                raise  # not the subscription, but the waiting was cancelled
            return None
        return self._stream.status

    async def _run(self) -> None:
        try:
            async with self._stream:
                async for event in self._stream:
                    await _call(self._on_event, event)
            if self._stream.status is not None:
                await _call(self._on_done, self._stream.status)
        except ClientError as error:
            if self._on_error is None:
                raise
            await _call(self._on_error, error)


A = TypeVar("A")


async def _call(callback: Callable[[A], Awaitable[None] | None] | None, argument: A) -> None:
    """Call back, sync or async. What a callback raises ends the subscription, and comes out of ``wait()``."""
    if callback is not None:
        result = callback(argument)
        if inspect.isawaitable(result):
            await result


class TextStream:
    """The text of one series of a task, as strings.

    Attributes:
        text: all of it so far.
    """

    def __init__(self, stream: TaskStream, series_id: str, *, growing: bool) -> None:
        self._stream, self._series_id, self._growing = stream, series_id, growing
        self._series = SeriesText()
        self._pieces = self._read()

    @property
    def text(self) -> str:
        """All of the text so far."""
        return self._series.text

    @property
    def status(self) -> str | None:
        """How the task stands; at the end its terminal status."""
        return self._stream.status

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> str:
        return await self._pieces.__anext__()

    async def aclose(self) -> None:
        """Stop reading, and free the connection."""
        await self._pieces.aclose()

    async def _read(self) -> AsyncGenerator[str, None]:
        given = ""  # what a reader of deltas had before the text was replaced
        is_replaced = False
        async with self._stream:
            async for event in self._stream:
                if not event.is_gap and event.series_id != self._series_id:
                    continue
                if not is_replaced and self._series.would_replace(event):
                    given, is_replaced = self._series.text, True
                piece = self._series.apply(event)
                if self._growing:
                    if piece is not None:
                        yield self._series.text
                elif piece and not is_replaced:
                    yield piece
                elif piece:
                    text, is_replaced = self._series.text, False
                    if not text.startswith(given):
                        raise TextRestarted(self._series_id, text)
                    if len(text) > len(given):
                        yield text[len(given) :]


async def wait_for_end(stream: TaskStream) -> TaskStatus:
    """Read a stream to its end.

    Raises:
        as the stream does.
    """
    async with stream:
        async for _ in stream:
            pass
    status = stream.status
    if status not in TERMINAL:
        raise InvalidReply(f"the stream of task {stream.task_id} ended with {status!r}")
    return status  # type: ignore[return-value]


async def follow_all(
    connection: Connection,
    types: tuple[str, ...] | None,
    levels: tuple[Level, ...] | None,
    *,
    silence_s: float,
) -> AsyncGenerator[Envelope, None]:
    """The stream of all tasks, opened again after each cut; what happens in between is missed.

    Raises:
        RefusedError: the server does not let us read. ConnectionFailed: it is not to be reached.
    """
    chosen = {"types": types, "levels": levels}
    query = {name: ",".join(value) for name, value in chosen.items() if value is not None}
    failures = 0
    while True:
        parser = SseParser()
        try:
            async with aclosing(await connection.open_stream("/events", query=query, silence_s=silence_s)) as pieces:
                async for piece in pieces:
                    failures = 0
                    for frame in parser.feed(piece):
                        if frame.event == EVENT_FRAME:
                            yield read_envelope(loads(frame.data))
        except (ConnectionFailed, RefusedError) as error:
            is_final = isinstance(error, RefusedError) and not _may_recover(error)
            if is_final or failures + 1 >= connection.retry.attempts:
                raise
        failures += 1
        await asyncio.sleep(_AGAIN.pause_s(failures))
