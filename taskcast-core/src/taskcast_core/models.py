"""What users hold in their hands: tasks, events, workers and their parts. Frozen, slotted, plain values.

Python names are snake_case; ``taskcast_core.wire`` maps them to the camelCase JSON of the wire. Times are Unix
milliseconds unless the name says otherwise. ``None`` means "not set", and is omitted on the wire.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

from attrs import field

from taskcast_core.values import frozen, value

TaskStatus = Literal[
    "pending", "assigned", "running", "paused", "blocked", "completed", "failed", "timeout", "cancelled"
]
Level = Literal["debug", "info", "warn", "error"]
SeriesMode = Literal["keep-all", "accumulate", "latest"]
SeriesFormat = Literal["delta", "accumulated"]
AssignMode = Literal["external", "pull", "ws-offer", "ws-race"]
DisconnectPolicy = Literal["reassign", "mark", "fail"]
Priority = Literal["low", "normal", "high", "critical"]
WorkerStatus = Literal["idle", "busy", "draining", "offline"]
ConnectionMode = Literal["pull", "websocket"]

JsonValue = Any
"""Any JSON value; opaque to Taskcast, kept exactly."""
JsonObject = dict[str, Any]
"""A JSON object; opaque to Taskcast, kept exactly. Treat as read-only once handed over."""


# ── Tasks ─────────────────────────────────────────────────────────────────────────────────────────────────────────


@frozen
class TaskError:
    """Why a task failed."""

    message: str
    code: str | None = None
    details: JsonObject | None = None


@frozen
class BlockedRequest:
    """The question that a blocked task waits for an answer to."""

    type: str
    data: JsonValue = None


@frozen
class RetryConfig:
    """How a webhook is retried; unset fields fall back to ``webhook.defaultRetry``, then to the built-in values."""

    retries: int | None = None
    backoff: Literal["fixed", "linear", "exponential"] | None = None
    initial_delay_ms: int | None = None
    max_delay_ms: int | None = None
    timeout_ms: int | None = None


@frozen
class Cursor:
    """A position to resume after. Normally one of the three; ``id`` is the exact one.

    Attributes:
        id: id of the last event seen. index: its filtered index on a stream (its raw index in history).
        timestamp: time (ms) of the last event seen; events of that same millisecond count as seen.
    """

    id: str | None = None
    index: int | None = None
    timestamp: int | None = None


@frozen
class SubscribeFilter:
    """What a reader wants to see, and how.

    Attributes:
        since: resume after this position; None replays from the start, series collapsed to snapshots.
        types: patterns, ``*``, ``a.*`` or exact; None is all, an empty tuple is none. levels: likewise, by name.
        include_status: False hides events of type ``taskcast:status``.
        series_format: ``accumulated`` gives running totals in place of deltas.
        resume: ``snapshot`` sends the first later entry of each accumulate series as a snapshot after a cursor.
        limit: without a cursor, replay only the last N frames.
        wrap: envelope or bare event; of meaning to the HTTP stream only.
    """

    since: Cursor | None = None
    types: tuple[str, ...] | None = None
    levels: tuple[str, ...] | None = None
    include_status: bool = True
    wrap: bool = True
    series_format: SeriesFormat = "delta"
    resume: Literal["delta", "snapshot"] = "delta"
    limit: int | None = None


@frozen
class WebhookConfig:
    """Where the events of a task are posted. ``on="terminal"`` asks for one callback at the end instead."""

    url: str
    filter: SubscribeFilter | None = None
    secret: str | None = field(default=None, repr=False)
    wrap: bool | None = None
    retry: RetryConfig | None = None
    on: Literal["events", "terminal"] | None = None


@frozen
class CleanupMatch:
    """Which ended tasks a rule is for: all that is given must hold."""

    task_types: tuple[str, ...] | None = None
    status: tuple[TaskStatus, ...] | None = None


@frozen
class CleanupTrigger:
    """When a rule acts: this long (ms) after the end; None is at once."""

    after_ms: int | None = None


@frozen
class EventFilter:
    """Which events a cleanup rule removes.

    Attributes:
        series_mode: concerns only events that have a series mode.
        older_than_ms: only events at least this long before the task's end.
    """

    types: tuple[str, ...] | None = None
    levels: tuple[Level, ...] | None = None
    older_than_ms: int | None = None
    series_mode: tuple[SeriesMode, ...] | SeriesMode | None = None


@frozen
class CleanupRule:
    """Removes an ended task (``all``, ``task``) or some of its events."""

    target: Literal["all", "events", "task"]
    name: str | None = None
    match: CleanupMatch | None = None
    trigger: CleanupTrigger | None = None
    event_filter: EventFilter | None = None


@frozen
class CleanupConfig:
    """The cleanup rules of one task."""

    rules: tuple[CleanupRule, ...]


@frozen
class AuthRuleMatch:
    """Which scopes an auth rule speaks of."""

    scope: tuple[str, ...]


@frozen
class AuthRuleRequire:
    """What it asks of the caller: each given claim equal, the subject one of these."""

    claims: JsonObject | None = None
    sub: tuple[str, ...] | None = None


@frozen
class AuthRule:
    """One extra condition on the callers of one task."""

    match: AuthRuleMatch
    require: AuthRuleRequire


@frozen
class TaskAuthConfig:
    """Extra conditions on the callers of one task, on top of the server's own (wire spec, tasks section 9)."""

    rules: tuple[AuthRule, ...] | None = None


@frozen
class RetryPolicy:
    """How often a task is given to a worker again after a failed or lost attempt.

    Attributes:
        attempts: in all, the first included. backoff: growth of the wait. delay_ms, max_delay_ms: its bounds.
    """

    attempts: int
    backoff: Literal["fixed", "linear", "exponential"] = "exponential"
    delay_ms: int = 1000
    max_delay_ms: int = 60_000


@frozen
class TaskInput:
    """What a caller may say when creating a task; everything is optional."""

    id: str | None = None
    type: str | None = None
    params: JsonObject | None = None
    metadata: JsonObject | None = None
    ttl: int | None = None
    webhooks: tuple[WebhookConfig, ...] | None = None
    cleanup: CleanupConfig | None = None
    auth_config: TaskAuthConfig | None = None
    tags: tuple[str, ...] | None = None
    assign_mode: AssignMode | None = None
    cost: int | None = None
    disconnect_policy: DisconnectPolicy | None = None
    priority: Priority | None = None
    retry: RetryPolicy | None = None


@frozen
class Task:
    """One long-running unit of work (wire spec, tasks section 1).

    Attributes:
        ttl: execution deadline in seconds. started_at: when it first became ``running``.
        assignment_id: names the current worker's ownership; a stale one is refused.
        attempt: how many times it has been handed to a worker (tasks with a ``retry`` policy only).
        after: id of the task that has to end before this one becomes claimable (sequential batches).
        traceparent: what its creator was recorded to do (W3C Trace Context), for the traces of those who go on with it.
    """

    id: str
    status: TaskStatus
    created_at: int
    updated_at: int
    type: str | None = None
    params: JsonObject | None = None
    result: JsonObject | None = None
    error: TaskError | None = None
    metadata: JsonObject | None = None
    completed_at: int | None = None
    started_at: int | None = None
    ttl: int | None = None
    webhooks: tuple[WebhookConfig, ...] | None = None
    cleanup: CleanupConfig | None = None
    auth_config: TaskAuthConfig | None = None
    tags: tuple[str, ...] | None = None
    assign_mode: AssignMode | None = None
    cost: int | None = None
    assigned_worker: str | None = None
    assignment_id: str | None = None
    disconnect_policy: DisconnectPolicy | None = None
    priority: Priority | None = None
    retry: RetryPolicy | None = None
    attempt: int | None = None
    after: str | None = None
    reason: str | None = None
    resume_at: int | None = None
    blocked_request: BlockedRequest | None = None
    traceparent: str | None = None


@frozen
class TransitionInput:
    """What may come with a transition (wire spec, tasks section 3).

    Attributes:
        ttl: replaces the task's (seconds). resume_after_ms: only for ``blocked``: wake up after this long.
    """

    result: JsonObject | None = None
    error: TaskError | None = None
    reason: str | None = None
    ttl: int | None = None
    resume_after_ms: int | None = None
    blocked_request: BlockedRequest | None = None


# ── Events ────────────────────────────────────────────────────────────────────────────────────────────────────────


@value
class EventDraft:
    """An event as its publisher wrote it; the commit adds id, index and timestamp."""

    type: str
    level: Level = "info"
    data: JsonValue = None
    series_id: str | None = None
    series_mode: SeriesMode | None = None
    series_acc_field: str | None = None


@value
class Event:
    """One message of a task's log (wire spec, events section 1).

    Attributes:
        index: 0, 1, 2 … in commit order, per task. series_snapshot: ``data`` is the series' total up to here.
    """

    id: str
    task_id: str
    index: int
    timestamp: int
    type: str
    level: Level
    data: JsonValue = None
    series_id: str | None = None
    series_mode: SeriesMode | None = None
    series_acc_field: str | None = None
    series_snapshot: bool = False


# ── Workers ───────────────────────────────────────────────────────────────────────────────────────────────────────


@frozen
class TagMatch:
    """A condition on tags: every one of ``all``, at least one of ``any``, none of ``none``; empty is vacuous."""

    all: tuple[str, ...] | None = None
    any: tuple[str, ...] | None = None
    none: tuple[str, ...] | None = None


@frozen
class MatchRule:
    """Which tasks a worker takes; what is not given does not restrict."""

    task_types: tuple[str, ...] | None = None
    tags: TagMatch | None = None


@frozen
class Worker:
    """Somebody who runs tasks (wire spec, workers section 1).

    Attributes:
        used_slots: sum of the costs of its assignments. weight: preference among workers, higher first.
        node: the process that holds its socket.
    """

    id: str
    status: WorkerStatus
    match_rule: MatchRule
    capacity: int
    used_slots: int
    weight: float
    connection_mode: ConnectionMode
    connected_at: int
    last_heartbeat_at: int
    metadata: JsonObject | None = None
    node: str | None = None


@frozen
class WorkerAudit:
    """One entry of a worker's audit log."""

    id: str
    worker_id: str
    timestamp: int
    action: str
    data: JsonObject | None = None


@frozen
class TaskArchive:
    """A task with its whole history, for export and import."""

    task: Task
    events: tuple[Event, ...]
    exported_at: int
    version: int = 1
    schema: str = "taskcast.taskArchive"


Claims = Mapping[str, Any]
"""The verified claims of a token."""
