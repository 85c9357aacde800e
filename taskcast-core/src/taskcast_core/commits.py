"""The one way into the log: commit, then tell the readers here, the other processes, the followers and observers."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Coroutine, Sequence
from time import perf_counter
from typing import Any

from taskcast_core.contracts.broadcast import Bell, Broadcast
from taskcast_core.contracts.task_log import Change, Committed, Guard, Key, Record, Stored, TaskLog
from taskcast_core.errors import Conflict, GuardFailed, NotHot, StaleAssignment, TaskEnded, TaskNotFound
from taskcast_core.followers import Follower
from taskcast_core.hub import Hub
from taskcast_core.instruments import NONE, Instruments
from taskcast_core.meters import PENDING
from taskcast_core.observers import Observers

TRIES = 16
"""So often a change of a record is computed anew when another writer was faster."""

_IMPOSSIBLE = Guard(rev=0)
"""Revisions begin at 1; so only the lookup of a key, which comes before any guard, can answer."""

Rehydrate = Callable[[str], Awaitable[bool]]
"""Brings a cold task back; False when there is no such task."""


class Commits:
    """Makes changes to tasks, cold ones included, and announces them."""

    def __init__(
        self,
        log: TaskLog,
        hub: Hub,
        broadcast: Broadcast,
        observers: Observers,
        followers: Sequence[Follower],
        rehydrate: Rehydrate,
        instruments: Instruments = NONE,
    ) -> None:
        self._log, self._hub, self._broadcast = log, hub, broadcast
        self._observers, self._followers, self._rehydrate = observers, followers, rehydrate
        self._meters, self._tracer = instruments.meters, instruments.tracer
        self._is_heard: Callable[[str], bool] = getattr(broadcast, "is_heard", lambda _: True)

    async def create(self, record: Record, key: Key | None) -> Committed:
        """Begin a log, and announce it. Raises what TaskLog.create raises."""
        if self._tracer is None:
            return await self._create(record, key)
        with self._tracer.span("taskcast.commit", verb="create", task_id=record.task.id):
            return await self._create(record, key)

    async def _create(self, record: Record, key: Key | None) -> Committed:
        began = perf_counter()
        committed = await self._log.create(record, key)
        if not committed.replayed:
            if (meters := self._meters) is not None:
                took_s = meters.took_s
                took_s.append(perf_counter() - began)
                if len(committed.entries) != 1 or len(took_s) >= PENDING:
                    meters.committed(len(committed.entries))
            self.announce(committed)
        return committed

    def commit(self, task_id: str, change: Change) -> Coroutine[Any, Any, Committed]:
        """Make one change.

        Raises:
            TaskNotFound, StaleAssignment, and what TaskLog.commit raises besides. TaskEnded: the guard asks for a
            status. GuardFailed: it asks for a revision.
        """
        # No coroutine of its own where it would only hand on: every event comes through here.
        return self._commit(task_id, change) if self._tracer is None else self._commit_traced(task_id, change)

    async def _commit_traced(self, task_id: str, change: Change) -> Committed:
        assert self._tracer is not None
        with self._tracer.span("taskcast.commit", task_id=task_id, events=len(change.events)) as span:
            committed = await self._commit(task_id, change)
            span.link(committed.stored.task.traceparent)
            return committed

    async def _commit(self, task_id: str, change: Change) -> Committed:
        for _ in range(TRIES):
            began = perf_counter()
            try:
                committed = await self._log.commit(task_id, change)
            except NotHot:
                if not await self._rehydrate(task_id):
                    raise TaskNotFound(task_id) from None
                continue
            except GuardFailed as failed:
                if failed.reason == "assignment":
                    raise StaleAssignment(task_id, change.guard.assignment_id or "") from None
                if failed.reason == "status":
                    raise TaskEnded(task_id, failed.stored.task.status) from None
                raise
            if not committed.replayed:
                if (meters := self._meters) is not None:
                    took_s = meters.took_s
                    took_s.append(perf_counter() - began)
                    if len(committed.entries) != 1 or len(took_s) >= PENDING:
                        meters.committed(len(committed.entries))
                self.announce(committed)
            return committed
        raise Conflict(f"task {task_id} went cold again and again")

    async def update(self, task_id: str, compute: Callable[[Stored], Change]) -> tuple[Stored, Committed]:
        """Change a record: ``compute`` is given the task and names its ``rev`` as the guard.

        It is asked again, a bounded number of times, when somebody else was faster; what it raises, this raises.
        The task that the change was computed from, and what was done.

        Raises:
            TaskNotFound. Conflict: never got through.
        """
        before = await self.current(task_id)
        for _ in range(TRIES):
            try:
                return before, await self.commit(task_id, compute(before))
            except GuardFailed as failed:
                before = failed.stored
        raise Conflict(f"task {task_id} is being changed too fast by others")

    async def recall(self, task_id: str, key: Key) -> Committed | None:
        """The reply that an earlier change with this key got; None if there was none.

        Raises:
            IdempotencyConflict: the key was used for another request.
        """
        try:
            return await self._log.commit(task_id, Change(guard=_IMPOSSIBLE, key=key))
        except (GuardFailed, NotHot):
            return None

    async def current(self, task_id: str) -> Stored:
        """The open hot copy; a cold task is brought back first.

        Raises:
            TaskNotFound.
        """
        for _ in range(TRIES):
            stored = await self._log.get(task_id)
            if stored is not None:
                return stored
            if not await self._rehydrate(task_id):
                break
        raise TaskNotFound(task_id)

    def announce(self, committed: Committed) -> None:
        """Ring for a commit; cheap, and never fails it."""
        stored, entries = committed.stored, committed.entries
        task = stored.record.task
        if self._is_heard(task.id) or self._tracer is not None:
            last_index = stored.last_index
            first_index = last_index + 1 - len(entries)
            epoch = stored.segments[-1].epoch
            bell = Bell(task.id, task.id, epoch, first_index, last_index, task.status, task.created_at, entries)
            self._hub.take(bell)
            if self._tracer is None:
                self._broadcast.publish(bell)
            else:
                with self._tracer.span("taskcast.broadcast", task_id=task.id, last_index=last_index):
                    self._broadcast.publish(bell)
        if stored.record.lanes:
            for follower in self._followers:
                follower.notify()
        if entries and self._observers.events_committed:
            self._observers.events_committed(task_id=task.id, events=[entry.event() for entry in entries])
