"""The observer: decides what Sentry is told of. Its calls come from a thread of its own, never from a commit."""

from __future__ import annotations

import random
import time
from collections.abc import Collection, Sequence
from typing import TYPE_CHECKING, Any

import sentry_sdk

from taskcast_core.errors import StorageError, StoreUnavailable
from taskcast_core.filters import matches_any_type
from taskcast_core.models import Event, EventDraft, Task, TaskError, WebhookConfig
from taskcast_sentry.logs import LogWatch, Trouble, is_broadcast
from taskcast_sentry.options import HookOptions, Levels
from taskcast_sentry.reports import Reporter, transaction
from taskcast_sentry.scrub import Scrubber

if TYPE_CHECKING:
    from sentry_sdk.types import Event as SentryEvent

QUIET_S = 60.0
"""An outage, and whatever else comes from the log, is told of this often at most."""
_MOST_REMEMBERED = 256
_HEARD = "taskcast_sentry_heard"
"""Marks an error that the log has brought already, before the hook does."""


class SentryHooks:
    """Give it to ``TaskEngine(hooks=[…])``. Hooks of what is not to be told are None, and so cost nothing.

    Stores and broadcasts that are away are told of in Taskcast's log only, so that is listened to as well, until
    `close`.

    Args:
        options: what is told. client: whom; None is whatever `sentry_sdk.init` has set up.
        secrets: values that never leave, wherever they stand.
    """

    def __init__(
        self,
        options: HookOptions | None = None,
        client: sentry_sdk.Client | None = None,
        secrets: Collection[str] = (),
    ) -> None:
        self.options = options = options or HookOptions()
        self._client = client
        self._report = Reporter(Scrubber(secrets), send_payloads=options.send_payloads)
        self._told: dict[str, float] = {}
        self.task_failed = self._task_failed if options.capture_task_failures else None
        self.task_timed_out = self._task_timed_out if options.capture_task_timeouts else None
        self.event_dropped = self._event_dropped if options.capture_dropped_events else None
        self.webhook_failed = self._webhook_failed if options.capture_dropped_events else None
        self.subscriber_disconnected = self._subscriber_disconnected if options.trace_sse_connections else None
        self.events_committed = self._events_committed if options.trace_event_publish else None
        self._watch = LogWatch(self._trouble, client)
        if self._captures_anything_of_the_log:
            self._watch.begin()

    def close(self) -> None:
        """Listen to the log no longer."""
        self._watch.end()

    def unhandled_error(self, error: Exception, operation: str, task_id: str | None) -> None:
        """See `taskcast_unhandled_error`; what the log has told of already (and of what fails again and again it is
        told seldom) is not told again.
        """
        if error.__dict__.get(_HEARD):
            return
        tags = {"operation": operation} | ({"taskId": task_id} if task_id else {})
        if isinstance(error, StoreUnavailable | StorageError):
            self._outage(_dependency(error), str(error), tags)
        elif self.options.capture_unhandled_errors:
            self._send(self._report.exception(error, self.options.levels.unhandled_error, tags), error)

    def _task_failed(self, task: Task, error: TaskError | None) -> None:
        if matches_any_type(self.options.task_types, task.type):
            self._send(self._report.task_failed(task, error, self.options.levels.task_failure))

    def _task_timed_out(self, task: Task) -> None:
        if matches_any_type(self.options.task_types, task.type):
            self._send(self._report.task_timed_out(task, self.options.levels.task_timeout))

    def _event_dropped(self, event: Event | EventDraft, reason: str) -> None:
        self._send(self._report.event_dropped(event, reason, self.options.levels.dropped_event))

    def _webhook_failed(self, config: WebhookConfig, error: Exception) -> None:
        self._send(self._report.webhook_failed(config, error, self.options.levels.webhook_failure), error)

    def _subscriber_disconnected(self, task_id: str, client_id: str, duration_ms: int) -> None:
        if self._is_sampled():
            now = time.time()
            tags = {"taskId": task_id, "clientId": client_id}
            began = now - duration_ms / 1000
            self._send(transaction("GET /tasks/{taskId}/events", "taskcast.sse", began, now, tags))

    def _events_committed(self, task_id: str, events: Sequence[Event]) -> None:
        """From the commit to this call: what telling of the events took. Their data stays here."""
        if events and self._is_sampled():
            tags = {"taskId": task_id, "eventType": events[0].type, "events": str(len(events))}
            began = events[0].timestamp / 1000
            self._send(transaction("event publish", "taskcast.publish", began, time.time(), tags))

    # ── What the log tells ─────────────────────────────────────────────────────────────────────────────────────────

    @property
    def _captures_anything_of_the_log(self) -> bool:
        options = self.options
        return options.capture_storage_errors or options.capture_broadcast_errors or options.capture_unhandled_errors

    def _trouble(self, trouble: Trouble) -> None:
        if trouble.is_outage:
            self._outage(trouble.dependency, trouble.message, {"operation": trouble.operation})
        elif self.options.capture_unhandled_errors and trouble.error is not None:
            trouble.error.__dict__[_HEARD] = True
            kind = f"{trouble.operation} {type(trouble.error).__name__}"
            if self._is_news(kind):
                tags = {"operation": trouble.operation} | ({"taskId": trouble.task_id} if trouble.task_id else {})
                event = self._report.exception(trouble.error, self.options.levels.unhandled_error, tags)
                self._send(event, trouble.error)

    def _outage(self, dependency: str | None, what: str, facts: dict[str, str]) -> None:
        kind = "broadcast" if dependency is not None and is_broadcast(dependency) else "storage"
        wanted = self.options.capture_broadcast_errors if kind == "broadcast" else self.options.capture_storage_errors
        key = f"{kind} {dependency or what}"
        if wanted and self._is_news(key):
            facts = {**facts, "dependency": dependency or "unknown"}
            named = {"broadcast": "Broadcast error", "storage": "Storage error"}[kind]
            self._send(self._report.outage(kind, f"{named}: {what}", self.options.levels.outage, facts))

    def _is_news(self, kind: str) -> bool:
        now = time.monotonic()
        if now - self._told.get(kind, -QUIET_S) < QUIET_S:
            return False
        self._told.pop(kind, None)
        while len(self._told) >= _MOST_REMEMBERED:
            self._told.pop(next(iter(self._told)))
        self._told[kind] = now
        return True

    def _is_sampled(self) -> bool:
        return random.random() < self.options.traces_sample_rate

    def _send(self, event: SentryEvent, error: BaseException | None = None) -> None:
        hint: dict[str, Any] = {"exc_info": (type(error), error, error.__traceback__)} if error else {}
        if self._client is not None:
            self._client.capture_event(event, hint)
        else:
            sentry_sdk.capture_event(event, hint)


def create_sentry_hooks(
    *,
    client: sentry_sdk.Client | None = None,
    capture_task_failures: bool = True,
    capture_task_timeouts: bool = True,
    capture_unhandled_errors: bool = True,
    capture_dropped_events: bool = True,
    capture_storage_errors: bool = True,
    capture_broadcast_errors: bool = True,
    trace_sse_connections: bool = False,
    trace_event_publish: bool = False,
    traces_sample_rate: float = 1.0,
    task_types: Sequence[str] | None = None,
    levels: Levels | None = None,
    send_payloads: bool = False,
    secrets: Collection[str] = (),
) -> SentryHooks:
    """The hooks for a program that sets up Sentry itself (`sentry_sdk.init`), or hands over a ``client``.

    The options are those of `HookOptions`; ``secrets`` are values that never leave, wherever they stand. ``close`` the
    hooks after the engine.
    """
    options = HookOptions(
        capture_task_failures=capture_task_failures,
        capture_task_timeouts=capture_task_timeouts,
        capture_unhandled_errors=capture_unhandled_errors,
        capture_dropped_events=capture_dropped_events,
        capture_storage_errors=capture_storage_errors,
        capture_broadcast_errors=capture_broadcast_errors,
        trace_sse_connections=trace_sse_connections,
        trace_event_publish=trace_event_publish,
        traces_sample_rate=traces_sample_rate,
        task_types=None if task_types is None else tuple(task_types),
        levels=levels or Levels(),
        send_payloads=send_payloads,
    )
    return SentryHooks(options, client, secrets)


def _dependency(error: StoreUnavailable | StorageError) -> str | None:
    return error.dependency if isinstance(error, StoreUnavailable) else None
