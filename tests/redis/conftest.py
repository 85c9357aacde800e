"""Engines on Redis, directly or through a proxy that fails on demand."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import pytest
from attrs import frozen

import taskcast_redis
from taskcast_core.engine import TaskEngine
from taskcast_core.models import Event
from taskcast_redis import RedisAdapters, create_redis_adapters
from taskcast_redis.scripts import script
from tests.fixtures.redis_proxy import RedisProxy
from tests.fixtures.scale import Scale

HOST = "127.0.0.1"
PATIENCE_S = 20.0

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


Proxied = Callable[[int], Awaitable[RedisProxy]]


@pytest.fixture
async def redis_proxy(anyio_backend: str) -> AsyncIterator[Proxied]:
    """A function that puts a RedisProxy before a port of loopback, until the test ends."""
    async with AsyncExitStack() as stack:

        async def before(port: int) -> RedisProxy:
            return await stack.enter_async_context(RedisProxy(HOST, port))

        yield before


LUA = Path(taskcast_redis.__file__).parent / "lua"

OF_ITSELF = {"TIME", "PING", "HMGET", "HSETNX", "CLIENT", "SELECT", "HELLO", "SUBSCRIBE", "UNSUBSCRIBE"} | {
    "due", "next_due", "claim", "heads", "expired", "list", "tally",
}  # fmt: skip
"""What a process sends that nobody asks for anything: heartbeats, and looks at what is due or new."""


def sent(proxy: RedisProxy) -> dict[str, int]:
    """What clients have sent on the wire, scripts by their names; what those call does not count."""
    found: dict[str, int] = {}
    names = {script(file.stem).sha: file.stem for file in LUA.glob("*.lua")}
    for command, count in proxy.commands.items():
        name = names.get(command.removeprefix("EVALSHA "), command)
        if name not in OF_ITSELF:
            found[name] = found.get(name, 0) + count
    return found


Within = Callable[[float], float]


@pytest.fixture
def within(scale: Scale) -> Within:
    """How long something may take whose promise is so many seconds: these in a full run; everyday, on any machine."""
    return lambda promised_s: promised_s if scale.full else max(promised_s, PATIENCE_S)


class Reader:
    """Somebody who follows a task to its end."""

    def __init__(self, node: Node, task_id: str, filter: dict[str, Any] | None = None) -> None:
        self.subscription = node.engine.subscribe(task_id, filter)
        self.events: list[Event] = []

    @property
    def indexes(self) -> list[int]:
        """Of what was read, gap notices left out."""
        return [event.index for event in self.events if event.type != "taskcast:gap"]

    @property
    def gaps(self) -> list[Event]:
        """What the reader was told that it has missed."""
        return [event for event in self.events if event.type == "taskcast:gap"]

    async def run(self) -> None:
        async for event in self.subscription:
            self.events.append(event)
