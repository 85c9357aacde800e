"""Running a task from a thread: `TaskRun`, blocking, on an event loop elsewhere."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine, Iterable, Iterator, Sized
from concurrent.futures import Future
from types import TracebackType
from typing import Any, Protocol, Self, TypeVar

from taskcast_client.models import JsonObject, Level, SeriesMode, Task
from taskcast_client.producer import TEXT_TYPE, TaskRun, TextWriter
from taskcast_client.tracking import Tally

R = TypeVar("R")
T = TypeVar("T")


class Runner(Protocol):
    """Runs coroutines on an event loop, for a caller that is not on it."""

    def run(self, work: Coroutine[Any, Any, R]) -> R:
        """Run to the end, and wait for it."""

    def start(self, work: Coroutine[Any, Any, R]) -> Future[R]:
        """Run, and do not wait."""


class RunningLoop:
    """A loop that runs already, on another thread."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop

    def run(self, work: Coroutine[Any, Any, R]) -> R:
        """Run a coroutine there, and wait for it here."""
        return self.start(work).result()

    def start(self, work: Coroutine[Any, Any, R]) -> Future[R]:
        """Run a coroutine there."""
        return asyncio.run_coroutine_threadsafe(work, self._loop)


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

    def let_go(self) -> None:
        """Leave the task to others; see `TaskRun.let_go`."""
        self._run.let_go()

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
        """The items, one by one, with progress as they are done: ``for page in task.track(pages):``."""
        if total is None and isinstance(items, Sized):
            total = len(items)
        tally = Tally(self._run, total, message)
        self._loop.run(tally.tell())
        reporting = self._loop.start(tally.report())
        try:
            for item in items:
                yield item
                tally.done += 1
                if reporting.done():
                    reporting.result()
        finally:
            reporting.cancel()  # and not waited for: a generator may be closed on any thread
        self._loop.run(tally.tell())


class SyncTextWriter:
    """`TextWriter`, blocking."""

    def __init__(self, loop: Runner, writer: TextWriter) -> None:
        self._loop, self._writer = loop, writer

    def write(self, text: str) -> None:
        """Continue the text."""
        self._loop.run(self._writer.write(text))
