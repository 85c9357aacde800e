"""Offering tasks to connected workers: to the best one (``ws-offer``), or to all who may race for it (``ws-race``).

Each node speaks to the workers whose sockets it holds. Of one ``ws-offer`` task only one offer is open at a time in the
whole system: the offered worker's slots are reserved in the store, under a lease as long as the offer.
"""

from __future__ import annotations

import asyncio
import logging
from collections import OrderedDict
from collections.abc import Callable, Sequence
from contextlib import suppress

from attrs import define, field

from taskcast_core.contracts.broadcast import Bell
from taskcast_core.errors import StoreUnavailable
from taskcast_core.hub import Hub
from taskcast_core.ids import new_ulid
from taskcast_core.models import AssignMode, Task, Worker
from taskcast_core.workers import matching
from taskcast_core.workers.pool import WorkerPool, WorkerStore
from taskcast_core.workers.queue import QUEUE_CHANNEL

_log = logging.getLogger(__name__)

SOCKET_MODES: frozenset[AssignMode] = frozenset({"ws-offer", "ws-race"})
_REMEMBERED = 10_000  # tasks of which is known who has been asked already

Ask = Callable[[Task], None]
"""Puts an offer (or the news of a race) on a worker's socket; must not block."""


@define
class _Asked:
    """Who has been asked about one task, by this node."""

    raced: set[str] = field(factory=set)
    passed: set[str] = field(factory=set)  # let an offer run out, or declined it
    since: float = 0.0


class Dispatcher:
    """The offers of one node."""

    def __init__(self, pool: WorkerPool, store: WorkerStore, hub: Hub) -> None:
        self._pool, self._store, self._hub = pool, store, hub
        self._sockets: dict[str, Ask] = {}
        self._asked: OrderedDict[str, _Asked] = OrderedDict()
        self._open: dict[str, tuple[str, str, asyncio.TimerHandle]] = {}  # task → worker, assignment, expiry
        self._rung = asyncio.Event()
        self._withdrawals: set[asyncio.Task[None]] = set()

    async def run(self) -> None:
        """Look at the queue whenever it rings, and now and then; offers end with this."""
        await self._hub.follow_channel(QUEUE_CHANNEL, self._heard)
        again_s = self._pool.settings.offer_timeout_ms / 1000
        while True:
            try:
                if self._sockets:
                    await self._dispatch()
            except StoreUnavailable as error:
                _log.warning("offers wait: %s", error)
            with suppress(TimeoutError):
                async with asyncio.timeout(again_s):
                    await self._rung.wait()
            self._rung.clear()

    def _heard(self, _: Bell) -> None:
        self._rung.set()

    def connect(self, worker_id: str, ask: Ask) -> None:
        """A worker's socket is here; whatever waits for it is offered."""
        self._sockets[worker_id] = ask
        for asked in self._asked.values():
            asked.raced.discard(worker_id)
            asked.passed.discard(worker_id)
        self._rung.set()

    async def disconnect(self, worker_id: str, ask: Ask) -> None:
        """The socket is gone; what was offered on it goes to the next one."""
        if self._sockets.get(worker_id) is ask:
            del self._sockets[worker_id]
        for task_id, (offered_to, _, _) in list(self._open.items()):
            if offered_to == worker_id:
                await self._withdraw(task_id)

    def answered(self, task_id: str, worker_id: str) -> None:
        """A worker has accepted or declined: the offer is not open any more."""
        offer = self._open.get(task_id)
        if offer is not None and offer[0] == worker_id:
            offer[2].cancel()
            del self._open[task_id]
        self._of(task_id).passed.add(worker_id)

    async def _dispatch(self) -> None:
        tasks = await self._pool.waiting(SOCKET_MODES)
        if not tasks:
            return
        workers = [w for w in await self._store.list_workers() if w.connection_mode == "websocket"]
        for task in tasks:
            if task.assign_mode == "ws-race":
                self._announce(task, workers)
            elif task.id not in self._open:
                await self._offer(task, workers)

    def _of(self, task_id: str) -> _Asked:
        asked = self._asked.get(task_id)
        if asked is None:
            asked = self._asked[task_id] = _Asked(since=asyncio.get_running_loop().time())
            while len(self._asked) > _REMEMBERED:
                self._asked.popitem(last=False)
        return asked

    def _announce(self, task: Task, workers: Sequence[Worker]) -> None:
        asked = self._of(task.id)
        for worker in matching.best_first(workers, task):
            ask = self._sockets.get(worker.id)
            if ask is not None and worker.id not in asked.raced:
                asked.raced.add(worker.id)
                ask(task)

    async def _offer(self, task: Task, workers: Sequence[Worker]) -> None:
        """Offer to the best worker if it is ours; else its node does, and we step in only when that takes too long."""
        asked = self._of(task.id)
        candidates = [w for w in matching.best_first(workers, task) if w.id not in asked.passed]
        if not candidates:
            asked.passed.clear()  # all have had their turn: begin again with the next look
            return
        waited_s = asyncio.get_running_loop().time() - asked.since
        others_had_time = waited_s > 1.5 * self._pool.settings.offer_timeout_ms / 1000
        ours = [w for w in candidates if w.id in self._sockets]
        if not ours or (candidates[0] is not ours[0] and not others_had_time):
            return
        worker, assignment_id = ours[0], new_ulid(self._pool.now_ms())
        timeout_ms = self._pool.settings.offer_timeout_ms
        if not await self._pool.reserve(task, worker.id, assignment_id, timeout_ms + 1000):
            return
        loop = asyncio.get_running_loop()
        expiry = loop.call_later(timeout_ms / 1000, self._expire, task.id)
        self._open[task.id] = (worker.id, assignment_id, expiry)
        asked.since = loop.time()
        self._sockets[worker.id](task)

    def _expire(self, task_id: str) -> None:
        worker_id = self._open[task_id][0]
        self._of(task_id).passed.add(worker_id)
        task = asyncio.get_running_loop().create_task(self._withdraw(task_id))
        self._withdrawals.add(task)
        task.add_done_callback(self._withdrawals.discard)

    async def _withdraw(self, task_id: str) -> None:
        offer = self._open.pop(task_id, None)
        if offer is None:
            return
        offer[2].cancel()
        try:
            for held in await self._store.assignments(task_id=task_id):
                if held.id == offer[1] and not held.confirmed:
                    await self._store.release_slot(held.id)
        except StoreUnavailable as error:
            _log.info("offer of %s ends with its lease: %s", task_id, error)
        self._pool.on_room(None)
