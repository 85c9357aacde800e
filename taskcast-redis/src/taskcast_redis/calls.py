"""Commands on their way: to the one server, or in a Cluster to the node that serves a tag's slot."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from redis.asyncio import RedisCluster
from redis.asyncio.cluster import PipelineCommand
from redis.exceptions import MovedError, ResponseError

from taskcast_redis.topology import Client

Command = tuple[bytes | str | int, ...]

MOST_MOVES = 3
"""So often a call follows a slot to where it has moved."""


async def send(client: Client, tag: str, commands: Sequence[Command]) -> list[Any]:
    """Send commands over one connection, so that a WAIT waits for what stands before it.

    Returns the replies; what the server says in the way of errors is among them.
    """
    if isinstance(client, RedisCluster):
        return await _send_to_slot(client, client.keyslot(tag), commands)
    if len(commands) == 1:
        try:
            return [await client.execute_command(*commands[0])]  # type: ignore[no-untyped-call]
        except ResponseError as error:
            return [error]
    pipeline: Any = client.pipeline(transaction=False)
    for command in commands:
        pipeline.execute_command(*command)
    replies: list[Any] = await pipeline.execute(raise_on_error=False)
    return replies


async def _send_to_slot(client: RedisCluster, slot: int, commands: Sequence[Command]) -> list[Any]:
    """To the node that serves a slot.

    The driver would follow ASK, too: to a node that a slot is on its way to, where some keys are and others are not
    yet, so that a task could be told not to exist. A slot in transit is unavailable instead, until it has arrived.
    """
    replies: list[Any] = []
    nodes: Any = client.nodes_manager
    for _ in range(MOST_MOVES):
        sent = [PipelineCommand(n, *command) for n, command in enumerate(commands)]
        await nodes.get_node_from_slot(slot).execute_pipeline(sent)
        replies = [one.result for one in sent]
        if not isinstance(replies[0], MovedError):
            break
        await nodes.initialize()
    return replies
