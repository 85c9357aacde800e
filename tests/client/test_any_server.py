"""What every server of the wire has, the reference included: ours always, another one where `TASKCAST_LAUNCH` says how.

The variable is that of the conformance suite: a command with ``{config}`` and ``{port}``.
"""

import asyncio
import os
from collections.abc import Iterator
from uuid import uuid4

import pytest

from taskcast_client import EventInput, RetryPolicy, SyncTaskcastClient, TaskcastClient, TaskcastWorker, TaskRun, errors
from taskcast_client.vocabulary import Chat, Conversation
from tests.client.conftest import MEMORY, running
from tests.fixtures.eventually import DEADLINE_S

pytestmark = pytest.mark.anyio

LAUNCH = os.environ.get("TASKCAST_LAUNCH")
ONCE = RetryPolicy(attempts=1)
"""Not every server keeps idempotency keys."""


@pytest.fixture(scope="module", params=["ours", "another"] if LAUNCH else ["ours"])
def url(request: pytest.FixtureRequest) -> Iterator[str]:
    if request.param == "ours":
        yield request.getfixturevalue("memory_server").url
    else:
        assert LAUNCH
        with running(MEMORY, LAUNCH) as server:
            yield server.url


async def test_a_task_and_its_log(url: str) -> None:
    async with TaskcastClient(url, retry=ONCE) as client:
        task = await client.create_task(type="llm.chat", params={"q": 1}, tags=["a"], ttl=600)
        assert (await client.transition_task(task.id, "running")).status == "running"
        events = await client.publish_events(task.id, [EventInput("x", {"n": n}) for n in range(5)])
        assert await client.get_history(task.id, since=events[1].id) == events[2:]
        with pytest.raises(errors.RefusedError):
            await client.publish_event(task.id, "x", level="loud")  # type: ignore[arg-type]
        ended = await client.complete_task(task.id, {"ok": True})
        assert (ended.status, ended.result) == ("completed", {"ok": True})
        with pytest.raises(errors.Conflict):
            await client.cancel_task(task.id)
        with pytest.raises(errors.BadRequest):
            await client.publish_event(task.id, "x")
        with pytest.raises(errors.NotFound):
            await client.get_task(uuid4().hex)
        assert task.id in [each.id for each in (await client.list_tasks(status="completed")).tasks]
        archive = await client.export_task_archive(task.id)
        assert (await client.import_task_archive(archive, overwrite=True)).event_count == 7


async def test_a_task_is_produced_and_followed(url: str) -> None:
    async with TaskcastClient(url, retry=ONCE) as client, asyncio.timeout(60):
        async with client.task(type="llm.chat") as task:
            await Chat(task).message()
            stream, text = client.subscribe(task.id), client.text(task.id)
            conversation = Conversation()
            for n in range(100):
                await task.text().write(f"{n} ")
                await asyncio.sleep(0.001)
            await task.progress(1, 2)
            task.result = {"n": 100}
        async for event in stream:
            conversation.apply(event)
        whole = "".join(f"{n} " for n in range(100))
        assert conversation.messages[0].text == "".join([piece async for piece in text]) == whole
        assert stream.status == "completed"
        assert (await client.wait(task.id)).result == {"n": 100}


async def test_a_reader_goes_on_elsewhere(url: str) -> None:
    async with TaskcastClient(url, retry=ONCE) as client, asyncio.timeout(60):
        async with client.task() as task:
            await task.emit("x", 0)
            await task.emit("x", 1)
            await task.flush()
            async with client.subscribe(task.id, types=["x"]) as stream:
                assert (await anext(stream)).data == 0
            await task.emit("x", 2)
        rest = [event.data async for event in client.subscribe(task.id, types=["x"], since=stream.last_event_id)]
        assert rest == [1, 2]


async def test_a_question_and_its_answer(url: str) -> None:
    async with TaskcastClient(url, retry=ONCE) as client:
        task = await client.create_task()
        await client.transition_task(task.id, "running")
        await client.transition_task(task.id, "blocked", blocked_request={"type": "ask", "data": {"q": 1}})
        assert (await client.get_blocked_request(task.id)).data == {"q": 1}
        assert (await client.resolve_task(task.id, {"a": 2})).status == "running"


async def test_a_worker_pulls(url: str) -> None:
    async with TaskcastClient(url, retry=ONCE) as client:
        worker, kind = TaskcastWorker(client), f"job-{uuid4().hex}"

        @worker.task(kind)
        async def work(task: TaskRun) -> dict[str, int]:
            return {"n": task.params["n"]}

        running = asyncio.create_task(worker.run())
        task = await client.create_task(type=kind, params={"n": 7}, assign_mode="pull")
        assert (await asyncio.wait_for(client.wait(task.id), DEADLINE_S)).result == {"n": 7}
        worker.stop()
        await running


def test_the_blocking_client(url: str) -> None:
    with SyncTaskcastClient(url, retry=ONCE) as client:
        with client.task() as task:
            assert list(task.track([1, 2])) == [1, 2]
            task.text().write("Hello")
        assert list(client.text(task.id)) == ["Hello"]
