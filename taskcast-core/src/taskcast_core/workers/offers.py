"""Offering tasks to connected workers: to the best one (``ws-offer``), or to all who may race for it (``ws-race``).

Each node speaks to the workers whose sockets it holds. Of one ``ws-offer`` task only one offer is open at a time in the
whole system: the offered worker's slots are reserved in the store, under a lease somewhat longer than the offer.
"""

from __future__ import annotations

import asyncio
import logging
from collections import OrderedDict
from collections.abc import Sequence
from contextlib import suppress
from typing import Protocol

from attrs import field

from taskcast_core.contracts.workers import Assignment, Workers
from taskcast_core.errors import StoreUnavailable
from taskcast_core.models import AssignMode, Task, TaskStatus, Worker
from taskcast_core.observers import Observers
from taskcast_core.values import define, frozen
from taskcast_core.workers import matching
from taskcast_core.workers.claims import Claims
from taskcast_core.workers.news import News
from taskcast_core.workers.settings import WorkerSettings

_log = logging.getLogger(__name__)

SOCKET_MODES: frozenset[AssignMode] = frozenset({"ws-offer", "ws-race"})
_REMEMBERED = 10_000  # tasks of which is known who has been asked already
_LEASE_MARGIN_MS = 1000
_LOOK_AGAIN_S = 2.0


class Socket(Protocol):
    """A connected worker; its verbs put a message on the wire, and must not block."""

    def offer(self, task: Task, assignment_id: str) -> None:
        """This task is for you, if you want it; the id is that of the ownership."""

    def announce(self, task: Task) -> None:
        """Claim this task, if you are quick."""

    def lost(self, task_id: str, status: TaskStatus) -> None:
        """Somebody else has ended a task of yours."""


@define
class _Asked:
    """Who has been asked about one task by this node, since it last came into the queue."""

    version: int
    since: float
    raced: set[str] = field(factory=set)
    passed: dict[str, float] = field(factory=dict)  # who let an offer run out or declined it, and when


@frozen
class _Offer:
    worker_id: str
    task: Task
    held: Assignment
    expiry: asyncio.TimerHandle


class Dispatcher:
    """The offers of one node."""

    def __init__(
        self, claims: Claims, store: Workers, news: News, settings: WorkerSettings, observers: Observers
    ) -> None:
        self._claims, self._store, self._news, self._settings = claims, store, news, settings
        self._observers = observers
        self._sockets: dict[str, Socket] = {}
        self._asked: OrderedDict[str, _Asked] = OrderedDict()
        self._open: dict[str, _Offer] = {}  # by task
        self._rung = asyncio.Event()
        self._withdrawals: set[asyncio.Task[None]] = set()
        news.on_task.append(self._rung.set)
        news.on_worker.append(lambda _: self._rung.set())
        news.on_taken.append(self._lost)

    async def run(self) -> None:
        """Look at the queue whenever it rings, and now and then; offers end with this."""
        again_s = min(_LOOK_AGAIN_S, self._settings.offer_timeout_ms / 2000)
        try:
            while True:
                with suppress(TimeoutError):
                    async with asyncio.timeout(again_s):
                        await self._rung.wait()
                self._rung.clear()
                if self._sockets:
                    await self._dispatch_safely()
        finally:
            for task_id in list(self._open):
                self._begin_withdrawal(task_id)
            if self._withdrawals:
                await asyncio.wait(self._withdrawals, timeout=5)

    def _lost(self, worker_id: str, task_id: str, status: TaskStatus) -> None:
        socket = self._sockets.get(worker_id)
        if socket is not None:
            socket.lost(task_id, status)

    async def _dispatch_safely(self) -> None:
        try:
            await self._dispatch()
        except StoreUnavailable as error:
            _log.warning("offers wait: %s", error)
        except Exception as error:  # noqa: BLE001 - without this loop nobody would be offered anything
            self._observers.failed(_log, error, "offers")

    def connect(self, worker_id: str, socket: Socket) -> None:
        """A worker's socket is here; whatever waits for it is offered."""
        self._sockets[worker_id] = socket
        for asked in self._asked.values():
            asked.raced.discard(worker_id)
            asked.passed.pop(worker_id, None)
        self._rung.set()

    async def disconnect(self, worker_id: str, socket: Socket) -> bool:
        """The socket is gone; what was offered on it goes to the next one. False: the worker has a newer socket."""
        if self._sockets.get(worker_id) is not socket:
            return False
        del self._sockets[worker_id]
        for task_id, offer in list(self._open.items()):
            if offer.worker_id == worker_id:
                await self._withdraw(task_id)
        return True

    def answered(self, task_id: str, worker_id: str) -> None:
        """A worker accepts or declines, which is about to be done: the offer cannot run out any more."""
        offer = self._open.get(task_id)
        if offer is not None and offer.worker_id == worker_id:
            offer.expiry.cancel()
            del self._open[task_id]
            self._pass(offer)

    def not_taken(self, task_id: str, worker_id: str) -> None:
        """A worker wanted a task and could not have it (now): it hears of the race again, should it get room."""
        asked = self._asked.get(task_id)
        if asked is not None:
            asked.raced.discard(worker_id)

    def _pass(self, offer: _Offer) -> None:
        asked = self._asked.get(offer.task.id)
        if asked is not None:
            asked.passed[offer.worker_id] = asyncio.get_running_loop().time()

    async def _dispatch(self) -> None:
        workers: list[Worker] | None = None
        async for page in self._claims.queued(SOCKET_MODES):
            if workers is None:
                workers = [w for w in await self._store.list_workers() if w.connection_mode == "websocket"]
            if not any(worker.id in self._sockets and matching.has_room(worker) for worker in workers):
                return
            for task in page:
                if task.assign_mode == "ws-race":
                    self._announce(task, workers)
                elif task.id not in self._open:
                    await self._offer(task, workers)

    def _of(self, task: Task) -> _Asked:
        asked = self._asked.get(task.id)
        if asked is None or asked.version != task.updated_at:
            passed = asked.passed if asked else {}
            asked = _Asked(task.updated_at, asyncio.get_running_loop().time(), passed=passed)
            self._asked[task.id] = asked
            while len(self._asked) > _REMEMBERED:
                self._asked.popitem(last=False)
        return asked

    def _announce(self, task: Task, workers: Sequence[Worker]) -> None:
        asked = self._of(task)
        for worker in matching.best_first(workers, task):
            socket = self._sockets.get(worker.id)
            if socket is not None and worker.id not in asked.raced:
                asked.raced.add(worker.id)
                socket.announce(task)

    async def _offer(self, task: Task, workers: list[Worker]) -> None:
        """Offer to the best worker if it is ours; else its node does, and we step in only when that takes too long."""
        asked, now = self._of(task), asyncio.get_running_loop().time()
        timeout_s = self._settings.offer_timeout_ms / 1000
        candidates = [
            worker
            for worker in matching.best_first(workers, task)
            if now - asked.passed.get(worker.id, -timeout_s) >= timeout_s
        ]
        ours = next((worker for worker in candidates if worker.id in self._sockets), None)
        others_had_time = now - asked.since > 1.5 * timeout_s
        if ours is None or (candidates[0] is not ours and not others_had_time):
            return
        lease_ms = self._settings.offer_timeout_ms + _LEASE_MARGIN_MS
        held = await self._claims.reserve(task, ours.id, lease_ms, status="offered")
        if held is None:
            return
        # What is offered in this round counts for the rest of it.
        workers[workers.index(ours)] = matching.with_cost(ours, task)
        expiry = asyncio.get_running_loop().call_later(timeout_s, self._expire, task.id)
        self._open[task.id] = _Offer(ours.id, task, held, expiry)
        asked.since = now
        socket = self._sockets.get(ours.id)
        if socket is None:  # it went while we reserved
            self._begin_withdrawal(task.id)
        else:
            socket.offer(task, held.id)

    def _expire(self, task_id: str) -> None:
        self._pass(self._open[task_id])
        self._begin_withdrawal(task_id)

    def _begin_withdrawal(self, task_id: str) -> None:
        task = asyncio.get_running_loop().create_task(self._withdraw(task_id))
        self._withdrawals.add(task)
        task.add_done_callback(self._withdrawals.discard)

    async def _withdraw(self, task_id: str) -> None:
        offer = self._open.pop(task_id, None)
        if offer is None:
            return
        offer.expiry.cancel()
        try:
            await self._claims.withdraw(offer.held)
        except StoreUnavailable as error:
            _log.info("offer of %s ends with its lease: %s", task_id, error)
        self._news.task_waits(offer.task)
