"""Calls the lifecycle hooks: sync or async, each observer on its own, never in the way of a commit.

Every plugin (or object) that implements a lifecycle hook is one observer, with one bounded queue, drained in
order by one task that lives while there is something to drain. A hook that nobody implements is None, so
asking costs an attribute::

    if observers.task_created:
        observers.task_created(task=task)

Emitting appends to a queue and returns. An observer that raises is logged once per hook and kind of error,
and counted every time; one that hangs stalls only its own queue, which then loses its oldest entries,
counted.

Plain functions run in a thread that belongs to the observer (a daemon: one that never returns must not keep
the process from ending). Python cannot end a thread: after the time limit the call is counted as timed out,
and the observer's next call waits for it.
"""

from __future__ import annotations

import asyncio
import contextlib
import inspect
import logging
import threading
from collections import deque
from collections.abc import Callable, Iterable, Mapping
from queue import SimpleQueue
from typing import TypeAlias

from attrs import field
from pluggy import PluginValidationError

from taskcast_core.errors import PluginError
from taskcast_core.hookspecs import LIFECYCLE_HOOKS, PREFIX, Hooks
from taskcast_core.log_events import tell_failure
from taskcast_core.values import define, frozen

QUEUE_SIZE = 1000
"""Calls that may wait for one observer."""
TIMEOUT_S = 30.0
"""How long one call may take before it counts as hung."""
_CANCEL_GRACE_S = 1.0
_KINDS_REPORTED = 100

_log = logging.getLogger(__name__)


@frozen
class ObserverCounts:
    """What has become of the calls of one observer.

    Attributes:
        delivered: returned normally. failed: raised. timed_out: did not return in time.
        dropped: never made, because the queue was full or the engine closed. pending: waiting now.
    """

    delivered: int
    failed: int
    timed_out: int
    dropped: int
    pending: int


@frozen
class _Call:
    hook: str
    function: Callable[..., object]
    arguments: tuple[object, ...] = field(repr=False)


_Target: TypeAlias = "tuple[_Observer, Callable[..., object], tuple[str, ...]]"


class Emit:
    """One hook with its implementations; calling it queues one call per observer."""

    __slots__ = ("_targets", "hook")

    def __init__(self, hook: str, targets: Iterable[_Target]) -> None:
        self.hook = hook
        self._targets = tuple(targets)

    def __call__(self, **arguments: object) -> None:
        """Queue the call, each implementation with the arguments that it takes. Never blocks or raises."""
        for observer, function, names in self._targets:
            observer.put(_Call(self.hook, function, tuple([arguments.get(name) for name in names])))


class Observers:
    """The compiled lifecycle hooks of one engine; one attribute per hook, without its prefix, an `Emit` or
    None.

    Must be used from one event loop. `aclose` it: calls that still wait are made within a deadline.

    Args:
        hooks: a `Hooks` table (``plugins.hooks``) or objects with methods named like hooks.
        queue_size: calls that may wait per observer. timeout_s: time limit of one call.
    """

    task_created: Emit | None
    task_transitioned: Emit | None
    task_failed: Emit | None
    task_timed_out: Emit | None
    task_deleted: Emit | None
    task_released: Emit | None
    task_rehydrated: Emit | None
    events_committed: Emit | None
    event_dropped: Emit | None
    subscriber_connected: Emit | None
    subscriber_disconnected: Emit | None
    worker_connected: Emit | None
    worker_disconnected: Emit | None
    task_assigned: Emit | None
    task_declined: Emit | None
    webhook_failed: Emit | None
    unhandled_error: Emit | None

    def __init__(self, *hooks: object, queue_size: int = QUEUE_SIZE, timeout_s: float = TIMEOUT_S) -> None:
        self._observers: dict[tuple[int, str], _Observer] = {}
        tables = [each for each in hooks if isinstance(each, Hooks)]
        tables.append(_table([each for each in hooks if not isinstance(each, Hooks)]))
        for name in LIFECYCLE_HOOKS:
            targets = []
            for at, table in enumerate(tables):
                for implementation in table.implementations(name):
                    key = (at, implementation.plugin_name)
                    observer = self._observers.get(key)
                    if observer is None:
                        observer = self._observers[key] = _Observer(
                            implementation.plugin_name, queue_size=queue_size, timeout_s=timeout_s
                        )
                    targets.append((observer, implementation.function, tuple(implementation.argnames)))
            hook = name.removeprefix(PREFIX)
            setattr(self, hook, Emit(hook, targets) if targets else None)

    @classmethod
    def of(cls, hooks: object) -> Observers:
        """What ``TaskEngine(hooks=…)`` accepts: None, an `Observers`, a `Hooks` table, an object, or several
        of these.
        """
        if isinstance(hooks, Observers):
            return hooks
        if hooks is None:
            return cls()
        return cls(*hooks) if isinstance(hooks, list | tuple | set | frozenset) else cls(hooks)

    def counts(self) -> Mapping[str, ObserverCounts]:
        """Per observer, for metrics."""
        counts: dict[str, ObserverCounts] = {}
        for observer in self._observers.values():
            name = observer.name if observer.name not in counts else f"{observer.name}#{len(counts)}"
            counts[name] = observer.counts()
        return counts

    def failed(self, log: logging.Logger, error: Exception, operation: str, task_id: str | None = None) -> None:
        """Something failed that no caller can be told of: log it with its stack, and call `unhandled_error`.

        ``operation`` names the background job or the verb. What a store or dependency that is away makes of it, every
        job knows to wait for; that is no such failure.
        """
        tell_failure(log, error, "unhandled_error", operation=operation, taskId=task_id)
        if self.unhandled_error is not None:
            self.unhandled_error(error=error, operation=operation, task_id=task_id)

    async def aclose(self, deadline_s: float = 5.0) -> None:
        """Take no more calls, make the waiting ones, give up after ``deadline_s``; what is left counts as
        dropped.
        """
        tasks = [task for observer in self._observers.values() if (task := observer.close()) is not None]
        try:
            if tasks:
                await asyncio.wait(tasks, timeout=deadline_s)
        finally:
            for observer in self._observers.values():
                observer.abandon()
        if tasks:
            await asyncio.wait(tasks, timeout=_CANCEL_GRACE_S)


def _table(objects: Iterable[object]) -> Hooks:
    """A hook table of plain objects, each once."""
    table = Hooks()
    seen: list[object] = []
    for each in objects:
        if any(each is other for other in seen):
            continue
        seen.append(each)
        name = getattr(each, "__name__", type(each).__qualname__)
        try:
            table.register(each, name if table.get_plugin(name) is None else f"{name}#{len(seen)}")
        except (PluginValidationError, ValueError) as error:
            raise PluginError(f"the hooks object {name} cannot be used: {error}") from error
        if not table.get_hookcallers(each):
            raise PluginError(f"the hooks object {name} has no method named like a hook")
    try:
        table.check_pending()
    except PluginValidationError as error:
        raise PluginError(f"a hooks object has a method for an unknown hook: {error}") from error
    return table


@define(eq=False)
class _Observer:
    """One queue, its counters, and the task and thread that work it off."""

    name: str
    queue_size: int
    timeout_s: float
    _queue: deque[_Call] = field(factory=deque)
    _drain: asyncio.Task[None] | None = None
    _thread: _Thread | None = None
    _reported: set[tuple[str, type[BaseException]]] = field(factory=set)
    _closed: bool = False
    _delivered: int = 0
    _failed: int = 0
    _timed_out: int = 0
    _dropped: int = 0

    def put(self, call: _Call) -> None:
        if self._closed:
            self._dropped += 1
            return
        if len(self._queue) >= self.queue_size:
            self._queue.popleft()
            self._dropped += 1
        self._queue.append(call)
        if self._drain is None:
            try:
                loop = asyncio.get_running_loop()
            except RuntimeError:  # no loop, so nothing will ever run it
                self._queue.pop()
                self._dropped += 1
                return
            self._drain = loop.create_task(self._work(), name=f"taskcast observer {self.name}")

    def counts(self) -> ObserverCounts:
        return ObserverCounts(self._delivered, self._failed, self._timed_out, self._dropped, len(self._queue))

    def close(self) -> asyncio.Task[None] | None:
        self._closed = True
        return self._drain

    def abandon(self) -> None:
        self._dropped += len(self._queue)
        self._queue.clear()
        if self._drain is not None:
            self._drain.cancel()
        if self._thread is not None:
            self._thread.end()

    async def _work(self) -> None:
        try:
            while self._queue:
                if self._thread is not None:
                    await self._thread.idle.wait()
                await self._make(self._queue.popleft())
        finally:
            self._drain = None

    async def _make(self, call: _Call) -> None:
        """Make one call and wait for it to end: up to the limit patiently, then with its cancellation
        requested.
        """
        running = asyncio.ensure_future(self._run(call))
        running.add_done_callback(_retrieve)
        try:
            _, late = await asyncio.wait({running}, timeout=self.timeout_s)
            if late:
                self._report(call, TimeoutError(f"no return within {self.timeout_s:g} s"))
                running.cancel()
                await asyncio.wait({running})
        except asyncio.CancelledError:
            running.cancel()
            self._timed_out += 1
            raise
        error = asyncio.CancelledError() if running.cancelled() else running.exception()
        if late:
            self._timed_out += 1
        elif error is None:
            self._delivered += 1
        else:
            self._failed += 1
            self._report(call, error)

    async def _run(self, call: _Call) -> None:
        try:
            if inspect.iscoroutinefunction(call.function):
                await call.function(*call.arguments)
                return
            if self._thread is None:
                self._thread = _Thread(self.name)
            result = await self._thread.start(call)
            if inspect.isawaitable(result):
                await result
        except (SystemExit, KeyboardInterrupt) as error:  # in a task these would end the loop
            raise _Ended(type(error).__name__) from error

    def _report(self, call: _Call, error: BaseException) -> None:
        key = (call.hook, type(error))
        if key not in self._reported and len(self._reported) < _KINDS_REPORTED:
            self._reported.add(key)
            _log.error(
                "observer %s: %s failed (further failures of this kind are only counted)",
                self.name,
                call.hook,
                exc_info=error,
            )


class _Ended(Exception):
    pass


class _Thread:
    """A daemon thread that makes one call at a time; ``idle`` is set whenever it could take the next one."""

    def __init__(self, name: str) -> None:
        self.idle = asyncio.Event()
        self.idle.set()
        self._loop = asyncio.get_running_loop()
        self._calls: SimpleQueue[tuple[_Call, asyncio.Future[object]] | None] = SimpleQueue()
        threading.Thread(target=self._serve, name=f"taskcast observer {name}", daemon=True).start()

    def start(self, call: _Call) -> asyncio.Future[object]:
        """Begin a call; only when idle, so that no more than one is ever handed over."""
        self.idle.clear()
        result: asyncio.Future[object] = self._loop.create_future()
        self._calls.put((call, result))
        return result

    def end(self) -> None:
        """Let the thread go, now or when its call returns."""
        self._calls.put(None)

    def _serve(self) -> None:
        while (item := self._calls.get()) is not None:
            call, result = item
            value: object = None
            failure: Exception | None = None
            try:
                value = call.function(*call.arguments)
            except BaseException as error:  # noqa: BLE001 - whatever a plugin raises ends here
                failure = error if isinstance(error, Exception) else _Ended(type(error).__name__)
            with contextlib.suppress(RuntimeError):  # the loop is closed: nobody waits any more
                self._loop.call_soon_threadsafe(self._settle, result, value, failure)

    def _settle(self, result: asyncio.Future[object], value: object, failure: Exception | None) -> None:
        self.idle.set()
        if result.done():  # too late, and given up
            if inspect.iscoroutine(value):
                value.close()
        elif failure is None:
            result.set_result(value)
        else:
            result.set_exception(failure)


def _retrieve(task: asyncio.Task[None]) -> None:
    """Mark a failure as seen, so that asyncio does not log it when the task is collected."""
    if not task.cancelled():
        task.exception()
