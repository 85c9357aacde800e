"""Workers and what they hold: registration, heartbeats, claims, declines, leases that run out.

An assignment is a lease. It is taken in two steps (slots reserved, then the task's record committed), and whatever a
crash leaves in between is found when the lease is over; so is a worker that died, and an assignment whose task ended.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Sequence
from typing import Protocol

from attrs import evolve, field, frozen

from taskcast_core.commits import Commits
from taskcast_core.contracts.long_term import LongTermStore
from taskcast_core.contracts.task_log import Change, Committed, Guard, Record, Stored, TaskLog
from taskcast_core.contracts.workers import Assignment, Workers
from taskcast_core.errors import (
    InvalidInput,
    InvalidTransition,
    StoreUnavailable,
    TaskcastError,
    TaskNotFound,
    WorkerNotFound,
)
from taskcast_core.ids import new_ulid
from taskcast_core.models import (
    AssignMode,
    ConnectionMode,
    DisconnectPolicy,
    EventDraft,
    JsonObject,
    MatchRule,
    Task,
    TaskError,
    TaskStatus,
    TransitionInput,
    Worker,
    WorkerAudit,
    WorkerStatus,
)
from taskcast_core.observers import Observers
from taskcast_core.states import TERMINAL
from taskcast_core.transitions import status_event, timers, transition
from taskcast_core.workers import matching

_log = logging.getLogger(__name__)

AUDIT_TYPE = "taskcast:audit"
DEFAULT_CAPACITY = 10
DEFAULT_WEIGHT = 50.0
MARKED_LEASE_MS = 24 * 3600 * 1000
"""A task that its lost worker keeps (policy ``mark``) is looked at again after this."""
_PAGE = 100
_PAGES = 50  # pages of the queue that one look at it reads, at most

_WAY_BACK: dict[TaskStatus, tuple[TaskStatus, ...]] = {
    "assigned": ("pending",),
    "running": ("paused", "assigned", "pending"),
    "paused": ("assigned", "pending"),
    "blocked": ("assigned", "pending"),
}
"""The legal steps by which a task returns to the queue (wire spec, workers section 6)."""


class ClaimFailed(TaskcastError):
    """The task cannot be given to this worker (now)."""

    code = "claim_failed"


class WorkerStore(TaskLog, Workers, Protocol):
    """What the worker pool asks of a store."""


@frozen
class WorkerSettings:
    """Rhythms of the worker layer, in ms; see ``workers.defaults`` in the configuration.

    Attributes:
        first_sign_ms: how soon a pull worker must show that the assignment has arrived.
    """

    enabled: bool = False
    heartbeat_interval_ms: int = 30_000
    heartbeat_timeout_ms: int = 90_000
    offer_timeout_ms: int = 10_000
    disconnect_policy: DisconnectPolicy = "reassign"
    disconnect_grace_ms: int = 30_000
    first_sign_ms: int = 30_000

    @property
    def lease_ms(self) -> int:
        """How long an assignment lives on after its worker's last sign."""
        return self.heartbeat_timeout_ms + self.disconnect_grace_ms


@frozen
class Registration:
    """What a worker says of itself."""

    worker_id: str | None = None
    match_rule: MatchRule = field(factory=MatchRule)
    capacity: int = DEFAULT_CAPACITY
    weight: float = DEFAULT_WEIGHT
    connection_mode: ConnectionMode = "pull"


class WorkerPool:
    """All of it that is not waiting or talking. ``on_room`` is called when a task or a slot has become free."""

    def __init__(
        self,
        store: WorkerStore,
        commits: Commits,
        cold: LongTermStore | None,
        observers: Observers,
        settings: WorkerSettings,
        node: str,
    ) -> None:
        self._store, self._commits, self._cold = store, commits, cold
        self._observers, self.settings, self.node = observers, settings, node
        self.on_room: Callable[[Task | None], None] = lambda _: None
        self._touched: dict[str, int] = {}

    def now_ms(self) -> int:
        """The store's time."""
        return self._store.now_ms()

    # ── Workers ────────────────────────────────────────────────────────────────────────────────────────────────────

    async def register(self, wanted: Registration) -> Worker:
        """Make a worker known, or known again: its tasks are still its own if their leases have not run out.

        Raises:
            InvalidInput: the capacity is not positive.
        """
        if wanted.capacity <= 0:
            raise InvalidInput(f"Invalid capacity: {wanted.capacity}. Capacity must be a positive number.")
        now = self._store.now_ms()
        worker = Worker(
            id=wanted.worker_id or new_ulid(now),
            status="idle",
            match_rule=wanted.match_rule,
            capacity=wanted.capacity,
            used_slots=0,
            weight=wanted.weight,
            connection_mode=wanted.connection_mode,
            connected_at=now,
            last_heartbeat_at=now,
            node=self.node if wanted.connection_mode == "websocket" else None,
        )
        await self._store.put_worker(worker)
        worker = await self.heartbeat(worker.id)
        if self._observers.worker_connected:
            self._observers.worker_connected(worker=worker)
        await self._audit(worker.id, "connected")
        self.on_room(None)
        return worker

    async def update(
        self,
        worker_id: str,
        *,
        weight: float | None = None,
        capacity: int | None = None,
        match_rule: MatchRule | None = None,
        status: WorkerStatus | None = None,
    ) -> Worker:
        """Change what a worker said of itself.

        Raises:
            WorkerNotFound. InvalidInput: the capacity is not positive.
        """
        if capacity is not None and capacity <= 0:
            raise InvalidInput(f"Invalid capacity: {capacity}. Capacity must be a positive number.")
        worker = await self.get(worker_id)
        changed = await self._store.put_worker(
            evolve(
                worker,
                weight=worker.weight if weight is None else weight,
                capacity=capacity or worker.capacity,
                match_rule=match_rule or worker.match_rule,
                status=status or worker.status,
            )
        )
        await self._audit(worker_id, "draining" if status == "draining" else "updated")
        self.on_room(None)
        return shown(changed)

    async def get(self, worker_id: str) -> Worker:
        """A worker.

        Raises:
            WorkerNotFound.
        """
        worker = await self._store.get_worker(worker_id)
        if worker is None:
            raise WorkerNotFound(worker_id)
        return shown(worker)

    async def all(self) -> list[Worker]:
        """All workers, by id."""
        return [shown(worker) for worker in await self._store.list_workers()]

    async def heartbeat(self, worker_id: str) -> Worker:
        """A sign of life: extends its leases, and brings it back online.

        Raises:
            WorkerNotFound.
        """
        worker = await self._store.heartbeat(worker_id, self.settings.lease_ms)
        if worker is None:
            raise WorkerNotFound(worker_id)
        if worker.status == "offline":
            worker = await self._store.put_worker(evolve(worker, status="idle"))
        return shown(worker)

    async def remove(self, worker_id: str, reason: str = "unregistered") -> None:
        """Forget a worker; its tasks are dealt with by their disconnect policy after the grace time.

        Raises:
            WorkerNotFound.
        """
        worker = await self.get(worker_id)
        await self._store.remove_worker(worker_id)
        for held in await self._store.assignments(worker_id=worker_id):
            await self._store.extend(held.id, self.settings.disconnect_grace_ms)
        if self._observers.worker_disconnected:
            self._observers.worker_disconnected(worker=worker, reason=reason)
        await self._audit(worker_id, "disconnected", {"reason": reason})

    async def touch(self, assignment_id: str) -> None:
        """The owner of an assignment did something: extend its lease, but not at every token of a stream."""
        now = self._store.now_ms()
        if self._touched.get(assignment_id, 0) > now:
            return
        while len(self._touched) >= 10_000:
            del self._touched[next(iter(self._touched))]
        self._touched.pop(assignment_id, None)
        self._touched[assignment_id] = now + self.settings.lease_ms // 4
        await self._store.extend(assignment_id, self.settings.lease_ms)

    # ── Claims ─────────────────────────────────────────────────────────────────────────────────────────────────────

    async def claim(self, task_id: str, worker_id: str, *, lease_ms: int | None = None) -> Task:
        """Give a pending task to a worker; ``assignment_id`` of the task then names the ownership.

        Raises:
            TaskNotFound, WorkerNotFound. ClaimFailed: with the reason.
        """
        worker = await self.get(worker_id)
        stored = await self._commits.current(task_id)
        if stored.task.status != "pending":
            raise ClaimFailed(f"Task is not pending (status: {stored.task.status})")
        offered = await self._offer_to(task_id, worker_id)
        assignment_id = offered.id if offered else new_ulid(self._store.now_ms())
        if offered is None and not await self.reserve(stored.task, worker_id, assignment_id, lease_ms):
            raise ClaimFailed("Claim failed (concurrent modification)")
        try:
            task = await self._assign(task_id, worker_id, assignment_id)
        except (ClaimFailed, TaskNotFound):
            await self._store.release_slot(assignment_id)
            raise
        await self._store.confirm(assignment_id)
        await self._store.extend(assignment_id, lease_ms or self.settings.lease_ms)
        if self._observers.task_assigned:
            self._observers.task_assigned(task=task, worker=worker)
        await self._audit(worker_id, "task_assigned", {"taskId": task_id})
        return task

    async def reserve(self, task: Task, worker_id: str, assignment_id: str, lease_ms: int | None = None) -> bool:
        """Take the slots for a task before its record says so (also: while it is offered)."""
        lease = lease_ms or self.settings.lease_ms
        return await self._store.reserve_slot(
            Assignment(assignment_id, task.id, worker_id, matching.cost_of(task), 0, lease, confirmed=False)
        )

    async def _offer_to(self, task_id: str, worker_id: str) -> Assignment | None:
        """The reservation that an open offer of this task to this worker made."""
        for held in await self._store.assignments(task_id=task_id):
            if held.worker_id == worker_id and not held.confirmed:
                return held
        return None

    async def _assign(self, task_id: str, worker_id: str, assignment_id: str) -> Task:
        def compute(stored: Stored) -> Change:
            task = stored.task
            if task.status != "pending":
                raise ClaimFailed(f"Task is not pending (status: {task.status})")
            now = self._store.now_ms()
            assigned = evolve(
                task,
                status="assigned",
                updated_at=now,
                assigned_worker=worker_id,
                assignment_id=assignment_id,
                cost=matching.cost_of(task),
                attempt=(task.attempt or 0) + 1 if task.retry else task.attempt,
            )
            due = timers(task, stored.record.timers, assigned, now)
            event = EventDraft(AUDIT_TYPE, "info", {"action": "assigned", "workerId": worker_id})
            return Change((event,), Record(assigned, due, stored.record.lanes), Guard(rev=stored.rev))

        _, committed = await self._commits.update(task_id, compute)
        return committed.stored.task

    async def decline(self, task_id: str, worker_id: str, *, blacklist: bool = False) -> bool:
        """Give a task back; False (and nothing done) when this worker does not hold it."""
        for held in await self._store.assignments(task_id=task_id):
            if held.worker_id == worker_id:
                break
        else:
            return False
        if not held.confirmed:  # an offer; the task is still pending
            if blacklist:
                await self._blacklist(task_id, worker_id)
            await self._store.release_slot(held.id)
            self.on_room(None)
            return True
        try:
            _, committed = await self._commits.update(
                task_id, lambda stored: self._declined(stored, held, blacklist=blacklist)
            )
        except (InvalidTransition, TaskNotFound):
            return False
        await self._store.release_slot(held.id)
        task = committed.stored.task
        if self._observers.task_declined:
            worker = await self._store.get_worker(worker_id)
            self._observers.task_declined(task=task, worker=worker, blacklisted=blacklist)
        await self._audit(worker_id, "task_declined", {"taskId": task_id})
        self.on_room(task)
        return True

    def _declined(self, stored: Stored, held: Assignment, *, blacklist: bool) -> Change:
        task = stored.task
        if task.assignment_id != held.id:
            raise InvalidTransition(task.id, task.status, "pending")
        now = self._store.now_ms()
        after = transition(task, "pending", TransitionInput(), now)
        if blacklist:
            after = _with_blacklisted(after, held.worker_id)
        data = {"action": "declined", "workerId": held.worker_id, "blacklisted": blacklist}
        events = (status_event(after), EventDraft(AUDIT_TYPE, "info", data))
        due = timers(task, stored.record.timers, after, now)
        return Change(events, Record(after, due, stored.record.lanes), Guard(rev=stored.rev))

    async def _blacklist(self, task_id: str, worker_id: str) -> None:
        def compute(stored: Stored) -> Change:
            record = evolve(stored.record, task=_with_blacklisted(stored.task, worker_id))
            return Change(record=record, guard=Guard(rev=stored.rev))

        await self._commits.update(task_id, compute)

    async def settle(self, before: Task, after: Task) -> None:
        """A task was moved by somebody: free its slots if it left its worker, and say so if it is claimable now."""
        if before.assignment_id is not None and after.assignment_id != before.assignment_id:
            ended = await self._store.release_slot(before.assignment_id)
            if ended is not None:
                await self._audit(ended.worker_id, "task_reclaimed", {"taskId": after.id})
                self.on_room(None)
        if after.status == "pending":
            self.on_room(after)

    async def next_for(self, worker: Worker, modes: frozenset[AssignMode]) -> Task | None:
        """Claim the first task of the queue that this worker can take; None if there is none now."""
        last: str | None = None
        for _ in range(_PAGES):
            page = await self._store.queue(modes, _PAGE, last)
            for task in page:
                if matching.is_available(worker, task):
                    try:
                        return await self.claim(task.id, worker.id, lease_ms=self.settings.first_sign_ms)
                    except (ClaimFailed, TaskNotFound):
                        worker = await self.get(worker.id)  # somebody else was faster; look at the next one
            if len(page) < _PAGE:
                break
            last = page[-1].id
        return None

    async def waiting(self, modes: frozenset[AssignMode]) -> Sequence[Task]:
        """The front of the queue."""
        return await self._store.queue(modes, _PAGE, None)

    # ── Lost workers ───────────────────────────────────────────────────────────────────────────────────────────────

    async def sweep_forever(self) -> None:
        """Look for leases that have run out, on every node."""
        interval = min(5.0, max(0.1, self.settings.disconnect_grace_ms / 2000))
        while True:
            await asyncio.sleep(interval)
            try:
                await self.sweep()
            except StoreUnavailable as error:
                _log.warning("worker leases wait: %s", error)

    async def sweep(self) -> int:
        """Deal with silent workers and with leases that are over, once: how many leases that was."""
        now = self._store.now_ms()
        for worker in await self._store.list_workers():
            silent = now - worker.last_heartbeat_at > self.settings.heartbeat_timeout_ms
            if silent and worker.status != "offline":
                await self._store.put_worker(evolve(worker, status="offline"))
                await self._audit(worker.id, "heartbeat_timeout")
                if self._observers.worker_disconnected:
                    self._observers.worker_disconnected(worker=worker, reason="heartbeat_timeout")
        lost = await self._store.expired(_PAGE, self.settings.disconnect_grace_ms)
        for held in lost:
            try:
                await self._lost(held)
            except TaskcastError as error:
                _log.info("assignment %s of %s: %s", held.id, held.task_id, error)
        return len(lost)

    async def _lost(self, held: Assignment) -> None:
        stored = await self._store.get(held.task_id)
        task = stored.task if stored else None
        if task is None or task.status in TERMINAL or task.assignment_id != held.id:
            await self._store.release_slot(held.id)
            self.on_room(task if task is not None and task.status == "pending" else None)
            return
        policy = task.disconnect_policy or self.settings.disconnect_policy
        if policy == "mark":
            await self._store.extend(held.id, MARKED_LEASE_MS)
            return
        compute = self._failed if policy == "fail" else self._returned
        before, committed = await self._commits.update(held.task_id, lambda current: compute(current, held))
        await self._store.release_slot(held.id)
        await self._audit(held.worker_id, "task_reclaimed", {"taskId": held.task_id})
        self._tell_lost(before.task, committed)

    def _tell_lost(self, before: Task, committed: Committed) -> None:
        after = committed.stored.task
        if self._observers.task_transitioned:
            self._observers.task_transitioned(task=after, previous=before.status)
        if after.error is not None and after.status == "failed" and self._observers.task_failed:
            self._observers.task_failed(task=after, error=after.error)
        self.on_room(after if after.status == "pending" else None)

    def _failed(self, stored: Stored, held: Assignment) -> Change:
        now = self._store.now_ms()
        message = f"Worker {held.worker_id} disconnected (heartbeat timeout)"
        given = TransitionInput(error=TaskError(message, "WORKER_DISCONNECT"))
        can_fail = stored.task.status in ("running", "blocked")
        return self._walk(stored, held, ("failed",) if can_fail else ("running", "failed"), given, now)

    def _returned(self, stored: Stored, held: Assignment) -> Change:
        return self._walk(stored, held, _WAY_BACK[stored.task.status], TransitionInput(), self._store.now_ms())

    def _walk(
        self, stored: Stored, held: Assignment, steps: Sequence[TaskStatus], given: TransitionInput, now: int
    ) -> Change:
        """Several legal steps as one commit, each with its status event; the last one carries what is given."""
        if stored.task.assignment_id != held.id or stored.task.status in TERMINAL:
            raise InvalidTransition(stored.task.id, stored.task.status, steps[-1])
        task, events = stored.task, []
        for at, step in enumerate(steps):
            task = transition(task, step, given if at == len(steps) - 1 else TransitionInput(), now)
            events.append(status_event(task))
        due = timers(stored.task, stored.record.timers, task, now)
        return Change(tuple(events), Record(task, due, stored.record.lanes), Guard(rev=stored.rev))

    async def _audit(self, worker_id: str, action: str, data: JsonObject | None = None) -> None:
        if self._cold is None:
            return
        now = self._store.now_ms()
        try:
            await self._cold.write_audit([WorkerAudit(new_ulid(now), worker_id, now, action, data)])
        except StoreUnavailable as error:
            _log.warning("worker audit %s of %s is lost: %s", action, worker_id, error)


def shown(worker: Worker) -> Worker:
    """A worker with its status as it follows from its slots: busy when they are full."""
    if worker.status in ("idle", "busy"):
        return evolve(worker, status="busy" if worker.used_slots >= worker.capacity else "idle")
    return worker


def _with_blacklisted(task: Task, worker_id: str) -> Task:
    listed = [*matching.blacklisted(task) - {worker_id}, worker_id]
    return evolve(task, metadata={**(task.metadata or {}), matching.BLACKLIST: sorted(listed)})
