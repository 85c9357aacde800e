"""Redis for Taskcast: the short-term store and the broadcast that many nodes share."""

from taskcast_redis.adapters import RedisAdapters, create_redis_adapters
from taskcast_redis.broadcast import RedisBroadcastProvider
from taskcast_redis.options import RedisOptions
from taskcast_redis.short_term import RedisShortTermStore

__all__ = ["RedisAdapters", "RedisBroadcastProvider", "RedisOptions", "RedisShortTermStore", "create_redis_adapters"]
