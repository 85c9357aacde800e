"""How long a task takes from its creation to a worker that waits on another node.

``python -m tests.bench.pull_latency [rounds]`` starts a Redis and two servers. Every round also takes the same way
through Redis alone (a list that somebody waits at), which is the yardstick: the two are interleaved in one run.
"""

from __future__ import annotations

import asyncio
import sys
import time
from contextlib import ExitStack
from pathlib import Path
from tempfile import TemporaryDirectory

import httpx
import redis.asyncio

from tests.fixtures.servers import running_redis
from tests.server.cli_programs import TaskcastServer

WORKERS_ON = "workers:\n  enabled: true\n"
SETTLE_S = 0.02
"""Enough for a pull to have reached its server; not part of what is measured."""


async def through_servers(here: httpx.AsyncClient, there: httpx.AsyncClient) -> float:
    """Seconds from the call that creates a task to the reply that the waiting worker gets."""
    pull = asyncio.create_task(here.get("/workers/pull", params={"workerId": "w", "timeout": 10_000}))
    await asyncio.sleep(SETTLE_S)
    began = time.perf_counter()
    made = asyncio.create_task(there.post("/tasks", json={"type": "bench", "assignMode": "pull"}))
    reply = await pull
    seconds = time.perf_counter() - began
    created = (await made).raise_for_status().json()
    assert reply.json()["id"] == created["id"]
    await there.patch(f"/tasks/{created['id']}/status", json={"status": "cancelled"})
    return seconds


async def through_redis(line: redis.asyncio.Redis) -> float:
    """The same for a list in Redis."""
    waiting = asyncio.create_task(line.blpop(["yardstick"], timeout=10))
    await asyncio.sleep(SETTLE_S)
    began = time.perf_counter()
    pushed = asyncio.create_task(line.rpush("yardstick", "task"))
    await waiting
    seconds = time.perf_counter() - began
    await pushed
    return seconds


def told(name: str, seconds: list[float]) -> str:
    ordered = sorted(seconds)
    p50, p99 = (ordered[int(len(ordered) * part)] * 1e3 for part in (0.5, 0.99))
    return f"{name:<22} p50 {p50:7.2f} ms   p99 {p99:7.2f} ms   worst {ordered[-1] * 1e3:7.2f} ms"


async def main(urls: list[str], redis_url: str, rounds: int) -> None:
    ours: list[float] = []
    yardstick: list[float] = []
    async with (
        httpx.AsyncClient(base_url=urls[0], timeout=20, trust_env=False) as here,
        httpx.AsyncClient(base_url=urls[1], timeout=20, trust_env=False) as there,
        redis.asyncio.from_url(redis_url) as line,
    ):
        for number in range(rounds + 20):
            pair = await through_servers(here, there), await through_redis(line)
            if number >= 20:  # the first ones warm everything up
                ours.append(pair[0])
                yardstick.append(pair[1])
    print(told("create -> pull", ours))
    print(told("RPUSH -> BLPOP", yardstick))
    print(f"ratio of the p99s: {sorted(ours)[int(rounds * 0.99)] / sorted(yardstick)[int(rounds * 0.99)]:.1f}")


if __name__ == "__main__":
    with ExitStack() as stack:
        redis_server = stack.enter_context(running_redis())
        servers = []
        for name in ("one", "two"):
            directory = Path(stack.enter_context(TemporaryDirectory())) / name
            directory.mkdir()
            (directory / "taskcast.yaml").write_text(WORKERS_ON)
            flags = ("--config", str(directory / "taskcast.yaml"), "--storage", "redis")
            server = TaskcastServer(directory, flags, TASKCAST_REDIS_URL=redis_server.url)
            server.start()
            stack.callback(server.stop)
            servers.append(server.url)
        asyncio.run(main(servers, redis_server.url, int(sys.argv[1]) if len(sys.argv) > 1 else 500))
