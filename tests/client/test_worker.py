"""Handlers that run tasks: by long polls and over a WebSocket, with bounded concurrency, cancelled and drained."""

import asyncio
import contextlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from uuid import uuid4

import pytest

from taskcast_client import SyncTaskRun, Task, TaskCancelled, TaskcastClient, TaskcastWorker, TaskRun, errors
from taskcast_client.models import AssignMode
from taskcast_client.worker import Decline, Via
from taskcast_client.worker_main import main
from tests.client.conftest import TaskcastServer
from tests.fixtures.eventually import DEADLINE_S, eventually

pytestmark = [pytest.mark.anyio, pytest.mark.usefixtures("no_stray_tasks")]

MODES: dict[Via, AssignMode] = {"pull": "pull", "websocket": "ws-offer"}


@pytest.fixture
def kind() -> str:
    """A type of tasks of this test alone."""
    return f"job.{uuid4().hex}"


@pytest.fixture(params=["pull", "websocket"])
def via(request: pytest.FixtureRequest) -> Via:
    found: Via = request.param
    return found


@contextlib.asynccontextmanager
async def at_work(worker: TaskcastWorker) -> AsyncIterator[None]:
    running = asyncio.create_task(worker.run())
    try:
        yield
    finally:
        await asyncio.sleep(0)
        worker.stop()
        await asyncio.wait_for(running, DEADLINE_S)


async def ended(client: TaskcastClient, task_id: str, within_s: float = DEADLINE_S) -> Task:
    return await asyncio.wait_for(client.wait(task_id), within_s)


async def test_tasks_are_run_and_seen(client: TaskcastClient, via: Via, kind: str) -> None:
    worker = TaskcastWorker(client, via=via)

    @worker.task(f"{kind}.*", capacity=4)
    async def answer(task: TaskRun) -> dict[str, int]:
        await task.text().write(f"for {task.params['n']}")
        return {"n": task.params["n"]}

    made = [await client.create_task(type=f"{kind}.x", params={"n": 0}, assign_mode=MODES[via])]
    async with at_work(worker):
        made += [
            await client.create_task(type=f"{kind}.x", params={"n": n}, assign_mode=MODES[via]) for n in range(1, 10)
        ]
        for n, task in enumerate(made):
            done = await ended(client, task.id)
            assert (done.status, done.result) == ("completed", {"n": n})
            assert [piece async for piece in client.text(task.id)] == [f"for {n}"]


async def test_never_more_at_a_time_than_the_capacity(client: TaskcastClient, via: Via, kind: str) -> None:
    worker = TaskcastWorker(client, via=via)
    now = most = 0
    three = asyncio.Event()

    @worker.task(kind, capacity=3)
    async def work(task: TaskRun) -> None:
        nonlocal now, most
        now += 1
        most = max(most, now)
        if now == 3:
            three.set()
        await asyncio.wait_for(three.wait(), DEADLINE_S)
        now -= 1

    async with at_work(worker):
        made = [await client.create_task(type=kind, assign_mode=MODES[via]) for _ in range(12)]
        for task in made:
            assert (await ended(client, task.id, 30)).status == "completed"
    assert most == 3


async def test_a_race_for_more_than_there_is_room_for(client: TaskcastClient, kind: str) -> None:
    worker = TaskcastWorker(client, via="websocket")

    @worker.task(kind, capacity=2)
    async def work(task: TaskRun) -> None:
        await asyncio.sleep(0)

    made = [await client.create_task(type=kind, assign_mode="ws-race", cost=1 + n % 2) for n in range(12)]
    async with at_work(worker):
        for task in made:
            assert (await ended(client, task.id)).status == "completed"


async def test_a_blocking_handler_runs_on_a_thread(client: TaskcastClient, via: Via, kind: str) -> None:
    worker = TaskcastWorker(client, via=via)

    @worker.task(kind, capacity=2)
    def work(task: SyncTaskRun) -> dict[str, int]:
        for n in task.track([1, 2, 3]):
            task.log(f"page {n}")
        time.sleep(0.01)
        return {"pages": 3}

    async with at_work(worker):
        task = await client.create_task(type=kind, assign_mode=MODES[via])
        assert (await ended(client, task.id)).result == {"pages": 3}


async def test_what_a_handler_raises_fails_its_task_alone(client: TaskcastClient, via: Via, kind: str) -> None:
    worker = TaskcastWorker(client, via=via)

    @worker.task(kind)
    async def work(task: TaskRun) -> None:
        if task.params.get("bad"):
            raise LookupError("nothing there")

    async with at_work(worker):
        bad = await client.create_task(type=kind, params={"bad": True}, assign_mode=MODES[via])
        good = await client.create_task(type=kind, assign_mode=MODES[via])
        failed = await ended(client, bad.id)
        assert failed.error
        assert (failed.error.code, failed.error.message) == ("LookupError", "nothing there")
        assert (await ended(client, good.id)).status == "completed"


async def test_a_task_that_failed_is_tried_again(client: TaskcastClient, kind: str) -> None:
    worker = TaskcastWorker(client)
    attempts: list[int | None] = []

    @worker.task(kind)
    async def work(task: TaskRun) -> dict[str, int]:
        attempts.append(task.task.attempt)
        if len(attempts) < 3:
            raise LookupError("not yet")
        return {"attempts": len(attempts)}

    async with at_work(worker):
        policy = {"attempts": 3, "backoff": "fixed", "delayMs": 10}
        task = await client.create_task(type=kind, assign_mode="pull", retry=policy)
        assert (await ended(client, task.id)).result == {"attempts": 3}
    assert attempts == [1, 2, 3]


async def test_cancelling_a_task_cancels_its_handler(client: TaskcastClient, via: Via, kind: str) -> None:
    worker = TaskcastWorker(client, via=via)
    story: list[str] = []

    @worker.task(kind)
    async def work(task: TaskRun) -> None:
        story.append("begun")
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            story.append("cancelled")
            raise

    async with at_work(worker):
        task = await client.create_task(type=kind, assign_mode=MODES[via])
        await eventually(lambda: story)
        await client.cancel_task(task.id)
        await eventually(lambda: story == ["begun", "cancelled"])
        await eventually(lambda: worker.running == 0)
    assert (await client.get_task(task.id)).status == "cancelled"


async def test_cancelling_reaches_a_thread_with_its_next_event(client: TaskcastClient, kind: str) -> None:
    worker = TaskcastWorker(client)
    story: list[str] = []

    @worker.task(kind)
    def work(task: SyncTaskRun) -> None:
        story.append("begun")
        try:
            for n in range(3000):
                task.log(f"{n}")
                time.sleep(0.01)
        except TaskCancelled:
            story.append("cancelled")

    async with at_work(worker):
        task = await client.create_task(type=kind, assign_mode="pull")
        await eventually(lambda: story)
        await client.cancel_task(task.id)
        await eventually(lambda: story == ["begun", "cancelled"])


async def test_giving_a_task_back(client: TaskcastClient, kind: str) -> None:
    first, second = TaskcastWorker(client, id=uuid4().hex), TaskcastWorker(client, id=uuid4().hex)
    seen: list[str] = []

    @first.task(kind)
    async def refuse(task: TaskRun) -> None:
        seen.append("first")
        raise Decline(blacklist=True)

    @second.task(kind)
    async def take(task: TaskRun) -> None:
        seen.append("second")

    async with at_work(first):
        task = await client.create_task(type=kind, assign_mode="pull")
        await eventually(lambda: seen == ["first"])
        async with at_work(second):
            assert (await ended(client, task.id)).status == "completed"
    assert seen == ["first", "second"]


async def test_stopping_lets_tasks_under_way_end(client: TaskcastClient, via: Via, kind: str) -> None:
    worker = TaskcastWorker(client, via=via)
    begun, go = asyncio.Event(), asyncio.Event()

    @worker.task(kind)
    async def work(task: TaskRun) -> None:
        begun.set()
        await go.wait()

    running = asyncio.create_task(worker.run())
    task = await client.create_task(type=kind, assign_mode=MODES[via])
    await asyncio.wait_for(begun.wait(), DEADLINE_S)
    worker.stop()
    late = await client.create_task(type=kind, assign_mode=MODES[via])
    await asyncio.sleep(0.1)
    assert not running.done()
    go.set()
    await asyncio.wait_for(running, DEADLINE_S)
    assert (await client.get_task(task.id)).status == "completed"
    assert (await client.get_task(late.id)).status == "pending"


async def test_draining_has_an_end(client: TaskcastClient, kind: str) -> None:
    worker = TaskcastWorker(client, drain_s=0.1)
    begun = asyncio.Event()

    @worker.task(kind)
    async def work(task: TaskRun) -> None:
        begun.set()
        await asyncio.Event().wait()

    running = asyncio.create_task(worker.run())
    task = await client.create_task(type=kind, assign_mode="pull")
    await asyncio.wait_for(begun.wait(), DEADLINE_S)
    worker.stop()
    await asyncio.wait_for(running, DEADLINE_S)
    assert (await client.get_task(task.id)).status == "running", "it is for the queue to give it to another"


async def test_a_worker_that_the_server_does_not_take(guarded_server: TaskcastServer, via: Via) -> None:
    async with TaskcastClient(guarded_server.url, token="wrong") as client:
        worker = TaskcastWorker(client, via=via)
        worker.task("x")(_nothing)
        with pytest.raises(errors.Unauthorized):
            await asyncio.wait_for(worker.run(), DEADLINE_S)
        with pytest.raises(RuntimeError):
            await TaskcastWorker(client).run()


async def _nothing(task: TaskRun) -> None:
    pass


# ── The command ───────────────────────────────────────────────────────────────────────────────────────────────────

SCRIPTS = Path(sys.executable).parent
COMMANDS = [[SCRIPTS / "taskcast", "worker"], [SCRIPTS / "taskcast-worker"]]
PROGRAM = """
import asyncio, os
from taskcast_client import TaskcastClient, TaskcastWorker

worker = TaskcastWorker(TaskcastClient(os.environ["TASKCAST_URL"]))

@worker.task(os.environ["KIND"], capacity=2)
async def work(task):
    return {"pid": os.getpid()}
"""


@contextlib.contextmanager
def program(
    command: list[Path | str], server: TaskcastServer, kind: str, cwd: Path
) -> Iterator[subprocess.Popen[bytes]]:
    """A program with a worker, run by a command."""
    settings = {**os.environ, "TASKCAST_URL": server.url, "KIND": kind}
    process = subprocess.Popen([*command, "jobs:worker"], cwd=cwd, env=settings)
    try:
        yield process
    finally:
        process.kill()
        process.wait()


async def test_commands_run_a_worker_until_they_are_told_to_stop(
    client: TaskcastClient, server: TaskcastServer, kind: str, tmp_path: Path
) -> None:
    (tmp_path / "jobs.py").write_text(PROGRAM)
    kinds = [f"{kind}.{at}" for at in range(len(COMMANDS))]
    with contextlib.ExitStack() as stack:
        programs = [
            stack.enter_context(program(command, server, each, tmp_path))
            for command, each in zip(COMMANDS, kinds, strict=True)
        ]
        tasks = [await client.create_task(type=each, assign_mode="pull") for each in kinds]
        for process, task in zip(programs, tasks, strict=True):
            assert (await ended(client, task.id, 60)).result == {"pid": process.pid}
            process.send_signal(signal.SIGTERM)
        for process in programs:
            assert await asyncio.to_thread(process.wait, DEADLINE_S) == 0


@pytest.mark.parametrize("wrong", ["jobs", "jobs:nothing", "nowhere:worker", "os:path"])
def test_a_command_without_a_worker(
    wrong: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "jobs.py").write_text("")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    with pytest.raises(SystemExit) as caught:
        main([wrong])
    sys.modules.pop("jobs", None)
    assert caught.value.code == 2
    assert capsys.readouterr().err.startswith("taskcast worker: ")
