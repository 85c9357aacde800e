"""Deadlines, Followers and Workers in memory: verbs that one table of the store answers by itself."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence

from taskcast_core.builtin.memory_lanes import LaneTable
from taskcast_core.builtin.memory_timers import TimerTable
from taskcast_core.builtin.memory_workers import WorkerTable
from taskcast_core.contracts.followers import Backlog, DeadLetter, Dirty, Due, FollowerKind
from taskcast_core.contracts.task_log import Stored, TimerKind
from taskcast_core.contracts.workers import Assignment
from taskcast_core.models import AssignMode, Task, Worker


class MemoryDuties(ABC):
    """The verbs of three contracts; the tables are the store's, which also fills them."""

    _timers: TimerTable
    _lanes: LaneTable
    _workers: WorkerTable

    @abstractmethod
    def _find(self, task_id: str) -> tuple[Stored, bool] | None:
        """A task, and whether it is deleted."""

    # ── Deadlines ─────────────────────────────────────────────────────────────────────────────────────────────────

    async def due(self, kind: TimerKind, limit: int, lease_ms: int) -> Sequence[Due]:
        """See Deadlines."""
        return self._timers.due(kind, limit, lease_ms)

    async def next_due(self, kind: TimerKind) -> int | None:
        """See Deadlines."""
        return self._timers.next_due(kind)

    # ── Followers ─────────────────────────────────────────────────────────────────────────────────────────────────

    async def claim_dirty(self, kind: FollowerKind, owner: str, limit: int, lease_ms: int) -> Sequence[Dirty]:
        """See Followers; one process needs no owner's name."""
        return self._lanes.claim(kind, limit, lease_ms)

    async def renew(self, dirty: Dirty, lease_ms: int) -> None:
        """See Followers."""
        self._lanes.renew(dirty, lease_ms)

    async def ack(self, dirty: Dirty, last_index: int, rev: int) -> None:
        """See Followers."""
        self._lanes.ack(dirty, last_index, rev)

    async def defer(self, dirty: Dirty, last_index: int, attempt: int, until: int) -> None:
        """See Followers."""
        self._lanes.defer(dirty, last_index, attempt, until)

    async def has_passed(self, task_id: str) -> bool:
        """See Followers."""
        found = self._find(task_id)
        return found is None or self._lanes.passed(found[0])

    async def backlog(self, kind: FollowerKind) -> Backlog:
        """See Followers."""
        return self._lanes.backlog(kind)

    async def add_dead_letter(self, letter: DeadLetter) -> None:
        """See Followers."""
        self._lanes.add_letter(letter)

    async def dead_letters(self, limit: int, after: str | None = None) -> Sequence[DeadLetter]:
        """See Followers."""
        return self._lanes.letters(limit, after)

    async def take_dead_letter(self, letter_id: str) -> DeadLetter | None:
        """See Followers."""
        return self._lanes.take_letter(letter_id)

    # ── Workers ───────────────────────────────────────────────────────────────────────────────────────────────────

    async def put_worker(self, worker: Worker) -> Worker:
        """See Workers."""
        return self._workers.put(worker)

    async def get_worker(self, worker_id: str) -> Worker | None:
        """See Workers."""
        return self._workers.get(worker_id)

    async def list_workers(self) -> Sequence[Worker]:
        """See Workers."""
        return self._workers.all()

    async def remove_worker(self, worker_id: str) -> bool:
        """See Workers."""
        return self._workers.remove(worker_id)

    async def heartbeat(self, worker_id: str, lease_ms: int) -> Worker | None:
        """See Workers."""
        return self._workers.heartbeat(worker_id, lease_ms)

    async def queue(self, modes: frozenset[AssignMode], limit: int, after: str | None = None) -> Sequence[Task]:
        """See Workers."""
        found = self._find(after) if after is not None else None
        last = found[0].task if found is not None and not found[1] else None
        return self._workers.queue(modes, limit, last)

    async def reserve_slot(self, assignment: Assignment) -> bool:
        """See Workers."""
        return self._workers.reserve(assignment)

    async def confirm(self, assignment_id: str) -> bool:
        """See Workers."""
        return self._workers.confirm(assignment_id)

    async def extend(self, assignment_id: str, lease_ms: int) -> bool:
        """See Workers."""
        return self._workers.extend(assignment_id, lease_ms)

    async def release_slot(self, assignment_id: str) -> Assignment | None:
        """See Workers."""
        return self._workers.release(assignment_id)

    async def assignments(self, *, worker_id: str | None = None, task_id: str | None = None) -> Sequence[Assignment]:
        """See Workers."""
        return self._workers.assignments(worker_id, task_id)

    async def expired(self, limit: int, lease_ms: int) -> Sequence[Assignment]:
        """See Workers."""
        return self._workers.expired(limit, lease_ms)
