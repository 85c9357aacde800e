"""The application inside a FastAPI program that has routes of its own."""

import httpx
import pytest
from fastapi import FastAPI

from taskcast_server.app import create_taskcast_app
from tests.server.app_server import Frames, memory_engine, serving

pytestmark = pytest.mark.anyio

BASE = "/deep/taskcast"


async def test_everything_works_in_a_fastapi_program() -> None:
    async with memory_engine() as engine:
        outer = FastAPI()
        outer.mount(BASE, create_taskcast_app(engine))

        @outer.get("/mine")
        async def mine() -> dict[str, int]:
            return {"tasks": len((await engine.list_tasks()).tasks)}

        async with (
            serving(outer, lifespan="off") as url,
            httpx.AsyncClient(base_url=url, timeout=10, trust_env=False) as client,
        ):
            task_id = (await client.post(f"{BASE}/tasks", json={"type": "x"})).json()["id"]
            async with client.stream("GET", f"{BASE}/tasks/{task_id}/events") as reply:
                frames = Frames(reply)
                event = {"type": "tick", "level": "info", "data": 1}
                assert (await client.post(f"{BASE}/tasks/{task_id}/events", json=event)).status_code == 201
                assert "tick" in str(await frames.next())
                await client.patch(f"{BASE}/tasks/{task_id}/status", json={"status": "cancelled"})
                assert len(await frames.rest()) == 2
            missing = await client.get(f"{BASE}/nothing")
            assert (missing.status_code, missing.json()["code"]) == (404, "not_found")
            assert (await client.get("/mine")).json() == {"tasks": 1}
