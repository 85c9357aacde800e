"""Sentry for Taskcast: failures and traces of tasks, without their payloads and secrets.

The names below are imported when they are first used: a server that discovers this plugin and has no DSN must not load
Sentry's SDK.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from taskcast_sentry.hooks import SentryHooks, create_sentry_hooks
    from taskcast_sentry.options import HookOptions, Levels, SentryOptions

_HOME_OF = {
    "HookOptions": "options",
    "Levels": "options",
    "SentryHooks": "hooks",
    "SentryOptions": "options",
    "create_sentry_hooks": "hooks",
}

__all__ = ["HookOptions", "Levels", "SentryHooks", "SentryOptions", "create_sentry_hooks"]


def __getattr__(name: str) -> Any:
    if name not in _HOME_OF:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_HOME_OF[name]}"), name)


def __dir__() -> list[str]:
    return __all__
