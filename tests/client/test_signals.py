"""Telling a running task something, and the tool calls that are answered that way."""

import asyncio
import json
from typing import Any
from uuid import uuid4

import pytest

from taskcast_client import (
    EventInput,
    RetryPolicy,
    Signal,
    SyncTaskcastClient,
    SyncTaskRun,
    TaskCancelled,
    TaskcastClient,
    TaskcastWorker,
    ToolFailed,
    errors,
)
from taskcast_client.vocabulary import TOOL_CALL, Conversation
from tests.client.conftest import TaskcastServer
from tests.client.raw_server import RawServer
from tests.fixtures.eventually import DEADLINE_S, eventually

pytestmark = [pytest.mark.anyio, pytest.mark.usefixtures("no_stray_tasks")]


async def running_task(client: TaskcastClient) -> str:
    task = await client.create_task()
    await client.transition_task(task.id, "running")
    return task.id


async def calls_of(client: TaskcastClient, task_id: str, count: int = 1) -> list[dict[str, Any]]:
    """Wait for so many tool calls, as whoever has the tools does."""
    calls: list[dict[str, Any]] = []
    async with asyncio.timeout(DEADLINE_S), client.subscribe(task_id, types=[TOOL_CALL]) as stream:
        async for event in stream:
            calls.append(event.data)
            if len(calls) == count:
                break
    return calls


# ── Signals ───────────────────────────────────────────────────────────────────────────────────────────────────────


async def test_a_signal_is_told_once(client: TaskcastClient) -> None:
    task_id = await running_task(client)
    event = await client.send_signal(task_id, "stop", {"when": "now"}, id="one")
    assert Signal.of(event) == Signal("one", "stop", {"when": "now"})
    assert await client.send_signal(task_id, "stop", {"when": "now"}, id="one") == event
    with pytest.raises(errors.IdempotencyConflict):
        await client.send_signal(task_id, "go", id="one")
    other = await client.send_signal(task_id, "stop")
    history = await client.get_history(task_id, types=["taskcast:signal"])
    assert history == [event, other]
    await client.cancel_task(task_id)
    with pytest.raises(errors.TaskEnded):
        await client.send_signal(task_id, "stop")
    signals = [Signal.of(each) async for each in client.subscribe(task_id)]
    assert [each.type if each else None for each in signals] == [None, "stop", "stop", None]


async def test_one_whose_reply_is_lost_is_sent_again_under_its_id() -> None:
    event = {"id": "e", "taskId": "t", "index": 1, "timestamp": 1, "type": "taskcast:signal", "data": {}}
    async with (
        RawServer([None, (503, {}, b"{}"), (201, {}, json.dumps(event).encode())]) as raw,
        TaskcastClient(raw.url, retry=RetryPolicy(first_s=0.001)) as client,
    ):
        assert (await client.send_signal("t", "stop", 1)).id == "e"
    bodies = [json.loads(request.body) for request in raw.requests]
    assert len(bodies) == 3
    assert bodies == [bodies[0]] * 3
    assert len(bodies[0].pop("id")) == 32
    assert bodies[0] == {"type": "stop", "data": 1}


async def test_its_own_scope_will_do(guarded_server: TaskcastServer) -> None:
    async with TaskcastClient(guarded_server.url, service_key="the-key-of-a-service") as client:
        task_id = await running_task(client)
        narrow = await client.create_admin_token("the-admin-token", scopes=["task:signal"])
        other = await client.create_admin_token("the-admin-token", scopes=["event:publish", "task:manage"])
    async with TaskcastClient(guarded_server.url, token=narrow.token) as browser:
        await browser.send_signal(task_id, "stop")
        await browser.tool_result(task_id, "c", 1)
        with pytest.raises(errors.Forbidden):
            await browser.publish_event(task_id, "x")
    async with TaskcastClient(guarded_server.url, token=other.token) as producer:
        with pytest.raises(errors.Forbidden):
            await producer.send_signal(task_id, "stop")


# ── Tool calls ────────────────────────────────────────────────────────────────────────────────────────────────────


async def test_a_call_is_answered_from_elsewhere(client: TaskcastClient, server: TaskcastServer) -> None:
    async with client.task() as task, TaskcastClient(server.url) as elsewhere:
        calling = asyncio.create_task(task.call_tool("add", {"a": 1, "b": 2}))
        (call,) = await calls_of(elsewhere, task.id)
        assert (call["name"], call["arguments"]) == ("add", {"a": 1, "b": 2})
        await elsewhere.tool_result(task.id, call["callId"], {"sum": 3})
        assert await asyncio.wait_for(calling, DEADLINE_S) == {"sum": 3}
    told = [(each.type, each.data) for each in await client.get_history(task.id, types=["llm.*"])]
    answer = {"callId": call["callId"], "result": {"sum": 3}}
    assert told == [("llm.tool_call", call), ("llm.tool_result", answer)]


async def test_several_calls_are_open_at_once(client: TaskcastClient) -> None:
    async with client.task() as task:
        calling = [asyncio.create_task(task.call_tool("square", n)) for n in range(20)]
        for call in reversed(await calls_of(client, task.id, 20)):
            await client.tool_result(task.id, call["callId"], call["arguments"] ** 2)
        async with asyncio.timeout(DEADLINE_S):
            assert await asyncio.gather(*calling) == [n**2 for n in range(20)]
        watched = (await client.get_task(task.id)).subscriber_count
        assert watched == 1, "all of them wait on one stream"


async def test_a_call_that_fails(client: TaskcastClient) -> None:
    async with client.task() as task:
        calling = asyncio.create_task(task.call_tool("open", call_id="c"))
        await calls_of(client, task.id)
        await client.tool_result(task.id, "c", error="no such door")
        with pytest.raises(ToolFailed, match="no such door") as caught:
            await asyncio.wait_for(calling, DEADLINE_S)
        assert (caught.value.call_id, caught.value.name) == ("c", "open")
    (told,) = await client.get_history(task.id, types=["llm.tool_result"])
    assert (told.data, told.level) == ({"callId": "c", "error": "no such door"}, "warn")


async def test_the_first_answer_counts(client: TaskcastClient) -> None:
    async with client.task() as task:
        for _ in range(2):
            await client.tool_result(task.id, "c", 1)
        with pytest.raises(errors.IdempotencyConflict):
            await client.tool_result(task.id, "c", 2)
        await client.send_signal(task.id, "tool_result", {"callId": "c", "result": 3})
        assert await asyncio.wait_for(task.call_tool("x", call_id="c"), DEADLINE_S) == 1


async def test_what_is_no_answer_harms_nothing(client: TaskcastClient) -> None:
    async with client.task() as task:
        calling = asyncio.create_task(task.call_tool("x", call_id="c"))
        await calls_of(client, task.id)
        for data in (None, "c", [], {"callId": 7}, {"callId": ["c"]}, {"result": 1}):
            await client.send_signal(task.id, "tool_result", data)
        await client.send_signal(task.id, "other", {"callId": "c", "result": 1})
        await client.publish_events(task.id, [EventInput("taskcast:signal", data) for data in (None, [], {})])
        await client.tool_result(task.id, "c")
        assert await asyncio.wait_for(calling, DEADLINE_S) is None


async def test_a_call_cannot_be_open_twice(client: TaskcastClient) -> None:
    async with client.task() as task:
        calling = asyncio.create_task(task.call_tool("x", call_id="c"))
        await calls_of(client, task.id)
        with pytest.raises(ValueError, match="open already"):
            await task.call_tool("x", call_id="c")
        await client.tool_result(task.id, "c", 1)
        assert await asyncio.wait_for(calling, DEADLINE_S) == 1


async def test_waiting_has_an_end(client: TaskcastClient) -> None:
    async with client.task() as task:
        with pytest.raises(TimeoutError):
            await task.call_tool("x", call_id="c", timeout_s=0.01)
        await client.tool_result(task.id, "c", "late")
        assert await asyncio.wait_for(task.call_tool("x", call_id="c"), DEADLINE_S) == "late"
    with pytest.raises(TaskCancelled) as caught:  # noqa: PT012 - the block is what is tested
        async with client.task() as task:
            calling = asyncio.create_task(task.call_tool("x"))
            await calls_of(client, task.id)
            await client.cancel_task(task.id)
            await asyncio.wait_for(calling, DEADLINE_S)
    assert caught.value.status == "cancelled"
    with pytest.raises(errors.TaskEnded):
        await client.tool_result(task.id, "c2", 1)


async def test_a_run_that_comes_back_finds_its_answer(client: TaskcastClient) -> None:
    async with client.task() as first:
        calling = asyncio.create_task(first.call_tool("x", call_id="c"))
        await calls_of(client, first.id)
        first.let_go()
        calling.cancel()
    await client.tool_result(first.id, "c", 42)
    async with client.attach(first.id) as second:
        assert await asyncio.wait_for(second.call_tool("x", call_id="c"), DEADLINE_S) == 42


async def test_a_token_that_may_not_read_is_told_so(guarded_server: TaskcastServer) -> None:
    async with TaskcastClient(guarded_server.url) as nobody:
        scopes = ["task:create", "task:manage", "event:publish"]
        narrow = await nobody.create_admin_token("the-admin-token", scopes=scopes)
    async with TaskcastClient(guarded_server.url, token=narrow.token) as client, client.task() as task:
        for _ in range(2):
            with pytest.raises(errors.Forbidden):
                await asyncio.wait_for(task.call_tool("x"), DEADLINE_S)


async def test_a_conversation_shows_the_answer_at_once(client: TaskcastClient) -> None:
    task_id = await running_task(client)
    await client.tool_result(task_id, "unknown", 1)
    await client.publish_event(task_id, TOOL_CALL, {"callId": "c", "name": "add", "arguments": 1})
    await client.send_signal(task_id, "stop")
    await client.tool_result(task_id, "c", 2)
    conversation = Conversation()
    known = [conversation.apply(event) for event in await client.get_history(task_id)]
    assert known == [False, False, True, False, True]
    (call,) = conversation.messages[0].tool_calls
    assert (call.name, call.result, call.is_answered) == ("add", 2, True)


async def test_a_blocking_handler_calls_a_tool(client: TaskcastClient) -> None:
    kind = f"job.{uuid4().hex}"
    worker = TaskcastWorker(client)

    @worker.task(kind)
    def work(task: SyncTaskRun) -> dict[str, Any]:
        return {"got": task.call_tool("add", [1, 2], call_id="c", timeout_s=DEADLINE_S)}

    running = asyncio.create_task(worker.run())
    job = await client.create_task(type=kind, assign_mode="pull")
    await calls_of(client, job.id)
    await client.tool_result(job.id, "c", 3)
    assert (await asyncio.wait_for(client.wait(job.id), DEADLINE_S)).result == {"got": 3}
    await eventually(lambda: worker.running == 0)
    worker.stop()
    await running


def test_the_blocking_client_answers(memory_server: TaskcastServer) -> None:
    with SyncTaskcastClient(memory_server.url) as client, client.task() as task:
        client.tool_result(task.id, "c", {"ok": True})
        assert task.call_tool("x", call_id="c", message_id="response", timeout_s=DEADLINE_S) == {"ok": True}
        assert Signal.of(client.send_signal(task.id, "stop")) is not None
