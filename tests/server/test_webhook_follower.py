"""Webhooks as followers of the log: order, retries, dead letters, the end, and what is not delivered."""

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest

from taskcast_core import TaskEngine
from taskcast_core.engine import EngineSettings
from taskcast_core.followers import FollowerSettings
from taskcast_server.app import create_taskcast_app
from taskcast_server.webhooks.follower import WebhookFollower
from taskcast_server.webhooks.options import Retry, WebhookOptions
from taskcast_server.webhooks.outcomes import DeliveryFailed
from tests.fixtures.eventually import eventually
from tests.server.app_server import client, memory_engine, serving
from tests.server.http_receiver import Got, Receiver, Reply

pytestmark = [pytest.mark.anyio, pytest.mark.usefixtures("no_stray_tasks")]

FAST = Retry(retries=2, backoff="fixed", initial_delay_ms=20, max_delay_ms=20, timeout_ms=2000)


@asynccontextmanager
async def delivering(**settings: Any) -> AsyncIterator[tuple[TaskEngine, WebhookFollower]]:
    options = WebhookOptions(default_retry=FAST, allow_private_networks=True)
    async with (
        WebhookFollower(options) as webhooks,
        memory_engine(
            handlers=[webhooks], settings=EngineSettings(follower=FollowerSettings(poll_s=0.05, **settings))
        ) as engine,
    ):
        yield engine, webhooks


def hook(receiver: Receiver, **fields: Any) -> dict[str, Any]:
    return {"url": f"http://127.0.0.1:{receiver.port}/hook", **fields}


def bodies(receiver: Receiver) -> list[Any]:
    return [json.loads(got.body) for got in receiver.got]


def indexes(receiver: Receiver) -> list[int]:
    return [body["index"] for body in bodies(receiver)]


async def test_every_event_in_order_with_its_headers() -> None:
    async with Receiver() as receiver, delivering() as (engine, _):
        task = await engine.create_task({"webhooks": [hook(receiver, secret="s")]})
        await engine.publish_events(task.id, [{"type": f"t{n}", "level": "info", "data": n} for n in range(30)])
        await eventually(lambda: len(receiver.got) == 30)
        assert indexes(receiver) == list(range(30))
        events = await engine.get_history(task.id)
        for got, event in zip(receiver.got, events, strict=True):
            assert got.headers["x-taskcast-event"] == event.type
            assert got.headers["webhook-id"] == event.id
            assert got.headers["x-taskcast-timestamp"] == str(event.timestamp // 1000)
            assert got.headers["x-taskcast-attempt"] == "1"
            assert got.headers["x-taskcast-signature"].startswith("sha256=")


async def test_an_end_that_comes_between_a_look_at_the_task_and_one_at_its_log_is_announced() -> None:
    options = WebhookOptions(default_retry=FAST, allow_private_networks=True)
    async with (
        Receiver() as receiver,
        WebhookFollower(options) as webhooks,
        memory_engine(handlers=[webhooks], settings=EngineSettings(background=False)) as engine,
    ):
        task = await engine.create_task({"webhooks": [hook(receiver, on="terminal")]})
        await engine.publish_event(task.id, type="x", level="info")
        before = await engine.store.get(task.id)
        await engine.transition_task(task.id, "cancelled")
        after = await engine.store.get(task.id)
        (lane,) = await engine.store.claim_dirty("webhook", "me", 1, 10_000)
        page = await engine.store.read(task.id, epoch=lane.epoch)
        progress = await webhooks.handle(lane, before, page.items)
        assert (progress.last_index, receiver.got) == (0, [])
        await webhooks.handle(lane, after, page.items[1:])
        assert [got.headers["x-taskcast-event"] for got in receiver.got] == ["taskcast:done"]


async def test_the_filter_and_the_envelope() -> None:
    async with Receiver() as receiver, delivering() as (engine, _):
        wanted = {"types": ["a.*"], "levels": ["warn"]}
        task = await engine.create_task({"webhooks": [hook(receiver, filter=wanted, wrap=True)]})
        for number in range(3):
            await engine.publish_event(task.id, type="a.x", level="warn", data=number)
            await engine.publish_event(task.id, type="a.x", level="info", data=number)
            await engine.publish_event(task.id, type="b", level="warn", data=number)
        await eventually(lambda: len(receiver.got) == 3)
        assert [(b["filteredIndex"], b["rawIndex"], b["data"]) for b in bodies(receiver)] == [
            (0, 0, 0), (1, 3, 1), (2, 6, 2)
        ]  # fmt: skip


async def test_a_failed_delivery_holds_the_line_until_it_is_through() -> None:
    answers = iter([500, 200, 503, 503, 200, 200])
    async with Receiver(lambda _: Reply(next(answers))) as receiver, delivering() as (engine, _):
        task = await engine.create_task({"webhooks": [hook(receiver)]})
        await engine.publish_events(task.id, [{"type": "x", "level": "info"}] * 3)
        await eventually(lambda: len(receiver.got) == 6)
        assert indexes(receiver) == [0, 0, 1, 1, 1, 2]
        attempts = [(got.headers["x-taskcast-attempt"], got.body) for got in receiver.got[2:5]]
        assert [attempt for attempt, _ in attempts] == ["1", "2", "3"]
        assert len({body for _, body in attempts}) == 1


async def test_a_dead_receiver_blocks_nobody_else() -> None:
    hang = asyncio.Event()

    async def never(_: Got) -> Reply:
        await hang.wait()
        return Reply()

    async with Receiver(never) as dead, Receiver() as alive, delivering() as (engine, _):
        task = await engine.create_task({"webhooks": [hook(dead), hook(alive)]})
        await engine.publish_events(task.id, [{"type": "x", "level": "info"}] * 5)
        await eventually(lambda: len(alive.got) == 5)
        assert len(dead.got) == 1
        hang.set()


async def test_what_is_given_up_becomes_a_dead_letter_and_the_line_goes_on() -> None:
    failed: list[tuple[str, Exception]] = []
    status = 500

    def answer(got: Got) -> Reply:
        return Reply(status if json.loads(got.body)["index"] == 0 else 200)

    async with Receiver(answer) as receiver, delivering() as (engine, webhooks):
        engine.observers.webhook_failed = lambda **facts: failed.append(  # type: ignore[assignment]
            (facts["config"].url, facts["error"])
        )
        task = await engine.create_task({"webhooks": [hook(receiver, secret="s3cret")]})
        await engine.publish_events(task.id, [{"type": "x", "level": "info"}] * 2)
        await eventually(lambda: len(receiver.got) == 4)
        assert indexes(receiver) == [0, 0, 0, 1]
        ((url, error),) = failed
        assert url.endswith("/hook")
        assert isinstance(error, DeliveryFailed)
        assert str(error) == "Webhook delivery failed after 3 attempts: HTTP 500"

        app = create_taskcast_app(engine=engine, webhooks=webhooks)
        async with serving(app) as base, client(base) as http:
            listed = await http.get("/admin/dead-letters")
            assert "s3cret" not in listed.text
            (letter,) = listed.json()["deadLetters"]
            assert (letter["taskId"], letter["lane"], letter["index"]) == (task.id, "webhook:0", 0)
            assert letter["detail"]["reason"] == "HTTP 500"
            again = await http.post(f"/admin/dead-letters/{letter['id']}/retry")
            assert again.json() == {"delivered": False, "reason": "HTTP 500"}
            (kept,) = (await http.get("/admin/dead-letters")).json()["deadLetters"]
            assert (kept["id"], kept["detail"]["attempts"]) == (letter["id"], 4)
            status = 200
            assert (await http.post(f"/admin/dead-letters/{letter['id']}/retry")).json() == {"delivered": True}
            assert receiver.got[-1].body == receiver.got[0].body
            assert (await http.get("/admin/dead-letters")).json() == {"deadLetters": []}
            assert (await http.post(f"/admin/dead-letters/{letter['id']}/retry")).status_code == 404


async def test_a_letter_of_a_deleted_task_can_only_be_discarded() -> None:
    async with Receiver(lambda _: Reply(500)) as receiver, delivering() as (engine, webhooks):
        once = {"retries": 0}
        task = await engine.create_task({"webhooks": [hook(receiver, retry=once)]})
        await engine.publish_event(task.id, type="x")

        async def letters() -> Any:
            return await engine.store.dead_letters(10)

        (letter,) = await eventually(letters)
        await engine.delete_task(task.id)
        app = create_taskcast_app(engine=engine, webhooks=webhooks)
        async with serving(app) as base, client(base) as http:
            refused = await http.post(f"/admin/dead-letters/{letter.id}/retry")
            assert (refused.status_code, refused.json()["code"]) == (409, "letter_undeliverable")
            assert letter.id in {each.id for each in await letters()}
            assert (await http.delete(f"/admin/dead-letters/{letter.id}")).status_code == 204
            assert (await http.delete(f"/admin/dead-letters/{letter.id}")).status_code == 404


async def test_one_callback_at_the_end() -> None:
    answers = iter([500, 200, 200])
    async with Receiver(lambda _: Reply(next(answers))) as receiver, delivering() as (engine, _):
        task = await engine.create_task({"webhooks": [hook(receiver, on="terminal")]})
        await engine.transition_task(task.id, "running")
        await engine.publish_events(task.id, [{"type": "x", "level": "info"}] * 3)
        await engine.transition_task(task.id, "completed", result={"n": 1})
        await eventually(lambda: len(receiver.got) == 2)
        ended = await engine.get_task(task.id)
        assert ended is not None
        body = json.loads(receiver.got[1].body)
        assert (body["taskId"], body["status"], body["result"]) == (task.id, "completed", {"n": 1})
        assert body["finishedAt"] == ended.completed_at
        assert receiver.got[0].headers["webhook-id"] == receiver.got[1].headers["webhook-id"]

        async def is_idle() -> bool:
            return (await engine.store.backlog("webhook")).lanes == 0

        await eventually(is_idle)
        assert len(receiver.got) == 2


async def test_imported_events_are_not_delivered_but_later_ones_are() -> None:
    async with Receiver() as receiver, delivering() as (engine, _):
        source = await engine.create_task({"webhooks": []})
        await engine.publish_events(source.id, [{"type": "x", "level": "info"}] * 3)
        archive = await engine.export_archive(source.id)
        from taskcast_core import wire

        document = wire.to_wire(archive)
        document["task"] |= {"id": "new", "webhooks": [hook(receiver)]}
        for event in document["events"]:
            event["taskId"] = "new"
        await engine.import_archive(document)
        await engine.publish_event("new", type="later")
        await eventually(lambda: receiver.got)
        assert [body["type"] for body in bodies(receiver)] == ["later"]


async def test_a_slow_receiver_keeps_its_lease_and_gets_nothing_twice() -> None:
    async def slow(_: Got) -> Reply:
        await asyncio.sleep(1.5)
        return Reply()

    async with Receiver(slow) as receiver, delivering(lease_ms=1000) as (engine, _):
        task = await engine.create_task({"webhooks": [hook(receiver)]})
        await engine.publish_events(task.id, [{"type": "x", "level": "info"}] * 2)
        await eventually(lambda: len(receiver.got) == 2)

        async def is_idle() -> bool:
            return (await engine.store.backlog("webhook")).lanes == 0

        await eventually(is_idle)
        assert indexes(receiver) == [0, 1]


async def test_a_deleted_tasks_lane_ends() -> None:
    async with Receiver(lambda _: Reply(500)) as receiver, delivering() as (engine, _):
        slow = {"retries": 50, "backoff": "fixed", "initialDelayMs": 50}
        task = await engine.create_task({"webhooks": [hook(receiver, retry=slow)]})
        await engine.publish_event(task.id, type="x")
        await eventually(lambda: receiver.got)
        await engine.delete_task(task.id)

        async def has_passed() -> bool:
            return await engine.store.has_passed(task.id)

        await eventually(has_passed)
