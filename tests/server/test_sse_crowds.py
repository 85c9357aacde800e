"""Many readers at once: the same events for all, and nothing left of those who are gone."""

import asyncio
import gc
import os
import random
from pathlib import Path
from typing import Any

import httpx
import pytest

from taskcast_core import EngineSettings, TaskEngine
from taskcast_core.hub import HubSettings
from taskcast_server.app import TaskcastApp, create_taskcast_app
from tests.fixtures.eventually import eventually
from tests.fixtures.scale import Scale
from tests.server.app_server import client, following, memory_engine, serving

pytestmark = [pytest.mark.anyio, pytest.mark.usefixtures("no_stray_tasks")]


async def read_all(http: httpx.AsyncClient, *, pause_s: float, reconnects: bool, seen: list[int]) -> None:
    """Read the task to its end, perhaps slowly, perhaps with cuts at random places."""
    cursor: str | None = None
    while True:
        query = {"since.id": cursor} if cursor else {}
        patience = random.randint(5, 60) if reconnects else 10**9
        async with following(http, "/tasks/t/events", params=query) as frames:
            while patience > 0:
                frame = await frames.next()
                if frame is None:
                    break
                if frame["event"] == "taskcast.done":
                    return
                seen.append(frame["json"]["rawIndex"])
                cursor, patience = frame["id"], patience - 1
                if pause_s:
                    await asyncio.sleep(pause_s)


async def test_readers_fast_slow_and_restless_all_see_the_same(scale: Scale) -> None:
    readers, events = scale(80, 1000), scale(150, 300)
    settings = EngineSettings(hub=HubSettings(ring_entries=32))
    async with memory_engine(settings=settings) as engine:
        await engine.create_task(id="t")
        async with serving(create_taskcast_app(engine=engine)) as url, client(url) as http:
            seen: list[list[int]] = [[] for _ in range(readers)]
            reading = [
                asyncio.create_task(
                    read_all(
                        http, pause_s=0.003 if number % 20 == 0 else 0, reconnects=number % 5 == 1, seen=seen[number]
                    )
                )
                for number in range(readers)
            ]
            await eventually(lambda: engine.hub.subscribers("t") > readers * 0.7, within_s=30)
            for number in range(events):
                await engine.publish_event("t", type="x", data={"n": number})
                if number % 10 == 0:
                    await asyncio.sleep(0.002)
            await engine.transition_task("t", "cancelled")
            await asyncio.wait_for(asyncio.gather(*reading), 100)
            assert all(indexes == list(range(events + 1)) for indexes in seen)
            await eventually(lambda: engine.hub.subscribers("t") == 0)


def open_files() -> int:
    return len(list(Path(f"/proc/{os.getpid()}/fd").iterdir()))


async def come_and_go(url: str, count: int) -> None:
    """Open streams and drop the connections without a word, some before the first byte."""
    target = httpx.URL(url)
    for number in range(count):
        reader, writer = await asyncio.open_connection(target.host, target.port)
        path = "/events" if number % 7 == 0 else "/tasks/t/events"
        writer.write(f"GET {path} HTTP/1.1\r\nhost: x\r\n\r\n".encode())
        if number % 3:
            await reader.readuntil(b"\r\n\r\n")
        writer.transport.abort()


async def test_coming_and_going_leaves_nothing_behind(scale: Scale) -> None:
    async with memory_engine() as engine:
        await engine.create_task(id="t")
        app = create_taskcast_app(engine=engine)
        async with serving(app) as url:
            tasks, files = len(asyncio.all_tasks()), open_files()

            async def churn(count: int) -> int:
                await asyncio.gather(*(come_and_go(url, count // 10) for _ in range(10)))
                await eventually(lambda: is_quiet(engine, app), within_s=10)
                await eventually(lambda: (len(asyncio.all_tasks()), open_files()) == (tasks, files), within_s=10)
                gc.collect()
                return len(gc.get_objects())

            await churn(200)
            before = await churn(200)
            assert await churn(scale(1500, 100_000)) <= before * 1.02


def is_quiet(engine: TaskEngine, app: TaskcastApp) -> Any:
    services = app.services
    assert services is not None
    return engine.hub.subscribers("t") == 0 and not engine.hub.has_firehose and len(services.wheel) == 0
