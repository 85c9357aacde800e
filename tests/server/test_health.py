"""What `/health` and its sisters say, fact by fact."""

from collections.abc import AsyncIterator
from typing import Any

import httpx
import pytest

from taskcast_core import MemoryBroadcastProvider, MemoryShortTermStore, TaskEngine
from taskcast_core.builtin.memory_long_term import MemoryLongTermStore
from taskcast_core.errors import StoreUnavailable
from taskcast_core.settings import EngineSettings
from taskcast_core.workers import WorkerSettings
from taskcast_server.app import TaskcastApp, create_taskcast_app
from taskcast_server.webhooks.follower import WebhookFollower
from tests.server.app_server import client, memory_engine, serving

pytestmark = pytest.mark.anyio


@pytest.fixture(scope="module")
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture(scope="module")
async def http() -> AsyncIterator[httpx.AsyncClient]:
    """One server for the whole file, with followers and workers; nothing works in the background."""
    webhooks = WebhookFollower()
    settings = EngineSettings(background=False, workers=WorkerSettings(enabled=True))
    async with MemoryShortTermStore() as store, webhooks:
        engine = TaskEngine(
            broadcast=MemoryBroadcastProvider(), short_term_store=store, long_term_store=MemoryLongTermStore(),
            handlers=[webhooks], settings=settings,
        )  # fmt: skip
        async with engine, serving(create_taskcast_app(engine, webhooks=webhooks)) as url, client(url) as http:
            yield http


async def detail(http: httpx.AsyncClient) -> dict[str, Any]:
    reply = await http.get("/health/detail")
    assert reply.status_code == 200
    facts: dict[str, Any] = reply.json()
    return facts


async def test_tasks_that_wait_and_tasks_that_are_under_way(http: httpx.AsyncClient) -> None:
    before = (await detail(http))["tasks"]
    ids = [(await http.post("/tasks", json={})).json()["id"] for _ in range(4)]
    for task_id in ids[1:]:
        await http.patch(f"/tasks/{task_id}/status", json={"status": "running"})
    await http.patch(f"/tasks/{ids[2]}/status", json={"status": "paused"})
    await http.patch(f"/tasks/{ids[3]}/status", json={"status": "completed"})
    after = (await detail(http))["tasks"]
    grown = {name: after[name] - before[name] for name in ("active", "queued", "total")}
    assert grown == {"active": 2, "queued": 1, "total": 4}
    assert after["byStatus"]["paused"] == 1


async def test_how_far_followers_are_behind(http: httpx.AsyncClient) -> None:
    before = (await detail(http))["followers"]
    hook = {"url": "https://receiver.example/hook"}
    task_id = (await http.post("/tasks", json={"webhooks": [hook]})).json()["id"]
    await http.post(f"/tasks/{task_id}/events", json=[{"type": "x", "level": "info"}] * 3)
    after = (await detail(http))["followers"]
    for kind in ("archive", "webhook"):
        assert after[kind]["lanes"] == before[kind]["lanes"] + 1
        assert after[kind]["events"] >= before[kind]["events"] + 3
        assert after[kind]["oldestMs"] >= 0
    assert after["webhook"]["deadLetters"] == 0


async def test_what_an_ack_means_versions_time_and_workers(http: httpx.AsyncClient) -> None:
    facts = await detail(http)
    assert "this process only" in facts["durability"]["shortTermStore"]
    assert "after the acknowledgement" in facts["durability"]["longTermStore"]
    assert set(facts["versions"]) == {"server", "core", "python"}
    assert abs(facts["clock"]["serverMs"] - facts["clock"]["storeMs"]) < 60_000
    assert facts["workers"] == {"count": 0, "slots": 0, "usedSlots": 0}
    assert facts["storage"]["releaseReady"] is True
    assert facts["adapters"]["longTermStore"] == {"provider": "memory", "status": "ok"}
    assert "diagnosis" not in facts
    assert (await http.get("/health/detail?diagnose=1")).json()["diagnosis"] == {}


async def test_a_dependency_has_a_history_and_a_place_is_as_well_as_what_it_needs() -> None:
    is_away = False

    async def command() -> None:
        if is_away:
            raise StoreUnavailable("redisCommand", "connection_refused")

    async def pub_sub() -> None:
        if is_away:
            raise StoreUnavailable("redisPubSub", "timeout")

    async with memory_engine() as engine:
        app: TaskcastApp = create_taskcast_app(
            engine, checks={"redisCommand": command, "redisPubSub": pub_sub, "postgres": lambda: command()}
        )
        assert app.services is not None
        app.services.needs = {"shortTermStore": {"redisCommand"}, "broadcast": {"redisCommand", "redisPubSub"}}
        async with serving(app) as url, client(url) as http:
            first = await detail(http)
            assert first["ok"] is True
            state = first["dependencies"]["redisCommand"]
            assert (state["configured"], state["state"], state["consecutiveFailures"]) == (True, "healthy", 0)
            assert state["lastTransitionAt"].endswith("Z")
            assert (await detail(http))["dependencies"]["redisCommand"] == state
            is_away = True
            await detail(http)
            facts = await detail(http)
            assert facts["ok"] is False
            state = facts["dependencies"]["redisPubSub"]
            assert (state["state"], state["consecutiveFailures"], state["reconnectAttempts"]) == ("unhealthy", 2, 2)
            assert state["lastErrorKind"] == "timeout"
            assert {each["status"] for each in facts["adapters"].values()} == {"error"}
            assert (await http.get("/health/ready")).status_code == 503
            is_away = False
            assert (await http.get("/health/ready")).status_code == 200
            assert (await detail(http))["dependencies"]["redisPubSub"]["state"] == "healthy"


async def test_a_server_that_is_being_stopped_is_alive_and_not_ready() -> None:
    async with memory_engine() as engine:
        app = create_taskcast_app(engine)
        async with serving(app) as url, client(url) as http:
            assert (await http.get("/health/ready")).json() == {"ok": True, "dependencies": {}}
            app.dismiss_readers()
            told = await http.get("/health/ready")
            assert (told.status_code, told.json()) == (503, {"ok": False, "closing": True, "dependencies": {}})
            assert (await http.get("/health")).status_code == 200


async def test_a_place_that_needs_nothing_of_what_is_away_is_well() -> None:
    async def away() -> None:
        raise StoreUnavailable("redisPubSub", "timeout")

    async with memory_engine() as engine:
        app = create_taskcast_app(engine, checks={"redisPubSub": away})
        assert app.services is not None
        app.services.needs = {"broadcast": {"redisPubSub"}}
        async with serving(app) as url, client(url) as http:
            adapters = (await detail(http))["adapters"]
    assert (adapters["broadcast"]["status"], adapters["shortTermStore"]["status"]) == ("error", "ok")


async def test_live_says_so_whatever_is_away() -> None:
    async with memory_engine() as engine:

        async def away(*_: object) -> Any:
            raise StoreUnavailable("redisCommand", "timeout")

        engine.store.tally = away  # type: ignore[method-assign]
        async with serving(create_taskcast_app(engine)) as url, client(url) as http:
            assert (await http.get("/health")).json()["ok"] is True
            facts = await detail(http)
            assert facts["ok"] is False and "tasks" not in facts
            assert facts["adapters"]["shortTermStore"]["status"] == "error"
