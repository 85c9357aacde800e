"""A user's program, as strict type checkers see it: checked, never run."""

from collections.abc import AsyncIterator
from typing import Any, assert_type

from openai import AsyncOpenAI
from openai.types.chat import ChatCompletionChunk

from taskcast_client import (
    Cursor,
    Envelope,
    Event,
    EventInput,
    Signal,
    Subscription,
    SyncTaskcastClient,
    SyncTaskRun,
    Task,
    TaskArchive,
    TaskcastClient,
    TaskcastServerClient,
    TaskcastWorker,
    TaskInput,
    TaskRun,
    TaskStream,
    TextStream,
    ToolFailed,
    track,
)
from taskcast_client.errors import ClientError, TaskNotFound
from taskcast_client.models import BatchItem, ImportResult, Published, TaskPage, TaskStatus, Ticket, Worker
from taskcast_client.recorders.openai import record
from taskcast_client.vocabulary import Conversation, Message


async def current_token() -> str:
    return "…"


async def rest(client: TaskcastClient) -> None:
    task = await client.create_task(type="llm.chat", params={"q": 1}, tags=["a"], ttl=60)
    assert_type(task, Task)
    assert_type(task.status, TaskStatus)
    assert_type(task.params, dict[str, Any] | None)
    assert_type(await client.create_tasks([TaskInput(type="x")]), list[BatchItem])
    assert_type(await client.list_tasks(status=["running"]), TaskPage)
    assert_type(await client.transition_task(task.id, "blocked", blocked_request={"type": "ask", "data": 1}), Task)
    assert_type(await client.complete_task(task.id, {"n": 1}), Task)
    assert_type(await client.publish_event(task.id, "x", {"n": 1}), Event)
    assert_type(await client.publish_events(task.id, [EventInput("x", 1)]), list[Event])
    assert_type(await client.publish_lines(task.id, [EventInput("x", 1)]), Published)
    assert_type(await client.get_history(task.id, since=Cursor(index=3)), list[Event])
    archive = await client.export_task_archive(task.id)
    assert_type(archive, TaskArchive)
    assert_type(await client.import_task_archive(archive, overwrite=True), ImportResult)
    assert_type(await client.create_ticket(task.id), Ticket)
    assert_type(await client.list_workers(), list[Worker])
    assert_type(await client.pull_task("w"), Task | None)
    await client.delete_task(task.id)
    await client.create_task(kind="x")  # type: ignore[call-arg]
    await client.transition_task(task.id, "finished")  # type: ignore[arg-type]
    async for each in client.iterate_tasks(type="llm.*"):
        assert_type(each, Task)
    try:
        await client.get_task("x")
    except TaskNotFound as error:
        assert_type(error.status, int)
    except ClientError as error:
        assert_type(error.retryable, bool)


async def read(client: TaskcastClient, task_id: str) -> list[Message]:
    stream = client.subscribe(task_id, types=["llm.*"], since="01…")
    assert_type(stream, TaskStream)
    conversation = Conversation()
    async for event in stream:
        assert_type(event, Envelope)
        conversation.apply(event)
    assert_type(stream.status, str | None)
    handle = client.subscribe(task_id, on_event=lambda event: print(event.data))
    assert_type(handle, Subscription)
    handle.unsubscribe()
    text = client.text(task_id, growing=True)
    assert_type(text, TextStream)
    async for piece in text:
        assert_type(piece, str)
    return conversation.messages


async def produce(client: TaskcastClient, llm: AsyncOpenAI) -> None:
    async with client.task(type="llm.chat", params={"q": 1}) as task:
        assert_type(task, TaskRun)
        stream = await llm.chat.completions.create(model="m", messages=[{"role": "user", "content": "hi"}], stream=True)
        async for chunk in record(task, stream):
            assert_type(chunk, ChatCompletionChunk)
        async for page in task.track([1, 2]):
            assert_type(page, int)
        await task.text("response").write("Hello")
        await task.progress(1, 2)
        await task.log("careful", "warn", where="here")
        task.result = {"ok": True}
        task.result = 5  # type: ignore[assignment]


async def tools(client: TaskcastClient) -> None:
    async with client.task(type="llm.chat") as task:
        assert_type(await task.call_tool("add", {"a": 1}, call_id="c", message_id="m", timeout_s=60.0), Any)
        try:
            await task.call_tool("add")
        except ToolFailed as error:
            assert_type(error.call_id, str)
    assert_type(await client.tool_result("t", "c", {"sum": 3}), Event)
    assert_type(await client.tool_result("t", "c", error="no"), Event)
    told = await client.send_signal("t", "stop", {"now": True}, id="one")
    assert_type(Signal.of(told), Signal | None)
    await client.tool_result("t", 7)  # type: ignore[arg-type]
    await task.call_tool()  # type: ignore[call-arg]


def blocking() -> None:
    with SyncTaskcastClient("http://localhost:3721", token="…") as client:
        assert_type(client.create_task(type="x"), Task)
        assert_type(client.list_tasks().tasks, list[Task])
        for event in client.subscribe("x"):
            assert_type(event, Envelope)
        with client.task(type="x") as task:
            assert_type(task, SyncTaskRun)
            for word in task.track(["a"]):
                assert_type(word, str)
            assert_type(task.call_tool("add", [1, 2]), Any)
        assert_type(client.tool_result("t", "c", 3), Event)


def script(pages: list[int]) -> None:
    for page in track(pages, message="reading"):
        assert_type(page, int)


def work(client: TaskcastServerClient) -> TaskcastWorker:
    worker = TaskcastWorker(client)

    @worker.task("llm.*", capacity=4)
    async def answer(task: TaskRun) -> dict[str, Any]:
        return {"q": task.params["q"]}

    @worker.task("report")
    def report(task: SyncTaskRun) -> None:
        task.log("done")

    return worker


async def words() -> AsyncIterator[str]:
    yield "Hello"


def clients() -> list[TaskcastClient]:
    return [TaskcastClient(), TaskcastClient(token=current_token), TaskcastClient(token=lambda: "…", service_key="k")]
