"""A task run from this program: its life, being ended from elsewhere, servers that fail, the blocking face."""

import asyncio
import logging
from collections.abc import AsyncIterator

import pytest

from taskcast_client import RetryPolicy, SyncTaskcastClient, TaskCancelled, TaskcastClient, errors
from tests.client.conftest import TaskcastServer
from tests.client.raw_server import RawServer
from tests.fixtures.eventually import DEADLINE_S, eventually

pytestmark = [pytest.mark.anyio, pytest.mark.usefixtures("no_stray_tasks")]


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
            assert await asyncio.wait_for(watching, DEADLINE_S) == "cancelled"
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


# ── Servers that fail ──────────────────────────────────────────────────────────────────────────────────────────


async def test_a_publish_whose_lost_reply_is_gone_counts_as_made() -> None:
    task = b'{"id":"t","status":"running","createdAt":1,"updatedAt":1}'
    gone = b'{"error":"no longer available","code":"reply_expired"}'
    async with (
        RawServer([(201, {}, task), None, (409, {}, gone), (200, {}, task)]) as raw,
        TaskcastClient(raw.url, retry=RetryPolicy(first_s=0.001)) as client,
    ):
        async with client.task() as run:
            await run.emit("x")
        assert [request.method for request in raw.requests] == ["POST", "POST", "POST", "PATCH"]
        lost, again = raw.requests[1:3]
        assert (lost.headers["idempotency-key"], lost.body) == (again.headers["idempotency-key"], again.body)


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
