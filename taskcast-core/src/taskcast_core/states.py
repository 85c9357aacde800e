"""The task state machine: which status may follow which (wire spec, tasks section 2). Pure."""

from __future__ import annotations

from typing import Final, get_args

from taskcast_core.models import TaskStatus

ALL: Final[tuple[TaskStatus, ...]] = get_args(TaskStatus)
TERMINAL: Final[frozenset[TaskStatus]] = frozenset({"completed", "failed", "timeout", "cancelled"})
SUSPENDED: Final[frozenset[TaskStatus]] = frozenset({"paused", "blocked"})
LIVE: Final[frozenset[TaskStatus]] = frozenset(ALL) - TERMINAL

_ENDINGS: Final[frozenset[TaskStatus]] = frozenset({"timeout", "cancelled"})
ALLOWED: Final[dict[TaskStatus, frozenset[TaskStatus]]] = {
    "pending": _ENDINGS | {"assigned", "running", "paused"},
    "assigned": _ENDINGS | {"pending", "running", "paused"},
    "running": _ENDINGS | {"paused", "blocked", "completed", "failed"},
    "paused": _ENDINGS | {"assigned", "running", "blocked"},
    "blocked": _ENDINGS | {"assigned", "running", "paused", "failed"},
    **{status: frozenset() for status in ("completed", "failed", "timeout", "cancelled")},
}


def is_terminal(status: TaskStatus) -> bool:
    """Final: nothing may follow."""
    return status in TERMINAL


def is_suspended(status: TaskStatus) -> bool:
    """Waiting for somebody: ``paused`` or ``blocked``."""
    return status in SUSPENDED


def can_transition(current: TaskStatus, wanted: TaskStatus) -> bool:
    """Whether the table allows ``current → wanted`` (a status never follows itself)."""
    return wanted in ALLOWED[current]
