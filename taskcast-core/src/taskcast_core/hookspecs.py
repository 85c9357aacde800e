"""Every hook that a distribution can implement to extend the engine.

Two kinds. *Registration* hooks are called once, while plugins are loaded: each is handed a registry and adds
named things to it. *Lifecycle* hooks are observers: they are told what has happened and cannot change it.

A plugin is a module (or an object) named by an entry point of the group ``taskcast``::

    [project.entry-points.taskcast]
    dynamo = "taskcast_dynamo.plugin"

with functions of these names, marked by ``hookimpl``; each may take any subset of a hook's arguments, by
name.

What holds for every lifecycle hook:

- *When*: after the fact is committed, in the order of emission per observer; never inside the commit.
- *Where*: in the process that caused the fact, unless the hook says otherwise.
- *How*: plain functions run in a thread of their observer, one call at a time; coroutine functions run on the
  engine's loop and must not block it. What they return is ignored.
- *Failure*: raising, or taking longer than 30 s, is counted and logged; it changes nothing for the task, for
  other observers, or for later calls. An observer that cannot keep up loses its oldest calls beyond 1,000
  waiting ones; that is counted, too.

Times are Unix milliseconds. Records are frozen: treat the data in them as read-only.
"""

from __future__ import annotations

import sys
from collections.abc import Awaitable, Sequence
from types import ModuleType
from typing import TYPE_CHECKING

import pluggy

if TYPE_CHECKING:
    from taskcast_core.config import SectionRegistry
    from taskcast_core.models import Event, EventDraft, Task, TaskError, TaskStatus, WebhookConfig, Worker
    from taskcast_core.registry import Registry

PROJECT = "taskcast"
PREFIX = "taskcast_"

hookspec = pluggy.HookspecMarker(PROJECT)
"""Declares a hook; for distributions that add hooks of their own."""
hookimpl = pluggy.HookimplMarker(PROJECT)
"""Marks a function as the implementation of the hook of its name."""


# ── Registration: called once, while plugins are loaded; raising stops the start with a PluginError ───────


@hookspec
def taskcast_broadcasts(registry: Registry) -> None:
    """Add broadcasts, for ``adapters.broadcast.provider``.

    ``registry.add("redis", "taskcast_redis.broadcast:open_broadcast", options=RedisOptions)``: the factory is
    imported when it is used, takes ``(options)`` or ``(options, context)``, and returns an async context
    manager that yields a Broadcast.
    """


@hookspec
def taskcast_short_term_stores(registry: Registry) -> None:
    """Add short-term stores, for ``adapters.shortTermStore.provider``; factories as for
    `taskcast_broadcasts`.
    """


@hookspec
def taskcast_long_term_stores(registry: Registry) -> None:
    """Add long-term stores, for ``adapters.longTermStore.provider``; factories as for
    `taskcast_broadcasts`.
    """


@hookspec
def taskcast_authenticators(registry: Registry) -> None:
    """Add authenticators, for ``auth.mode``, whose options stand in ``auth.<name>``; they yield an
    Authenticator.
    """


@hookspec
def taskcast_config_sections(registry: SectionRegistry) -> None:
    """Add sections of the configuration: ``registry.add("sentry", SentryOptions)``.

    The attrs class names its own environment variables: ``dsn: str | None = option(None, env="SENTRY_DSN",
    secret=True)``.
    """


# ── Tasks ─────────────────────────────────────────────────────────────────────────────────────────────────


@hookspec
def taskcast_task_created(task: Task) -> Awaitable[None] | None:
    """A task has been created, by a caller or by an import. Not called when a repeated request returns the
    first task.
    """


@hookspec
def taskcast_task_transitioned(task: Task, previous: TaskStatus) -> Awaitable[None] | None:
    """A status change has been committed.

    Called once per transition, on the node that made it. ``task`` is the record as stored. For the end of a
    task by failure or timeout `taskcast_task_failed` or `taskcast_task_timed_out` is called as well,
    afterwards.
    """


@hookspec
def taskcast_task_failed(task: Task, error: TaskError | None) -> Awaitable[None] | None:
    """A task has become ``failed``; ``error`` is what was given as the reason, if anything."""


@hookspec
def taskcast_task_timed_out(task: Task) -> Awaitable[None] | None:
    """A task has become ``timeout``, because its TTL ran out or because somebody said so."""


@hookspec
def taskcast_task_deleted(task_id: str) -> Awaitable[None] | None:
    """A task has been deleted and can no longer be read; its data goes when all followers have passed."""


@hookspec
def taskcast_task_released(task_id: str) -> Awaitable[None] | None:
    """A task's hot copy has been removed; the long-term store alone holds it now."""


@hookspec
def taskcast_task_rehydrated(task: Task) -> Awaitable[None] | None:
    """A released task is back in the short-term store and writable."""


# ── Events ────────────────────────────────────────────────────────────────────────────────────────────────


@hookspec
def taskcast_events_committed(task_id: str, events: Sequence[Event]) -> Awaitable[None] | None:
    """Events have been appended to a task's log, those of one commit together and in index order.

    Called on the node that committed them; includes the engine's own (``taskcast:status`` …).
    """


@hookspec
def taskcast_event_dropped(event: Event | EventDraft, reason: str) -> Awaitable[None] | None:
    """An acknowledged event is not kept for good; ``reason`` says why.

    Called by the archiver, for an event that the long-term store refuses (a hole stands in its place there), and for
    one of a hot log that was lost, grew anew, and gave way to its archive (those of the page at hand). Perhaps more
    than once for one event. Webhooks that cannot be delivered are `taskcast_webhook_failed`.
    """


# ── Subscribers ───────────────────────────────────────────────────────────────────────────────────────────


@hookspec
def taskcast_subscriber_connected(task_id: str, client_id: str) -> Awaitable[None] | None:
    """Somebody has begun to read a task's stream on this node; ``client_id`` is new for every connection."""


@hookspec
def taskcast_subscriber_disconnected(task_id: str, client_id: str, duration_ms: int) -> Awaitable[None] | None:
    """That reader is gone, for whatever reason, after ``duration_ms``."""


# ── Workers ───────────────────────────────────────────────────────────────────────────────────────────────


@hookspec
def taskcast_worker_connected(worker: Worker) -> Awaitable[None] | None:
    """A worker has registered, by socket or by its first pull, or has come back."""


@hookspec
def taskcast_worker_disconnected(worker: Worker, reason: str) -> Awaitable[None] | None:
    """A worker is gone: it unregistered, its socket closed, or its heartbeat stopped, as ``reason`` says.

    Called once, on the node that found out; its tasks are dealt with after the grace period.
    """


@hookspec
def taskcast_task_assigned(task: Task, worker: Worker) -> Awaitable[None] | None:
    """A worker has claimed a task; ``task`` is the record after the claim (``assigned``)."""


@hookspec
def taskcast_task_declined(task: Task, worker: Worker, blacklisted: bool) -> Awaitable[None] | None:
    """A worker has given a task back; if ``blacklisted``, it will not be offered this task again."""


# ── Trouble ───────────────────────────────────────────────────────────────────────────────────────────────


@hookspec
def taskcast_webhook_failed(config: WebhookConfig, error: Exception) -> Awaitable[None] | None:
    """A webhook delivery has used up its retries and is kept as a dead letter."""


@hookspec
def taskcast_unhandled_error(error: Exception, operation: str, task_id: str | None) -> Awaitable[None] | None:
    """Something failed that nobody expected; ``operation`` names the background job or the request.

    Called on the node where it failed; the log has the stack. Jobs go on: what failed is tried again later.
    """


# ── The table of hooks ────────────────────────────────────────────────────────────────────────────────────

REGISTRATION_HOOKS = (
    "taskcast_broadcasts",
    "taskcast_short_term_stores",
    "taskcast_long_term_stores",
    "taskcast_authenticators",
    "taskcast_config_sections",
)
LIFECYCLE_HOOKS = tuple(
    name
    for name, value in list(globals().items())
    if hasattr(value, "taskcast_spec") and name not in REGISTRATION_HOOKS
)


class Hooks(pluggy.PluginManager):
    """An empty table of these hooks, in which plugins are registered.

    Unlike modules, plain objects need no ``hookimpl``: their methods count by name, for lifecycle hooks also
    without the prefix (``task_created``). Anything of an object that begins with ``taskcast_`` is taken for a
    hook, so that ``check_pending`` finds the misspelt ones.
    """

    def __init__(self) -> None:
        super().__init__(PROJECT)
        self.add_hookspecs(sys.modules[__name__])

    def parse_hookimpl_opts(self, plugin: object, name: str) -> pluggy.HookimplOpts | None:
        """What pluggy asks of every attribute: whether it is an implementation, and of what."""
        marked = super().parse_hookimpl_opts(plugin, name)
        if marked is not None and (marked["wrapper"] or marked["hookwrapper"]):
            raise pluggy.PluginValidationError(plugin, f"{name} is a hook wrapper; there is no call to wrap")
        if marked is not None or isinstance(plugin, ModuleType):
            return marked
        prefixed = name if name.startswith(PREFIX) else PREFIX + name
        if not (name.startswith(PREFIX) or prefixed in LIFECYCLE_HOOKS) or not callable(getattr(plugin, name)):
            return None
        return pluggy.HookimplOpts(
            specname=prefixed,
            wrapper=False,
            hookwrapper=False,
            optionalhook=False,
            tryfirst=False,
            trylast=False,
        )

    def implementations(self, name: str) -> list[pluggy.HookImpl]:
        """The implementations of a hook, in the order in which their plugins were registered."""
        caller: pluggy.HookCaller = getattr(self.hook, name)
        return list(caller.get_hookimpls())
