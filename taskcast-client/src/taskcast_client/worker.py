"""Programs that run tasks: handlers for types of tasks, fed by long polls or over a WebSocket.

::

    worker = TaskcastWorker(TaskcastClient())

    @worker.task("llm.*", capacity=4)
    async def answer(task: TaskRun) -> dict:
        async for token in model(task.params["prompt"]):
            await task.text().write(token)
        return {"ok": True}

    asyncio.run(worker.run())

Each handler is a worker of its own to the server, with its own capacity. The server never gives it more than that; nor
does a handler ever run more often at a time than its capacity says. A task that is cancelled cancels its handler.
"""

from __future__ import annotations

import asyncio
import inspect
import logging
import socket
from collections.abc import Awaitable, Callable
from typing import Any, Literal, TypeVar
from uuid import uuid4

from attrs import define, field, frozen

from taskcast_client.client import TaskcastClient
from taskcast_client.errors import (
    ClientError,
    Forbidden,
    NotFound,
    TaskCancelled,
    Unauthorized,
    WorkerNotFound,
)
from taskcast_client.models import JsonObject, Task
from taskcast_client.producer import TaskRun
from taskcast_client.retries import RetryPolicy
from taskcast_client.sync_run import RunningLoop, SyncTaskRun

_log = logging.getLogger(__name__)

AsyncHandler = Callable[[TaskRun], Awaitable[JsonObject | None]]
BlockingHandler = Callable[[SyncTaskRun], JsonObject | None]
H = TypeVar("H", AsyncHandler, BlockingHandler)
Via = Literal["pull", "websocket"]

PULL_MS = 30_000
HEARTBEAT_S = 10.0
DRAIN_S = 30.0
_AGAIN = RetryPolicy(first_s=0.2, longest_s=10.0)
_HASTY_S = 0.05  # a poll that ends with nothing sooner than this did not wait: some servers answer so when in trouble


class Decline(Exception):
    """Raised by a handler: give the task back to the queue, and with ``blacklist`` never to this worker again."""

    def __init__(self, *, blacklist: bool = False) -> None:
        self.blacklist = blacklist
        super().__init__("declined")


@frozen
class Handler:
    """What one function takes, and how much of it at a time."""

    types: tuple[str, ...]
    tags: tuple[str, ...]
    capacity: int
    call: Callable[[TaskRun], Awaitable[JsonObject | None]]


@define(eq=False)
class Lane:
    """One handler at work: a worker in the server's eyes.

    Attributes:
        running: the tasks that it has, by id. turns: what its handler waits for, so that it runs only so often.
    """

    worker_id: str
    handler: Handler
    running: dict[str, Running] = field(factory=dict)
    room: asyncio.Event = field(factory=asyncio.Event)
    turns: asyncio.Semaphore = field(init=False)

    def __attrs_post_init__(self) -> None:
        self.turns = asyncio.Semaphore(self.handler.capacity)

    @property
    def is_full(self) -> bool:
        """Whether there is nothing to be asked for now."""
        return len(self.running) >= self.handler.capacity


@define(eq=False)
class Running:
    """One task at work."""

    run: TaskRun
    work: asyncio.Task[None]


class TaskcastWorker:
    """Runs tasks by handlers; see the module.

    Args:
        client: whose server gives the tasks; its token needs ``worker:connect``, ``task:manage``, ``event:publish``
            and ``event:subscribe``.
        id: of the worker, made up by default; a program that comes back under its old id keeps its tasks.
        via: how tasks come: by long polls (tasks with ``assignMode: pull``), or over a WebSocket (``ws-offer`` and
            ``ws-race``; needs the extra ``workers``).
        drain_s: how long tasks under way may take when the worker stops; then they are given up, and go back to the
            queue as their disconnect policy says.
    """

    def __init__(
        self,
        client: TaskcastClient,
        *,
        id: str | None = None,
        via: Via = "pull",
        drain_s: float = DRAIN_S,
        heartbeat_s: float = HEARTBEAT_S,
    ) -> None:
        self.id = id or f"{socket.gethostname()}-{uuid4().hex[:12]}"
        self._client, self._via = client, via
        self._drain_s, self._heartbeat_s = drain_s, heartbeat_s
        self._handlers: list[Handler] = []
        self._lanes: list[Lane] = []
        self._stopping: asyncio.Event | None = None

    def task(self, *types: str, capacity: int = 1, tags: tuple[str, ...] = ()) -> Callable[[H], H]:
        """Register a function for tasks of these types (patterns; none is all) that have all of these tags.

        What it returns is the task's result; what it raises fails the task. An ordinary function runs on a thread and
        gets a `SyncTaskRun`; since a thread cannot be interrupted, after a cancellation its next event raises
        `TaskCancelled`. ``capacity``: how many at a time, in units of cost.
        """

        def register(function: H) -> H:
            self._handlers.append(Handler(types, tags, capacity, _awaitable(function)))
            return function

        return register

    @property
    def running(self) -> int:
        """How many tasks are at work now."""
        return sum(len(lane.running) for lane in self._lanes)

    async def run(self) -> None:
        """Run tasks until `stop`, then drain; cancelling it does the same.

        Raises:
            Unauthorized, Forbidden, NotFound: the server takes no such worker. RuntimeError: there is no handler.
        """
        if not self._handlers:
            raise RuntimeError("no handler is registered: use @worker.task(…)")
        self._stopping = asyncio.Event()
        self._lanes = [Lane(self._lane_id(at), handler) for at, handler in enumerate(self._handlers)]
        try:
            async with asyncio.TaskGroup() as group:
                feeds = [group.create_task(self._feed(lane)) for lane in self._lanes]
                feeds += [group.create_task(self._keep_alive(lane)) for lane in self._lanes if self._via == "pull"]
                await self._stopping.wait()
                for feed in feeds:
                    feed.cancel()
        except ExceptionGroup as failures:
            raise failures.exceptions[0] from None
        finally:
            await self._drain()

    def stop(self) -> None:
        """Take no more tasks; `run` returns when those under way have ended."""
        if self._stopping is not None:
            self._stopping.set()

    def _lane_id(self, at: int) -> str:
        return self.id if len(self._handlers) == 1 else f"{self.id}.{at}"

    async def _feed(self, lane: Lane) -> None:
        if self._via == "pull":
            await self._pull(lane)
        else:
            from taskcast_client.worker_socket import WorkerSocket

            await WorkerSocket(self._client, lane, self.start, self.lose).run()

    # ── Pulling ────────────────────────────────────────────────────────────────────────────────────────────────────

    async def _pull(self, lane: Lane) -> None:
        failures = 0
        now = asyncio.get_running_loop().time
        handler = lane.handler
        while True:
            while lane.is_full:
                lane.room.clear()
                await lane.room.wait()
            began = now()
            try:
                task = await self._client.pull_task(
                    lane.worker_id,
                    timeout_ms=PULL_MS,
                    capacity=handler.capacity,
                    types=handler.types or None,
                    tags=handler.tags or None,
                )
            except (Unauthorized, Forbidden, NotFound):
                raise
            except ClientError as error:
                failures += 1
                _log.warning("worker %s cannot pull, trying again: %s", lane.worker_id, error)
                await asyncio.sleep(_AGAIN.pause_s(failures))
                continue
            if task is not None:
                self.start(lane, task, task.assignment_id)
            failures = failures + 1 if task is None and now() - began < _HASTY_S else 0
            if failures:
                await asyncio.sleep(_AGAIN.pause_s(failures))

    async def _keep_alive(self, lane: Lane) -> None:
        """Extend the leases of a pulling worker's tasks, and hear which of them are its own no more."""
        while True:
            await asyncio.sleep(self._heartbeat_s)
            if not lane.running:
                continue  # pulling is a sign of life, too
            try:
                for task_id in await self._client.send_heartbeat(lane.worker_id, tuple(lane.running)):
                    self.lose(lane, task_id)
            except WorkerNotFound:
                continue  # the next pull registers it again
            except NotFound:
                return  # a server without heartbeats
            except ClientError as error:
                _log.warning("worker %s cannot say that it is alive: %s", lane.worker_id, error)

    # ── Tasks ──────────────────────────────────────────────────────────────────────────────────────────────────────

    def start(self, lane: Lane, task: Task | str, assignment_id: str | None) -> None:
        """Run a task that the server has given to a lane."""
        task_id = task if isinstance(task, str) else task.id
        if task_id in lane.running:
            return  # given once more after a lost connection, and still at work
        run = self._client.attach(task, assignment_id=assignment_id)
        work = asyncio.get_running_loop().create_task(self._work(lane, task_id, run), name=f"taskcast {task_id}")
        lane.running[task_id] = Running(run, work)

    def lose(self, lane: Lane, task_id: str) -> None:
        """A task is not the lane's any more: cancel its handler."""
        if (lost := lane.running.get(task_id)) is not None:
            lost.run.let_go()
            lost.work.cancel()

    async def _work(self, lane: Lane, task_id: str, run: TaskRun) -> None:
        watcher: asyncio.Task[None] | None = None
        try:
            async with lane.turns, run:
                watcher = asyncio.get_running_loop().create_task(self._watch(lane, task_id, run))
                result = await self._call(lane, task_id, run)
                if result is not None:
                    run.result = result
        except asyncio.CancelledError:
            _log.info("task %s was cancelled", task_id)
        except TaskCancelled as error:
            _log.info("%s", error)
        except Exception:  # noqa: BLE001 - a handler may raise anything; the task has been told, and the worker goes on
            _log.exception("task %s failed", task_id)
        finally:
            if watcher is not None:
                watcher.cancel()
            lane.running.pop(task_id, None)
            lane.room.set()

    async def _call(self, lane: Lane, task_id: str, run: TaskRun) -> JsonObject | None:
        try:
            return await lane.handler.call(run)
        except Decline as decline:
            run.let_go()
            await self._client.decline_task(task_id, lane.worker_id, blacklist=decline.blacklist)
            return None

    async def _watch(self, lane: Lane, task_id: str, run: TaskRun) -> None:
        """Hear at once of a cancellation; where the token may not read, heartbeats tell of it later."""
        try:
            await run.cancelled
        except ClientError as error:
            _log.debug("task %s is not watched: %s", task_id, error)
        else:
            self.lose(lane, task_id)

    async def _drain(self) -> None:
        working = [each.work for lane in self._lanes for each in lane.running.values()]
        if not working:
            return
        beats = [asyncio.create_task(self._keep_alive(lane)) for lane in self._lanes]
        try:
            await asyncio.wait(working, timeout=self._drain_s)
        finally:
            for beat in beats:
                beat.cancel()
            for lane in self._lanes:
                for task_id in list(lane.running):
                    self.lose(lane, task_id)
            await asyncio.gather(*working, *beats, return_exceptions=True)


def _awaitable(function: Callable[[Any], Any]) -> AsyncHandler:
    """The function as one that is awaited: an ordinary one runs on a thread."""
    if inspect.iscoroutinefunction(function) or inspect.iscoroutinefunction(getattr(function, "__call__", None)):  # noqa: B004
        return function

    async def on_thread(run: TaskRun) -> JsonObject | None:
        face = SyncTaskRun(RunningLoop(asyncio.get_running_loop()), run)
        result: JsonObject | None = await asyncio.to_thread(function, face)
        return result

    return on_thread
