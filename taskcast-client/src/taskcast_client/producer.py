"""Running a task from this program: its life, its events, its texts, its progress."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterable, AsyncIterator, Iterable, Sized
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self, TypeVar
from uuid import uuid4

from taskcast_client.calls.call import Call, events_path
from taskcast_client.errors import ClientError, RefusedError, ReplyExpired, StaleAssignment, TaskCancelled, ToolFailed
from taskcast_client.models import (
    EventInput,
    JsonObject,
    Level,
    SeriesMode,
    Task,
    TaskError,
    TaskInput,
    TaskStatus,
)
from taskcast_client.sending import Coalescing, Sender
from taskcast_client.vocabulary import TEXT, Chat
from taskcast_client.watching import Watcher

if TYPE_CHECKING:
    from taskcast_client.client import TaskcastClient

T = TypeVar("T")

TEXT_TYPE = TEXT
PROGRESS_TYPE = "task.progress"
LOG_TYPE = "task.log"
LAST_WORDS_S = 10.0
"""How long a failing or cancelled block may take to tell the server."""


class TaskRun:
    """A task that this program runs; made by `TaskcastClient.task` and `TaskcastClient.attach`.

    Attributes:
        result: what the task is completed with when the block ends well; a JSON object.

    Raises, from every verb:
        TaskCancelled: the task was cancelled, timed out, or given to somebody else. ClientError: sending failed.
    """

    def __init__(
        self,
        client: TaskcastClient,
        subject: TaskInput | Task | str,
        *,
        assignment_id: str | None = None,
        coalescing: Coalescing | None = None,
    ) -> None:
        self.result: JsonObject | None = None
        self._client, self._subject = client, subject
        if assignment_id is None and isinstance(subject, Task):
            assignment_id = subject.assignment_id
        self._assignment_id = assignment_id
        self._task = subject if isinstance(subject, Task) else None
        self._id = subject.id if not isinstance(subject, str) else subject
        self._sender = Sender(self._publish, coalescing or Coalescing())
        self._over: str | None = None  # how it ended for this run
        self._watcher: Watcher | None = None

    # ── Its life ───────────────────────────────────────────────────────────────────────────────────────────────────

    @property
    def id(self) -> str:
        """The task's id; known once the block has been entered."""
        if self._id is None:
            raise RuntimeError("the task is created by entering the block")
        return self._id

    @property
    def task(self) -> Task:
        """The task as the server last described it to this run."""
        if self._task is None:
            raise RuntimeError("the task is created by entering the block")
        return self._task

    @property
    def params(self) -> JsonObject:
        """What the task was created with."""
        return self.task.params or {}

    async def __aenter__(self) -> Self:
        if isinstance(self._subject, TaskInput):
            given = self._subject
            self._task = await self._client.create_task(
                id=given.id, type=given.type, params=given.params, metadata=given.metadata, ttl=given.ttl,
                webhooks=given.webhooks, tags=given.tags, assign_mode=given.assign_mode,
            )  # fmt: skip
        elif self._task is None:
            self._task = await self._client.get_task(self.id)
        self._id = self._task.id
        if self._task.status != "running":
            await self._move("running")
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._stop_watching()
        if self._over is not None:
            await self._sender.abandon()
        elif error is None:
            await self.complete(self.result)
        elif isinstance(error, Exception):
            await self._last_words("failed", TaskError(str(error) or type(error).__name__, type(error).__name__))
        else:
            await self._last_words("cancelled", None)

    async def complete(self, result: JsonObject | None = None) -> None:
        """Send what waits, and end the task well. Leaving the block does it, with ``task.result``."""
        try:
            await self._sender.close()
        except TaskCancelled as error:
            self._over = error.status
            raise
        except ClientError as error:  # its story is not complete, and so neither is the task
            await self._last_words("failed", TaskError(f"events could not be sent: {error}", "events_lost"))
            raise
        await self._move("completed", result=result)
        self._over = "completed"

    async def fail(self, message: str, *, code: str | None = None, details: JsonObject | None = None) -> None:
        """Send what waits, and end the task as failed. An exception that leaves the block does it, too."""
        await self._sender.close()
        await self._move("failed", error=TaskError(message, code, details))
        self._over = "failed"

    async def cancel(self, reason: str | None = None) -> None:
        """Send what waits, and end the task as cancelled."""
        await self._sender.close()
        await self._move("cancelled", error=None if reason is None else TaskError(reason, "cancelled"))
        self._over = "cancelled"

    def let_go(self) -> None:
        """Leave the task to others: what this run says from now on is refused, and leaving the block ends nothing."""
        self._over = "left to others"

    async def _move(
        self, status: TaskStatus, *, result: JsonObject | None = None, error: TaskError | None = None
    ) -> None:
        try:
            self._task = await self._client.transition_task(
                self.id, status, result=result, error=error, assignment_id=self._assignment_id
            )
        except RefusedError as refusal:
            raise await self._explained(refusal) from refusal

    async def _last_words(self, status: TaskStatus, error: TaskError | None) -> None:
        """Tell the server how it ended; the exception under way matters more than whether that succeeds."""
        self._over = status
        words = asyncio.ensure_future(self._say(status, error))
        was_cancelled = False
        while not words.done():
            try:
                await asyncio.shield(words)
            except asyncio.CancelledError:  # waits all the same: _say is bounded
                was_cancelled = True
        if was_cancelled:
            raise asyncio.CancelledError

    async def _say(self, status: TaskStatus, error: TaskError | None) -> None:
        try:
            async with asyncio.timeout(LAST_WORDS_S):
                try:
                    await self._sender.close()
                finally:
                    await self._move(status, error=error)
        except (ClientError, TimeoutError, RuntimeError):  # the last: of a client that has been closed already
            await self._sender.abandon()

    async def _explained(self, refusal: RefusedError) -> ClientError:
        """What a refusal means to a producer: the task has ended elsewhere, or really something is wrong."""
        if isinstance(refusal, StaleAssignment):
            return TaskCancelled(self.id, "reassigned")
        if refusal.status in (400, 404, 409):
            try:
                task = await self._client.get_task(self.id)
            except ClientError:
                return refusal
            if task.is_terminal:
                return TaskCancelled(self.id, task.status)
        return refusal

    # ── Being told to stop ─────────────────────────────────────────────────────────────────────────────────────────

    @property
    def cancelled(self) -> asyncio.Future[str]:
        """Awaitable: the terminal status, as soon as the task has been ended from elsewhere.

        ``await task.cancelled``, or one among several in ``asyncio.wait``. The first use begins to watch the task.
        Where the token does not allow that, awaiting raises `Forbidden`.
        """
        return asyncio.shield(self._watching().ended)

    def _watching(self) -> Watcher:
        if self._watcher is None:
            self._watcher = Watcher(self._client, self.id)
        return self._watcher

    async def _stop_watching(self) -> None:
        if self._watcher is not None:
            await self._watcher.stop()

    # ── Asking others ──────────────────────────────────────────────────────────────────────────────────────────────

    async def call_tool(
        self,
        name: str,
        arguments: Any = None,
        *,
        call_id: str | None = None,
        message_id: str | None = None,
        timeout_s: float | None = None,
    ) -> Any:
        """Call a tool that somebody who follows the task has, and wait for what it gives.

        Published as ``llm.tool_call``; answered from anywhere with ``client.tool_result(task_id, call_id, …)``. The
        answer that was taken is published as ``llm.tool_result``. Any number of calls may be open.

        Args:
            name: of the tool.
            arguments: for it; any JSON.
            call_id: of your own, e.g. the model's; a call that has been answered before under it, by an earlier run of
                the task perhaps, gets that answer.
            message_id: the message that the call belongs to.
            timeout_s: how long to wait; None is until the task ends.

        Raises:
            ToolFailed: it was answered with an error. TimeoutError. TaskCancelled: the task has ended.
            ValueError: a call of that id is open. Forbidden: the token may not read the task.
        """
        call_id = uuid4().hex if call_id is None else call_id
        chat = Chat(self)
        await chat.tool_call(call_id, name, arguments, message_id)
        await self.flush()
        async with asyncio.timeout(timeout_s):
            answer = await self._watching().answer(call_id)
        error = None if answer.get("error") is None else str(answer["error"])
        await chat.tool_result(call_id, answer.get("result"), error=error)
        if error is not None:
            raise ToolFailed(call_id, name, error)
        return answer.get("result")

    # ── What it says ───────────────────────────────────────────────────────────────────────────────────────────────

    async def emit(
        self,
        type: str,
        data: Any = None,
        *,
        level: Level = "info",
        series_id: str | None = None,
        series_mode: SeriesMode | None = None,
        series_acc_field: str | None = None,
    ) -> None:
        """Have an event published, behind all earlier ones; waits only when too much is waiting already.

        Raises:
            ValueError, TypeError: the data has no JSON form. TaskCancelled: the task is over, for this run at least.
        """
        if self._over is not None:
            raise TaskCancelled(self.id, self._over)
        await self._sender.put(EventInput(type, data, level, series_id, series_mode, series_acc_field))

    async def flush(self) -> None:
        """Return when the server has all events so far."""
        await self._sender.flush()

    def text(self, series: str = "response", *, type: str = TEXT_TYPE) -> TextWriter:
        """A text that readers see grow; they read it with ``client.text(task_id, series=…)``."""
        return TextWriter(self, series, type)

    async def progress(
        self, done: float, total: float | None = None, message: str | None = None, *, series: str = "progress"
    ) -> None:
        """How far the task is; only the newest value is kept."""
        facts = {"done": done, "total": total, "message": message}
        data = {name: value for name, value in facts.items() if value is not None}
        await self.emit(PROGRESS_TYPE, data, series_id=series, series_mode="latest")

    async def log(self, message: str, level: Level = "info", **fields: Any) -> None:
        """A line of log, with fields of your own."""
        await self.emit(LOG_TYPE, {"message": message, **fields}, level=level)

    async def track(
        self, items: Iterable[T] | AsyncIterable[T], total: int | None = None, message: str | None = None
    ) -> AsyncIterator[T]:
        """The items, one by one, with progress after each: ``async for page in task.track(pages):``."""
        if total is None and isinstance(items, Sized):
            total = len(items)
        done = 0
        await self.progress(done, total, message)
        async for item in _each(items):
            yield item
            done += 1
            await self.progress(done, total, message)

    async def _publish(self, events: list[bytes]) -> None:
        headers = {} if self._assignment_id is None else {"X-Taskcast-Assignment": self._assignment_id}
        body = b"[%b]" % b",".join(events)
        call: Call[None] = Call(
            "POST", events_path(self.id), lambda _: None, body=body, repeat="keyed", headers=headers
        )
        try:
            await self._client.connection.run(call)
        except ReplyExpired:
            return  # published before, when the reply was lost; values since replaced cannot be told again
        except RefusedError as refusal:
            raise await self._explained(refusal) from refusal


class TextWriter:
    """A text of a task, written piece by piece; pieces are put together into few requests."""

    def __init__(self, run: TaskRun, series: str, type: str) -> None:
        self._run, self._series, self._type = run, series, type

    async def write(self, text: str) -> None:
        """Continue the text; waits only when too much is waiting already."""
        if text:
            await self._run.emit(
                self._type, {"delta": text}, series_id=self._series, series_mode="accumulate", series_acc_field="delta"
            )


async def _each(items: Iterable[T] | AsyncIterable[T]) -> AsyncIterator[T]:
    if isinstance(items, AsyncIterable):
        async for item in items:
            yield item
    else:
        for item in items:
            yield item
