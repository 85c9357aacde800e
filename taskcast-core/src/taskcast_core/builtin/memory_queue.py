"""The pending tasks of a store in the order in which workers get them, so that no look at them is a scan of all."""

from __future__ import annotations

import heapq
from bisect import bisect_left, bisect_right, insort
from collections.abc import Container, Iterator
from itertools import islice

from taskcast_core.models import AssignMode, Priority, Task

QueueKey = tuple[int, int, str]

PRIORITIES: dict[Priority, int] = {"critical": 0, "high": 1, "normal": 2, "low": 3}


def queue_key(task: Task) -> QueueKey:
    """Where a task stands in the queue: priority, then age, then id."""
    return PRIORITIES[task.priority or "normal"], task.created_at, task.id


class PendingTasks:
    """Pending tasks, by mode, in queue order."""

    def __init__(self) -> None:
        self._tasks: dict[str, Task] = {}
        self._orders: dict[AssignMode, list[QueueKey]] = {}

    def place(self, task: Task) -> None:
        """A task was made or replaced."""
        self.remove(task.id)
        if task.status == "pending":
            self._tasks[task.id] = task
            insort(self._orders.setdefault(task.assign_mode or "external", []), queue_key(task))

    def remove(self, task_id: str) -> None:
        """A task is gone."""
        task = self._tasks.pop(task_id, None)
        if task is not None:
            order = self._orders[task.assign_mode or "external"]
            del order[bisect_left(order, queue_key(task))]

    def page(self, modes: frozenset[AssignMode], limit: int, after: Task | None, taken: Container[str]) -> list[Task]:
        """The first tasks of these modes behind ``after`` that nobody has taken."""
        runs = [self._behind(mode, after) for mode in modes]
        tasks = (self._tasks[key[2]] for key in heapq.merge(*runs) if key[2] not in taken)
        return list(islice(tasks, limit))

    def _behind(self, mode: AssignMode, after: Task | None) -> Iterator[QueueKey]:
        order = self._orders.get(mode, [])
        return islice(order, 0 if after is None else bisect_right(order, queue_key(after)), None)
