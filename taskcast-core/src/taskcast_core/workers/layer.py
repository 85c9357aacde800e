"""The worker layer of one engine: pool, queue and offers, put together."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import TypeGuard

from taskcast_core.commits import Commits
from taskcast_core.contracts.broadcast import Broadcast
from taskcast_core.contracts.long_term import LongTermStore
from taskcast_core.contracts.workers import Workers
from taskcast_core.errors import StoreUnavailable
from taskcast_core.hub import Hub
from taskcast_core.models import Task
from taskcast_core.observers import Observers
from taskcast_core.workers.offers import Dispatcher
from taskcast_core.workers.pool import WorkerPool, WorkerSettings, WorkerStore
from taskcast_core.workers.queue import WorkQueue

_log = logging.getLogger(__name__)


def is_worker_store(store: object) -> TypeGuard[WorkerStore]:
    """Whether a store has the verbs of the Workers contract."""
    return all(hasattr(store, verb) for verb in vars(Workers) if not verb.startswith("_"))


class WorkerLayer:
    """``pool`` registers and claims, ``queue`` lets workers wait, ``dispatcher`` talks to those with a socket here."""

    def __init__(
        self,
        store: WorkerStore,
        commits: Commits,
        cold: LongTermStore | None,
        observers: Observers,
        hub: Hub,
        broadcast: Broadcast,
        settings: WorkerSettings,
        node: str,
    ) -> None:
        self.settings = settings
        self.pool = WorkerPool(store, commits, cold, observers, settings, node)
        self.queue = WorkQueue(self.pool, hub, broadcast)
        self.dispatcher = Dispatcher(self.pool, store, hub)

    @asynccontextmanager
    async def running(self, *, background: bool) -> AsyncIterator[None]:
        """Listen to the queue and offer while open; ``background``: also look for lost workers."""
        await self.queue.open()
        loops = [self.dispatcher.run(), *([self.pool.sweep_forever()] if background else [])]
        tasks = [asyncio.create_task(loop) for loop in loops]
        try:
            yield
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    async def moved(self, before: Task | None, after: Task) -> None:
        """A task was made or moved. Never fails: what is left undone here ends with the assignment's lease."""
        try:
            if before is not None:
                await self.pool.settle(before, after)
            elif after.assign_mode is not None:
                self.pool.on_room(after)
            if before is not None and after.assignment_id is not None:
                await self.pool.touch(after.assignment_id)
        except StoreUnavailable as error:
            _log.info("slots of %s are freed with the lease: %s", after.id, error)

    async def seen(self, assignment_id: str) -> None:
        """The owner of an assignment published."""
        try:
            await self.pool.touch(assignment_id)
        except StoreUnavailable as error:
            _log.info("lease %s was not extended: %s", assignment_id, error)
