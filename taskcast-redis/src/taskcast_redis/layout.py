"""What all processes of one prefix have to agree on; the first of them notes it, in a hash of its own."""

from __future__ import annotations

from typing import Any

from attrs import frozen
from redis.asyncio import RedisCluster
from redis.exceptions import ConnectionError as LostConnection

from taskcast_core.errors import ConfigError
from taskcast_redis.keys import BELL_VERSION, LAYOUT_VERSION, layout_key
from taskcast_redis.topology import Client

PLAIN, SHARDED = "plain", "sharded"
"""Kinds of bells: pub/sub, and that of a Cluster in which a message stays with the nodes of its slot."""


@frozen
class Layout:
    """How many shards there are, and how bells are rung."""

    shards: int
    has_sharded_bells: bool


async def agree(client: Client, prefix: str, mine: Layout, *, is_fixed: bool) -> Layout:
    """Note what I would have, unless something is noted already; that stands.

    ``is_fixed``: another number of shards will not do.

    Raises:
        ConfigError: what is stored there, or how others ring, is not known to this release, or is not what was wanted.
    """
    driver: Any = client
    noted = {
        "version": LAYOUT_VERSION,
        "shards": mine.shards,
        "bells": SHARDED if mine.has_sharded_bells else PLAIN,
        "bell_version": BELL_VERSION,
    }
    for name, value in noted.items():
        await driver.hsetnx(layout_key(prefix), name, value)
    found = await driver.hmget(layout_key(prefix), *noted)
    if None in found:
        raise LostConnection("the layout has vanished, as if Redis had just been emptied")
    version, shards, bells, bell_version = (each.decode() for each in found)
    if version != str(LAYOUT_VERSION):
        raise ConfigError(
            f'the Redis keys under "{prefix}" are of layout {version}; this release reads layout {LAYOUT_VERSION}'
        )
    if bell_version != str(BELL_VERSION):
        raise ConfigError(
            f'the nodes under "{prefix}" ring bells of version {bell_version}; '
            f"this release knows version {BELL_VERSION}"
        )
    if bells not in ((PLAIN, SHARDED) if isinstance(client, RedisCluster) else (PLAIN,)):
        raise ConfigError(f'the nodes under "{prefix}" ring "{bells}" bells, which cannot be heard from here')
    if is_fixed and int(shards) != mine.shards:
        raise ConfigError(
            f'the Redis keys under "{prefix}" are spread over {shards} shards, not {mine.shards}; '
            "that cannot be changed"
        )
    return Layout(int(shards), bells == SHARDED)
