"""Waiting for work: pulls that wait on this node are served by one look at the queue, on every ring.

A ring comes from whatever node made a task; lost rings are made up for by a look now and then.
"""

from __future__ import annotations

import asyncio
import logging
from contextlib import suppress

from attrs import field

from taskcast_core.errors import StoreUnavailable, TaskcastError, WorkerNotFound
from taskcast_core.models import AssignMode, Task, TaskStatus, Worker
from taskcast_core.observers import Observers
from taskcast_core.values import define
from taskcast_core.workers import matching
from taskcast_core.workers.claims import Claims
from taskcast_core.workers.news import News
from taskcast_core.workers.roster import Roster
from taskcast_core.workers.settings import WorkerSettings

_log = logging.getLogger(__name__)

PULL_MODES: frozenset[AssignMode] = frozenset({"pull"})
AVAILABLE = ("idle", "busy")
SHORTEST_PULL_S = 0.1
"""A pull waits at least so long, so that the queue has been looked at."""
_LOOK_AGAIN_S = 1.0
_AT_ONCE = 32  # claims under way


@define(eq=False)
class _Waiter:
    """One pull. Whoever takes it out of the queue's list owes it a reply, or puts it back."""

    worker: Worker
    reply: asyncio.Future[Task | None] = field(factory=lambda: asyncio.get_running_loop().create_future())
    is_stale: bool = False
    is_over: bool = False

    def answer(self, task: Task | None) -> bool:
        """Give it its task, or nothing; False when nobody waits for it any more."""
        if self.reply.done():
            return False
        self.reply.set_result(task)
        return True


class WorkQueue:
    """The pulls that wait on one node."""

    def __init__(
        self, claims: Claims, roster: Roster, news: News, settings: WorkerSettings, observers: Observers
    ) -> None:
        self._claims, self._roster, self._settings, self._observers = claims, roster, settings, observers
        self._waiting: list[_Waiter] = []
        self._rung = asyncio.Event()
        self._returns: set[asyncio.Task[None]] = set()
        news.on_task.append(self._rung.set)
        news.on_worker.append(self._worker_changed)
        news.on_taken.append(self._worker_lost)

    @property
    def waiting(self) -> int:
        """How many pulls wait here."""
        return len(self._waiting)

    def dismiss(self) -> None:
        """End all pulls that wait, with nothing: the process is about to stop."""
        waiting, self._waiting = self._waiting, []
        for waiter in waiting:
            waiter.answer(None)

    def _worker_changed(self, worker_id: str) -> None:
        for waiter in self._waiting:
            if waiter.worker.id == worker_id:
                waiter.is_stale = True
                self._rung.set()

    def _worker_lost(self, worker_id: str, _task_id: str, _status: TaskStatus) -> None:
        """A waiting worker is told of a cancellation by the end of its pull."""
        for waiter in [each for each in self._waiting if each.worker.id == worker_id]:
            self._waiting.remove(waiter)
            waiter.answer(None)

    async def pull(self, worker: Worker, timeout_s: float) -> Task | None:
        """The next task for a worker, claimed for it; None when there was none in time, or it takes none.

        When this is cancelled, a task that has just been claimed is given back.

        Raises:
            StoreUnavailable.
        """
        if worker.status not in AVAILABLE:
            return None
        waiter = _Waiter(worker)
        self._waiting.append(waiter)
        self._rung.set()
        try:
            return await self._wait(waiter, max(timeout_s, SHORTEST_PULL_S))
        except asyncio.CancelledError:
            self._abandon(waiter)
            raise
        finally:
            with suppress(ValueError):
                self._waiting.remove(waiter)

    async def _wait(self, waiter: _Waiter, timeout_s: float) -> Task | None:
        loop = asyncio.get_running_loop()
        ends = loop.time() + timeout_s
        beat_s = self._settings.heartbeat_interval_ms / 1000
        while (left_s := ends - loop.time()) > 0:
            await asyncio.wait({waiter.reply}, timeout=min(left_s, beat_s))
            if waiter.reply.done():
                return waiter.reply.result()
            if waiter in self._waiting and loop.time() < ends:
                try:  # an open request is a sign of life
                    waiter.worker = await self._roster.heartbeat(waiter.worker.id)
                except WorkerNotFound:
                    break
                if waiter.worker.status not in AVAILABLE:
                    break
        if waiter in self._waiting:
            return None
        waiter.is_over = True  # it is being claimed for right now; should that fail, it is not put back
        return await waiter.reply

    def _abandon(self, waiter: _Waiter) -> None:
        if not waiter.reply.done():
            waiter.reply.cancel()
        elif not waiter.reply.cancelled() and waiter.reply.exception() is None:
            self._return(waiter.reply.result())

    def _return(self, task: Task | None) -> None:
        """Put back a task that nobody took."""
        if task is not None:
            returning = asyncio.get_running_loop().create_task(self._give_back(task))
            self._returns.add(returning)
            returning.add_done_callback(self._returns.discard)

    async def _give_back(self, task: Task) -> None:
        try:
            await self._claims.put_back(task)
        except TaskcastError as error:
            _log.info("task %s returns to the queue with its lease: %s", task.id, error)

    async def run(self) -> None:
        """Serve those who wait, for ever; at the end they get nothing."""
        try:
            while True:
                with suppress(TimeoutError):
                    async with asyncio.timeout(_LOOK_AGAIN_S):
                        await self._rung.wait()
                self._rung.clear()
                if self._waiting:
                    await self._serve_safely()
        finally:
            self.dismiss()
            if self._returns:
                await asyncio.wait(self._returns, timeout=5)

    async def _serve_safely(self) -> None:
        try:
            await self._serve()
        except StoreUnavailable as error:
            _log.warning("%d pulls wait for the store: %s", len(self._waiting), error)
            await asyncio.sleep(_LOOK_AGAIN_S)
        except Exception as error:  # noqa: BLE001 - without this loop nobody would get work
            self._observers.failed(_log, error, "pulls")

    async def _serve(self) -> None:
        for waiter in [each for each in self._waiting if each.is_stale]:
            await self._refresh(waiter)
        if not any(matching.has_room(each.worker) for each in self._waiting):
            return
        async for page in self._claims.queued(PULL_MODES):
            await self._hand_out_all(self._pair(page))
            if not self._waiting:
                return

    def _pair(self, tasks: list[Task]) -> list[tuple[Task, _Waiter]]:
        """Who gets which task; those who do are taken out of the list."""
        pairs = []
        free = [each for each in self._waiting if matching.has_room(each.worker)]
        for task in tasks:
            if not free:
                break
            takers = [each for each in free if matching.is_available(each.worker, task)]
            if takers:
                best = min(takers, key=lambda each: matching.preference(each.worker))
                free.remove(best)
                self._waiting.remove(best)
                pairs.append((task, best))
        return pairs

    async def _hand_out_all(self, pairs: list[tuple[Task, _Waiter]]) -> None:
        for start in range(0, len(pairs), _AT_ONCE):
            batch, rest = pairs[start : start + _AT_ONCE], pairs[start + _AT_ONCE :]
            try:
                await asyncio.gather(*(self._hand_out(task, waiter) for task, waiter in batch))
            except BaseException:
                for _, waiter in rest:
                    self._wait_on(waiter)
                raise

    async def _hand_out(self, task: Task, waiter: _Waiter) -> None:
        try:
            claimed = await self._claims.claim(task.id, waiter.worker.id, is_known=False)
        except WorkerNotFound:
            waiter.answer(None)
        except StoreUnavailable as error:
            if not waiter.reply.done():
                waiter.reply.set_exception(error)
        except TaskcastError:  # somebody else was faster, or the worker is full
            await self._put_back(waiter)
        except BaseException:
            waiter.answer(None)
            raise
        else:
            if not waiter.answer(claimed):
                self._return(claimed)

    def _wait_on(self, waiter: _Waiter) -> None:
        """Put a waiter back that was taken out of the list, unless its time is over."""
        if waiter.is_over:
            waiter.answer(None)
        else:
            self._waiting.append(waiter)

    async def _put_back(self, waiter: _Waiter) -> None:
        self._wait_on(waiter)
        if waiter in self._waiting:
            await self._refresh(waiter)
            self._rung.set()

    async def _refresh(self, waiter: _Waiter) -> None:
        waiter.is_stale = False
        try:
            waiter.worker = await self._roster.get(waiter.worker.id)
        except WorkerNotFound:
            gone = True
        else:
            gone = waiter.worker.status not in AVAILABLE
        if waiter.reply.done() or gone:
            with suppress(ValueError):
                self._waiting.remove(waiter)
            waiter.answer(None)
