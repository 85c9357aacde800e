"""What an answer of a thousand tokens costs Redis: from the Python SDK through a server, counted on the wire."""

from __future__ import annotations

import asyncio
import time

import pytest

from taskcast_client import TaskcastClient
from taskcast_server import create_taskcast_app
from tests.fixtures.redis_server import RedisServer
from tests.redis.conftest import OpenNode, Proxied, sent
from tests.server.app_server import serving

pytestmark = pytest.mark.anyio

TOKENS = 1_000
SECONDS = 1.0


async def test_a_thousand_tokens_within_a_second(
    redis_server: RedisServer, open_node: OpenNode, redis_proxy: Proxied
) -> None:
    proxy = await redis_proxy(redis_server.port)
    node = await open_node(proxy.port)
    tokens = [f"tok{n} " for n in range(TOKENS)]
    async with serving(create_taskcast_app(node.engine)) as url, TaskcastClient(url) as client:
        async with client.task(type="llm.chat") as task:  # from here on Redis knows the scripts
            await task.text("response").write("warm")
        async with client.task(type="llm.chat") as task:
            proxy.commands.clear()
            text, written, began = task.text("response"), 0, time.monotonic()
            while written < TOKENS:
                due = min(TOKENS, int((time.monotonic() - began) / SECONDS * TOKENS))
                for token in tokens[written:due]:
                    await text.write(token)
                written = due
                await asyncio.sleep(0.002)
        cost = sent(proxy)
        print(cost)
        assert "".join([piece async for piece in client.text(task.id)]) == "".join(tokens)
    assert cost["commit"] > 1
    assert sum(cost.values()) <= 25, "its end included"
