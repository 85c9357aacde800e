"""The blocking client: the async one, run on a thread of its own, so that there is one behaviour and not two."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Coroutine, Iterable, Iterator, Mapping
from concurrent.futures import Future
from types import TracebackType
from typing import Any, Self, TypeVar

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
    Task,
    TaskStatus,
)
from taskcast_client.retries import RetryPolicy
from taskcast_client.sending import Coalescing
from taskcast_client.stream import GIVE_UP_AFTER_S, SILENCE_S, TaskStream, TextStream
from taskcast_client.sync_run import SyncTaskRun
from taskcast_client.verbs import Verbs

R = TypeVar("R")
T = TypeVar("T")


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
        future = self.start(work)
        try:
            return future.result()
        except BaseException:
            future.cancel()
            raise

    def start(self, work: Coroutine[Any, Any, R]) -> Future[R]:
        """Run a coroutine there."""
        return asyncio.run_coroutine_threadsafe(work, self._started())

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

    def subscribe_all(
        self,
        *,
        types: Iterable[str] | None = None,
        levels: Iterable[Level] | None = None,
        silence_s: float = SILENCE_S,
    ) -> SyncStream[Envelope]:
        """Events of all tasks created from now on, without end; see `TaskcastClient.subscribe_all`."""
        stream = self._loop.run(
            _made(lambda: self._client.subscribe_all(types=types, levels=levels, silence_s=silence_s))
        )
        return SyncStream(self._loop, stream)

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


class SyncStream(Iterator[T]):
    """An async stream, blocking. `with`, or ``close()``."""

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


class SyncTaskStream(SyncStream[Envelope]):
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


class SyncTextStream(SyncStream[str]):
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


async def _made(make: Callable[[], R]) -> R:
    """Make something on the loop that it will live on."""
    return make()


async def _next(stream: Any) -> Any:
    """The next item; None at the end, since StopAsyncIteration cannot leave a future."""
    return await anext(stream, None)
