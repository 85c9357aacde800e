"""The Taskcast engine: long-running tasks with resumable event streams.

The names below are the public ones. They are imported when they are first used, so that importing this package is
cheap; ``contracts``, ``errors``, ``hookspecs`` and ``testing`` are public submodules.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from taskcast_core.assembly import open_engine
    from taskcast_core.builtin.memory_broadcast import MemoryBroadcastProvider
    from taskcast_core.builtin.memory_store import MemoryShortTermStore
    from taskcast_core.builtin.sqlite.options import SqliteOptions
    from taskcast_core.builtin.sqlite.store import SqliteShortTermStore
    from taskcast_core.config import Config, load_config
    from taskcast_core.engine import TaskEngine
    from taskcast_core.errors import TaskcastError
    from taskcast_core.hookspecs import hookimpl
    from taskcast_core.models import (
        Cursor,
        Event,
        EventDraft,
        Level,
        SeriesMode,
        SubscribeFilter,
        Task,
        TaskArchive,
        TaskError,
        TaskInput,
        TaskStatus,
        TransitionInput,
        WebhookConfig,
        Worker,
    )
    from taskcast_core.plugins import Plugins
    from taskcast_core.registry import Registry
    from taskcast_core.settings import EngineSettings
    from taskcast_core.subscription import Subscription

_HOMES = {
    "assembly": ("open_engine",),
    "builtin.memory_broadcast": ("MemoryBroadcastProvider",),
    "builtin.memory_store": ("MemoryShortTermStore",),
    "builtin.sqlite.options": ("SqliteOptions",),
    "builtin.sqlite.store": ("SqliteShortTermStore",),
    "config": ("Config", "load_config"),
    "engine": ("TaskEngine",),
    "errors": ("TaskcastError",),
    "hookspecs": ("hookimpl",),
    "models": (
        "Cursor",
        "Event",
        "EventDraft",
        "Level",
        "SeriesMode",
        "SubscribeFilter",
        "Task",
        "TaskArchive",
        "TaskError",
        "TaskInput",
        "TaskStatus",
        "TransitionInput",
        "WebhookConfig",
        "Worker",
    ),
    "plugins": ("Plugins",),
    "registry": ("Registry",),
    "settings": ("EngineSettings",),
    "subscription": ("Subscription",),
}
_MODULE_OF = {name: module for module, names in _HOMES.items() for name in names}

__all__ = [
    "Config",
    "Cursor",
    "EngineSettings",
    "Event",
    "EventDraft",
    "Level",
    "MemoryBroadcastProvider",
    "MemoryShortTermStore",
    "Plugins",
    "Registry",
    "SeriesMode",
    "SqliteOptions",
    "SqliteShortTermStore",
    "SubscribeFilter",
    "Subscription",
    "Task",
    "TaskArchive",
    "TaskEngine",
    "TaskError",
    "TaskInput",
    "TaskStatus",
    "TaskcastError",
    "TransitionInput",
    "WebhookConfig",
    "Worker",
    "hookimpl",
    "load_config",
    "open_engine",
]


def __getattr__(name: str) -> Any:
    if name not in _MODULE_OF:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(import_module(f"{__name__}.{_MODULE_OF[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
