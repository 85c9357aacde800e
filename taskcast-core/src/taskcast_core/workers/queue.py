"""Waiting for work: a pull is woken by the queue's bell, on whatever node the task was made."""

from __future__ import annotations

import asyncio

from taskcast_core.contracts.broadcast import Bell, Broadcast
from taskcast_core.hub import Hub
from taskcast_core.models import AssignMode, Task, Worker
from taskcast_core.workers.pool import WorkerPool

QUEUE_CHANNEL = "taskcast:worker:new-task"
"""The channel that rings when a task has become claimable, or a worker has got room."""
PULL_MODES: frozenset[AssignMode] = frozenset({"pull"})


class WorkQueue:
    """The waiting side of a pool. ``rung`` callbacks hear every ring on this node."""

    def __init__(self, pool: WorkerPool, hub: Hub, broadcast: Broadcast) -> None:
        self._pool, self._hub, self._broadcast = pool, hub, broadcast
        self._waiting: set[asyncio.Future[None]] = set()
        pool.on_room = self.ring

    async def open(self) -> None:
        """Begin to listen."""
        await self._hub.follow_channel(QUEUE_CHANNEL, self._heard)

    def ring(self, task: Task | None) -> None:
        """Tell all nodes: this task can be claimed (or: a worker can take more)."""
        if task is not None and (task.assign_mode or "external") == "external":
            return
        now = self._pool.now_ms()
        status = task.status if task else "pending"
        self._broadcast.publish(Bell(QUEUE_CHANNEL, task.id if task else "", 0, 0, -1, status, now))

    def _heard(self, _: Bell) -> None:
        waiting, self._waiting = self._waiting, set()
        for future in waiting:
            if not future.done():
                future.set_result(None)

    async def pull(self, worker: Worker, timeout_s: float) -> Task | None:
        """The next task for a worker, claimed for it; None when there was none in time, or it takes none now."""
        ends = asyncio.get_running_loop().time() + timeout_s
        while worker.status in ("idle", "busy"):
            # Wait before looking, so that what rings while we look is not missed.
            rung = asyncio.get_running_loop().create_future()
            self._waiting.add(rung)
            try:
                task = await self._pool.next_for(worker, PULL_MODES)
                if task is not None:
                    return task
                async with asyncio.timeout_at(ends):
                    await rung
            except TimeoutError:
                return None
            finally:
                self._waiting.discard(rung)
            worker = await self._pool.heartbeat(worker.id)
        return None
