"""Every error that Taskcast raises on purpose, in one tree.

Each class has a stable ``code`` (what programs look at), says whether a repeat may help (``retryable``), keeps its
facts as attributes and builds its own message. Nobody looks into a message to decide something.

::

    TaskcastError
    ├── InvalidInput                 a value is not what the contract asks for
    │   └── InvalidArchive           … in a task archive
    ├── TaskNotFound  TaskExists  TaskDeleting  TaskEnded
    ├── InvalidTransition  NotBlocked  NoBlockedRequest
    ├── StaleAssignment  WorkerNotFound
    ├── IdempotencyConflict  ReplyExpired
    ├── LimitExceeded                a bound of the task or the principal
    ├── Conflict                     lost every race it was allowed to run
    ├── Unauthorized  Forbidden
    ├── ConfigError  PluginError     the system cannot be assembled
    ├── StorageError                 the hot/cold life cycle (spec codes)
    │   ├── StoragePreconditionFailed  StorageBusy  StorageIntegrityError
    │   └── StorageReleaseUnsupported
    ├── StoreUnavailable             a dependency is away; the outcome is unknown
    └── StoreSignal                  between a store and the engine only
        ├── NotHot  GuardFailed  EpochChanged  TicketRefused
        └── NotRetained
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, ClassVar

if TYPE_CHECKING:
    from taskcast_core.contracts.task_log import Stored


class TaskcastError(Exception):
    """Base of all errors of Taskcast."""

    code: ClassVar[str] = "internal_error"
    retryable: ClassVar[bool] = False


class InvalidInput(TaskcastError):
    """A value from outside is not what was expected; nothing has been changed.

    Attributes:
        details: one ``(path, reason)`` per fault, path in wire names (``webhooks[0].url``).
    """

    code = "validation_error"

    def __init__(self, details: Sequence[tuple[str, str]] | str) -> None:
        self.details: tuple[tuple[str, str], ...] = (("", details),) if isinstance(details, str) else tuple(details)
        super().__init__("; ".join(f"{path}: {reason}" if path else reason for path, reason in self.details))


class InvalidArchive(InvalidInput):
    """A task archive cannot be imported; the message names the first defect."""

    code = "invalid_archive"


class _OfTask(TaskcastError):
    """An error about one task."""

    template: ClassVar[str] = "{task_id}"

    def __init__(self, task_id: str) -> None:
        self.task_id = task_id
        super().__init__(self.template.format(task_id=task_id))


class TaskNotFound(_OfTask):
    """No such task, hot or cold (or it has been deleted)."""

    code = "task_not_found"
    template = "Task not found: {task_id}"


class TaskExists(_OfTask):
    """The caller's own id is taken; there is no upsert."""

    code = "task_exists"
    template = "Task already exists: {task_id}"


class TaskDeleting(_OfTask):
    """The id belongs to a task whose deletion has not been finished yet."""

    code = "task_deleting"
    retryable = True
    template = "Task is being deleted: {task_id}"


class TaskEnded(TaskcastError):
    """Publishing to a task in a terminal status."""

    code = "task_ended"

    def __init__(self, task_id: str, status: str) -> None:
        self.task_id, self.status = task_id, status
        super().__init__(f"Cannot publish to task in terminal status: {status}")


class InvalidTransition(TaskcastError):
    """The transition table does not allow it (also: another one won the race)."""

    code = "invalid_transition"

    def __init__(self, task_id: str, current: str, wanted: str) -> None:
        self.task_id, self.current, self.wanted = task_id, current, wanted
        super().__init__(f"Invalid transition: {current} → {wanted}")


class NotBlocked(_OfTask):
    """Resolve was called on a task that is not blocked."""

    code = "task_not_blocked"
    template = "Task is not blocked"


class NoBlockedRequest(_OfTask):
    """The task is not blocked, or was blocked without a request."""

    code = "no_blocked_request"
    template = "No blocked request"


class StaleAssignment(TaskcastError):
    """The caller acts for an assignment that has ended; somebody else may own the task now."""

    code = "stale_assignment"

    def __init__(self, task_id: str, assignment_id: str) -> None:
        self.task_id, self.assignment_id = task_id, assignment_id
        super().__init__(f"Assignment {assignment_id} of task {task_id} has ended")


class WorkerNotFound(TaskcastError):
    """No such worker is registered."""

    code = "worker_not_found"

    def __init__(self, worker_id: str) -> None:
        self.worker_id = worker_id
        super().__init__("Worker not found")


class IdempotencyConflict(TaskcastError):
    """The idempotency key was used before with another body."""

    code = "idempotency_key_reused"

    def __init__(self, key: str) -> None:
        self.key = key
        super().__init__("Idempotency key was used with a different request")


class ReplyExpired(TaskcastError):
    """The change was made, but the entries of its first reply are gone; nothing was appended again."""

    code = "reply_expired"

    def __init__(self, task_id: str) -> None:
        self.task_id = task_id
        super().__init__("The first reply to this idempotency key is no longer available")


class LimitExceeded(TaskcastError):
    """A bound would be passed; nothing has been changed.

    Attributes:
        limit: the name of the setting. maximum: its value.
    """

    code = "limit_exceeded"

    def __init__(self, limit: str, maximum: int) -> None:
        self.limit, self.maximum = limit, maximum
        super().__init__(f"Limit exceeded: {limit} is at most {maximum}")


class Conflict(TaskcastError):
    """Other writers were faster, as often as the engine was ready to try."""

    code = "conflict"
    retryable = True


class Unauthorized(TaskcastError):
    """The caller could not be authenticated."""

    code = "unauthorized"


class Forbidden(TaskcastError):
    """The caller may not do this."""

    code = "forbidden"

    def __init__(self, message: str = "Forbidden") -> None:
        super().__init__(message)


class ConfigError(TaskcastError):
    """The configuration cannot be used."""

    code = "config_error"


class PluginError(TaskcastError):
    """A plugin is missing, clashes with another one or cannot be loaded."""

    code = "plugin_error"


class StorageError(TaskcastError):
    """Base of the hot/cold life-cycle errors; codes as in the wire spec."""

    code = "storage_error"


class StoragePreconditionFailed(StorageError):
    """What the caller expected of the task's storage is no longer true."""

    code = "storage_precondition_failed"


class StorageBusy(StorageError):
    """Another node is moving this task between hot and cold."""

    code = "storage_busy"
    retryable = True


class StorageIntegrityError(StorageError):
    """Two copies of one log disagree."""

    code = "storage_integrity_error"


class StorageReleaseUnsupported(StorageError):
    """The configured stores cannot move tasks to cold storage."""

    code = "storage_release_unsupported"


class StoreUnavailable(TaskcastError):
    """A dependency is away. Whether the change was made is unknown; repeating with the same key is safe.

    Attributes:
        dependency: ``redisCommand``, ``redisPubSub``, ``postgres``, ``sqlite`` …
        kind: ``connection_refused``, ``timeout`` … (wire spec, storage section 9).
    """

    code = "storage_unavailable"
    retryable = True

    def __init__(self, dependency: str, kind: str = "unavailable") -> None:
        self.dependency, self.kind = dependency, kind
        super().__init__(f"{dependency} unavailable ({kind})")


class StoreSignal(TaskcastError):
    """What a store tells the engine; never leaves the engine."""

    code = "store_signal"


class NotHot(StoreSignal):
    """There is no open hot copy: released, being restored, deleted, lost or never made."""

    def __init__(self, task_id: str) -> None:
        self.task_id = task_id
        super().__init__(f"no open hot copy of {task_id}")


class GuardFailed(StoreSignal):
    """The task is not in the state that the change's guard asks for; nothing has been changed.

    Attributes:
        stored: the task as it is. reason: ``status``, ``rev`` or ``assignment``.
    """

    def __init__(self, reason: str, stored: Stored) -> None:
        self.reason, self.stored = reason, stored
        super().__init__(f"guard failed: {reason}")


class EpochChanged(StoreSignal):
    """The log that the caller was reading is no longer the task's log."""

    def __init__(self, task_id: str, epoch: int) -> None:
        self.task_id, self.epoch = task_id, epoch
        super().__init__(f"{task_id} is in epoch {epoch}")


class TicketRefused(StoreSignal):
    """A lease, token or restore ticket is missing, has expired or was replaced."""

    def __init__(self, what: str) -> None:
        super().__init__(f"{what} is not held")


class NotRetained(StoreSignal):
    """The entry that is asked for is not in the log (any more)."""

    def __init__(self, task_id: str, index: int) -> None:
        self.task_id, self.index = task_id, index
        super().__init__(f"{task_id} has no entry {index}")
