"""Who may run what (wire spec, workers section 2). Pure."""

from __future__ import annotations

from collections.abc import Iterable

from attrs import evolve

from taskcast_core.filters import matches_any_type
from taskcast_core.listing import matches_tags
from taskcast_core.models import Task, Worker

BLACKLIST = "_blacklistedWorkers"
"""Reserved key in a task's metadata: the ids of workers that declined it for good."""


def blacklisted(task: Task) -> frozenset[str]:
    """The workers that never get this task again."""
    listed = (task.metadata or {}).get(BLACKLIST)
    return frozenset(one for one in listed if isinstance(one, str)) if isinstance(listed, list) else frozenset()


def cost_of(task: Task) -> int:
    """The slots that a task takes."""
    return task.cost or 1


def matches(worker: Worker, task: Task) -> bool:
    """Whether the worker's rule takes the task, capacity aside."""
    rule = worker.match_rule
    return (
        (not rule.task_types or matches_any_type(rule.task_types, task.type))
        and matches_tags(rule.tags, task.tags)
        and worker.id not in blacklisted(task)
    )


def has_room(worker: Worker) -> bool:
    """Whether the worker can take anything at all now."""
    return worker.status in ("idle", "busy") and worker.used_slots < worker.capacity


def is_available(worker: Worker, task: Task) -> bool:
    """Whether the worker may be given the task now."""
    fits = worker.used_slots + cost_of(task) <= worker.capacity
    return worker.status in ("idle", "busy") and fits and matches(worker, task)


def with_cost(worker: Worker, task: Task) -> Worker:
    """The worker with this task's slots in use as well."""
    return evolve(worker, used_slots=worker.used_slots + cost_of(task))


def preference(worker: Worker) -> tuple[float, int, int, str]:
    """Sorts the best worker first: by weight, then free slots (most first), then who has been connected longest."""
    return -worker.weight, worker.used_slots - worker.capacity, worker.connected_at, worker.id


def best_first(workers: Iterable[Worker], task: Task) -> list[Worker]:
    """The available workers, the best one first."""
    return sorted((worker for worker in workers if is_available(worker, task)), key=preference)
