"""One connection to Redis without the driver's costs: the driver opens it, and from then on the bytes are ours."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable
from typing import Any, cast

import hiredis
from redis import exceptions as driver
from redis.asyncio import RedisCluster

from taskcast_redis.topology import Client


class Link(asyncio.Protocol):
    """Hands on what comes in, reply by reply; what goes out goes at once.

    What the server refuses is a reply, too: a ResponseError. ``on_lost`` is called once, with the reason.
    """

    def __init__(self, on_reply: Callable[[Any], None], on_lost: Callable[[Exception], None]) -> None:
        self._on_reply, self._on_lost = on_reply, on_lost
        self._parser = hiredis.Reader(protocolError=driver.InvalidResponse, replyError=_refusal)
        self._transport: asyncio.Transport | None = None
        self._writer: Any = None
        self._reason: Exception | None = None

    async def open(self, connection: Any) -> None:
        """Have a driver's connection connect and log in, and take its place.

        Raises what the driver raises.
        """
        await connection.connect()
        self._writer = connection._writer  # kept: it would close what it writes to when it goes
        connection._reader = connection._writer = None
        transport = cast(asyncio.Transport, self._writer.transport)
        if transport.is_closing():
            raise driver.ConnectionError("the connection was closed")
        transport.set_protocol(self)
        transport.resume_reading()
        self._transport = transport

    def write(self, data: bytes) -> None:
        """Send packed commands.

        Raises:
            driver.ConnectionError: it is being closed; nothing was sent.
        """
        if self._transport is None or self._transport.is_closing():  # uvloop would raise a RuntimeError
            raise driver.ConnectionError("the connection was closed")
        self._transport.write(data)

    def abort(self, reason: Exception) -> None:
        """Give it up; ``on_lost`` follows."""
        if self._reason is None:
            self._reason = reason
        if self._transport is not None:
            self._transport.abort()

    # ── What the transport says ───────────────────────────────────────────────────────────────────────────────────

    def data_received(self, data: bytes) -> None:
        """See asyncio.Protocol."""
        parser, on_reply = self._parser, self._on_reply
        try:
            parser.feed(data)
            while (reply := parser.gets()) is not False:
                on_reply(reply)
        except driver.InvalidResponse as error:
            self.abort(error)

    def connection_lost(self, exc: Exception | None) -> None:
        """See asyncio.Protocol."""
        lost = driver.ConnectionError("the connection was closed")
        lost.__cause__ = exc
        self._on_lost(self._reason or lost)


def _refusal(text: str) -> driver.ResponseError:
    return driver.NoScriptError(text) if text.startswith("NOSCRIPT") else driver.ResponseError(text)


def pack_command(words: Any) -> bytes:
    """A command, a tuple of its words, as it travels."""
    packed: bytes = hiredis.pack_command(words)
    return packed


def unopened(client: Client, node_name: str = "") -> Any:
    """A connection of the driver's that nobody else uses, not open yet; in a Cluster to a node, or to any."""
    if isinstance(client, RedisCluster):
        nodes: Any = client
        node = nodes.get_node(node_name=node_name) if node_name else random.choice(nodes.get_primaries())
        if node is None:
            raise ConnectionResetError("the node has left the Cluster")
        return node.connection_class(**(node.connection_kwargs | {"protocol": 2}))
    pool: Any = client.connection_pool
    return pool.connection_class(**(pool.connection_kwargs | {"protocol": 2}))
