"""Who has which task: claims, declines, and the leases behind them.

An assignment is a lease. It is taken in two steps (slots reserved, then the task's record committed), and whatever a
crash leaves in between ends with the lease. The task's record decides who owns it: an assignment that the record does
not name is an offer, or a claim under way.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import suppress
from typing import Protocol

from attrs import evolve

from taskcast_core.contracts.task_log import Committed, Held, Stored, TaskLog
from taskcast_core.contracts.workers import Assignment, AssignmentStatus, Workers
from taskcast_core.errors import InvalidTransition, StaleAssignment, StoreUnavailable, TaskcastError, TaskNotFound
from taskcast_core.ids import new_ulid
from taskcast_core.models import AssignMode, EventDraft, Task, TaskStatus, TransitionInput, Worker
from taskcast_core.observers import Observers
from taskcast_core.states import TERMINAL
from taskcast_core.transitions import status_event, transition
from taskcast_core.workers import matching
from taskcast_core.workers.audit import AuditLog
from taskcast_core.workers.news import News
from taskcast_core.workers.permits import Permits
from taskcast_core.workers.roster import Roster
from taskcast_core.workers.settings import WorkerSettings

AUDIT_TYPE = "taskcast:audit"
CLAIM_MS = 10_000
"""A claim that has not been committed after so long has failed: its slots are freed."""
PAGE = 100
_PAGES = 50  # pages of the queue that one look at it reads, at most
_TOUCHED = 10_000  # leases of which is remembered that they have just been extended

WAY_BACK: dict[TaskStatus, tuple[TaskStatus, ...]] = {
    "assigned": ("pending",),
    "running": ("paused", "assigned", "pending"),
    "paused": ("assigned", "pending"),
    "blocked": ("assigned", "pending"),
}
"""The legal steps by which a task returns to the queue (wire spec, workers section 6)."""

Computed = tuple[Task, tuple[EventDraft, ...]]
Compute = Callable[[Task, int], Computed]
"""From a task and the store's time to the task afterwards, and the events that tell of it."""


Current = Callable[[str], Awaitable[Stored]]
"""The task as it is, brought back first if it is cold; raises TaskNotFound (``Commits.current``)."""


class Move(Protocol):
    """Changes a task in one commit (``Lifecycle.move``)."""

    def __call__(self, task_id: str, compute: Compute, *, is_quiet: bool = False) -> Awaitable[Committed]:
        """Raises TaskNotFound, Conflict, and what ``compute`` raises. Quiet: no observer hears of a transition."""


class WorkerStore(TaskLog, Workers, Protocol):
    """What the worker layer asks of a store."""


class ClaimFailed(TaskcastError):
    """The task cannot be given to this worker (now)."""

    code = "claim_failed"


class Claims:
    """Gives tasks to workers and takes them back."""

    def __init__(
        self,
        store: WorkerStore,
        current: Current,
        move: Move,
        roster: Roster,
        audit: AuditLog,
        observers: Observers,
        news: News,
        permits: Permits,
        settings: WorkerSettings,
    ) -> None:
        self._store, self._current, self._move, self._roster, self._audit = store, current, move, roster, audit
        self._observers, self._news, self._permits, self._settings = observers, news, permits, settings
        self._touched: dict[str, int] = {}

    async def claim(self, task_id: str, worker_id: str, *, is_known: bool = True) -> Task:
        """Give a pending task to a worker; ``assignment_id`` of the task then names the ownership.

        ``is_known``: the worker asked for this very task. Else it may not even hear of it (the reply to its pull can
        get lost), and has to show soon that it did.

        Raises:
            TaskNotFound, WorkerNotFound. ClaimFailed: with the reason.
        """
        worker = await self._roster.get(worker_id)
        stored = await self._current(task_id)
        if stored.task.status != "pending":
            raise ClaimFailed(f"Task is not pending (status: {stored.task.status})")
        if not await self._ready([stored.task]):
            raise ClaimFailed(f"Task waits for {stored.task.after}")
        held = await self._offer_to(task_id, worker_id)
        if held is None:
            if worker.status not in ("idle", "busy"):
                raise ClaimFailed(f"Worker is {worker.status}")
            held = await self.reserve(stored.task, worker_id, CLAIM_MS)
            if held is None and await self._give_up_offers(stored.task, worker):
                held = await self.reserve(stored.task, worker_id, CLAIM_MS)
        if held is None:
            raise ClaimFailed("Claim failed (concurrent modification)")
        if not await self._permits.take(stored.task, held.id):
            await self._free_unless_owned(task_id, held.id)
            raise ClaimFailed("Too many tasks are running")
        try:
            committed = await self._move(task_id, lambda task, now: _assigned(task, held, now), is_quiet=True)
        except StoreUnavailable:
            raise  # nobody knows whether it was made: the lease decides
        except TaskcastError:
            await self._free_unless_owned(task_id, held.id)
            raise
        task = committed.stored.task
        await self._keep(task, held, is_known=is_known)
        if self._observers.task_assigned:
            self._observers.task_assigned(task=task, worker=worker)
        self._audit.add(worker_id, "task_assigned", taskId=task_id)
        return task

    async def reserve(
        self, task: Task, worker_id: str, lease_ms: int, *, status: AssignmentStatus = "assigned"
    ) -> Assignment | None:
        """Take the slots for a task before its record says so (also: while it is offered); None if they are taken."""
        cost, held_id = matching.cost_of(task), new_ulid(self._store.now_ms())
        held = Assignment(held_id, task.id, worker_id, cost, 0, lease_ms, confirmed=False, status=status)
        return held if await self._store.reserve_slot(held) else None

    async def withdraw(self, offer: Assignment) -> None:
        """End an offer that has not been taken."""
        await self._free_unless_owned(offer.task_id, offer.id)

    async def _give_up_offers(self, wanted: Task, worker: Worker) -> bool:
        """Free the slots of what a worker is offered and has not accepted, for a task that it wants and that nobody
        has: an offer keeps no capacity from its worker. False: there were none, or they were not what was missing.
        """
        if matching.cost_of(wanted) > worker.capacity or await self._store.assignments(task_id=wanted.id):
            return False
        freed = False
        for held in await self._store.assignments(worker_id=worker.id):
            if not held.is_open_offer or await self._store.release_slot(held.id) is None:
                continue
            if await self._is_named(held.task_id, held.id):  # accepted at this very moment
                with suppress(ClaimFailed, TaskNotFound):
                    await self._keep((await self._current(held.task_id)).task, held, is_known=True)
            else:
                freed = True
        return freed

    async def _offer_to(self, task_id: str, worker_id: str) -> Assignment | None:
        """The reservation that an open offer of this task to this worker made."""
        for held in await self._store.assignments(task_id=task_id):
            if held.worker_id == worker_id:
                return held
        return None

    async def _free_unless_owned(self, task_id: str, assignment_id: str) -> None:
        """End a reservation that came to nothing; a second accept must not end what the first one won."""
        if not await self._is_named(task_id, assignment_id):
            await self._permits.give_back(assignment_id)
            await self._store.release_slot(assignment_id)

    async def _is_named(self, task_id: str, assignment_id: str) -> bool:
        """Whether the task's record names this assignment."""
        try:
            return (await self._current(task_id)).task.assignment_id == assignment_id
        except TaskNotFound:
            return False

    async def _keep(self, task: Task, held: Assignment, *, is_known: bool) -> None:
        """Turn the reservation into an assignment that lasts."""
        lease_ms = self._settings.lease_ms if is_known else self._settings.first_sign_ms
        alive = await self._store.extend(held.id, lease_ms)
        if not alive:
            # The commit took longer than the reservation lasted. The slots may be free still, or taken for it again.
            again = evolve(held, lease_until=lease_ms)
            alive = await self._store.reserve_slot(again) or await self._store.extend(held.id, lease_ms)
        if not alive:
            await self.put_back(task)
            raise ClaimFailed("Claim failed (concurrent modification)")
        if is_known:
            await self._store.confirm(held.id)

    async def put_back(self, claimed: Task) -> None:
        """Return a claimed task to the queue as if it had not been handed out, if its owner has done nothing yet."""
        assignment_id = claimed.assignment_id or ""

        def compute(task: Task, now: int) -> Computed:
            if task.status != "assigned":
                raise InvalidTransition(task.id, task.status, "pending")
            return returned(task, assignment_id, now, counts=False)

        try:
            await self._move(claimed.id, compute)
        except (InvalidTransition, StaleAssignment, TaskNotFound):
            await self._free_unless_owned(claimed.id, assignment_id)

    async def decline(self, task_id: str, worker_id: str, *, blacklist: bool = False) -> bool:
        """Give a task back; False (and nothing done) when this worker does not hold it."""
        held = await self._offer_to(task_id, worker_id)
        if held is None:
            return False
        if not await self._is_named(task_id, held.id):
            await self._decline_offer(held, blacklist=blacklist)
            return True
        try:
            committed = await self._move(task_id, lambda task, now: _declined(task, held, now, blacklist=blacklist))
        except (InvalidTransition, StaleAssignment, TaskNotFound):
            return False
        if self._observers.task_declined:
            worker = await self._store.get_worker(worker_id)
            if worker is not None:
                self._observers.task_declined(task=committed.stored.task, worker=worker, blacklisted=blacklist)
        self._audit.add(worker_id, "task_declined", taskId=task_id)
        return True

    async def _decline_offer(self, held: Assignment, *, blacklist: bool) -> None:
        if blacklist:  # before the slots are free, lest it is offered to the same worker again
            with suppress(TaskNotFound):
                await self._move(held.task_id, lambda task, _: (_blacklisting(task, held.worker_id), ()), is_quiet=True)
        await self._store.release_slot(held.id)
        self._audit.add(held.worker_id, "task_declined", taskId=held.task_id)
        stored = await self._store.get(held.task_id)
        if stored is not None and stored.task.status == "pending":
            self._news.task_waits(stored.task)
        self._news.worker_changed(held.worker_id)

    async def settle(self, before: Task, after: Task) -> None:
        """A task was moved by somebody: free its slots if it left its worker, and say so if it is claimable now."""
        if before.assignment_id is not None and after.assignment_id != before.assignment_id:
            await self._permits.give_back(before.assignment_id)
            ended = await self._store.release_slot(before.assignment_id)
            self._touched.pop(before.assignment_id, None)
            if before.assigned_worker is not None:
                if after.status in ("cancelled", "timeout"):
                    self._news.taken_away(before.assigned_worker, after.id, after.status)
                if ended is not None:
                    self._audit.add(before.assigned_worker, "task_reclaimed", taskId=after.id)
                self._news.worker_changed(before.assigned_worker)
        if after.status == "pending" or (after.status in TERMINAL and before.status not in TERMINAL):
            self._news.task_waits(after)  # of an ended one: others may have waited for its end

    async def touch(self, assignment_id: str) -> None:
        """The owner of an assignment did something: confirm and extend it, but not at every token of a stream."""
        now = self._store.now_ms()
        if self._touched.get(assignment_id, 0) > now:
            return
        while len(self._touched) >= _TOUCHED:
            del self._touched[next(iter(self._touched))]
        self._touched.pop(assignment_id, None)
        self._touched[assignment_id] = now + min(self._settings.lease_ms, self._settings.disconnect_grace_ms) // 4
        if await self._store.extend(assignment_id, self._settings.lease_ms):
            await self._store.confirm(assignment_id)

    async def held_by(self, worker_id: str) -> dict[str, str]:
        """What a worker owns: task id → assignment id. Not what it is offered: no sign of life keeps that."""
        assignments = await self._store.assignments(worker_id=worker_id)
        return {held.task_id: held.id for held in assignments if not held.is_open_offer}

    async def still_mine(self, worker_id: str, task_ids: frozenset[str] | None) -> frozenset[str]:
        """A worker says that it is alive and, perhaps, what it has: the tasks of these that are not its own any more.

        Its leases are extended: those of the tasks that it names, or all of them if it names none.
        """
        held = await self.held_by(worker_id)
        for task_id, assignment_id in held.items():
            if task_ids is None or task_id in task_ids:
                self._touched.pop(assignment_id, None)
                await self.touch(assignment_id)
        return frozenset() if task_ids is None else task_ids - held.keys()

    async def queued(self, modes: frozenset[AssignMode]) -> AsyncIterator[list[Task]]:
        """The queue, page by page; bounded, so that a look at it ends."""
        last: str | None = None
        room = await self._permits.room()
        for _ in range(_PAGES):
            page = list(await self._store.queue(modes, PAGE, last))
            if ready := [task for task in await self._ready(page) if self._permits.fits(task, room)]:
                yield ready
            if len(page) < PAGE:
                return
            last = page[-1].id

    async def _ready(self, page: list[Task]) -> list[Task]:
        """Those that do not wait for another task's end."""
        awaited = sorted({task.after for task in page if task.after is not None})
        if not awaited:
            return page
        heads = await self._store.heads([Held(task_id, -1) for task_id in awaited])
        live = {one for one, head in zip(awaited, heads, strict=True) if head and head.status not in TERMINAL}
        return [task for task in page if task.after not in live]


def _assigned(task: Task, held: Assignment, now: int) -> Computed:
    if task.status != "pending":
        raise ClaimFailed(f"Task is not pending (status: {task.status})")
    after = evolve(
        task,
        status="assigned",
        updated_at=now,
        assigned_worker=held.worker_id,
        assignment_id=held.id,
        cost=held.cost,
        attempt=task.attempt if task.retry is None else (task.attempt or 0) + 1,
    )
    return after, (EventDraft(AUDIT_TYPE, "info", {"action": "assigned", "workerId": held.worker_id}),)


def returned(task: Task, assignment_id: str, now: int, *, counts: bool = True) -> Computed:
    """A task back in the queue by legal steps, each with its status event. ``counts``: as one of its attempts.

    Raises:
        StaleAssignment: somebody else has it, or nobody.
    """
    check_owner(task, assignment_id)
    after, events = walk(task, WAY_BACK[task.status], TransitionInput(), now)
    if not counts and after.attempt:
        after = evolve(after, attempt=after.attempt - 1 or None)
    return after, events


def _declined(task: Task, held: Assignment, now: int, *, blacklist: bool) -> Computed:
    after, events = returned(task, held.id, now, counts=task.status != "assigned")
    if blacklist:
        after = _blacklisting(after, held.worker_id)
    data = {"action": "declined", "workerId": held.worker_id, "blacklisted": blacklist}
    return after, (*events, EventDraft(AUDIT_TYPE, "info", data))


def check_owner(task: Task, assignment_id: str) -> None:
    """Raise StaleAssignment unless the task's record names this assignment."""
    if task.assignment_id != assignment_id:
        raise StaleAssignment(task.id, assignment_id)


def walk(task: Task, steps: tuple[TaskStatus, ...], given: TransitionInput, now: int) -> Computed:
    """Several legal steps as one change; the last one carries what is given."""
    events: list[EventDraft] = []
    for at, step in enumerate(steps, 1):
        task = transition(task, step, given if at == len(steps) else TransitionInput(), now)
        events.append(status_event(task))
    return task, tuple(events)


def _blacklisting(task: Task, worker_id: str) -> Task:
    listed = sorted({*matching.blacklisted(task), worker_id})
    return evolve(task, metadata={**(task.metadata or {}), matching.BLACKLIST: listed})
