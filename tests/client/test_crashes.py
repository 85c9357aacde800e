"""A server that is killed, stopped and started again under everybody who uses it: nothing is lost, nothing twice."""

import asyncio
from uuid import uuid4

import pytest

from taskcast_client import Envelope, RetryPolicy, TaskcastClient, TaskcastWorker, TaskRun, TaskStream
from taskcast_client.models import AssignMode
from taskcast_client.worker import Via
from tests.client.conftest import TaskcastServer
from tests.fixtures.eventually import eventually

pytestmark = [pytest.mark.anyio, pytest.mark.usefixtures("no_stray_tasks")]

PATIENT = RetryPolicy(attempts=1000, first_s=0.02, longest_s=0.2)
COUNT = 60


class Script:
    """When the server is to end, in terms of what the producer has said."""

    def __init__(self) -> None:
        self.kill, self.killed, self.stop = asyncio.Event(), asyncio.Event(), asyncio.Event()

    async def at(self, n: int) -> None:
        if n == 15:
            self.kill.set()
        elif n == 40:
            await self.killed.wait()
            self.stop.set()


async def tell(client: TaskcastClient, task_id: asyncio.Future[str], script: Script) -> None:
    """A producer that goes on through two ends of its server."""
    async with client.task() as task:
        task_id.set_result(task.id)
        for n in range(COUNT):
            await task.emit("n", n)
            await task.text().write(f"{n} ")
            await asyncio.sleep(0.01)
            await script.at(n)


async def read(stream: TaskStream) -> list[Envelope]:
    async with stream:
        return [event async for event in stream]


def text_of(events: list[Envelope]) -> str:
    text = ""
    for event in events:
        if event.series_id == "response":
            text = event.data["delta"] if event.series_snapshot else text + event.data["delta"]
    return text


async def call_tool(client: TaskcastClient, go: asyncio.Event) -> object:
    """A tool call that is open while the server is away."""
    async with client.task() as task:
        calling = asyncio.create_task(task.call_tool("add", call_id="c"))
        await go.wait()
        await client.tool_result(task.id, "c", 3)
        return await calling


def at_work(client: TaskcastClient, via: Via, kind: str) -> tuple[TaskcastWorker, asyncio.Task[None]]:
    worker = TaskcastWorker(client, via=via)

    @worker.task(kind)
    async def work(task: TaskRun) -> dict[str, str]:
        return {"via": via}

    return worker, asyncio.create_task(worker.run())


async def worked(client: TaskcastClient, modes: dict[AssignMode, str]) -> None:
    """Give each worker a task, and wait for it."""
    tasks = [await client.create_task(type=kind, assign_mode=mode) for mode, kind in modes.items()]
    for task in tasks:
        assert (await client.wait(task.id)).status == "completed"


async def test_nobody_notices(own_server: TaskcastServer, monkeypatch: pytest.MonkeyPatch) -> None:
    for module in ("worker", "worker_socket", "stream"):
        monkeypatch.setattr(f"taskcast_client.{module}._AGAIN", RetryPolicy(first_s=0.02, longest_s=0.2))
    kinds: dict[AssignMode, str] = {"pull": f"pull.{uuid4().hex}", "ws-offer": f"socket.{uuid4().hex}"}
    async with asyncio.timeout(100), TaskcastClient(own_server.url, retry=PATIENT) as client:
        workers = [at_work(client, "pull", kinds["pull"]), at_work(client, "websocket", kinds["ws-offer"])]
        await worked(client, kinds)
        task_id: asyncio.Future[str] = asyncio.get_running_loop().create_future()
        script = Script()
        telling = asyncio.create_task(tell(client, task_id, script))
        stream = client.subscribe(await task_id)
        reading = asyncio.create_task(read(stream))
        calling = asyncio.create_task(call_tool(client, script.stop))
        await script.kill.wait()
        await asyncio.to_thread(own_server.kill)
        await asyncio.to_thread(own_server.start)
        await worked(client, kinds)
        script.killed.set()
        await script.stop.wait()
        await asyncio.to_thread(own_server.stop)
        await asyncio.to_thread(own_server.start)
        await worked(client, kinds)
        await telling
        events = await reading
        assert await calling == 3
        history = await client.get_history(await task_id, types=["n"])
        await eventually(lambda: all(worker.running == 0 for worker, _ in workers))
        for worker, running in workers:
            worker.stop()
            await running
    assert [event.data for event in history] == list(range(COUNT)), "each once, although replies were lost"
    assert [event.data for event in events if event.type == "n"] == list(range(COUNT))
    assert text_of(events) == "".join(f"{n} " for n in range(COUNT))
    assert stream.connections >= 3
    assert stream.status == "completed"
