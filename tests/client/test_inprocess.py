"""The same client on an engine in this process: no network, no server process."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest

from taskcast_client import TaskcastClient, TaskcastWorker, TaskRun, errors
from taskcast_client.inprocess import in_process
from taskcast_core import TaskEngine
from taskcast_core.builtin.memory_broadcast import MemoryBroadcastProvider
from taskcast_core.builtin.memory_store import MemoryShortTermStore
from taskcast_core.engine import EngineSettings
from taskcast_core.workers import WorkerSettings
from taskcast_server.app import create_taskcast_app
from tests.fixtures.eventually import DEADLINE_S

pytestmark = [pytest.mark.anyio, pytest.mark.usefixtures("no_stray_tasks")]


@pytest.fixture
async def client(anyio_backend: str) -> AsyncIterator[TaskcastClient]:
    engine = TaskEngine(
        broadcast=MemoryBroadcastProvider(),
        short_term_store=MemoryShortTermStore(),
        settings=EngineSettings(workers=WorkerSettings(enabled=True)),
    )
    async with in_process(create_taskcast_app(engine)) as client:
        yield client


async def test_a_task_is_produced_and_read(client: TaskcastClient) -> None:
    async def produce(task_id: asyncio.Future[str]) -> None:
        async with client.task(type="story") as task:
            task_id.set_result(task.id)
            for n in range(50):
                await task.text().write(f"{n} ")
                await asyncio.sleep(0.002)
            task.result = {"n": 50}

    found: asyncio.Future[str] = asyncio.get_running_loop().create_future()
    producing = asyncio.create_task(produce(found))
    task_id = await found
    assert "".join([piece async for piece in client.text(task_id)]) == "".join(f"{n} " for n in range(50))
    await producing
    assert (await client.wait(task_id)).result == {"n": 50}
    with pytest.raises(errors.TaskNotFound):
        await client.get_task("nobody")


async def test_a_job_queue_in_a_few_lines(client: TaskcastClient) -> None:
    worker = TaskcastWorker(client)
    now = most = 0
    four = asyncio.Event()

    @worker.task("square", capacity=4)
    async def square(task: TaskRun) -> dict[str, int]:
        nonlocal now, most
        now += 1
        most = max(most, now)
        await task.progress(1, 1)
        if now == 4:
            four.set()
        await four.wait()
        now -= 1
        return {"is": task.params["n"] ** 2}

    running = asyncio.create_task(worker.run())
    jobs = [await client.create_task(type="square", params={"n": n}, assign_mode="pull") for n in range(20)]
    async with asyncio.timeout(DEADLINE_S):
        results = [(await client.wait(job.id)).result for job in jobs]
    worker.stop()
    await running
    assert results == [{"is": n**2} for n in range(20)]
    assert most == 4
    replay = [event.data async for event in client.subscribe(jobs[7].id, types=["task.progress"])]
    assert replay == [{"done": 1, "total": 1}]


async def test_there_are_no_sockets(client: TaskcastClient) -> None:
    worker = TaskcastWorker(client, via="websocket")
    worker.task("square")(lambda task: None)
    with pytest.raises(RuntimeError, match="let the worker pull"):
        await asyncio.wait_for(worker.run(), DEADLINE_S)


async def test_a_tool_call_and_its_answer(client: TaskcastClient) -> None:
    async with client.task() as task:
        calling = [asyncio.create_task(task.call_tool("add", n, call_id=f"c{n}")) for n in range(3)]
        for n in (2, 0, 1):
            await client.tool_result(task.id, f"c{n}", n + 1)
        async with asyncio.timeout(DEADLINE_S):
            assert await asyncio.gather(*calling) == [1, 2, 3]


async def test_a_reader_that_leaves_is_noticed(client: TaskcastClient) -> None:
    task = await client.create_task()
    await client.publish_event(task.id, "x")
    async with client.subscribe(task.id) as stream:
        await anext(stream)
        assert (await client.get_task(task.id)).subscriber_count == 1
    assert (await client.get_task(task.id)).subscriber_count == 0


async def test_a_silent_application_is_given_up() -> None:
    async def silent(scope: Any, receive: Any, send: Any) -> None:
        await asyncio.Event().wait()

    async with in_process(silent, lifespan=False) as client:
        client.connection._timeout_s = 0.05
        with pytest.raises(errors.ConnectionFailed):
            await asyncio.wait_for(client.resolve_task("t"), DEADLINE_S)


async def test_an_application_that_cannot_start() -> None:
    async def broken(scope: Any, receive: Any, send: Any) -> None:
        await receive()
        await send({"type": "lifespan.startup.failed", "message": "no store"})

    with pytest.raises(RuntimeError, match="no store"):
        async with in_process(broken):
            pass
