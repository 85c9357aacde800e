"""``TaskEngine``: the one door to everything. Thin verbs that validate, commit, ring and tell the observers."""

from __future__ import annotations

import hashlib
from collections.abc import Awaitable, Callable, Collection, Coroutine, Mapping, Sequence
from contextlib import AsyncExitStack
from types import TracebackType
from typing import Any, Self, overload

from attrs import evolve

from taskcast_core import states, transfer, wire
from taskcast_core.archive import Rebuilt, Released
from taskcast_core.callbacks import OnDone, OnError, OnEvent, Unsubscribe, follow_with_callbacks
from taskcast_core.clock import Clock
from taskcast_core.contracts.broadcast import Broadcast
from taskcast_core.contracts.followers import Backlog
from taskcast_core.contracts.hot_store import ShortTermStore
from taskcast_core.contracts.listing import ListPage, ListQuery
from taskcast_core.contracts.long_term import LongTermStore
from taskcast_core.contracts.task_log import Change, Committed, Guard, Key, LogCopy, LogLimits, Record
from taskcast_core.errors import InvalidInput, NoBlockedRequest, NotBlocked, TaskNotFound
from taskcast_core.filters import View
from taskcast_core.followers import Handler
from taskcast_core.global_stream import GlobalStream
from taskcast_core.history import History, read_history
from taskcast_core.inputs import as_model, check_positive, check_task_input
from taskcast_core.instruments import Instruments
from taskcast_core.meters import Meters
from taskcast_core.models import (
    BlockedRequest,
    Cursor,
    Event,
    EventDraft,
    JsonValue,
    SubscribeFilter,
    Task,
    TaskArchive,
    TaskInput,
    TaskStatus,
    TransitionInput,
)
from taskcast_core.observers import Observers
from taskcast_core.parts import Parts
from taskcast_core.retention import RetentionSettings
from taskcast_core.settings import EngineSettings
from taskcast_core.signals import SIGNAL_KEY_MS, SignalInput, signal_draft
from taskcast_core.subscription import Subscription
from taskcast_core.workers import WorkerLayer

_LIVE = Guard(states.LIVE)

PUBLISH_KEY_MS = 10 * 60 * 1000
"""How long the idempotency key of a publish is remembered."""
REPLY_KEY_MS = 24 * 3600 * 1000
"""How long those of creations and transitions are."""


class TaskEngine:
    """Tracks tasks and streams their progress; usable with no server at all.

    An async context manager: background work and subscriptions live while it is open. Stores and broadcast are the
    caller's: the engine neither opens nor closes them (``open_engine`` does both from a config).

    Args:
        hooks: lifecycle observers: objects with methods named like hooks, or what ``Plugins`` collected.
        handlers: followers of the log to run, e.g. the server's webhook deliverer.
        instruments: what it is measured and traced with; None counts, and records no spans.
    """

    def __init__(
        self,
        *,
        broadcast: Broadcast,
        short_term_store: ShortTermStore,
        long_term_store: LongTermStore | None = None,
        hooks: object = None,
        handlers: Sequence[Handler] = (),
        settings: EngineSettings | None = None,
        clock: Clock | None = None,
        instruments: Instruments | None = None,
    ) -> None:
        self.settings = settings or EngineSettings()
        self.instruments = instruments or Instruments(Meters())
        self.store, self.long_term_store, self.broadcast = short_term_store, long_term_store, broadcast
        self.observers = Observers.of(hooks)
        parts = Parts(
            short_term_store,
            long_term_store,
            broadcast,
            self.observers,
            handlers,
            self.settings,
            clock or Clock(),
            self.instruments,
        )
        self.hub, self.sweeper, self.workers = parts.hub, parts.sweeper, parts.workers
        self._storage, self._transfers, self._background = parts.storage, parts.transfers, parts.background
        self.reader = self._storage.reader
        self._commits, self._lifecycle = parts.commits, parts.lifecycle
        self._running: AsyncExitStack | None = None
        for handler in parts.handlers:
            handler.attach(self)

    # ── Life ───────────────────────────────────────────────────────────────────────────────────────────────────────

    async def __aenter__(self) -> Self:
        """Begin to listen, and to work in the background if the settings say so."""
        self._running = await self._background.begin()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._running is not None:
            running, self._running = self._running, None
            await running.aclose()

    @property
    def is_open(self) -> bool:
        """Whether it has been entered and not left."""
        return self._running is not None

    async def reconfigure(self, retention: RetentionSettings, limits: LogLimits) -> None:
        """Other cleanup rules and bounds from now on; tasks that have ended already come under the new rules, too.

        Raises:
            StoreUnavailable: the rules hold, but not yet for all tasks that had ended before.
        """
        self.settings = evolve(self.settings, retention=retention, limits=limits)
        self._lifecycle.reconfigure(retention, limits)
        await self._lifecycle.schedule_cleanup()

    def now_ms(self) -> int:
        """The store's time (Unix ms); what tasks and events are stamped with."""
        return self.store.now_ms()

    # ── Tasks ──────────────────────────────────────────────────────────────────────────────────────────────────────

    async def create_task(
        self,
        task: TaskInput | Mapping[str, Any] | None = None,
        /,
        *,
        idempotency_key: str | None = None,
        after: str | None = None,
        traceparent: str | None = None,
        **fields: Any,
    ) -> Task:
        """Create a pending task from a ``TaskInput``, a mapping in wire names, or keyword arguments.

        ``after``: id of the task that has to end before workers are given this one. ``traceparent``: the W3C trace
        context that goes with the task; where the engine is traced, what it is recorded to do comes first.

        Raises:
            InvalidInput: a field is wrong. TaskExists, TaskDeleting: about a given ``id``. IdempotencyConflict.
        """
        given = as_model(TaskInput, task, fields)
        check_task_input(given)
        key = self._key("create", "", idempotency_key, (given, after) if after else given, REPLY_KEY_MS)
        if self.workers is not None and given.assign_mode is None:
            given = self.workers.with_default_mode(given)
        if self.instruments.tracer is not None:
            traceparent = self.instruments.tracer.traceparent or traceparent
        created, _ = await self._lifecycle.create(given, key, after, traceparent)
        return created

    async def get_task(self, task_id: str) -> Task | None:
        """The task, hot or cold; None when there is none."""
        stored = await self._storage.find(task_id)
        return stored.task if stored else None

    async def list_tasks(self, query: ListQuery | None = None, **filters: Any) -> ListPage:
        """A page of tasks, newest first; keyword arguments are the fields of ``ListQuery``.

        Raises:
            InvalidInput: the cursor is not one of ours.
        """
        return await self._storage.list(query or ListQuery(**filters))

    async def transition_task(
        self,
        task_id: str,
        status: TaskStatus,
        given: TransitionInput | Mapping[str, Any] | None = None,
        /,
        *,
        idempotency_key: str | None = None,
        assignment_id: str | None = None,
        **fields: Any,
    ) -> Task:
        """Move a task to a status, with result, error and what else comes along.

        Raises:
            InvalidInput, TaskNotFound, InvalidTransition, StaleAssignment, IdempotencyConflict, Conflict.
        """
        if status not in states.ALL:
            raise InvalidInput([("status", "expected one of " + ", ".join(states.ALL))])
        payload = as_model(TransitionInput, given, fields)
        check_positive(payload.ttl, "ttl")
        check_positive(payload.resume_after_ms, "resumeAfterMs")
        key = self._key("transition", task_id, idempotency_key, (status, payload), REPLY_KEY_MS)
        committed = await self._lifecycle.transition(task_id, status, payload, key=key, assignment_id=assignment_id)
        return committed.stored.task

    async def resolve_task(self, task_id: str, data: JsonValue = None) -> Task:
        """Answer a blocked task: it runs on, with the answer as its result (a plain value as ``{"resolution": …}``).

        Raises:
            TaskNotFound. NotBlocked: it is not blocked. InvalidTransition: somebody else was faster.
        """
        task = await self.get_task(task_id)
        if task is None:
            raise TaskNotFound(task_id)
        if task.status != "blocked":
            raise NotBlocked(task_id)
        result = data if isinstance(data, dict) else {"resolution": data}
        committed = await self._lifecycle.transition(
            task_id, "running", TransitionInput(result=result), only_if=lambda stored: stored.task.status == "blocked"
        )
        return committed.stored.task

    async def get_blocked_request(self, task_id: str) -> BlockedRequest:
        """The question that a blocked task waits with.

        Raises:
            TaskNotFound. NoBlockedRequest: it is not blocked, or was blocked without one.
        """
        task = await self.get_task(task_id)
        if task is None:
            raise TaskNotFound(task_id)
        if task.status != "blocked" or task.blocked_request is None:
            raise NoBlockedRequest(task_id)
        return task.blocked_request

    async def delete_task(self, task_id: str) -> None:
        """Remove a task and its history from every tier; a live one is cancelled first, so that its readers end.

        Raises:
            TaskNotFound.
        """
        await self._lifecycle.delete(task_id)

    # ── Events ─────────────────────────────────────────────────────────────────────────────────────────────────────

    async def publish_event(
        self,
        task_id: str,
        event: EventDraft | Mapping[str, Any] | None = None,
        /,
        *,
        idempotency_key: str | None = None,
        assignment_id: str | None = None,
        **fields: Any,
    ) -> Event:
        """Append one event to a live task's log.

        Raises:
            InvalidInput, TaskNotFound, TaskEnded, LimitExceeded, StaleAssignment, IdempotencyConflict, ReplyExpired.
        """
        draft = as_model(EventDraft, event, fields)
        committed = await self.append(task_id, (draft,), idempotency_key=idempotency_key, assignment_id=assignment_id)
        return committed.entries[0].event()

    async def publish_events(
        self,
        task_id: str,
        events: Sequence[EventDraft | Mapping[str, Any]],
        *,
        idempotency_key: str | None = None,
        assignment_id: str | None = None,
    ) -> list[Event]:
        """Append several events in order, all or none. Raises as ``publish_event``."""
        drafts = tuple(as_model(EventDraft, event, {}, path=f"[{at}]") for at, event in enumerate(events))
        committed = await self.append(task_id, drafts, idempotency_key=idempotency_key, assignment_id=assignment_id)
        return [entry.event() for entry in committed.entries]

    def append(
        self,
        task_id: str,
        drafts: tuple[EventDraft, ...],
        *,
        idempotency_key: str | None = None,
        assignment_id: str | None = None,
    ) -> Coroutine[Any, Any, Committed]:
        """``publish_events`` for callers that want the entries as they were committed. Raises as ``publish_event``."""
        # No coroutine of its own where it would only hand on: every event comes through here.
        if len(drafts) > self.settings.max_batch:
            raise InvalidInput(f"at most {self.settings.max_batch} events at once")
        key = None
        if idempotency_key is not None:
            key = self._key("publish", task_id, idempotency_key, drafts, PUBLISH_KEY_MS)
        guard = _LIVE if assignment_id is None else Guard(states.LIVE, None, assignment_id)
        commit = self._commits.commit(task_id, Change(drafts, None, guard, key, self.settings.limits))
        return commit if self.workers is None else self._with_sign_of_life(commit, self.workers)

    async def _with_sign_of_life(self, commit: Awaitable[Committed], workers: WorkerLayer) -> Committed:
        """Who publishes to a task is at work on it."""
        committed = await commit
        owned_by = committed.stored.record.task.assignment_id
        if owned_by is not None:
            await workers.seen(owned_by)
        return committed

    async def signal(
        self, task_id: str, signal: SignalInput | Mapping[str, Any] | None = None, /, **fields: Any
    ) -> Event:
        """Tell a live task something: the event of type ``taskcast:signal`` that its log now has.

        ``engine.signal(task_id, type="stop", data=…, id=…)``. The same id again gives the event of the first time.

        Raises:
            InvalidInput, TaskNotFound, TaskEnded, LimitExceeded, ReplyExpired. IdempotencyConflict: another signal of
            this task has that id.
        """
        given = as_model(SignalInput, signal, fields)
        draft = signal_draft(given, self.now_ms())
        key = self._key("signal", task_id, given.id, given, SIGNAL_KEY_MS)
        committed = await self._commits.commit(task_id, Change((draft,), None, _LIVE, key, self.settings.limits))
        return committed.entries[0].event()

    # ── Reading ────────────────────────────────────────────────────────────────────────────────────────────────────

    @overload
    def subscribe(self, task_id: str, filter: SubscribeFilter | Mapping[str, Any] | None = None) -> Subscription: ...

    @overload
    def subscribe(
        self,
        task_id: str,
        filter: SubscribeFilter | Mapping[str, Any] | None = None,
        *,
        on_event: OnEvent,
        on_done: OnDone | None = None,
        on_error: OnError | None = None,
    ) -> Unsubscribe: ...

    def subscribe(
        self,
        task_id: str,
        filter: SubscribeFilter | Mapping[str, Any] | None = None,
        *,
        on_event: OnEvent | None = None,
        on_done: OnDone | None = None,
        on_error: OnError | None = None,
    ) -> Subscription | Unsubscribe:
        """Follow a task: what has been, then what comes, each event once and in order, until it has ended.

        ``async for event in engine.subscribe(task_id)``; or with callbacks, and a handle that unsubscribes. The filter
        may be a mapping in wire names. TaskNotFound is raised when reading begins (or goes to ``on_error``).
        """
        wanted = as_model(SubscribeFilter, filter, {})
        subscription = Subscription(self.hub, self.reader, task_id, wanted, max_lag=self.settings.max_lag)
        if on_event is None:
            return subscription
        return follow_with_callbacks(subscription, on_event, on_done, on_error)

    def subscribe_all(self, view: View | None = None, may_see: Callable[[str], bool] = lambda _: True) -> GlobalStream:
        """Follow all tasks that are created from now on, on any node (an async context manager)."""
        return GlobalStream(self.hub, self.reader, view or View(), may_see)

    async def get_history(
        self,
        task_id: str,
        *,
        since: Cursor | None = None,
        types: Collection[str] | None = None,
        levels: Collection[str] | None = None,
        limit: int | None = None,
        series_format: str = "delta",
    ) -> list[Event]:
        """Past events; ``since.index`` is the log's own index, ``limit`` applies before the filters.

        Raises:
            TaskNotFound.
        """
        history = await self.read_history(
            task_id, since=since, view=View(types, levels), limit=limit, collapse=series_format == "accumulated"
        )
        return [delivery.event() for delivery in history.deliveries]

    async def read_history(
        self,
        task_id: str,
        *,
        since: Cursor | None = None,
        view: View | None = None,
        limit: int | None = None,
        collapse: bool = False,
    ) -> History:
        """``get_history`` for callers that want entries, and to know of a cursor that could not be honoured."""
        return await self._storage.read_whole(
            task_id,
            lambda stored: read_history(
                self.reader, stored, since=since, view=view or View(), limit=limit, collapse=collapse
            ),
        )

    # ── Archives ───────────────────────────────────────────────────────────────────────────────────────────────────

    async def export_archive(self, task_id: str) -> TaskArchive:
        """A task with its whole history.

        Raises:
            TaskNotFound.
        """
        return await self._transfers.export(task_id)

    async def open_archive(self, task_id: str) -> transfer.ArchiveStream:
        """``export_archive`` for callers that pass the events on as they are read, a page at a time.

        Raises:
            TaskNotFound.
        """
        return await self._transfers.open(task_id)

    async def import_archive(
        self, archive: TaskArchive | Mapping[str, Any], *, overwrite: bool = False
    ) -> transfer.ImportResult:
        """Bring a task in, all or nothing; its events keep their ids. Nobody is told.

        Raises:
            InvalidArchive: naming the first defect. TaskExists: and ``overwrite`` was not asked for. TaskDeleting.
        """
        parsed = archive if isinstance(archive, TaskArchive) else transfer.parse(archive)
        return await self.import_copy(transfer.log_copy(parsed, self.import_record(parsed.task)), overwrite=overwrite)

    def import_record(self, task: Task) -> Record:
        """The record that an imported task begins with."""
        return self._transfers.record(task)

    async def import_copy(self, copy: LogCopy, *, overwrite: bool = False) -> transfer.ImportResult:
        """``import_archive`` for callers that have made the log themselves (see ``spooling``). Raises as that does."""
        return await self._transfers.load(copy, overwrite=overwrite)

    # ── Tiers ──────────────────────────────────────────────────────────────────────────────────────────────────────

    async def release_task(self, task_id: str, expected_last_index: int, inactive_since: int) -> Released:
        """Move a task to the long-term store, if it has no event beyond the expected one and was quiet since (ms).

        Raises:
            TaskNotFound. StoragePreconditionFailed: it is not so. StorageBusy: not archived yet, or being moved.
            StorageReleaseUnsupported: no long-term store, or a hot one that cannot let go of tasks.
        """
        return await self._storage.release(task_id, expected_last_index, inactive_since)

    async def rebuild(self) -> Rebuilt:
        """Bring every live task back that the hot store has lost (it was emptied, or is another one) at once.

        Each goes on from its durable copy, in a new epoch. Without this they come back one by one, when written to.

        Raises:
            StorageReleaseUnsupported: no long-term store, or a hot one that cannot take tasks in.
        """
        return await self._storage.rebuild()

    async def archive_lag(self) -> Backlog | None:
        """How far the long-term store is behind: lanes (tasks), events, and the age of the oldest mark in ms.

        None without a long-term store. May be slightly old; one cheap call of the hot store.
        """
        return await self._storage.archive_lag()

    # ── Inside ─────────────────────────────────────────────────────────────────────────────────────────────────────

    def _key(self, verb: str, task_id: str, caller_key: str | None, request: object, ttl_ms: int) -> Key | None:
        """The caller's key, told apart by verb and task; callers of several principals put theirs into the key."""
        if caller_key is None:
            return None
        body = hashlib.blake2b(wire.encode(request), digest_size=16).hexdigest()
        return Key(f"{verb}\x1f{task_id}\x1f{caller_key}", body, ttl_ms)
