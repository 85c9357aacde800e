"""Which cleanup rule does what to an ended task, and when (wire spec, tasks section 8). Pure."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable

from taskcast_core.filters import matches_any_type
from taskcast_core.models import CleanupRule, Task
from taskcast_core.states import TERMINAL
from taskcast_core.values import frozen


@frozen
class RetentionSettings:
    """What happens to ended tasks besides their own rules.

    Attributes:
        rules: for all tasks. keep_ended_ms: ended tasks are removed after so long; None keeps them for ever.
        release_ended_ms: ended tasks leave the hot store for the long-term one after so long; None: only if asked to.
    """

    rules: tuple[CleanupRule, ...] = ()
    keep_ended_ms: int | None = 30 * 24 * 3600 * 1000
    release_ended_ms: int | None = None


def ended_at(task: Task) -> int:
    """When (ms) the time of cleanup rules begins to count."""
    return task.completed_at if task.completed_at is not None else task.updated_at


def matches(rule: CleanupRule, task: Task) -> bool:
    """Whether a rule is for this task; only ended ones are cleaned up."""
    if task.status not in TERMINAL:
        return False
    match = rule.match
    return match is None or (
        matches_any_type(match.task_types, task.type) and (match.status is None or task.status in match.status)
    )


def due_at(rule: CleanupRule, task: Task) -> int:
    """When (ms) a rule acts on an ended task."""
    return ended_at(task) + (rule.trigger.after_ms or 0 if rule.trigger else 0)


def rules_for(task: Task, settings: RetentionSettings) -> list[CleanupRule]:
    """The rules that concern an ended task: its own, the configured ones, and the general retention."""
    rules: Iterable[CleanupRule] = (*(task.cleanup.rules if task.cleanup else ()), *settings.rules)
    return [rule for rule in rules if matches(rule, task)]


def next_due(task: Task, settings: RetentionSettings, after: int) -> int | None:
    """When (ms) something is to be done about an ended task, behind a time."""
    if task.status not in TERMINAL:
        return None
    times = [due_at(rule, task) for rule in rules_for(task, settings)]
    if settings.keep_ended_ms is not None:
        times.append(ended_at(task) + settings.keep_ended_ms)
    return min((at for at in times if at > after), default=None)


def fingerprint(task: Task, settings: RetentionSettings) -> str:
    """Names everything that next_due and removes_task depend on, the task's end aside."""
    rules = repr((rules_for(task, settings), settings.keep_ended_ms)).encode()
    return hashlib.blake2b(rules, digest_size=8).hexdigest()


def removes_task(task: Task, settings: RetentionSettings, now: int) -> bool:
    """Whether a rule that is due by now removes the task altogether."""
    if settings.keep_ended_ms is not None and ended_at(task) + settings.keep_ended_ms <= now:
        return True
    return any(rule.target != "events" and due_at(rule, task) <= now for rule in rules_for(task, settings))
