"""Tasks that workers have lost to somebody else, until the worker has been told.

A socket is told at once; a worker that pulls, with its next call to any node. Both are hints: a call for a task that is
not the caller's own any more is refused in any case.
"""

from __future__ import annotations

from collections import OrderedDict

from taskcast_core.models import TaskStatus
from taskcast_core.workers.news import News

_WORKERS = 10_000
_TASKS = 100  # per worker


class Notices:
    """What this node has heard, per worker; bounded, the oldest go first."""

    def __init__(self, news: News) -> None:
        self._lost: OrderedDict[str, OrderedDict[str, TaskStatus]] = OrderedDict()
        news.on_taken.append(self._heard)

    def _heard(self, worker_id: str, task_id: str, status: TaskStatus) -> None:
        lost = self._lost.setdefault(worker_id, OrderedDict())
        lost[task_id] = status
        if len(lost) > _TASKS:
            lost.popitem(last=False)
        self._lost.move_to_end(worker_id)
        if len(self._lost) > _WORKERS:
            self._lost.popitem(last=False)

    def take(self, worker_id: str) -> dict[str, TaskStatus]:
        """What the worker has not been told yet, with the tasks' new statuses; it is taken for told now."""
        return dict(self._lost.pop(worker_id, {}))
