"""A task run from this program: its life, what it costs in requests and delay, and being ended from elsewhere."""

import asyncio
import json
import logging
import time
from collections.abc import AsyncIterator

import pytest

from taskcast_client import Coalescing, RetryPolicy, SyncTaskcastClient, TaskCancelled, TaskcastClient, errors
from taskcast_client.models import EventInput
from taskcast_client.sending import Sender
from tests.client.conftest import TaskcastServer
from tests.client.raw_server import RawServer
from tests.fixtures.eventually import eventually

pytestmark = [pytest.mark.anyio, pytest.mark.usefixtures("no_stray_tasks")]


async def publishes(client: TaskcastClient, monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """The times (s) at which requests that publish are begun, from now on."""
    times: list[float] = []
    run = client.connection.run

    async def counted(call):  # type: ignore[no-untyped-def]
        if call.path.endswith("/events"):
            times.append(time.monotonic())
        return await run(call)

    monkeypatch.setattr(client.connection, "run", counted)
    return times


# ── Its life ──────────────────────────────────────────────────────────────────────────────────────────────────────


async def test_a_block_that_ends_well(client: TaskcastClient) -> None:
    async with client.task(type="llm.chat", params={"q": 1}, tags=["a"]) as task:
        assert (task.task.status, task.params) == ("running", {"q": 1})
        await task.emit("step", {"n": 1}, level="debug")
        writer = task.text("response")
        for piece in ("Hel", "lo"):
            await writer.write(piece)
        await task.progress(1, 4, "working")
        await task.progress(2, 4)
        await task.log("careful", "warn", where="here")
        task.result = {"answer": 42}
    ended = await client.get_task(task.id)
    assert (ended.status, ended.result, ended.type) == ("completed", {"answer": 42}, "llm.chat")
    history = [(each.type, each.data, each.level) for each in await client.get_history(task.id)][1:-1]
    assert history == [
        ("step", {"n": 1}, "debug"),
        ("llm.text", {"delta": "Hello"}, "info"),
        ("task.progress", {"done": 2, "total": 4}, "info"),
        ("task.log", {"message": "careful", "where": "here"}, "warn"),
    ]


async def test_a_block_that_fails(client: TaskcastClient) -> None:
    with pytest.raises(ZeroDivisionError):  # noqa: PT012 - the block is what is tested
        async with client.task() as task:
            await task.emit("before")
            _ = 1 / 0
    ended = await client.get_task(task.id)
    assert ended.status == "failed"
    assert ended.error
    assert (ended.error.code, ended.error.message) == ("ZeroDivisionError", "division by zero")
    assert "before" in [each.type for each in await client.get_history(task.id)]


async def test_a_block_that_is_cancelled(client: TaskcastClient) -> None:
    ids: list[str] = []

    async def work() -> None:
        async with client.task() as task:
            ids.append(task.id)
            await asyncio.Event().wait()

    working = asyncio.create_task(work())
    await eventually(lambda: ids)
    working.cancel()
    with pytest.raises(asyncio.CancelledError):
        await working
    assert (await client.get_task(ids[0])).status == "cancelled"


async def test_ending_it_by_hand(client: TaskcastClient) -> None:
    async with client.task() as task:
        await task.fail("not my day", code="luck")
    assert (await client.get_task(task.id)).status == "failed"
    async with client.task() as task:
        await task.emit("x")
        await task.complete({"n": 1})
    assert (await client.get_task(task.id)).result == {"n": 1}
    async with client.task() as task:
        await task.cancel("enough")
        with pytest.raises(TaskCancelled):
            await task.emit("too late")
    assert (await client.get_task(task.id)).status == "cancelled"


async def test_a_task_that_exists_already(client: TaskcastClient) -> None:
    made = await client.create_task(type="x", params={"n": 1})
    async with client.attach(made.id) as task:
        assert task.params == {"n": 1}
        await task.emit("x")
    assert (await client.get_task(made.id)).status == "completed"


async def test_being_ended_from_elsewhere(client: TaskcastClient) -> None:
    with pytest.raises(TaskCancelled) as caught:  # noqa: PT012 - the block is what is tested
        async with client.task() as task:
            watching = task.cancelled
            assert not watching.done()
            await client.cancel_task(task.id)
            assert await asyncio.wait_for(watching, 5) == "cancelled"
            for _ in range(1000):
                await task.emit("too late")
                await asyncio.sleep(0.01)
    assert (caught.value.task_id, caught.value.status) == (task.id, "cancelled")
    with pytest.raises(TaskCancelled):
        async with client.task() as task:
            await client.cancel_task(task.id)


async def test_what_is_no_json_is_refused_where_it_is_said(client: TaskcastClient) -> None:
    async with client.task() as task:
        with pytest.raises(TypeError):
            await task.emit("x", object())


async def test_events_that_cannot_be_sent_fail_the_task(client: TaskcastClient) -> None:
    with pytest.raises(errors.BadRequest):
        async with client.task() as task:
            await task.emit("x", level="loud")  # type: ignore[arg-type]
    ended = await client.get_task(task.id)
    assert ended.error
    assert ended.error.code == "events_lost"


async def test_items_with_progress(client: TaskcastClient) -> None:
    async def slowly() -> AsyncIterator[int]:
        for n in range(3):
            yield n

    async with client.task() as task:
        assert [n async for n in task.track([1, 2, 3])] == [1, 2, 3]
        assert [n async for n in task.track(slowly(), message="slow")] == [0, 1, 2]
    last = [each.data for each in await client.get_history(task.id, types=["task.progress"])][-1]
    assert last == {"done": 3, "message": "slow"}


# ── Its cost and its delay ────────────────────────────────────────────────────────────────────────────────────────


async def test_a_thousand_tokens_in_a_second(client: TaskcastClient, monkeypatch: pytest.MonkeyPatch) -> None:
    times = await publishes(client, monkeypatch)
    tokens = [f"tok{n} é " for n in range(1000)]
    async with client.task() as task:
        writer = task.text()
        began = time.monotonic()
        for n, token in enumerate(tokens):
            await writer.write(token)
            ahead = began + (n + 1) / 1000 - time.monotonic()
            if ahead > 0.002:
                await asyncio.sleep(ahead)
        took_s = time.monotonic() - began
    assert len(times) <= 25 * max(1.0, took_s)
    assert [piece async for piece in client.text(task.id)] == ["".join(tokens)]


async def test_a_slow_stream_costs_at_most_a_request_per_interval(
    client: TaskcastClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    times = await publishes(client, monkeypatch)
    async with client.task() as task:
        for n in range(60):
            await task.text().write(f"{n} ")
            await asyncio.sleep(0.011)
    paced = times[:-1]  # the last one is the flush at the end
    assert len(paced) > 5
    assert paced[-1] - paced[0] >= (len(paced) - 1) * 0.05 - 0.005, "the requests' starts, as this test can see them"


async def added_delays_s(count: int) -> list[float]:
    """From `put` to the beginning of the request that carries the event, sorted."""
    sent_at: dict[int, float] = {}
    put_at: dict[int, float] = {}

    async def send(events: list[bytes]) -> None:
        now = time.monotonic()
        sent_at.update({json.loads(each)["data"]: now for each in events})

    sender = Sender(send, Coalescing())
    for n in range(count):
        put_at[n] = time.monotonic()
        await sender.put(EventInput("x", n))
        await asyncio.sleep(0.004)
    await sender.close()
    return sorted(sent_at[n] - put_at[n] for n in put_at)


async def test_the_added_delay_is_bounded() -> None:
    """The best of three: what else the machine does is not the sender's delay."""
    p99 = min([(await added_delays_s(400))[395] for _ in range(3)])
    assert p99 <= 0.060


async def test_an_event_after_a_pause_goes_at_once() -> None:
    sent = asyncio.Event()

    async def send(events: list[bytes]) -> None:
        sent.set()

    sender = Sender(send, Coalescing(interval_ms=60_000))
    await sender.put(EventInput("x"))
    await asyncio.wait_for(sent.wait(), 1)
    await sender.close()


async def test_flush_does_not_wait_for_the_interval() -> None:
    sent: list[bytes] = []

    async def send(events: list[bytes]) -> None:
        sent.extend(events)

    sender = Sender(send, Coalescing(interval_ms=60_000))
    async with asyncio.timeout(2):
        for n in range(5):
            await sender.put(EventInput("x", n))
            await sender.flush()
            assert len(sent) == n + 1
        await sender.close()


async def test_without_coalescing_each_goes_as_soon_as_the_last_reply_is_there() -> None:
    sent: list[list[bytes]] = []

    async def send(events: list[bytes]) -> None:
        sent.append(events)

    sender = Sender(send, Coalescing(interval_ms=0))
    for n in range(5):
        await sender.put(EventInput("x", n))
        await eventually(lambda: len(sent) > n)  # noqa: B023 - asked within this round
    await sender.close()
    assert [len(each) for each in sent] == [1] * 5


async def test_a_slow_server_holds_its_producers_back() -> None:
    free = asyncio.Event()
    sent: list[int] = []
    under_way = most = 0

    async def send(events: list[bytes]) -> None:
        nonlocal under_way, most
        under_way += 1
        most = max(most, under_way)
        await free.wait()
        sent.extend(json.loads(each)["data"] for each in events)
        under_way -= 1

    sender = Sender(send, Coalescing(interval_ms=1, max_events=10))
    put = 0

    async def produce() -> None:
        nonlocal put
        for n in range(500):
            await sender.put(EventInput("x", n))
            put += 1

    producing = asyncio.create_task(produce())
    await eventually(lambda: put >= 10)
    await asyncio.sleep(0.05)
    assert put <= 21, "what is under way, and what waits"
    free.set()
    await producing
    await sender.close()
    assert sent == list(range(500))
    assert most == 1


async def test_a_failure_reaches_whoever_waits() -> None:
    go = asyncio.Event()

    async def send(events: list[bytes]) -> None:
        await go.wait()
        raise errors.ConnectionFailed("gone")

    sender = Sender(send, Coalescing(interval_ms=1, max_events=2))

    async def produce() -> None:
        for n in range(100):
            await sender.put(EventInput("x", n))

    producing, flushing = asyncio.create_task(produce()), asyncio.create_task(sender.flush())
    await asyncio.sleep(0.02)
    go.set()
    with pytest.raises(errors.ConnectionFailed):
        await producing
    await asyncio.gather(flushing, return_exceptions=True)
    with pytest.raises(errors.ConnectionFailed):
        await sender.close()


async def test_nobody_waits_for_a_sender_that_is_gone() -> None:
    async def send(events: list[bytes]) -> None:
        raise RuntimeError("the client has been closed")

    sender = Sender(send, Coalescing(interval_ms=0))
    await sender.put(EventInput("x"))
    with pytest.raises(RuntimeError):
        await asyncio.wait_for(sender.flush(), 2)
    with pytest.raises(RuntimeError):
        await asyncio.wait_for(sender.close(), 2)


async def test_nothing_is_sent_twice_when_replies_are_lost(own_server: TaskcastServer) -> None:
    """The server is killed again and again under a producer: each event is there once, in order."""
    retry = RetryPolicy(attempts=300, first_s=0.05, longest_s=0.2)  # the machine may be busy with other tests
    async with TaskcastClient(own_server.url, retry=retry) as client:
        async with client.task() as task:
            for n in range(60):
                await task.emit("n", n)
                await asyncio.sleep(0.02)
                if n in (15, 40):
                    await asyncio.to_thread(own_server.kill)
                    await asyncio.to_thread(own_server.start)
        history = await client.get_history(task.id, types=["n"])
        assert [each.data for each in history] == list(range(60))


async def test_an_unreachable_server_does_not_hide_the_exception() -> None:
    task = b'{"id":"t","status":"running","createdAt":1,"updatedAt":1}'
    async with (
        RawServer([(201, {}, task), None]) as raw,
        TaskcastClient(raw.url, retry=RetryPolicy(attempts=1)) as client,
    ):
        with pytest.raises(LookupError):  # noqa: PT012 - the block is what is tested
            async with client.task() as run:
                await run.emit("x")
                raise LookupError


# ── The blocking face ─────────────────────────────────────────────────────────────────────────────────────────────


def test_a_blocking_program(sync_client: SyncTaskcastClient) -> None:
    with sync_client.task(type="report") as task:
        assert list(task.track(["a", "b"])) == ["a", "b"]
        writer = task.text()
        for n in range(100):
            writer.write(f"{n} ")
        task.log("done")
        task.flush()
        task.result = {"pages": 2}
    assert sync_client.get_task(task.id).result == {"pages": 2}
    assert list(sync_client.text(task.id)) == ["".join(f"{n} " for n in range(100))]
    with pytest.raises(ValueError, match="wrong"), sync_client.task() as failing:
        raise ValueError("wrong")
    assert sync_client.get_task(failing.id).status == "failed"


def test_a_client_that_has_been_closed(memory_server: TaskcastServer) -> None:
    client = SyncTaskcastClient(memory_server.url)
    client.close()
    client.close()
    with pytest.raises(RuntimeError, match="closed"):
        client.create_task()


def test_a_log_becomes_events(sync_client: SyncTaskcastClient) -> None:
    from taskcast_client.logs import TaskcastHandler

    logger = logging.getLogger("a.program")
    logger.setLevel(logging.DEBUG)
    with sync_client.task() as task:
        handler = TaskcastHandler(task)
        logger.addHandler(handler)
        try:
            logger.info("page %d", 7)
            try:
                _ = 1 / 0
            except ZeroDivisionError:
                logger.exception("it failed", extra={"page": 8})
        finally:
            logger.removeHandler(handler)
    first, second = sync_client.get_history(task.id, types=["task.log"])
    assert (first.level, first.data) == ("info", {"message": "page 7", "logger": "a.program"})
    assert second.level == "error"
    assert second.data["page"] == 8
    assert "ZeroDivisionError" in second.data["exception"]
