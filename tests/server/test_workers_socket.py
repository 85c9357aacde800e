"""The workers' WebSocket over real connections."""

import asyncio
import json
import time

import pytest
from attrs import evolve
from websockets.asyncio.client import connect
from websockets.exceptions import InvalidStatus

from taskcast_server.app import create_taskcast_app
from tests.fixtures.eventually import SOON_S, eventually
from tests.server.app_server import memory_engine, serving
from tests.server.worker_server import CALLERS, QUICK, Room, bearer, connected, room, rooms, socket_worker

pytestmark = [pytest.mark.anyio, pytest.mark.usefixtures("no_stray_tasks")]

PATIENT = evolve(QUICK, heartbeat_timeout_ms=60_000, offer_timeout_ms=60_000)
GRACE_S = QUICK.disconnect_grace_ms / 1000


async def slots(one: Room, worker_id: str) -> int:
    used: int = (await one.worker(worker_id)).json()["usedSlots"]
    return used


async def test_register_update_drain() -> None:
    async with room(PATIENT) as one:
        async with socket_worker(one, matchRule={"taskTypes": ["a.*"]}, capacity=4, weight=70) as worker:
            assert len(worker.id) == 26
            shown = (await one.worker(worker.id)).json()
            assert shown["connectionMode"] == "websocket" and shown["matchRule"] == {"taskTypes": ["a.*"]}
            assert (shown["capacity"], shown["weight"], shown["status"]) == (4, 70, "idle")
            await worker.say(type="update", weight=1.5, capacity=2, matchRule={"tags": {"any": ["x"]}})

            async def updated() -> bool:
                shown = (await one.worker(worker.id)).json()
                return (shown["weight"], shown["capacity"], shown["matchRule"]) == (1.5, 2, {"tags": {"any": ["x"]}})

            await eventually(updated)
            await worker.say(type="drain")

            async def drained() -> bool:
                return bool((await one.worker(worker.id)).json()["status"] == "draining")

            await eventually(drained)
            await one.create(assignMode="ws-offer", tags=["x"])
            await asyncio.sleep(0.2)
            assert worker.messages == []
            await one.http.patch(f"/workers/{worker.id}/status", json={"status": "idle"})
            await worker.expect("offer")

        async def gone() -> bool:
            return (await one.worker(worker.id)).status_code == 404

        await eventually(gone)


async def test_offer_accept_and_what_the_messages_hold() -> None:
    async with rooms(2, PATIENT) as (here, there), socket_worker(here, "w") as worker:
        made = await there.create(
            assignMode="ws-offer", type="t", tags=["x"], cost=2, params={"p": [1]}, metadata={"hidden": True}
        )
        offer = await worker.expect("offer")
        owner = offer.pop("assignmentId")
        summary = {"id": made["id"], "type": "t", "tags": ["x"], "cost": 2, "params": {"p": [1]}}
        assert offer == {"type": "offer", "taskId": made["id"], "task": summary}
        for one in (here, there):
            assert await slots(one, "w") == 0, "an offer is not an assignment"
            beat = (await one.http.post("/workers/w/heartbeat", json={"taskIds": [made["id"]]})).json()
            assert beat == {"cancelled": [made["id"]]}, "nor does it become one by a heartbeat"
        assert [each["usedSlots"] for each in (await there.http.get("/workers")).json()["workers"]] == [0]
        await worker.say(type="accept", taskId=made["id"])
        assigned = await worker.expect("assigned")
        assert assigned == {"type": "assigned", "taskId": made["id"], "assignmentId": owner}
        assert (await there.task(made["id"]))["assignmentId"] == owner
        await worker.say(type="accept", taskId=made["id"])
        refused = await worker.expect("error")
        assert refused == {
            "type": "error", "code": "CLAIM_FAILED", "taskId": made["id"],
            "message": "Task is not pending (status: assigned)",
        }  # fmt: skip
        assert (await there.move(made["id"], "running", owner)).status_code == 200
        assert (await here.move(made["id"], "completed", owner)).status_code == 200
        assert await slots(here, "w") == 0


async def test_a_race_over_two_nodes_has_one_winner() -> None:
    async with rooms(2, PATIENT) as (here, there), socket_worker(here, "a") as a, socket_worker(there, "b") as b:
        for _ in range(20):
            made = await here.create(assignMode="ws-race")
            for worker in (a, b):
                notice = await worker.expect("available")
                assert notice == {"type": "available", "taskId": made["id"], "task": {"id": made["id"]}}
            await asyncio.gather(*(worker.say(type="claim", taskId=made["id"]) for worker in (a, b)))
            claimed = [await worker.expect("claimed") for worker in (a, b)]
            assert sorted(each["success"] for each in claimed) == [False, True]
            winner = next(each for each in claimed if each["success"])
            task = await there.task(made["id"])
            assert task["assignmentId"] == winner["assignmentId"]
            assert task["assignedWorker"] == ("a" if claimed[0]["success"] else "b")
            await here.move(made["id"], "cancelled")
            for worker in (a, b):
                worker.messages.clear()


async def test_a_race_that_was_lost_for_want_of_room_is_announced_again() -> None:
    async with room(PATIENT) as one, socket_worker(one, "w", capacity=1) as worker:
        for name in ("first", "second"):
            await one.create(id=name, assignMode="ws-race")
        announced = {(await worker.expect("available"))["taskId"] for _ in range(2)}
        assert announced == {"first", "second"}
        for name in ("first", "second"):
            await worker.say(type="claim", taskId=name)
        assert [(await worker.expect("claimed"))["success"] for _ in range(2)] == [True, False]
        await one.move("first", "cancelled")
        assert (await worker.expect("available"))["taskId"] == "second"
        await worker.say(type="claim", taskId="second")
        assert (await worker.expect("claimed"))["success"]


async def test_an_offer_that_is_not_answered_goes_to_the_next() -> None:
    settings = evolve(QUICK, heartbeat_timeout_ms=60_000)
    async with (
        room(settings) as one,
        socket_worker(one, "best", weight=99) as best,
        socket_worker(one, "next") as following,
    ):
        await one.create(id="t", assignMode="ws-offer")
        await best.expect("offer")
        began = time.monotonic()
        await following.expect("offer")
        assert 0.2 < time.monotonic() - began < SOON_S
        await following.say(type="accept", taskId="t")
        await following.expect("assigned")


async def test_declining_over_the_socket() -> None:
    async with (
        room(PATIENT) as one,
        socket_worker(one, "first", weight=99) as first,
        socket_worker(one, "second") as second,
    ):
        await one.create(id="t", assignMode="ws-offer")
        await first.expect("offer")
        await first.say(type="decline", taskId="t", blacklist=True)
        assert await first.expect("declined") == {"type": "declined", "taskId": "t"}
        await second.expect("offer")
        await second.say(type="accept", taskId="t")
        await second.expect("assigned")
        await second.say(type="decline", taskId="t")
        await second.expect("declined")
        assert (await one.task("t"))["metadata"]["_blacklistedWorkers"] == ["first"]
        await second.say(type="decline", taskId="no such task")
        await second.expect("declined")
        assert [message["type"] for message in first.messages] == []


async def test_a_late_worker_gets_what_waits() -> None:
    async with room(PATIENT) as one:
        await one.create(id="offer", assignMode="ws-offer")
        await one.create(id="race", assignMode="ws-race")
        async with socket_worker(one) as worker:
            assert (await worker.expect("offer"))["taskId"] == "offer"
            assert (await worker.expect("available"))["taskId"] == "race"


async def test_a_cancellation_reaches_the_worker_through_another_node() -> None:
    only_bells = evolve(PATIENT, heartbeat_interval_ms=60_000)
    async with rooms(2, only_bells) as (here, there), socket_worker(here, "w") as worker:
        for name in ("offered", "pulled"):
            await here.create(id=name, assignMode="ws-offer" if name == "offered" else "pull")
        await worker.expect("offer")
        await worker.say(type="accept", taskId="offered")
        await worker.expect("assigned")
        assert (await there.pull("w")).json()["id"] == "pulled"
        await there.move("offered", "cancelled")
        told = await worker.expect("cancelled")
        assert told == {"type": "cancelled", "taskId": "offered", "status": "cancelled"}
        await there.http.delete("/tasks/pulled")
        assert (await worker.expect("cancelled"))["taskId"] == "pulled"


async def test_a_cancellation_whose_bell_is_lost_is_found() -> None:
    async with rooms(2, PATIENT) as (here, there), socket_worker(here, "w") as worker:
        await here.create(id="t", assignMode="ws-offer")
        await worker.expect("offer")
        await worker.say(type="accept", taskId="t")
        await worker.expect("assigned")
        assert there.engine.workers is not None
        there.engine.workers.news.taken_away = lambda *_: None  # type: ignore[method-assign]
        await there.move("t", "cancelled")
        assert (await worker.expect("cancelled"))["status"] == "cancelled"


async def test_a_killed_worker_loses_all_its_tasks_after_the_grace_and_not_before() -> None:
    async with room(evolve(QUICK, offer_timeout_ms=5000, heartbeat_timeout_ms=60_000)) as one:
        async with socket_worker(one, "w") as worker:
            for name in ("a", "b", "c"):
                await one.create(id=name, assignMode="ws-offer", disconnectPolicy="fail" if name == "c" else "reassign")
                await worker.expect("offer")
                await worker.say(type="accept", taskId=name)
                await worker.expect("assigned")
            await one.move("b", "running")
            await worker.cut()
            cut_at = time.monotonic()

        async def gone() -> bool:
            return (await one.worker("w")).status_code == 404

        await eventually(gone, within_s=GRACE_S)
        assert [(await one.task(name))["status"] for name in ("a", "b", "c")] == ["assigned", "running", "assigned"]

        async def settled() -> bool:
            return [(await one.task(name))["status"] for name in ("a", "b", "c")] == ["pending", "pending", "failed"]

        await eventually(settled)
        assert GRACE_S - 0.05 < time.monotonic() - cut_at < GRACE_S + SOON_S


async def test_a_worker_that_comes_back_in_time_keeps_its_tasks() -> None:
    async with rooms(2, PATIENT) as (here, there):
        async with socket_worker(here, "w") as worker:
            await here.create(id="t", assignMode="ws-offer")
            await worker.expect("offer")
            await worker.say(type="accept", taskId="t")
            owner = (await worker.expect("assigned"))["assignmentId"]
            await worker.cut()
        async with socket_worker(there, "w") as again:
            await asyncio.sleep(GRACE_S * 2)
            assert (await there.task("t"))["assignmentId"] == owner
            assert (await there.worker("w")).json()["usedSlots"] == 1
            await here.move("t", "cancelled")
            await again.expect("cancelled")


async def test_a_second_socket_of_a_worker_outlives_the_first() -> None:
    async with room(PATIENT) as one, socket_worker(one, "w") as old:
        await asyncio.sleep(0.005)
        async with socket_worker(one, "w") as new:
            await old.connection.close()
            await asyncio.sleep(0.1)
            assert (await one.worker("w")).status_code == 200
            await one.create(assignMode="ws-offer")
            await new.expect("offer")


async def test_pings_and_silence() -> None:
    async with room() as one, socket_worker(one, "w") as worker:
        await eventually(lambda: worker.pings >= 2)
        worker.pongs = False

        async def status_is(wanted: str) -> bool:
            return bool((await one.worker("w")).json()["status"] == wanted)

        await eventually(lambda: status_is("offline"))
        worker.pongs = True
        await eventually(lambda: status_is("idle"))


async def test_a_worker_that_was_removed_is_told_and_may_register_again() -> None:
    async with room(PATIENT) as one, socket_worker(one, "w") as worker:
        await one.http.delete("/workers/w")
        assert (await worker.expect("error"))["code"] == "NOT_REGISTERED"
        await worker.register("w")
        await one.create(assignMode="ws-offer")
        await worker.expect("offer")


async def test_nothing_that_is_said_closes_the_socket() -> None:
    async with room(PATIENT) as one, connected(one) as worker:

        async def refusal(text: str | bytes) -> tuple[str, str]:
            await worker.connection.send(text)
            error = await worker.expect("error")
            return error["message"], error["code"]

        for text in ("{not json", "", b"\xff\xfe", "[" * 100_000):
            assert await refusal(text) == ("Invalid JSON", "PARSE_ERROR"), text[:10]
        for text in ("[]", "1", "null", '{"a":1}', '{"type":5}'):
            assert (await refusal(text))[1] == "PARSE_ERROR", text
        assert await refusal('{"type":"wat"}') == ("Unknown message type: wat", "PARSE_ERROR")
        for kind in ("accept", "claim", "decline", "update", "drain", "pong"):
            for message in ({"type": kind}, {"type": kind, "taskId": "x"}):
                assert await refusal(json.dumps(message)) == ("Not registered", "NOT_REGISTERED")
        for facts in (
            {"capacity": 0}, {"capacity": "x"}, {"capacity": True}, {"weight": "x"}, {"matchRule": 5}, {"workerId": 5},
            {"matchRule": {"taskTypes": "a"}}, {"workerId": "x" * 300},
        ):  # fmt: skip
            assert (await refusal(json.dumps({"type": "register", **facts})))[1] == "REGISTER_ERROR", facts
        await worker.register("w")
        refused = ("Invalid capacity: 0. Capacity must be a positive number.", "UPDATE_ERROR")
        assert await refusal('{"type":"update","capacity":0}') == refused
        for kind in ("accept", "claim", "decline"):
            message, code = await refusal(json.dumps({"type": kind}))
            assert (message, code) == ("taskId is required and must be a string", "INVALID_MESSAGE")
        await worker.say(type="accept", taskId="missing")
        error = await worker.expect("error")
        assert error == {"type": "error", "message": "Task not found", "code": "CLAIM_FAILED", "taskId": "missing"}
        await worker.say(type="claim", taskId="missing")
        assert (await worker.expect("claimed"))["success"] is False
        await worker.say(type="register", workerId="another")
        assert (await worker.expect("error"))["code"] == "REGISTER_ERROR"
        await worker.register("w", capacity=3)
        assert (await one.worker("w")).json()["capacity"] == 3


async def test_who_may_connect() -> None:
    async with room(PATIENT) as one:
        url = one.url.replace("http", "ws", 1)
        for path, headers, status in (
            ("/workers/ws", {}, 401),
            ("/workers/ws", bearer("reader"), 403),
            ("/workers/other", bearer("all"), 404),
        ):
            headers["x-request-id"] = f"mine-{status}"
            with pytest.raises(InvalidStatus) as refused:
                await connect(url + path, additional_headers=headers, proxy=None)
            assert refused.value.response.status_code == status
            assert refused.value.response.headers["x-request-id"] == f"mine-{status}"
            assert "error" in json.loads(refused.value.response.body)
        async with connected(one, "worker") as bound:
            accepted = bound.connection.response
            assert accepted is not None
            assert accepted.headers["x-request-id"]
            await bound.say(type="register", workerId="other")
            error = await bound.expect("error")
            assert (error["message"], error["code"]) == ("Forbidden: worker ID mismatch", "FORBIDDEN")
            assert await bound.register() == "mine"


async def test_there_is_no_socket_without_workers() -> None:
    async with memory_engine() as engine, serving(create_taskcast_app(engine=engine), ws="websockets-sansio") as url:
        with pytest.raises(InvalidStatus) as refused:
            await connect(url.replace("http", "ws", 1) + "/workers/ws", proxy=None)
        assert refused.value.response.status_code == 404


async def test_the_socket_ends_with_the_token(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(CALLERS, "brief", {"scope": ["worker:connect"], "exp": time.time() + 1})
    async with room(PATIENT) as one, connected(one, "brief") as worker:
        await worker.register("w")
        await asyncio.wait_for(worker.connection.wait_closed(), 3)
        assert worker.connection.close_code == 4401


async def test_a_flood_of_messages_is_taken_at_a_bounded_rate() -> None:
    async with room(PATIENT) as one, socket_worker(one, "w") as worker:
        began = time.monotonic()
        for _ in range(1500):
            await worker.say(type="wat")
        await eventually(lambda: len(worker.messages) == 1500, within_s=10)
        assert time.monotonic() - began > 0.8
        await one.create(assignMode="ws-offer")
        await worker.expect("offer")


async def test_a_worker_that_reads_nothing_is_cut_and_its_tasks_return() -> None:
    settings = evolve(PATIENT, offer_timeout_ms=60_000)
    async with room(settings) as one, connected(one) as worker:
        await worker.register("w", capacity=100_000)
        worker.connection.transport.pause_reading()
        big = {"text": "x" * 100_000}
        made = [(await one.create(assignMode="ws-race", params=big))["id"]]
        await one.engine.workers.claims.claim(made[0], "w")  # type: ignore[union-attr]
        for number in range(1200):
            task = await one.engine.create_task(assign_mode="ws-race", params=big if number < 150 else None)
            made.append(task.id)

        async def returned() -> bool:
            return bool((await one.task(made[0]))["status"] == "pending")

        await eventually(returned, within_s=15)
        assert (await one.worker("w")).status_code == 404
        worker.connection.transport.abort()
