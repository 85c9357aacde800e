"""The Taskcast HTTP server and command line: REST, Server-Sent Events, WebSocket workers, JWT, webhooks.

The names below are the public ones. They are imported when they are first used: loading a configuration, or asking the
command line for its version, must not load cryptography and a web server.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from taskcast_core.hookspecs import hookimpl
    from taskcast_server.app import TaskcastApp, assemble_app, create_taskcast_app
    from taskcast_server.auth.admin import AdminDesk
    from taskcast_server.options import CorsOptions, LimitOptions
    from taskcast_server.webhooks.follower import WebhookFollower
    from taskcast_server.webhooks.options import WebhookOptions

_HOMES = {
    "taskcast_core.hookspecs": ("hookimpl",),
    "taskcast_server.app": ("TaskcastApp", "assemble_app", "create_taskcast_app"),
    "taskcast_server.auth.admin": ("AdminDesk",),
    "taskcast_server.options": ("CorsOptions", "LimitOptions"),
    "taskcast_server.webhooks.follower": ("WebhookFollower",),
    "taskcast_server.webhooks.options": ("WebhookOptions",),
}
_HOME_OF = {name: module for module, names in _HOMES.items() for name in names}

__all__ = [
    "AdminDesk",
    "CorsOptions",
    "LimitOptions",
    "TaskcastApp",
    "WebhookFollower",
    "WebhookOptions",
    "assemble_app",
    "create_taskcast_app",
    "hookimpl",
]


def __getattr__(name: str) -> Any:
    if name not in _HOME_OF:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(_HOME_OF[name]), name)


def __dir__() -> list[str]:
    return __all__
