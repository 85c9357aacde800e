"""The whole client once on every store, as one journey; full runs try everything on each."""

import asyncio
from uuid import uuid4

import pytest

from taskcast_client import EventInput, SyncTaskRun, TaskcastClient, TaskcastWorker, TaskRun, errors
from taskcast_client.models import AssignMode
from taskcast_client.vocabulary import TOOL_CALL, Chat, Conversation
from taskcast_client.worker import Via
from tests.client.conftest import STORES, TaskcastServer

pytestmark = [pytest.mark.anyio, pytest.mark.usefixtures("no_stray_tasks")]


@pytest.fixture(params=["sqlite", "redis", "postgres"])
def server(request: pytest.FixtureRequest) -> TaskcastServer:
    found: TaskcastServer = request.getfixturevalue(STORES[request.param])
    return found


async def rest(client: TaskcastClient) -> None:
    tag = uuid4().hex
    task = await client.create_task(type="x", params={"n": 1}, tags=[tag], idempotency_key=tag)
    assert (await client.create_task(type="x", params={"n": 1}, tags=[tag], idempotency_key=tag)).id == task.id
    await client.transition_task(task.id, "running")
    stored = await client.publish_events(task.id, [EventInput("x", n) for n in range(5)])
    assert await client.get_history(task.id, since=stored[2].id) == stored[3:]
    assert (await client.complete_task(task.id, {"ok": True})).result == {"ok": True}
    with pytest.raises(errors.TaskEnded):
        await client.publish_event(task.id, "x")
    assert [each.id for each in (await client.list_tasks(tags=[tag])).tasks] == [task.id]
    archive = await client.export_task_archive(task.id)
    await client.delete_task(task.id)
    with pytest.raises(errors.TaskNotFound):
        await client.get_task(task.id)
    assert archive.events[1:6] == stored


async def produce_read_and_resume(client: TaskcastClient) -> None:
    async with client.task(type="llm.chat") as task:
        stream = client.subscribe(task.id)
        text = client.text(task.id)
        await Chat(task).message()
        for n in range(300):
            await task.text().write(f"{n} ")
        await task.progress(1, 2)
        await task.flush()
        first = await anext(stream)
        task.result = {"n": 300}
    rest_of_it = [event async for event in stream]
    again = [event async for event in client.subscribe(task.id, since=first.event_id)]
    assert [event.event_id for event in again] == [event.event_id for event in rest_of_it]
    conversation = Conversation()
    for event in [first, *rest_of_it]:
        conversation.apply(event)
    whole = "".join(f"{n} " for n in range(300))
    assert "".join([piece async for piece in text]) == conversation.messages[0].text == whole
    assert (await client.wait(task.id)).result == {"n": 300}


async def signals(client: TaskcastClient) -> None:
    async with client.task() as task:
        calling = [asyncio.create_task(task.call_tool("square", n, call_id=f"c{n}")) for n in range(3)]
        calls = client.subscribe(task.id, types=[TOOL_CALL])
        asked = [(await anext(calls)).data for _ in range(3)]
        await calls.aclose()
        for call in reversed(asked):
            for _ in range(2):
                await client.tool_result(task.id, call["callId"], call["arguments"] ** 2)
        with pytest.raises(errors.IdempotencyConflict):
            await client.tool_result(task.id, "c1", "another")
        assert await asyncio.gather(*calling) == [0, 1, 4]
    assert len(await client.get_history(task.id, types=["taskcast:signal"])) == 3


async def work(client: TaskcastClient, via: Via, mode: AssignMode) -> None:
    kind = f"job.{uuid4().hex}"
    worker = TaskcastWorker(client, via=via)

    @worker.task(f"{kind}.async", capacity=2)
    async def square(task: TaskRun) -> dict[str, int]:
        return {"is": task.params["n"] ** 2}

    @worker.task(f"{kind}.sync")
    def cube(task: SyncTaskRun) -> dict[str, int]:
        task.log("cubing")
        return {"is": task.params["n"] ** 3}

    running = asyncio.create_task(worker.run())
    jobs = [
        await client.create_task(type=f"{kind}.{face}", params={"n": n}, assign_mode=mode)
        for n in range(3)
        for face in ("async", "sync")
    ]
    results = [(await client.wait(job.id)).result for job in jobs]
    worker.stop()
    await running
    assert results == [{"is": n**power} for n in range(3) for power in (2, 3)]


async def test_a_journey(client: TaskcastClient) -> None:
    async with asyncio.timeout(60), asyncio.TaskGroup() as group:
        group.create_task(rest(client))
        group.create_task(produce_read_and_resume(client))
        group.create_task(signals(client))
        group.create_task(work(client, "pull", "pull"))
        group.create_task(work(client, "websocket", "ws-race"))
