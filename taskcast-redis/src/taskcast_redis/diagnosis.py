"""What a Redis is like, for ``taskcast doctor``: what an acknowledgement survives, and what short memory costs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import suppress
from typing import Any

from redis.asyncio import RedisCluster
from redis.exceptions import ResponseError

from taskcast_redis.connection import RedisConnection


async def diagnose(connection: RedisConnection) -> Mapping[str, Any]:
    """Facts of all nodes together, the worst of each.

    Raises:
        StoreUnavailable: it does not answer.
    """
    memory = await _ask(connection, "memory")
    persistence = await _ask(connection, "persistence")
    server = await _ask(connection, "server")
    policies = {str(node.get("maxmemory_policy", "noeviction")) for node in memory}
    evicting = sorted(policies - {"noeviction"})
    return {
        "kind": "redis",
        "version": min((str(node.get("redis_version", "")) for node in server), default=""),
        "nodes": len(memory),
        "evictionPolicy": evicting[0] if evicting else "noeviction",
        "appendOnly": all(bool(node.get("aof_enabled")) for node in persistence),
        "snapshots": await _takes_snapshots(connection, persistence),
        "lastWriteFailed": any(
            node.get("aof_last_write_status", "ok") != "ok" or node.get("rdb_last_bgsave_status", "ok") != "ok"
            for node in persistence
        ),
        "usedBytes": sum(int(node.get("used_memory", 0)) for node in memory),
        "maxBytes": sum(int(node.get("maxmemory", 0)) for node in memory),
    }


async def _takes_snapshots(connection: RedisConnection, persistence: Sequence[Mapping[str, Any]]) -> bool:
    """By its configuration; where that may not be read, by what it has done so far."""
    with suppress(ResponseError):
        return bool((await connection.guarded(lambda client: client.config_get("save"))).get("save"))
    return all(bool(node.get("rdb_saves")) for node in persistence)


async def _ask(connection: RedisConnection, section: str) -> Sequence[Mapping[str, Any]]:
    async def call(client: Any) -> Any:
        if isinstance(client, RedisCluster):
            return await client.info(section, target_nodes=RedisCluster.PRIMARIES)
        return await client.info(section)

    found: Mapping[str, Any] = await connection.guarded(call)
    nodes = [node for node in found.values() if isinstance(node, dict) and len(node) > 5]
    return nodes if connection.is_cluster and nodes else [found]
