"""One connection per event loop and options, so that a store and a broadcast of one configuration find each other."""

from __future__ import annotations

import asyncio
from weakref import WeakKeyDictionary, WeakValueDictionary

from taskcast_redis.connection import RedisConnection
from taskcast_redis.options import RedisOptions

_connections: WeakKeyDictionary[asyncio.AbstractEventLoop, WeakValueDictionary[RedisOptions, RedisConnection]] = (
    WeakKeyDictionary()
)


def shared_connection(options: RedisOptions) -> RedisConnection:
    """The connection that everybody in this event loop uses for these options; opened by whoever enters it."""
    of_loop = _connections.setdefault(asyncio.get_running_loop(), WeakValueDictionary())
    connection = of_loop.get(options)
    if connection is None:
        connection = of_loop[options] = RedisConnection(options)
    return connection
