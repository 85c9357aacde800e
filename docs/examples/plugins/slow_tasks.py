"""An observer that tells which tasks took long.

Plain functions run on a thread of their observer, so that writing a log line holds nobody up.
"""

from __future__ import annotations

import logging

from taskcast_core import Task, TaskError, hookimpl

log = logging.getLogger("slow_tasks")
LONG_MS = 60_000
ENDS = ("completed", "failed", "timeout", "cancelled")


@hookimpl
def taskcast_task_transitioned(task: Task) -> None:
    if task.status not in ENDS:
        return
    took_ms = task.updated_at - task.created_at
    if took_ms >= LONG_MS:
        log.warning("%s (%s) was %s after %d ms", task.id, task.type, task.status, took_ms)


@hookimpl
def taskcast_task_failed(task: Task, error: TaskError | None) -> None:
    log.error("%s (%s) failed: %s", task.id, task.type, error.message if error else "nobody said why")
