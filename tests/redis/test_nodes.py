"""Three server processes on one Redis: one is killed, callers are cut off, and nothing is lost or made twice."""

from __future__ import annotations

import asyncio
import itertools
import json
import random
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.fixtures.eventually import eventually
from tests.fixtures.processes import HOST, private_directory
from tests.fixtures.scale import FULL_SCALE, Scale
from tests.fixtures.servers import running_redis
from tests.redis.conftest import Within
from tests.server.cli_programs import TaskcastServer

pytestmark = [pytest.mark.anyio, pytest.mark.timeout(3_600 if FULL_SCALE else 400)]


@pytest.fixture(scope="module")
def servers() -> Iterator[Sequence[TaskcastServer]]:
    """They keep their tasks in a Redis that writes its log through at every command."""
    with ExitStack() as stack:
        redis = stack.enter_context(running_redis(options=("--appendonly", "yes", "--appendfsync", "always")))
        found = []
        for _ in range(3):
            directory = stack.enter_context(private_directory("taskcast-node-"))
            found.append(TaskcastServer(Path(directory), (), TASKCAST_REDIS_URL=redis.url))
            stack.callback(found[-1].stop)
        with ThreadPoolExecutor() as pool:
            list(pool.map(TaskcastServer.start, found))
        yield found


@pytest.fixture
def task_id(servers: Sequence[TaskcastServer]) -> str:
    return a_task(servers[0])


def a_task(server: TaskcastServer) -> str:
    task_id: str = server.request("POST", "/tasks", {"type": "load"})["id"]
    server.request("PATCH", f"/tasks/{task_id}/status", {"status": "running"})
    return task_id


async def cut_off(server: TaskcastServer, path: str, body: bytes, key: str, after_s: float) -> None:
    """Send a request and be gone, as a publisher is that was killed."""
    _, writer = await asyncio.open_connection(HOST, server.port)
    head = (
        f"POST {path} HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n"
        f"Idempotency-Key: {key}\r\nContent-Length: {len(body)}\r\n\r\n"
    )
    request = head.encode() + body
    writer.write(request[: random.choice([len(request), len(request), len(request) - 5])])
    await writer.drain()
    await asyncio.sleep(after_s)
    writer.transport.abort()


async def test_a_publisher_that_is_killed_in_the_middle_of_requests(
    servers: Sequence[TaskcastServer], task_id: str, scale: Scale
) -> None:
    """It comes back, asks other nodes the same again, and gets the one event that there is."""
    path, count = f"/tasks/{task_id}/events", scale(60, 10_000)
    room = asyncio.Semaphore(8)
    first_index = len(servers[0].history(task_id))
    indexes: set[int] = set()

    async def publish(n: int, client: httpx.AsyncClient) -> None:
        body = json.dumps({"type": "t", "level": "info", "data": n}).encode()
        async with room:
            await cut_off(servers[n % 3], path, body, f"n{n}", random.uniform(0, 0.004))
            headers = {"Idempotency-Key": f"n{n}", "Content-Type": "application/json"}
            found = []
            for server in (servers[(n + 1) % 3], servers[(n + 2) % 3]):
                reply = await client.post(server.url + path, content=body, headers=headers)
                assert reply.status_code == 201, reply.text
                found.append(reply.json())
        assert found[0]["id"] == found[1]["id"] and found[0]["index"] == found[1]["index"]
        indexes.add(found[0]["index"])

    async with httpx.AsyncClient(timeout=60, trust_env=False) as client, asyncio.TaskGroup() as group:
        for n in range(count):
            group.create_task(publish(n, client))
    assert indexes == set(range(first_index, first_index + count)), "each event is there once"


class Crowd:
    """Publishers and readers of some tasks; they go to the next node when theirs is gone."""

    def __init__(self, servers: Sequence[TaskcastServer], tasks: Sequence[str], rate: float) -> None:
        self._servers, self._tasks, self._pause_s = servers, tasks, len(tasks) / rate
        self.acknowledged: dict[str, list[str]] = {task_id: [] for task_id in tasks}
        self.read: list[list[str]] = []
        self.returns_s: list[float] = []
        self.wanted = True

    async def publish(self, task_id: str, client: httpx.AsyncClient) -> None:
        """One event after the other, each as often as it takes."""
        nodes = itertools.cycle(self._servers)
        server = next(nodes)
        for n in itertools.count():
            if not self.wanted:
                return
            body, headers = {"type": "t", "level": "info", "data": n}, {"Idempotency-Key": f"n{n}"}
            while True:
                try:
                    reply = await client.post(f"{server.url}/tasks/{task_id}/events", json=body, headers=headers)
                except httpx.TransportError:
                    server = next(nodes)
                    continue
                assert reply.status_code == 201, reply.text
                self.acknowledged[task_id].append(reply.json()["id"])
                break
            await asyncio.sleep(self._pause_s)

    async def follow(self, task_id: str, first: int, client: httpx.AsyncClient) -> None:
        """To the end of the task."""
        read: list[str] = []
        self.read.append(read)
        nodes = itertools.cycle([*self._servers[first:], *self._servers[:first]])
        lost_at: float | None = None
        while True:
            headers = {"Last-Event-ID": read[-1]} if read else {}
            try:
                async with client.stream("GET", f"{next(nodes).url}/tasks/{task_id}/events", headers=headers) as reply:
                    async for frame in frames(reply):
                        if frame["event"] == "taskcast.done":
                            return
                        if lost_at is not None:
                            self.returns_s.append(time.monotonic() - lost_at)
                            lost_at = None
                        read.append(frame["data"]["eventId"])
            except httpx.TransportError:
                pass
            lost_at = time.monotonic() if lost_at is None else lost_at


async def frames(reply: httpx.Response) -> Any:
    name = ""
    async for line in reply.aiter_lines():
        if line.startswith("event: "):
            name = line.removeprefix("event: ")
        elif line.startswith("data: "):
            yield {"event": name, "data": json.loads(line.removeprefix("data: "))}


async def test_a_node_that_is_killed_under_load(
    servers: Sequence[TaskcastServer], scale: Scale, within: Within, request: pytest.FixtureRequest
) -> None:
    tasks = [a_task(servers[0]) for _ in range(scale(3, 10))]
    crowd = Crowd(servers, tasks, rate=scale(60, 500))

    def published() -> int:
        return sum(map(len, crowd.acknowledged.values()))

    limits = httpx.Limits(max_connections=None)
    async with httpx.AsyncClient(timeout=60, trust_env=False, limits=limits) as client, asyncio.TaskGroup() as group:
        readers = [group.create_task(crowd.follow(t, n, client)) for t in tasks for n in range(3)]
        writers = [group.create_task(crowd.publish(t, client)) for t in tasks]
        await eventually(lambda: published() > scale(40, 5_000), within_s=120)
        request.addfinalizer(servers[0].start)  # tests come in any order
        await asyncio.to_thread(servers[0].kill)
        at_kill = published()
        await eventually(lambda: published() > at_kill + scale(40, 5_000), within_s=120)
        crowd.wanted = False
        await asyncio.gather(*writers)
        for task_id in tasks:
            servers[1].request("PATCH", f"/tasks/{task_id}/status", {"status": "completed"})
        async with asyncio.timeout(60):
            await asyncio.gather(*readers)
    assert len(crowd.returns_s) >= len(tasks)
    late = sorted(crowd.returns_s)[len(crowd.returns_s) * 99 // 100]
    print(f"{published()} events, {len(crowd.returns_s)} readers cut, p99 of their return {late:.2f} s")
    assert late <= within(2)
    histories = [servers[2].history(task_id) for task_id in tasks]
    for task_id, history in zip(tasks, histories, strict=True):
        ids = [each["id"] for each in history]
        assert [each["index"] for each in history] == list(range(len(history)))
        assert [i for i in ids if i in set(crowd.acknowledged[task_id])] == crowd.acknowledged[task_id]
        assert [each["data"] for each in history if each["type"] == "t"] == list(
            range(len(crowd.acknowledged[task_id]))
        )
    assert sorted(map(tuple, crowd.read)) == sorted(tuple(each["id"] for each in h) for h in histories * 3)
