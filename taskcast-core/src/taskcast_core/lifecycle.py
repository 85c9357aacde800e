"""The life of a task: created, moved from status to status by callers and by time, cleaned up, deleted."""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable, Collection, Mapping
from contextlib import suppress

from attrs import evolve

from taskcast_core import retention, states
from taskcast_core.commits import Commits
from taskcast_core.contracts.followers import Due, FollowerKind, Followers
from taskcast_core.contracts.listing import Listing, ListQuery
from taskcast_core.contracts.long_term import LongTermStore
from taskcast_core.contracts.task_log import (
    Change,
    Committed,
    Guard,
    Key,
    LogLimits,
    Record,
    Stored,
    TaskLog,
    TimerKind,
    TrimRule,
)
from taskcast_core.entries import STATUS_TYPE
from taskcast_core.errors import (
    EpochChanged,
    GuardFailed,
    InvalidTransition,
    NotHot,
    StaleAssignment,
    TaskExists,
    TaskNotFound,
)
from taskcast_core.ids import new_ulid
from taskcast_core.log_events import tell
from taskcast_core.meters import Meters
from taskcast_core.models import EventDraft, Task, TaskInput, TaskStatus, TransitionInput
from taskcast_core.observers import Observers
from taskcast_core.retention import RetentionSettings
from taskcast_core.retries import is_waiting, postponed, requeued
from taskcast_core.transitions import timers, transition, transition_events

_log = logging.getLogger(__name__)

LINGER_MS = 60_000
"""So long may streams that were open at a deletion read on to their end."""
TOMBSTONE_MS = 24 * 3600 * 1000
"""So long is it remembered that an id was deleted."""
TRIM_BATCH = 10_000
"""Entries removed in one atomic step."""
NO_LIMITS = LogLimits(max_events=1 << 40, max_bytes=1 << 53, max_series=1 << 31, max_types=1 << 31)
"""Bounds are for publishers: a task whose log is full can still end."""
LIST_BATCH = 200
"""Tasks looked at in one step."""

Compute = Callable[[Task, int], tuple[Task, tuple[EventDraft, ...]]]
"""From a task and the store's time to the task afterwards, and the events that tell of it."""


class Lifecycle:
    """Creates, moves and removes tasks.

    ``expect`` is told when (in ms) a timer that was set runs out; ``moved`` of every task that was made or moved, with
    what it was before.
    """

    def __init__(
        self,
        log: TaskLog,
        listing: Listing,
        followers: Followers,
        cold: LongTermStore | None,
        commits: Commits,
        observers: Observers,
        *,
        follower_kinds: Collection[FollowerKind],
        retention_settings: RetentionSettings,
        limits: LogLimits,
        expect: Callable[[int], None],
        moved: Callable[[Task | None, Task], Awaitable[None]],
        meters: Meters | None = None,
    ) -> None:
        self._log, self._listing, self._followers = log, listing, followers
        self._cold, self._commits = cold, commits
        self._observers, self._kinds, self._expect = observers, follower_kinds, expect
        self._retention, self._limits, self._moved = retention_settings, limits, moved
        self._meters = meters

    def reconfigure(self, retention_settings: RetentionSettings, limits: LogLimits) -> None:
        """From now on these hold; ``schedule_cleanup`` tells them to tasks that have ended already."""
        self._retention, self._limits = retention_settings, limits

    # ── Create ─────────────────────────────────────────────────────────────────────────────────────────────────────

    async def create(
        self, given: TaskInput, key: Key | None, after: str | None = None, traceparent: str | None = None
    ) -> tuple[Task, bool]:
        """Make a task: it, and whether that is the repeated reply of an earlier call with the same key.

        ``after``: id of the task that has to end before this one becomes claimable. ``traceparent``: of its creator.

        Raises:
            TaskExists, TaskDeleting, IdempotencyConflict.
        """
        now = self._log.now_ms()
        task_id = given.id or new_ulid(now)
        if key is not None:
            task_id = await self._log.reserve(key, task_id)
        if given.id is not None and self._cold is not None and await self._cold.get(task_id) is not None:
            repeated = await self._commits.recall(task_id, key) if key else None
            if repeated is None:
                raise TaskExists(task_id)
            return repeated.stored.task, True
        made = new_task(given, task_id, now, after, traceparent)
        committed = await self._commits.create(self.first_record(made, now), key)
        task = committed.stored.task
        if not committed.replayed:
            self._set_alarm(committed.stored.record)
            self.tell_created(task)
            await self._moved(None, task)
        return task, committed.replayed

    def tell_created(self, task: Task) -> None:
        """Tell observers, log and meters of a new task."""
        tell(_log, logging.INFO, "task_created", taskId=task.id, type=task.type)
        if self._meters is not None:
            self._meters.task_created(task.type)
        if self._observers.task_created:
            self._observers.task_created(task=task)

    def first_record(self, task: Task, now: int) -> Record:
        """The record of a new or imported task."""
        return Record(task, self._timers(None, {}, task, now), self._lanes(task))

    def _lanes(self, task: Task) -> tuple[str, ...]:
        lanes: list[str] = []
        if "archive" in self._kinds:
            lanes.append("archive")
        if "settle" in self._kinds and (task.assign_mode or "external") != "external":
            lanes.append("settle")
        if "webhook" in self._kinds:
            lanes += [f"webhook:{number}" for number in range(len(task.webhooks or ()))]
        return tuple(lanes)

    def _timers(
        self, before: Task | None, previous: Mapping[TimerKind, int], after: Task, now: int
    ) -> dict[TimerKind, int]:
        due = timers(before, previous, after, now)
        if is_waiting(after) and after.resume_at is not None:
            due["retry"] = after.resume_at
        cleanup = retention.next_due(after, self._retention, now - 1)
        if cleanup is not None:
            due["cleanup"] = cleanup
        if self._retention.release_ended_ms is not None and after.status in states.TERMINAL:
            due["cold"] = now + self._retention.release_ended_ms
        return due

    def _set_alarm(self, record: Record) -> None:
        if record.timers:
            self._expect(min(record.timers.values()) - self._log.now_ms())

    # ── Move ───────────────────────────────────────────────────────────────────────────────────────────────────────

    async def transition(
        self,
        task_id: str,
        to: TaskStatus,
        given: TransitionInput,
        *,
        key: Key | None = None,
        assignment_id: str | None = None,
        only_if: Callable[[Stored], bool] | None = None,
        is_overdue: bool = False,
    ) -> Committed:
        """Move a task to a status; the event of an overdue one says nothing but that.

        Raises:
            TaskNotFound, InvalidTransition, StaleAssignment, IdempotencyConflict, Conflict.
        """

        def compute(stored: Stored) -> Change:
            if assignment_id is not None and stored.task.assignment_id != assignment_id:
                raise StaleAssignment(task_id, assignment_id)
            if only_if is not None and not only_if(stored):
                raise InvalidTransition(task_id, stored.task.status, to)
            now = self._log.now_ms()
            after, events = _step(stored.task, to, given, now)
            if is_overdue:
                events = (EventDraft(STATUS_TYPE, "info", {"status": to}),)
            due = self._timers(stored.task, stored.record.timers, after, now)
            record = Record(after, due, stored.record.lanes)
            limits = NO_LIMITS if after.status in states.TERMINAL else self._limits
            return Change(events, record, Guard(rev=stored.rev), key, limits)

        try:
            before, committed = await self._commits.update(task_id, compute)
        except (InvalidTransition, StaleAssignment, TaskNotFound):
            # A repeat of the very call that made this illegal gets the first reply; it outlives the task.
            repeated = await self._commits.recall(task_id, key) if key else None
            if repeated is None:
                raise
            return repeated
        if not committed.replayed:
            self._set_alarm(committed.stored.record)
            self._tell(before.task, committed.stored.task)
            await self._moved(before.task, committed.stored.task)
        return committed

    async def move(self, task_id: str, compute: Compute, *, is_quiet: bool = False) -> Committed:
        """Change a task in some other way, in one commit; ``compute`` is asked again when others were faster.

        ``is_quiet``: it is no transition that anybody should hear of.

        Raises:
            TaskNotFound, Conflict, and what ``compute`` raises.
        """

        def change(stored: Stored) -> Change:
            now = self._log.now_ms()
            after, events = compute(stored.task, now)
            due = self._timers(stored.task, stored.record.timers, after, now)
            return Change(events, evolve(stored.record, task=after, timers=due), Guard(rev=stored.rev))

        before, committed = await self._commits.update(task_id, change)
        self._set_alarm(committed.stored.record)
        if not is_quiet:
            self._tell(before.task, committed.stored.task)
            await self._moved(before.task, committed.stored.task)
        return committed

    def _tell(self, before: Task, after: Task) -> None:
        observers = self._observers
        if self._meters is not None and after.status != before.status:
            self._meters.task_moved(after.type, after.status)
        if after.status in states.TERMINAL:
            code = after.error.code if after.error else None
            lived_ms = (after.completed_at or after.updated_at) - after.created_at
            tell(
                _log, logging.INFO, "task_ended",
                taskId=after.id, type=after.type, status=after.status, livedMs=lived_ms, errorCode=code,
            )  # fmt: skip
        if after.status == "failed" and after.error is not None and observers.task_failed:
            observers.task_failed(task=after, error=after.error)
        if after.status == "timeout" and observers.task_timed_out:
            observers.task_timed_out(task=after)
        if observers.task_transitioned:
            observers.task_transitioned(task=after, previous=before.status)

    # ── Delete ─────────────────────────────────────────────────────────────────────────────────────────────────────

    async def delete(self, task_id: str) -> None:
        """Remove a task from every tier; a live one is cancelled first, so that its readers end.

        Raises:
            TaskNotFound.
        """
        with suppress(InvalidTransition):  # it has ended already
            await self.transition(task_id, "cancelled", TransitionInput())
        stored = await self._log.get(task_id)
        epoch = stored.epoch if stored else 0
        if not await self._log.delete(task_id, linger_ms=LINGER_MS):
            raise TaskNotFound(task_id)
        if self._cold is not None:
            await self._cold.delete(task_id, epoch)
        self._expect(LINGER_MS)
        if self._observers.task_deleted:
            self._observers.task_deleted(task_id=task_id)

    # ── By time ────────────────────────────────────────────────────────────────────────────────────────────────────

    async def on_ttl(self, due: Due) -> None:
        """The execution deadline has passed."""
        still_due = _still("ttl", due.due_at)
        await self.transition(due.task_id, "timeout", TransitionInput(), only_if=still_due, is_overdue=True)

    async def on_resume(self, due: Due) -> None:
        """A blocked task wakes up by itself."""
        await self.transition(due.task_id, "running", TransitionInput(), only_if=_still("resume", due.due_at))

    async def on_retry(self, due: Due) -> None:
        """The wait after a failed attempt is over."""

        def compute(task: Task, now: int) -> tuple[Task, tuple[EventDraft, ...]]:
            if not is_waiting(task) or task.resume_at != due.due_at:
                raise InvalidTransition(task.id, task.status, "pending")
            return requeued(task, now)

        await self.move(due.task_id, compute)

    async def on_purge(self, due: Due) -> None:
        """The linger time of a deletion is over."""
        await self._log.purge(due.task_id, tombstone_ms=TOMBSTONE_MS)

    async def on_cleanup(self, due: Due) -> bool:
        """Cleanup rules or the general retention concern an ended task.

        A task that a follower has not passed yet is left alone (False).
        """
        stored = await self._commits.current(due.task_id)
        if not await self._followers.has_passed(due.task_id):
            return False
        now = self._log.now_ms()
        if retention.removes_task(stored.task, self._retention, now):
            await self.delete(due.task_id)
            return True
        for rule in retention.rules_for(stored.task, self._retention):
            if retention.due_at(rule, stored.task) <= now:
                await self._trim(stored, TrimRule.of(rule.event_filter, retention.ended_at(stored.task)))
        await self._commits.update(due.task_id, lambda current: self._after_cleanup(current, now))
        return True

    async def schedule_cleanup(self) -> None:
        """Give ended tasks the cleanup time of the present rules, which may be newer than the tasks."""
        query = ListQuery(statuses=states.TERMINAL, limit=LIST_BATCH)
        while True:
            page = await self._listing.list(query)
            for task in page.tasks:
                await self._reschedule(task.id)
            if page.next_cursor is None:
                return
            query = evolve(query, cursor=page.next_cursor)

    async def _reschedule(self, task_id: str) -> None:
        stored = await self._log.get(task_id)
        if stored is None or stored.record.cleaned == retention.fingerprint(stored.task, self._retention):
            return
        wanted = retention.next_due(stored.task, self._retention, -1)
        if stored.record.timers.get("cleanup") != wanted:
            with suppress(GuardFailed, TaskNotFound):  # whoever changed it has seen to its timers
                await self._commits.commit(task_id, _with_cleanup(stored, wanted, stored.record.cleaned))

    async def _trim(self, stored: Stored, rule: TrimRule) -> None:
        for log in (self._log, self._cold):
            with suppress(NotHot, EpochChanged):
                while log is not None and await log.trim(stored.task.id, stored.epoch, rule, TRIM_BATCH) == TRIM_BATCH:
                    pass  # each round removes entries, so this ends with the log

    def _after_cleanup(self, stored: Stored, now: int) -> Change:
        upcoming = retention.next_due(stored.task, self._retention, now)
        return _with_cleanup(stored, upcoming, retention.fingerprint(stored.task, self._retention))


def _with_cleanup(stored: Stored, at: int | None, cleaned: str | None) -> Change:
    """Set when cleanup looks at a task next, and nothing else."""
    due = dict(stored.record.timers)
    due.pop("cleanup", None)
    if at is not None:
        due["cleanup"] = at
    return Change(record=evolve(stored.record, timers=due, cleaned=cleaned), guard=Guard(rev=stored.rev))


def _step(task: Task, to: TaskStatus, given: TransitionInput, now: int) -> tuple[Task, tuple[EventDraft, ...]]:
    """One transition; a failure that the task's retry policy covers is no end, but the beginning of a wait."""
    after = transition(task, to, given, now)
    again = postponed(task, given, now) if to == "failed" else None
    return again or (after, transition_events(task, after, given))


def new_task(
    given: TaskInput, task_id: str, now: int, after: str | None = None, traceparent: str | None = None
) -> Task:
    """The pending task that an input asks for."""
    return Task(
        id=task_id,
        status="pending",
        created_at=now,
        updated_at=now,
        type=given.type,
        params=given.params,
        metadata=given.metadata,
        ttl=given.ttl,
        webhooks=given.webhooks,
        cleanup=given.cleanup,
        auth_config=given.auth_config,
        tags=given.tags,
        assign_mode=given.assign_mode,
        cost=given.cost,
        disconnect_policy=given.disconnect_policy,
        priority=given.priority,
        retry=given.retry,
        after=after,
        traceparent=traceparent,
    )


def _still(kind: TimerKind, due_at: int) -> Callable[[Stored], bool]:
    """Whether the record still has the timer that ran out."""
    return lambda stored: stored.record.timers.get(kind) == due_at
