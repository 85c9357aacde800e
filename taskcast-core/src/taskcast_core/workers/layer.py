"""The worker layer of one engine, put together."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager, suppress
from typing import TypeGuard

from attrs import evolve

from taskcast_core.contracts.broadcast import Broadcast
from taskcast_core.contracts.long_term import LongTermStore
from taskcast_core.contracts.workers import Workers
from taskcast_core.errors import StoreUnavailable, WorkerNotFound
from taskcast_core.hub import Hub
from taskcast_core.models import MatchRule, Task, TaskInput, Worker, WorkerAudit
from taskcast_core.observers import Observers
from taskcast_core.stopping import stop
from taskcast_core.supervision import keep_running
from taskcast_core.workers.audit import AuditLog
from taskcast_core.workers.claims import Claims, Current, Move, WorkerStore
from taskcast_core.workers.leases import Leases
from taskcast_core.workers.news import News
from taskcast_core.workers.notices import Notices
from taskcast_core.workers.offers import Dispatcher
from taskcast_core.workers.permits import Permits
from taskcast_core.workers.queue import WorkQueue
from taskcast_core.workers.roster import Roster
from taskcast_core.workers.settings import DEFAULT_CAPACITY, DEFAULT_WEIGHT, Registration, WorkerSettings

_log = logging.getLogger(__name__)


def is_worker_store(store: object) -> TypeGuard[WorkerStore]:
    """Whether a store has the verbs of the Workers contract."""
    return all(hasattr(store, verb) for verb in vars(Workers) if not verb.startswith("_"))


class WorkerLayer:
    """Everything about workers.

    Attributes:
        roster: who they are. claims: who has what. queue: pulls that wait here. dispatcher: offers to sockets here.
        notices: cancellations that workers have not been told of. news: what nodes tell each other.
    """

    def __init__(
        self,
        store: WorkerStore,
        current: Current,
        move: Move,
        cold: LongTermStore | None,
        observers: Observers,
        hub: Hub,
        broadcast: Broadcast,
        settings: WorkerSettings,
        node: str,
    ) -> None:
        self._store, self._hub, self.settings, self.node = store, hub, settings, node
        self._observers = observers
        self.news = News(broadcast, store.now_ms)
        self.audit = AuditLog(cold, store.now_ms)
        self.roster = Roster(store, self.audit, observers, self.news, settings, node)
        self._permits = Permits(store, settings)
        self.claims = Claims(
            store, current, move, self.roster, self.audit, observers, self.news, self._permits, settings
        )
        self.leases = Leases(store, current, move, self.roster, self.news, self._permits, settings, observers)
        self.queue = WorkQueue(self.claims, self.roster, self.news, settings, observers)
        self.dispatcher = Dispatcher(self.claims, store, self.news, settings, observers)
        self.notices = Notices(self.news)

    @asynccontextmanager
    async def running(self, *, background: bool) -> AsyncIterator[None]:
        """Listen and serve while open; ``background``: also look for lost workers."""
        await self.news.open(self._hub)
        with suppress(StoreUnavailable):  # made up for by the first claim
            await self._permits.open()
        loops = {"pulls": self.queue.run, "offers": self.dispatcher.run, "worker audit": self.audit.run}
        if background:
            loops["worker leases"] = self.leases.run
        tasks = [asyncio.create_task(keep_running(name, loop, self._observers)) for name, loop in loops.items()]
        try:
            yield
        finally:
            await stop(tasks)
            try:
                await self.audit.flush()
            except StoreUnavailable as error:
                _log.warning("the end of the worker audit log is lost: %s", error)

    # ── Verbs ──────────────────────────────────────────────────────────────────────────────────────────────────────

    async def register(self, wanted: Registration) -> Worker:
        """Make a worker known, or known again. Raises InvalidInput."""
        return await self.roster.register(wanted, self._store.now_ms())

    async def pull(
        self,
        worker_id: str,
        timeout_s: float,
        *,
        weight: float | None = None,
        capacity: int | None = None,
        match_rule: MatchRule | None = None,
    ) -> Task | None:
        """The next task for a worker, claimed for it; None when there was none in time, or it takes none.

        A worker that is not known is registered; of one that is, what is given is changed. The task is the worker's
        for ``first_sign_ms``, and for longer once it has transitioned it, published to it or sent a heartbeat.

        Raises:
            InvalidInput, StoreUnavailable.
        """
        try:
            worker = await self.roster.heartbeat(worker_id)
            if weight is not None or capacity is not None or match_rule is not None:
                worker = await self.roster.update(worker_id, weight=weight, capacity=capacity, match_rule=match_rule)
        except WorkerNotFound:
            registration = Registration(
                worker_id,
                match_rule or MatchRule(),
                DEFAULT_CAPACITY if capacity is None else capacity,
                DEFAULT_WEIGHT if weight is None else weight,
            )
            worker = await self.register(registration)
        task = await self.queue.pull(worker, timeout_s)
        if task is None:
            self.audit.add(worker_id, "pull_request", matched=False)
        else:
            self.audit.add(worker_id, "pull_request", matched=True, taskId=task.id)
        return task

    async def leave(self, worker: Worker) -> None:
        """The socket that this worker registered with has closed; nothing happens if it has a newer one."""
        try:
            present = await self.roster.get(worker.id)
            if (present.node, present.connected_at) == (worker.node, worker.connected_at):
                await self.roster.remove(worker.id)
        except WorkerNotFound:
            return

    async def heartbeat(self, worker_id: str, task_ids: frozenset[str] | None = None) -> tuple[Worker, list[str]]:
        """A sign of life, and perhaps what the worker has: the worker, and the tasks that are not its own any more.

        Raises:
            WorkerNotFound.
        """
        worker = await self.roster.heartbeat(worker_id)
        lost = await self.claims.still_mine(worker_id, task_ids)
        return worker, sorted(lost | self.notices.take(worker_id).keys())

    async def events(self, worker_id: str, limit: int, before: str | None = None) -> Sequence[WorkerAudit]:
        """A worker's audit log, newest first; empty where no long-term store keeps one.

        Raises:
            WorkerNotFound: there is no such worker, and never was one. StoreUnavailable.
        """
        entries = await self.audit.read(worker_id, limit, before)
        if not entries and before is None:
            await self.roster.get(worker_id)
        return entries

    def with_default_mode(self, given: TaskInput) -> TaskInput:
        """A new task that names no mode gets the one of the configuration."""
        mode = self.settings.assign_mode
        return given if mode == "external" else evolve(given, assign_mode=mode)

    # ── What the engine tells ──────────────────────────────────────────────────────────────────────────────────────

    async def moved(self, before: Task | None, after: Task) -> None:
        """A task was made or moved. Never fails: what is left undone here ends with the assignment's lease."""
        try:
            if before is None:
                if after.status == "pending":
                    self.news.task_waits(after)
                return
            await self.claims.settle(before, after)
            if after.assignment_id is not None:
                await self.claims.touch(after.assignment_id)
        except StoreUnavailable as error:
            _log.info("slots of %s are freed with the lease: %s", after.id, error)

    async def seen(self, assignment_id: str) -> None:
        """The owner of an assignment published."""
        try:
            await self.claims.touch(assignment_id)
        except StoreUnavailable as error:
            _log.info("lease %s was not extended: %s", assignment_id, error)
