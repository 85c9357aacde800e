"""Engines on Redis, directly or through a proxy that fails on demand."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack
from typing import Any

import pytest
from attrs import frozen

from taskcast_core.engine import TaskEngine
from taskcast_core.models import Event
from taskcast_redis import RedisAdapters, create_redis_adapters

HOST = "127.0.0.1"

FAST: dict[str, Any] = {
    "retry_first_ms": 50,
    "retry_most_ms": 1_000,
    "command_timeout_ms": 2_000,
    "connect_timeout_ms": 1_000,
}
"""Waits short enough for tests; what they prove does not depend on them."""


@frozen
class Node:
    """One engine, as a process of its own would have it."""

    engine: TaskEngine
    adapters: RedisAdapters


OpenNode = Callable[..., Awaitable[Node]]


@pytest.fixture
def prefix() -> str:
    return f"t{os.urandom(4).hex()}"


@pytest.fixture
async def open_node(prefix: str) -> AsyncIterator[OpenNode]:
    """Opens engines on a port of loopback; they share a prefix, and are closed at the end."""
    async with AsyncExitStack() as stack:

        async def opened(port: int, **options: Any) -> Node:
            adapters = await stack.enter_async_context(
                create_redis_adapters(f"redis://{HOST}:{port}/0", prefix=prefix, **(FAST | options))
            )
            engine = TaskEngine(broadcast=adapters.broadcast, short_term_store=adapters.short_term_store)
            return Node(await stack.enter_async_context(engine), adapters)

        yield opened


class Reader:
    """Somebody who follows a task to its end."""

    def __init__(self, node: Node, task_id: str) -> None:
        self.subscription = node.engine.subscribe(task_id)
        self.events: list[Event] = []

    @property
    def indexes(self) -> list[int]:
        """Of what was read, gap notices left out."""
        return [event.index for event in self.events if event.type != "taskcast:gap"]

    async def run(self) -> None:
        async for event in self.subscription:
            self.events.append(event)
