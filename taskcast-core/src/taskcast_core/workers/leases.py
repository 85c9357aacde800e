"""What happens when a lease is over: the worker is lost, or a crash has left something behind.

Any node may look; an expired lease is handed to one of them at a time.
"""

from __future__ import annotations

import asyncio
import logging

from taskcast_core.contracts.task_log import Held
from taskcast_core.contracts.workers import Assignment
from taskcast_core.errors import StoreUnavailable, TaskcastError, TaskNotFound
from taskcast_core.models import Task, TaskError, TransitionInput
from taskcast_core.observers import Observers
from taskcast_core.retries import postponed
from taskcast_core.states import TERMINAL
from taskcast_core.workers.claims import Computed, Current, Move, WorkerStore, check_owner, returned, walk
from taskcast_core.workers.news import News
from taskcast_core.workers.permits import Permits, is_permit
from taskcast_core.workers.roster import Roster
from taskcast_core.workers.settings import WorkerSettings

_log = logging.getLogger(__name__)

MARKED_LEASE_MS = 24 * 3600 * 1000
"""A task that its lost worker keeps (policy ``mark``) is looked at again after this."""
_BATCH = 100
_LEASES_S = 0.25  # expired leases are found within this time
_WORKERS_S = 5.0  # silent workers, and slots of tasks that have ended, within this one


class Leases:
    """Ends what is over."""

    def __init__(
        self,
        store: WorkerStore,
        current: Current,
        move: Move,
        roster: Roster,
        news: News,
        permits: Permits,
        settings: WorkerSettings,
        observers: Observers,
    ) -> None:
        self._store, self._current, self._move, self._roster = store, current, move, roster
        self._observers = observers
        self._news, self._permits, self._settings = news, permits, settings

    async def run(self) -> None:
        """Look for ever."""
        leases_s = min(_LEASES_S, self._settings.disconnect_grace_ms / 2000)
        workers_s = min(_WORKERS_S, self._settings.heartbeat_timeout_ms / 2000)
        next_roll_call = 0.0
        loop = asyncio.get_running_loop()
        while True:
            await asyncio.sleep(leases_s)
            try:
                await self.sweep()
                if loop.time() >= next_roll_call:
                    next_roll_call = loop.time() + workers_s
                    await self._roster.look_for_silent_ones(self._store.now_ms())
                    await self.free_ended()
            except StoreUnavailable as error:
                _log.warning("worker leases wait: %s", error)
            except Exception as error:  # noqa: BLE001 - without this loop tasks would be stranded
                self._observers.failed(_log, error, "worker leases")

    async def sweep(self) -> int:
        """Deal with the leases that are over, once: how many that was.

        Raises:
            StoreUnavailable.
        """
        lost = await self._store.expired(_BATCH, self._settings.disconnect_grace_ms)
        for held in lost:
            try:
                await self._end(held)
            except StoreUnavailable:
                raise
            except TaskcastError as error:  # it has moved meanwhile: seen again when it is not hidden any more
                _log.info("assignment %s of %s: %s", held.id, held.task_id, error)
        return len(lost)

    async def _end(self, held: Assignment) -> None:
        if is_permit(held):
            if not await self._permits.look_at(held):
                self._news.room()
            return
        task = await self._task(held)
        if task is None or task.assignment_id != held.id:
            await self._free(held, task)
            return
        policy = task.disconnect_policy or self._settings.disconnect_policy
        if policy == "mark":
            await self._store.extend(held.id, MARKED_LEASE_MS)
            return
        compute = _failed if policy == "fail" else _reassigned
        await self._move(held.task_id, lambda current, now: compute(current, held, now))

    async def _free(self, held: Assignment, task: Task | None) -> None:
        """End a lease that stands for nothing: an offer or a claim that was never finished, a task that has ended."""
        await self._permits.give_back(held.id)
        await self._store.release_slot(held.id)
        self._news.worker_changed(held.worker_id)
        if task is not None and task.status == "pending":
            self._news.task_waits(task)

    async def free_ended(self) -> int:
        """Free the slots of ended tasks that a crash has kept in use; living workers' leases do not run out.

        Raises:
            StoreUnavailable.
        """
        held = [each for each in await self._store.assignments() if each.confirmed]
        freed = 0
        for start in range(0, len(held), _BATCH):
            batch = held[start : start + _BATCH]
            heads = await self._store.heads([Held(each.task_id, -1) for each in batch])
            for each, head in zip(batch, heads, strict=True):
                if head is None or head.status in TERMINAL or head.status == "pending":
                    freed += await self._free_if_stale(each)
        return freed

    async def _free_if_stale(self, held: Assignment) -> bool:
        task = await self._task(held)
        if task is not None and task.assignment_id == held.id:
            return False
        await self._free(held, task)
        return True

    async def _task(self, held: Assignment) -> Task | None:
        try:
            return (await self._current(held.task_id)).task
        except TaskNotFound:
            return None


def _reassigned(task: Task, held: Assignment, now: int) -> Computed:
    check_owner(task, held.id)
    return postponed(task, TransitionInput(error=_lost(held)), now) or returned(task, held.id, now)


def _failed(task: Task, held: Assignment, now: int) -> Computed:
    check_owner(task, held.id)
    given = TransitionInput(error=_lost(held))
    can_fail = task.status in ("running", "blocked")
    return postponed(task, given, now) or walk(task, ("failed",) if can_fail else ("running", "failed"), given, now)


def _lost(held: Assignment) -> TaskError:
    return TaskError(f"Worker {held.worker_id} disconnected (heartbeat timeout)", "WORKER_DISCONNECT")
