"""Redis for Taskcast: the short-term store and the broadcast that many nodes share.

The names below are imported when they are first used: a server that discovers this plugin and does not use it must not
load a Redis client.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from taskcast_redis.adapters import RedisAdapters, create_redis_adapters
    from taskcast_redis.broadcast import RedisBroadcastProvider
    from taskcast_redis.options import RedisOptions
    from taskcast_redis.short_term import RedisShortTermStore

_HOME_OF = {
    "RedisAdapters": "adapters",
    "RedisBroadcastProvider": "broadcast",
    "RedisOptions": "options",
    "RedisShortTermStore": "short_term",
    "create_redis_adapters": "adapters",
}

__all__ = ["RedisAdapters", "RedisBroadcastProvider", "RedisOptions", "RedisShortTermStore", "create_redis_adapters"]


def __getattr__(name: str) -> Any:
    if name not in _HOME_OF:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_HOME_OF[name]}"), name)


def __dir__() -> list[str]:
    return __all__
