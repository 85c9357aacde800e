"""Workers and assignments in memory."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from attrs import evolve

from taskcast_core.builtin.memory_queue import PendingTasks
from taskcast_core.clock import Clock
from taskcast_core.contracts.workers import Assignment
from taskcast_core.models import AssignMode, Task, Worker
from taskcast_core.values import define


@define
class _Held:
    assignment: Assignment
    hidden_until: int = 0  # from other sweepers


class WorkerTable:
    """All workers of one store, what they hold, and what waits for them.

    Attributes:
        pending: has to be told of every task that is made, replaced or removed.
    """

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self.pending = PendingTasks()
        self._workers: dict[str, Worker] = {}
        self._held: dict[str, _Held] = {}  # by assignment id
        self._by_task: dict[str, str] = {}
        self._by_worker: dict[str, dict[str, None]] = {}  # in the order of assignment

    def put(self, worker: Worker) -> Worker:
        """See Workers.put_worker."""
        self._workers[worker.id] = worker
        return self._with_slots(worker)

    def get(self, worker_id: str) -> Worker | None:
        """See Workers.get_worker."""
        worker = self._workers.get(worker_id)
        return self._with_slots(worker) if worker else None

    def all(self) -> list[Worker]:
        """See Workers.list_workers."""
        return [self._with_slots(self._workers[key]) for key in sorted(self._workers)]

    def remove(self, worker_id: str) -> bool:
        """See Workers.remove_worker."""
        return self._workers.pop(worker_id, None) is not None

    def _used(self, worker_id: str) -> int:
        return sum(self._held[key].assignment.cost for key in self._by_worker.get(worker_id, ()))

    def _with_slots(self, worker: Worker) -> Worker:
        return evolve(worker, used_slots=self._used(worker.id))

    def heartbeat(self, worker_id: str, lease_ms: int) -> Worker | None:
        """See Workers.heartbeat."""
        worker = self._workers.get(worker_id)
        if worker is None:
            return None
        for key in self._by_worker.get(worker_id, ()):
            if self._held[key].assignment.confirmed:
                self.extend(key, lease_ms)
        return self.put(evolve(worker, last_heartbeat_at=self._clock.now_ms()))

    def queue(self, modes: frozenset[AssignMode], limit: int, after: Task | None) -> list[Task]:
        """See Workers.queue."""
        return self.pending.page(modes, limit, after, self._by_task)

    def reserve(self, wanted: Assignment) -> bool:
        """See Workers.reserve_slot."""
        worker = self._workers.get(wanted.worker_id)
        if worker is None or wanted.task_id in self._by_task or wanted.id in self._held:
            return False
        if self._used(worker.id) + wanted.cost > worker.capacity:
            return False
        now = self._clock.now_ms()
        self._held[wanted.id] = _Held(
            evolve(wanted, assigned_at=now, lease_until=now + wanted.lease_until, confirmed=False)
        )
        self._by_task[wanted.task_id] = wanted.id
        self._by_worker.setdefault(worker.id, {})[wanted.id] = None
        return True

    def confirm(self, assignment_id: str) -> bool:
        """See Workers.confirm."""
        held = self._held.get(assignment_id)
        if held is None:
            return False
        held.assignment = evolve(held.assignment, confirmed=True)
        return True

    def extend(self, assignment_id: str, lease_ms: int) -> bool:
        """See Workers.extend."""
        held = self._held.get(assignment_id)
        if held is None:
            return False
        held.assignment = evolve(held.assignment, lease_until=self._clock.now_ms() + lease_ms)
        held.hidden_until = 0
        return True

    def release(self, assignment_id: str) -> Assignment | None:
        """See Workers.release_slot."""
        held = self._held.pop(assignment_id, None)
        if held is None:
            return None
        ended = held.assignment
        del self._by_task[ended.task_id]
        mine = self._by_worker[ended.worker_id]
        del mine[assignment_id]
        if not mine:
            del self._by_worker[ended.worker_id]
        return ended

    def assignments(self, worker_id: str | None, task_id: str | None) -> Sequence[Assignment]:
        """See Workers.assignments."""
        keys: Iterable[str] = self._held
        if task_id is not None:
            keys = [self._by_task[task_id]] if task_id in self._by_task else ()
        elif worker_id is not None:
            keys = self._by_worker.get(worker_id, ())
        found = (self._held[key].assignment for key in keys)
        return [each for each in found if worker_id is None or each.worker_id == worker_id]

    def expired(self, limit: int, lease_ms: int) -> list[Assignment]:
        """See Workers.expired."""
        now = self._clock.now_ms()
        found: list[Assignment] = []
        for held in self._held.values():
            if len(found) >= limit:
                break
            if held.assignment.lease_until <= now and held.hidden_until <= now:
                held.hidden_until = now + lease_ms
                found.append(held.assignment)
        return found
