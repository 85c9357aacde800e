"""One TLS context per client.

The driver makes one per connection, which reads all certificate authorities of the machine: tens of milliseconds each
time, in which the process does nothing else. To be removed when the driver shares it by itself.
"""

from __future__ import annotations

import ssl
from typing import Any, ClassVar

from redis.asyncio import Redis, RedisCluster
from redis.asyncio.connection import SSLConnection


def share_context(client: Any) -> None:
    """Let all connections that a client will make have the context of the first one; they have equal options."""
    if isinstance(client, Redis):
        pool = client.connection_pool
        pool.connection_class = _sharing(pool.connection_class)
    elif isinstance(client, RedisCluster):
        shared = _sharing(client.connection_kwargs["connection_class"])
        client.connection_kwargs["connection_class"] = shared
        for node in client.nodes_manager.startup_nodes.values():
            node.connection_class = shared


def _sharing(base: type[Any]) -> type[Any]:
    assert issubclass(base, SSLConnection)

    class Sharing(base):  # type: ignore[misc]
        """A connection of this client."""

        shared: ClassVar[ssl.SSLContext | None] = None

        def __init__(self, **options: Any) -> None:
            super().__init__(**options)
            self.ssl_context.context = Sharing.shared
            Sharing.shared = self.ssl_context.get()

    return Sharing
