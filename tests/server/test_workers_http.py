"""Worker routes over real HTTP: pulling, leases, cancellation, management."""

import asyncio
import time

import pytest
from attrs import evolve

from taskcast_server.app import create_taskcast_app
from tests.fixtures.eventually import SOON_S, eventually
from tests.server.app_server import client, memory_engine, serving
from tests.server.worker_server import QUICK, Room, bearer, room, rooms

pytestmark = [pytest.mark.anyio, pytest.mark.usefixtures("no_stray_tasks")]

PATIENT = evolve(QUICK, heartbeat_timeout_ms=60_000, first_sign_ms=60_000)


def waiting(one: Room) -> int:
    assert one.engine.workers is not None
    return one.engine.workers.queue.waiting


async def test_pulling_claims_and_names_the_assignment() -> None:
    async with room(PATIENT) as one:
        made = await one.create(type="llm.chat", tags=["gpu"], cost=2)
        reply = await one.pull("w", capacity=5, weight=7, types="llm.*", tags="gpu")
        assert reply.status_code == 200
        task = reply.json()
        assert (task["id"], task["status"], task["assignedWorker"]) == (made["id"], "assigned", "w")
        assert reply.headers["x-taskcast-assignment"] == task["assignmentId"]
        worker = (await one.worker("w")).json()
        assert (worker["capacity"], worker["usedSlots"], worker["weight"], worker["status"]) == (5, 2, 7, "idle")
        assert worker["matchRule"] == {"taskTypes": ["llm.*"], "tags": {"all": ["gpu"]}}
        assert worker["connectionMode"] == "pull"
        owner = task["assignmentId"]
        assert (await one.move(task["id"], "running", owner)).status_code == 200
        assert (await one.move(task["id"], "completed", owner)).status_code == 200
        assert (await one.worker("w")).json()["usedSlots"] == 0


async def test_what_a_pull_refuses() -> None:
    async with room() as one:
        reply = await one.http.get("/workers/pull")
        assert (reply.status_code, reply.json()["error"]) == (400, "workerId query param required")
        for query in ("weight=heavy", "weight=nan", "capacity=0", "capacity=x", "timeout=soon"):
            assert (await one.http.get(f"/workers/pull?workerId=w&{query}")).status_code == 400, query
        async with client(one.url, headers=bearer("worker")) as bound:
            reply = await bound.get("/workers/pull", params={"workerId": "other", "timeout": 1})
            assert (reply.status_code, reply.json()["error"]) == (403, "Forbidden: worker ID mismatch")
            reply = await bound.get("/workers/pull", params={"workerId": "mine", "timeout": 1})
            assert (reply.status_code, reply.content) == (204, b"")
            reply = await bound.post("/workers/tasks/t/decline", json={"workerId": "other"})
            assert reply.status_code == 403
            assert (await bound.post("/workers/other/heartbeat")).status_code == 403
            assert (await bound.get("/workers")).status_code == 403
        async with client(one.url, headers=bearer("reader")) as reader:
            assert (await reader.get("/workers/pull", params={"workerId": "w"})).status_code == 403
        async with client(one.url) as stranger:
            assert (await stranger.get("/workers/pull", params={"workerId": "w"})).status_code == 401


async def test_a_pull_is_woken_by_a_task_made_on_another_node(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("taskcast_core.workers.queue._LOOK_AGAIN_S", 60.0)  # so that only a ring wakes it
    async with rooms(2, PATIENT) as (here, there):
        for _ in range(20):
            pull = asyncio.create_task(here.pull("w", 60_000))
            await eventually(lambda: waiting(here) == 1)
            made = await there.create()
            assert (await asyncio.wait_for(pull, SOON_S)).json()["id"] == made["id"]
            await there.move(made["id"], "cancelled")


async def test_a_client_that_leaves_loses_nothing() -> None:
    async with room(PATIENT) as one:
        async with client(one.url, headers=bearer("all")) as doomed:
            for number in range(20):
                pull = asyncio.create_task(doomed.get("/workers/pull", params={"workerId": "w", "timeout": 10_000}))
                await eventually(lambda: waiting(one) == 1)
                made = await one.create()
                await asyncio.sleep(number / 4000)
                pull.cancel()
                await asyncio.wait({pull})
                if not pull.cancelled():
                    assert pull.result().json()["id"] == made["id"]
                    await one.move(made["id"], "cancelled")
                    continue

                async def free(task_id: str = made["id"]) -> bool:
                    # In time the task is back; or its reply was on the wire, and only the lease brings it back.
                    return (await one.task(task_id))["status"] == "pending" or waiting(one) == 0

                await eventually(free)
                await one.move(made["id"], "cancelled")
        await eventually(lambda: waiting(one) == 0)


async def test_a_task_claimed_for_a_client_that_has_just_left_is_given_back() -> None:
    async with room(PATIENT) as one:
        async with client(one.url, headers=bearer("all")) as doomed:
            pull = asyncio.create_task(doomed.get("/workers/pull", params={"workerId": "gone", "timeout": 10_000}))
            await eventually(lambda: waiting(one) == 1)
            pull.cancel()
            await asyncio.wait({pull})
        await eventually(lambda: waiting(one) == 0)
        made = await one.create()
        assert (await one.pull("other")).json()["id"] == made["id"]


async def test_a_reply_that_got_lost_strands_nothing() -> None:
    async with room(evolve(QUICK, heartbeat_timeout_ms=60_000)) as one:
        made = await one.create()
        lost = (await one.pull("w")).json()
        assert lost["id"] == made["id"]
        began = time.monotonic()
        again = await one.pull("w", 60_000)
        assert again.json()["id"] == made["id"]
        assert time.monotonic() - began < SOON_S
        stale = await one.move(made["id"], "running", lost["assignmentId"])
        assert (stale.status_code, stale.json()["code"]) == (409, "stale_assignment")
        assert stale.headers["x-taskcast-cancelled"] == made["id"]
        published = await one.http.post(
            f"/tasks/{made['id']}/events",
            json={"type": "x", "level": "info"},
            headers={"x-taskcast-assignment": lost["assignmentId"]},
        )
        assert (published.status_code, published.json()["code"]) == (409, "stale_assignment")


async def test_heartbeats_keep_what_they_name() -> None:
    async with room(evolve(QUICK, heartbeat_timeout_ms=700)) as one:
        await one.create(id="kept")
        await one.create(id="lost")
        for _ in range(2):
            assert (await one.pull("w")).status_code == 200
        ends = time.monotonic() + 1.5
        told: set[str] = set()
        while time.monotonic() < ends:
            reply = await one.http.post("/workers/w/heartbeat", json={"taskIds": ["kept", "never mine"]})
            assert reply.status_code == 200
            told |= set(reply.json()["cancelled"])
            await asyncio.sleep(0.1)
        assert (await one.task("kept"))["assignedWorker"] == "w"
        assert (await one.task("lost"))["status"] == "pending"
        assert told == {"never mine"}
        assert (await one.http.post("/workers/w/heartbeat")).json() == {"cancelled": []}
        assert (await one.http.post("/workers/nobody/heartbeat")).status_code == 404
        assert (await one.http.post("/workers/w/heartbeat", json={"taskIds": [1]})).status_code == 400
        assert (await one.http.post("/workers/w/heartbeat", content=b"{")).status_code == 400


async def test_a_cancellation_reaches_a_worker_that_pulls() -> None:
    async with rooms(2, PATIENT) as (here, there):
        owned = {}
        for name in ("a", "b,ü"):
            await here.create(id=name)
            owned[name] = (await here.pull("w")).json()["assignmentId"]
        waiting_pull = asyncio.create_task(here.pull("w", 60_000))
        await eventually(lambda: waiting(here) == 1)
        await there.move("a", "cancelled")
        reply = await asyncio.wait_for(waiting_pull, SOON_S)
        assert (reply.status_code, reply.headers["x-taskcast-cancelled"]) == (204, "a")
        again = await here.pull("w", 1)
        assert "x-taskcast-cancelled" not in again.headers
        await here.create(id="c")
        current = (await here.pull("w")).json()["assignmentId"]
        await there.http.delete("/tasks/b%2C%C3%BC")
        published = await here.http.post(
            "/tasks/c/events", json={"type": "x", "level": "info"}, headers={"x-taskcast-assignment": current}
        )
        assert (published.status_code, published.headers["x-taskcast-cancelled"]) == (201, "b%2C%C3%BC")
        reply = await there.http.post("/workers/w/heartbeat", json={"taskIds": ["a", "b,ü", "c"]})
        assert reply.json() == {"cancelled": ["a", "b,ü"]}


async def test_declining() -> None:
    async with room(PATIENT) as one:
        made = await one.create()
        await one.pull("w")
        reply = await one.http.post(f"/workers/tasks/{made['id']}/decline", json={"workerId": "w", "blacklist": True})
        assert (reply.status_code, reply.json()) == (200, {"ok": True})
        task = await one.task(made["id"])
        assert task["status"] == "pending" and "assignedWorker" not in task and "assignmentId" not in task
        assert task["metadata"] == {"_blacklistedWorkers": ["w"]}
        assert (await one.pull("w", 200)).status_code == 204
        bodies: list[object] = [{}, {"workerId": 1}, {"workerId": "w", "blacklist": "yes"}, []]
        for body in bodies:
            assert (await one.http.post("/workers/tasks/x/decline", json=body)).status_code == 400
        events = (await one.http.get(f"/tasks/{made['id']}/events/history")).json()
        told = [event["data"] for event in events if event["type"] == "taskcast:audit"]
        assert told == [
            {"action": "assigned", "workerId": "w"},
            {"action": "declined", "workerId": "w", "blacklisted": True},
        ]


async def test_management() -> None:
    async with room(PATIENT) as one:
        assert (await one.pull("w", 1)).status_code == 204
        listed = (await one.http.get("/workers")).json()
        assert [worker["id"] for worker in listed["workers"]] == ["w"]
        drained = await one.http.patch("/workers/w/status", json={"status": "draining"})
        assert (drained.status_code, drained.json()["status"]) == (200, "draining")
        await one.create()
        began = time.monotonic()
        assert (await one.pull("w", 60_000)).status_code == 204
        assert time.monotonic() - began < SOON_S
        assert (await one.http.patch("/workers/w/status", json={"status": "busy"})).status_code == 400
        assert (await one.http.patch("/workers/w/status", json={"status": "idle"})).json()["status"] == "idle"
        assert (await one.pull("w")).status_code == 200
        assert (await one.http.delete("/workers/w")).status_code == 204
        for reply in (
            await one.worker("w"),
            await one.http.delete("/workers/w"),
            await one.http.patch("/workers/w/status", json={"status": "idle"}),
        ):
            assert (reply.status_code, reply.json()["error"]) == (404, "Worker not found")


async def test_the_audit_log() -> None:
    async with room(PATIENT) as one:
        made = await one.create()
        await one.pull("w")
        await one.http.post(f"/workers/tasks/{made['id']}/decline", json={"workerId": "w"})
        await one.http.delete("/workers/w")
        entries = (await one.http.get("/workers/w/events")).json()
        assert [entry["action"] for entry in reversed(entries)] == [
            "connected", "task_assigned", "pull_request", "task_reclaimed", "task_declined", "disconnected",
        ]  # fmt: skip
        assert entries[0]["data"] == {"reason": "unregistered"}
        page = (await one.http.get("/workers/w/events", params={"limit": 2})).json()
        assert page == entries[:2]
        rest = (await one.http.get("/workers/w/events", params={"before": page[-1]["id"]})).json()
        assert rest == entries[2:]
        assert (await one.http.get("/workers/nobody/events")).status_code == 404


async def test_without_workers_there_are_no_such_routes() -> None:
    async with memory_engine() as engine, serving(create_taskcast_app(engine=engine)) as url, client(url) as http:
        for method, path in (
            ("GET", "/workers"), ("GET", "/workers/pull?workerId=w"), ("GET", "/workers/w"), ("DELETE", "/workers/w"),
            ("PATCH", "/workers/w/status"), ("GET", "/workers/ws"), ("GET", "/workers/w/events"),
        ):  # fmt: skip
            assert (await http.request(method, path)).status_code == 404, path


async def test_the_socket_path_is_no_workers_id() -> None:
    async with room() as one:
        reply = await one.http.get("/workers/ws")
        assert (reply.status_code, reply.headers["upgrade"]) == (426, "websocket")


async def test_a_stopping_server_ends_waiting_pulls() -> None:
    async with room(PATIENT) as one:
        pull = asyncio.create_task(one.pull("w", 60_000))
        await eventually(lambda: waiting(one) == 1)
        one.app.dismiss_readers()
        assert (await asyncio.wait_for(pull, SOON_S)).status_code == 204
        assert (await asyncio.wait_for(one.pull("w", 60_000), SOON_S)).status_code == 204
