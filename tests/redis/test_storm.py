"""A node is lost, and all its readers come back at once, to another process."""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.fixtures.redis_proxy import RedisProxy
from tests.fixtures.redis_server import RedisServer
from tests.fixtures.scale import Scale
from tests.redis.conftest import Proxied, Within, sent
from tests.redis.storm import Storm, StormReader
from tests.server.cli_programs import TaskcastServer

pytestmark = [pytest.mark.anyio, pytest.mark.timeout(400)]

TASKS, EVENTS, CURSORS = 10, 50, 40


@pytest.fixture
async def proxy(redis_server: RedisServer, redis_proxy: Proxied) -> RedisProxy:
    return await redis_proxy(redis_server.port)


@pytest.fixture
async def server(proxy: RedisProxy, prefix: str, tmp_path: Path) -> AsyncIterator[TaskcastServer]:
    server = TaskcastServer(tmp_path, (), TASKCAST_REDIS_URL=f"redis://127.0.0.1:{proxy.port}/0")
    await asyncio.to_thread(server.start)
    yield server
    await asyncio.to_thread(server.stop)


def told(server: TaskcastServer) -> dict[str, list[str]]:
    """The event ids of some tasks, by the task's id."""
    found: dict[str, list[str]] = {}
    for _ in range(TASKS):
        task_id = server.request("POST", "/tasks", {"type": "storm"})["id"]
        server.request("PATCH", f"/tasks/{task_id}/status", {"status": "running"})
        events = [{"type": "t", "level": "info", "data": f"number {n}."} for n in range(EVENTS)]
        server.request("POST", f"/tasks/{task_id}/events", events)
        found[task_id] = [each["id"] for each in server.history(task_id)]
    return found


def ids_in(reader: StormReader) -> list[str]:
    return [each.decode() for each in re.findall(rb"\nid: (\w+)\n", reader.text)]


async def test_a_crowd_with_all_kinds_of_cursors(
    server: TaskcastServer, proxy: RedisProxy, scale: Scale, within: Within
) -> None:
    ids = await asyncio.to_thread(told, server)
    crowd, tasks = scale(200, 10_000), list(ids)
    missed = [ids[tasks[n % TASKS]][-1 - n // TASKS % CURSORS :] for n in range(crowd)]
    requests = [
        f"GET /tasks/{tasks[n % TASKS]}/events?since.id={missed[n][0]} HTTP/1.1\r\nhost: x\r\n\r\n".encode()
        for n in range(crowd)
    ]
    markers = [b"number %d." % (EVENTS - 1) if len(ids_) > 1 else b": connected" for ids_ in missed]
    proxy.commands.clear()

    with Storm.of(server.port, list(zip(requests, markers, strict=True))) as storm:
        await asyncio.to_thread(storm.run, 100)
        cost, readers = sent(proxy), list(storm.readers.values())
        assert all(reader.text.startswith(b"HTTP/1.1 200 ") and not reader.is_closed for reader in readers)
        late = sorted(reader.has_come_s for reader in readers)
        print(f"{crowd} readers: {cost}, p50 {late[crowd // 2]:.2f} s, p99 {late[crowd * 99 // 100]:.2f} s")

        storm.expect(b"taskcast.done")
        for task_id in tasks:
            await asyncio.to_thread(server.request, "PATCH", f"/tasks/{task_id}/status", {"status": "completed"})
            ids[task_id] = [each["id"] for each in await asyncio.to_thread(server.history, task_id)]
        await asyncio.to_thread(storm.run, 60)
        for n, reader in enumerate(readers):
            assert ids_in(reader) == [*missed[n][1:], ids[tasks[n % TASKS]][-1]]
            assert b"taskcast.done" in reader.text
    assert late[0] > 0 and late[crowd * 99 // 100] <= within(3)
    assert cost["read"] <= 7 * TASKS  # 40 cursors, each a little further back: see `taskcast_core.nearby`
    assert not {"locate", "count", "seek"} & cost.keys()
