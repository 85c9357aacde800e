"""The one thread that writes. Whatever is queued when it looks travels in one transaction, and so shares one fsync."""

from __future__ import annotations

import asyncio
import sqlite3
import threading
from collections import deque
from collections.abc import Callable, Sequence
from queue import Empty, SimpleQueue
from typing import Any, TypeVar

from taskcast_core.builtin.sqlite.rows import translated
from taskcast_core.builtin.sqlite.session import Published, Session
from taskcast_core.builtin.sqlite.wal import WalKeeper
from taskcast_core.errors import StoreUnavailable, TaskcastError
from taskcast_core.values import frozen

T = TypeVar("T")
Work = Callable[[Session], Any]
_Operation = tuple[Work, asyncio.Future[Any]]

GROUP = 512
"""So many operations travel together at most."""


@frozen
class _Failed:
    error: BaseException


class _UndoError(Exception):
    """An operation failed after it had written: the transaction cannot be kept."""


class Writer:
    """Runs operations in its thread, in the order in which they were handed over.

    Args:
        on_published: called in the event loop with what a transaction has changed, before anybody gets their result.
        queue_size: operations in flight; further callers wait.
    """

    def __init__(
        self, connection: sqlite3.Connection, session: Session, wal: WalKeeper, queue_size: int,
        on_published: Callable[[Published], None],
    ) -> None:  # fmt: skip
        self._connection, self._session, self._wal = connection, session, wal
        self._on_published = on_published
        self._loop = asyncio.get_running_loop()
        self._queue: SimpleQueue[_Operation | None] = SimpleQueue()
        self._untold: deque[set[str]] = deque()  # per group: tasks that it may have changed already
        self._room = asyncio.Semaphore(queue_size)
        self._is_closed = False
        self._thread = threading.Thread(target=self._run, name="taskcast-sqlite-writer", daemon=True)
        self._thread.start()

    async def run(self, work: Callable[[Session], T]) -> T:
        """Do some work and commit it; returns when it is as safe as the fsync policy says.

        A caller that is cancelled does not learn whether its work was done.

        Raises:
            StoreUnavailable: the work was not done.
        """
        await self._room.acquire()
        if self._is_closed:
            self._room.release()
            raise StoreUnavailable("sqlite", "closed")
        future: asyncio.Future[T] = self._loop.create_future()
        self._queue.put((work, future))
        return await future

    def may_have_changed(self, task_id: str) -> bool:
        """Whether readers of the file may see more of a task than ``on_published`` has been told."""
        return any(task_id in changed for changed in tuple(self._untold))  # the thread appends meanwhile

    async def close(self, timeout: float) -> bool:
        """Finish what is queued, and end the thread: whether it did so within ``timeout`` seconds."""
        if not self._is_closed:
            self._is_closed = True
            self._queue.put(None)
        await asyncio.to_thread(self._thread.join, timeout)
        return not self._thread.is_alive()

    # ── In the thread ─────────────────────────────────────────────────────────────────────────────────────────────

    def _run(self) -> None:
        try:
            is_open = True
            while is_open:
                group, is_open = self._next_group()
                if group:
                    self._untold.append(set())
                    published, results = self._done(group)
                    self._tell(group, published, results)
                self._sweep()
                self._wal.noticed(self._connection)
        finally:
            self._abandon()

    def _abandon(self) -> None:
        """The thread ends: nobody shall wait for it."""
        self._is_closed = True
        group: list[_Operation] = []
        while not self._queue.empty():
            if (operation := self._queue.get()) is not None:
                group.append(operation)
        if group:
            self._untold.append(set())
            self._tell(group, {}, [_Failed(StoreUnavailable("sqlite", "closed")) for _ in group])

    def _next_group(self) -> tuple[list[_Operation], bool]:
        """All operations that wait, and whether more may come; waits for the first unless there is sweeping to do."""
        group: list[_Operation] = []
        try:
            operation = self._queue.get(block=not self._session.has_leftovers)
            while operation is not None:
                group.append(operation)
                if len(group) == GROUP:
                    break
                operation = self._queue.get_nowait()
        except Empty:
            return group, True
        return group, operation is not None

    def _done(self, group: Sequence[_Operation]) -> tuple[Published, list[Any]]:
        """Do the work of a group together; where that fails, of each operation for itself."""
        try:
            return self._together(group)
        except Exception as error:  # noqa: BLE001 - whatever went wrong is told to whom it concerns, here or below
            self._session.roll_back()
            if len(group) == 1:
                return {}, [_Failed(translated(_cause(error)))]
        published: Published = {}
        results: list[Any] = []
        for operation in group:
            changed, result = self._done([operation])
            published |= changed
            results += result
        return published, results

    def _together(self, group: Sequence[_Operation]) -> tuple[Published, list[Any]]:
        session = self._session
        session.begin()
        results: list[Any] = []
        for work, _ in group:
            session.has_written = False
            try:
                results.append(work(session))
            except TaskcastError as error:
                if session.has_written:
                    raise _UndoError from error
                results.append(_Failed(error))
        self._untold[-1].update(session.changed)
        return session.commit(), results

    def _sweep(self) -> None:
        if not self._session.has_leftovers:
            return
        try:
            self._session.begin()
            self._session.sweep()
            self._session.commit()
        except sqlite3.Error:
            # The rows are of no use to anybody, and in nobody's way until the next task is removed.
            self._session.roll_back()
            self._session.has_leftovers = False

    def _tell(self, group: Sequence[_Operation], published: Published, results: Sequence[Any]) -> None:
        try:
            self._loop.call_soon_threadsafe(self._deliver, group, published, results)
        except RuntimeError:  # the loop is closed, and everybody who waited is gone with it
            self._is_closed = True

    # ── In the event loop ─────────────────────────────────────────────────────────────────────────────────────────

    def _deliver(self, group: Sequence[_Operation], published: Published, results: Sequence[Any]) -> None:
        self._on_published(published)
        self._untold.popleft()
        for (_, future), result in zip(group, results, strict=True):
            self._room.release()
            if future.done():
                continue
            if isinstance(result, _Failed):
                future.set_exception(result.error)
            else:
                future.set_result(result)


def _cause(error: Exception) -> Exception:
    return error.__cause__ if isinstance(error, _UndoError) and isinstance(error.__cause__, Exception) else error
