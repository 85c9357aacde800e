"""The blocking client: the async one, run on a thread of its own, so that there is one behaviour and not two."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Coroutine, Iterable, Iterator, Mapping, Sized
from concurrent.futures import Future
from types import TracebackType
from typing import Any, Protocol, Self, TypeVar

import httpx

from taskcast_client.calls import Call
from taskcast_client.client import TaskcastClient
from taskcast_client.connection import DEFAULT_URL
from taskcast_client.models import (
    AssignMode,
    Cursor,
    Envelope,
    JsonObject,
    Level,
    SeriesFormat,
    SeriesMode,
    Task,
    TaskStatus,
)
from taskcast_client.producer import TEXT_TYPE, TaskRun, TextWriter
from taskcast_client.retries import RetryPolicy
from taskcast_client.sending import Coalescing
from taskcast_client.stream import GIVE_UP_AFTER_S, SILENCE_S, TaskStream, TextStream
from taskcast_client.verbs import Verbs

R = TypeVar("R")
T = TypeVar("T")


class Runner(Protocol):
    """Runs coroutines on an event loop, for a caller that is not on it."""

    def run(self, work: Coroutine[Any, Any, R]) -> R:
        """Run to the end, and wait for it."""


class RunningLoop:
    """A loop that runs already, on another thread."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop

    def run(self, work: Coroutine[Any, Any, R]) -> R:
        """Run a coroutine there, and wait for it here."""
        return asyncio.run_coroutine_threadsafe(work, self._loop).result()


class _Loop:
    """An event loop on a daemon thread, started when it is first needed; everything of one client runs on it."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._thread: threading.Thread | None = None
        self.is_stopped = False

    def run(self, work: Coroutine[Any, Any, R]) -> R:
        """Run a coroutine there, and wait for it here; an interrupt here cancels it there."""
        if self.is_stopped or threading.current_thread() is self._thread:
            work.close()
            raise RuntimeError("the client has been closed" if self.is_stopped else "this would wait for itself")
        future: Future[R] = asyncio.run_coroutine_threadsafe(work, self._started())
        try:
            return future.result()
        except BaseException:
            future.cancel()
            raise

    def _started(self) -> asyncio.AbstractEventLoop:
        with self._lock:
            if self._loop is None:
                loop = self._loop = asyncio.new_event_loop()
                self._thread = threading.Thread(target=loop.run_forever, name="taskcast client", daemon=True)
                self._thread.start()
            return self._loop

    def stop(self) -> None:
        """End the thread."""
        with self._lock:
            loop, thread = self._loop, self._thread
            self._loop = self._thread = None
            self.is_stopped = True
        if loop is None or thread is None:
            return
        asyncio.run_coroutine_threadsafe(_cancel_everything(), loop).result()
        loop.call_soon_threadsafe(loop.stop)
        thread.join()
        loop.close()


async def _cancel_everything() -> None:
    rest = asyncio.all_tasks() - {asyncio.current_task()}
    for task in rest:
        task.cancel()
    await asyncio.gather(*rest, return_exceptions=True)
    await asyncio.get_running_loop().shutdown_asyncgens()


class SyncTaskcastClient(Verbs):
    """`TaskcastClient` for programs without an event loop: the same verbs, blocking. `with`, or ``close()``.

    Safe to use from several threads. ``token`` may be a function; it is called on the client's own thread.
    """

    def __init__(
        self,
        base_url: str = DEFAULT_URL,
        *,
        token: str | Callable[[], str] | None = None,
        service_key: str | None = None,
        timeout_s: float = 30.0,
        retry: RetryPolicy | None = None,
        headers: Mapping[str, str] | None = None,
        transport: httpx.AsyncBaseTransport | None = None,
    ) -> None:
        self._loop = _Loop()

        async def make() -> TaskcastClient:
            return TaskcastClient(
                base_url,
                token=token,
                service_key=service_key,
                timeout_s=timeout_s,
                retry=retry,
                headers=headers,
                transport=transport,
            )

        self._client = self._loop.run(make())

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close all connections, and end the thread; may be called twice."""
        if not self._loop.is_stopped:
            self._loop.run(self._client.aclose())
            self._loop.stop()

    def _block_on_call(self, call: Call[R]) -> R:
        return self._loop.run(self._client.connection.run(call))

    def iterate_tasks(
        self,
        *,
        status: TaskStatus | Iterable[TaskStatus] | None = None,
        type: str | None = None,
        tags: Iterable[str] | None = None,
        page_size: int = 100,
    ) -> Iterator[Task]:
        """All tasks that match, newest first, page by page."""
        tasks = self._client.iterate_tasks(status=status, type=type, tags=tags, page_size=page_size)
        while (task := self._loop.run(_next(tasks))) is not None:
            yield task

    def subscribe(
        self,
        task_id: str,
        *,
        types: Iterable[str] | None = None,
        levels: Iterable[Level] | None = None,
        include_status: bool = True,
        since: Cursor | str | None = None,
        series_format: SeriesFormat = "delta",
        limit: int | None = None,
        silence_s: float = SILENCE_S,
        give_up_after_s: float = GIVE_UP_AFTER_S,
    ) -> SyncTaskStream:
        """Follow a task: ``for event in client.subscribe(task_id)``; see `TaskcastClient.subscribe`."""
        stream = self._loop.run(
            _made(
                lambda: self._client.subscribe(
                    task_id,
                    types=types,
                    levels=levels,
                    include_status=include_status,
                    since=since,
                    series_format=series_format,
                    limit=limit,
                    silence_s=silence_s,
                    give_up_after_s=give_up_after_s,
                )
            )
        )
        return SyncTaskStream(self._loop, stream)

    def text(self, task_id: str, *, series: str = "response", growing: bool = False) -> SyncTextStream:
        """The text of one accumulate series; see `TaskcastClient.text`."""
        stream = self._loop.run(_made(lambda: self._client.text(task_id, series=series, growing=growing)))
        return SyncTextStream(self._loop, stream)

    def wait(self, task_id: str) -> Task:
        """Wait until a task has ended; the task with its result or error."""
        return self._loop.run(self._client.wait(task_id))

    def task(
        self,
        *,
        type: str | None = None,
        params: JsonObject | None = None,
        id: str | None = None,
        metadata: JsonObject | None = None,
        ttl: int | None = None,
        tags: list[str] | None = None,
        assign_mode: AssignMode | None = None,
        webhooks: list[JsonObject] | None = None,
        coalescing: Coalescing | None = None,
    ) -> SyncTaskRun:
        """Run a task: ``with client.task(type="report") as task:``; see `TaskcastClient.task`."""
        run = self._loop.run(
            _made(
                lambda: self._client.task(
                    type=type,
                    params=params,
                    id=id,
                    metadata=metadata,
                    ttl=ttl,
                    tags=tags,
                    assign_mode=assign_mode,
                    webhooks=webhooks,
                    coalescing=coalescing,
                )
            )
        )
        return SyncTaskRun(self._loop, run)

    def attach(
        self, task: Task | str, *, assignment_id: str | None = None, coalescing: Coalescing | None = None
    ) -> SyncTaskRun:
        """Run a task that exists already; see `TaskcastClient.attach`."""
        run = self._loop.run(
            _made(lambda: self._client.attach(task, assignment_id=assignment_id, coalescing=coalescing))
        )
        return SyncTaskRun(self._loop, run)


class _SyncIterator(Iterator[T]):
    """A blocking view of an async stream."""

    def __init__(self, loop: _Loop, stream: Any) -> None:
        self._loop, self._stream = loop, stream

    def __next__(self) -> T:
        item: T | None = self._loop.run(_next(self._stream))
        if item is None:
            raise StopIteration
        return item

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Stop reading, and free the connection."""
        self._loop.run(self._stream.aclose())


class SyncTaskStream(_SyncIterator[Envelope]):
    """`TaskStream`, blocking."""

    _stream: TaskStream

    @property
    def status(self) -> str | None:
        """How the task stands, as far as the events so far tell: at the end its terminal status."""
        return self._stream.status

    @property
    def last_event_id(self) -> str | None:
        """The cursor to go on from elsewhere, given as ``since``."""
        return self._stream.last_event_id


class SyncTextStream(_SyncIterator[str]):
    """`TextStream`, blocking."""

    _stream: TextStream

    @property
    def text(self) -> str:
        """All of the text so far."""
        return self._stream.text

    @property
    def status(self) -> str | None:
        """How the task stands; at the end its terminal status."""
        return self._stream.status


class SyncTaskRun:
    """`TaskRun`, blocking; nothing but entering, leaving, ``flush`` and ``call_tool`` waits for the network."""

    def __init__(self, loop: Runner, run: TaskRun) -> None:
        self._loop, self._run = loop, run

    @property
    def id(self) -> str:
        """The task's id; known once the block has been entered."""
        return self._run.id

    @property
    def task(self) -> Task:
        """The task as the server last described it to this run."""
        return self._run.task

    @property
    def params(self) -> JsonObject:
        """What the task was created with."""
        return self._run.params

    @property
    def result(self) -> JsonObject | None:
        """What the task is completed with when the block ends well."""
        return self._run.result

    @result.setter
    def result(self, value: JsonObject | None) -> None:
        self._run.result = value

    def __enter__(self) -> Self:
        self._loop.run(self._run.__aenter__())
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._loop.run(self._run.__aexit__(kind, error, trace))

    def emit(
        self,
        type: str,
        data: Any = None,
        *,
        level: Level = "info",
        series_id: str | None = None,
        series_mode: SeriesMode | None = None,
        series_acc_field: str | None = None,
    ) -> None:
        """Have an event published; see `TaskRun.emit`."""
        self._loop.run(
            self._run.emit(
                type,
                data,
                level=level,
                series_id=series_id,
                series_mode=series_mode,
                series_acc_field=series_acc_field,
            )
        )

    def call_tool(
        self,
        name: str,
        arguments: Any = None,
        *,
        call_id: str | None = None,
        message_id: str | None = None,
        timeout_s: float | None = None,
    ) -> Any:
        """Call a tool that somebody who follows the task has, and wait for its answer; see `TaskRun.call_tool`."""
        return self._loop.run(
            self._run.call_tool(name, arguments, call_id=call_id, message_id=message_id, timeout_s=timeout_s)
        )

    def flush(self) -> None:
        """Return when the server has all events so far."""
        self._loop.run(self._run.flush())

    def text(self, series: str = "response", *, type: str = TEXT_TYPE) -> SyncTextWriter:
        """A text that readers see grow."""
        return SyncTextWriter(self._loop, self._run.text(series, type=type))

    def progress(
        self, done: float, total: float | None = None, message: str | None = None, *, series: str = "progress"
    ) -> None:
        """How far the task is; only the newest value is kept."""
        self._loop.run(self._run.progress(done, total, message, series=series))

    def log(self, message: str, level: Level = "info", **fields: Any) -> None:
        """A line of log, with fields of your own."""
        self._loop.run(self._run.log(message, level, **fields))

    def track(self, items: Iterable[T], total: int | None = None, message: str | None = None) -> Iterator[T]:
        """The items, one by one, with progress after each: ``for page in task.track(pages):``."""
        if total is None and isinstance(items, Sized):
            total = len(items)
        self.progress(0, total, message)
        for done, item in enumerate(items, start=1):
            yield item
            self.progress(done, total, message)


class SyncTextWriter:
    """`TextWriter`, blocking."""

    def __init__(self, loop: Runner, writer: TextWriter) -> None:
        self._loop, self._writer = loop, writer

    def write(self, text: str) -> None:
        """Continue the text."""
        self._loop.run(self._writer.write(text))


async def _made(make: Callable[[], R]) -> R:
    """Make something on the loop that it will live on."""
    return make()


async def _next(stream: Any) -> Any:
    """The next item; None at the end, since StopAsyncIteration cannot leave a future."""
    return await anext(stream, None)
