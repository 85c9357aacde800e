"""What travels on the wire, typed: tasks, events, envelopes, workers. Frozen, slotted, plain values.

Python names are snake_case; `wire` maps them to camelCase. Times are Unix milliseconds unless the name says otherwise.
``None`` means "not set", and is omitted on the wire.
"""

from __future__ import annotations

from typing import Any, Literal

from attrs import field, frozen

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

JsonObject = dict[str, Any]
"""A JSON object whose content is the user's own."""

TERMINAL: frozenset[str] = frozenset({"completed", "failed", "timeout", "cancelled"})
STATUS_TYPE = "taskcast:status"
SIGNAL_TYPE = "taskcast:signal"
TOOL_RESULT_SIGNAL = "tool_result"
GAP_TYPE = "taskcast:gap"


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
    data: Any = None


@frozen
class Task:
    """One long-running unit of work.

    Attributes:
        ttl: execution deadline in seconds. after: id of the task that has to end before this one can be claimed.
        assignment_id: names the current worker's ownership. attempt: how many times it was handed to a worker.
        traceparent: what its creator was recorded to do (W3C Trace Context).
        hot, subscriber_count: open streams on the node that answered; only where a task is read or listed.
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
    webhooks: list[JsonObject] | None = None
    cleanup: JsonObject | None = None
    auth_config: JsonObject | None = None
    tags: list[str] | None = None
    assign_mode: AssignMode | None = None
    cost: int | None = None
    assigned_worker: str | None = None
    assignment_id: str | None = None
    disconnect_policy: DisconnectPolicy | None = None
    priority: Priority | None = None
    retry: JsonObject | None = None
    attempt: int | None = None
    after: str | None = None
    reason: str | None = None
    resume_at: int | None = None
    blocked_request: BlockedRequest | None = None
    traceparent: str | None = None
    hot: bool | None = None
    subscriber_count: int | None = None

    @property
    def is_terminal(self) -> bool:
        """Whether the task has ended."""
        return self.status in TERMINAL


@frozen
class TaskPage:
    """Some tasks of a list; ``next_cursor`` continues behind them, None is the end."""

    tasks: list[Task]
    next_cursor: str | None = None


@frozen
class TaskInput:
    """A task to be created, as an item of a batch; the fields are those of `TaskcastClient.create_task`."""

    id: str | None = None
    type: str | None = None
    params: JsonObject | None = None
    metadata: JsonObject | None = None
    ttl: int | None = None
    webhooks: list[JsonObject] | None = None
    cleanup: JsonObject | None = None
    auth_config: JsonObject | None = None
    tags: list[str] | None = None
    assign_mode: AssignMode | None = None
    cost: int | None = None
    disconnect_policy: DisconnectPolicy | None = None
    priority: Priority | None = None
    retry: JsonObject | None = None


@frozen
class EventInput:
    """An event to be published."""

    type: str
    data: Any = None
    level: Level = "info"
    series_id: str | None = None
    series_mode: SeriesMode | None = None
    series_acc_field: str | None = None


@frozen
class Event:
    """One entry of a task's log.

    Attributes:
        index: 0, 1, 2 … in the order of the log. series_snapshot: ``data`` is the series' total up to here.
    """

    id: str
    task_id: str
    index: int
    timestamp: int
    type: str
    level: Level = "info"
    data: Any = None
    series_id: str | None = None
    series_mode: SeriesMode | None = None
    series_acc_field: str | None = None
    series_snapshot: bool = False


@frozen
class Envelope:
    """One event as a stream sends it.

    Attributes:
        filtered_index: position among the events that match the filter. raw_index: position in the task's log.
        event_id: an exact cursor; empty on a gap frame. series_snapshot: ``data`` replaces what came before.
    """

    filtered_index: int
    raw_index: int
    event_id: str
    task_id: str
    type: str
    timestamp: int
    level: Level = "info"
    data: Any = None
    series_id: str | None = None
    series_mode: SeriesMode | None = None
    series_acc_field: str | None = None
    series_snapshot: bool = False

    @property
    def is_gap(self) -> bool:
        """Whether the cursor could not be honoured: texts begin anew with the events that follow."""
        return self.type == GAP_TYPE


@frozen
class Signal:
    """What somebody told a running task: the data of an event of type ``taskcast:signal``.

    Attributes:
        id: names it within its task. type: the sender's own; filters know nothing of it.
    """

    id: str
    type: str
    data: Any = None

    @classmethod
    def of(cls, event: Envelope | Event) -> Signal | None:
        """The signal that an event of a stream or history is; None if it is another event."""
        told = event.data
        if event.type != SIGNAL_TYPE or not isinstance(told, dict):
            return None
        return cls(str(told.get("id", "")), str(told.get("type", "")), told.get("data"))


@frozen
class Cursor:
    """A position to go on after. ``id`` is the exact one; ``timestamp`` (ms) counts its whole millisecond as seen."""

    id: str | None = None
    index: int | None = None
    timestamp: int | None = None


@frozen
class TagMatch:
    """A condition on tags: every one of ``all``, at least one of ``any``, none of ``none``; empty is vacuous."""

    all: list[str] | None = None
    any: list[str] | None = None
    none: list[str] | None = None


@frozen
class MatchRule:
    """Which tasks a worker takes; what is not given does not restrict."""

    task_types: list[str] | None = None
    tags: TagMatch | None = None


@frozen
class Worker:
    """Somebody who runs tasks.

    Attributes:
        used_slots: sum of the costs of its tasks. weight: preference among workers, higher first.
    """

    id: str
    status: WorkerStatus
    capacity: int
    used_slots: int
    match_rule: MatchRule = field(factory=MatchRule)
    weight: float = 50
    connection_mode: Literal["pull", "websocket"] | None = None
    connected_at: int | None = None
    last_heartbeat_at: int | None = None
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
    """A task with its whole history."""

    task: Task
    events: list[Event]
    exported_at: int
    version: int = 1
    schema: str = "taskcast.taskArchive"


@frozen
class ImportResult:
    """What an import did."""

    task_id: str
    event_count: int
    overwritten: bool


@frozen
class ReleaseResult:
    """What a release to cold storage did."""

    task_id: str
    storage_state: Literal["hot", "releasing", "cold"]
    archive_watermark: int
    released: bool


@frozen
class BatchItem:
    """What became of one task of a batch: the task, or why it was not created (``status``: of HTTP)."""

    ok: bool
    task: Task | None = None
    status: int | None = None
    error: str | None = None
    code: str | None = None
    details: Any = None


@frozen
class Published:
    """What a long publish has stored."""

    count: int
    first_index: int | None = None
    last_index: int | None = None


@frozen
class Ticket:
    """A single-task, read-only ticket for a stream's URL. ``expires_at``: Unix seconds, as far as the server says."""

    ticket: str
    expires_at: int | None = None


@frozen
class AdminToken:
    """A token made by the server; empty where it cannot sign any. ``expires_at``: Unix seconds."""

    token: str = field(repr=False)
    expires_at: int


@frozen
class ServerInfo:
    """Which server answers."""

    name: str
    version: str
    api_version: str


@frozen
class Readiness:
    """Whether a server can work; one entry per dependency."""

    ok: bool
    dependencies: dict[str, Any] = field(factory=dict)


@frozen
class DeadLetter:
    """A webhook delivery that was given up; ``detail`` says what it was and why, in the server's words."""

    id: str
    task_id: str
    lane: str
    index: int
    created_at: int
    detail: JsonObject


@frozen
class DeadLetterPage:
    """Some dead letters; ``next_after`` continues behind them, None is the end."""

    dead_letters: list[DeadLetter]
    next_after: str | None = None


@frozen
class Redelivery:
    """How another attempt at a dead letter went."""

    delivered: bool
    reason: str | None = None


@frozen
class ServerConfig:
    """What a server process runs with.

    Attributes:
        settings: value and origin by path, secrets masked. live: the parts that can change, as they are now.
        changes: what was changed since its start.
    """

    settings: JsonObject
    live: JsonObject
    changes: list[JsonObject] = field(factory=list)
    source: str | None = None
    warnings: list[str] = field(factory=list)


@frozen
class ConfigVerdict:
    """What a server says of a configuration; ``errors``: each with its path and message."""

    valid: bool
    errors: list[JsonObject] = field(factory=list)
    warnings: list[str] = field(factory=list)


@frozen
class ConfigChange:
    """What was changed: by path, ``from`` and ``to``. ``at``: Unix ms."""

    at: int
    by: str
    request_id: str
    changed: JsonObject
