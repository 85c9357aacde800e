"""A server with workers, and a worker's end of its WebSocket."""

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any, Self

import httpx
from websockets.asyncio.client import ClientConnection, connect

from taskcast_core import MemoryBroadcastProvider, MemoryShortTermStore, TaskEngine
from taskcast_core.builtin.memory_long_term import MemoryLongTermStore
from taskcast_core.settings import EngineSettings
from taskcast_core.workers import WorkerSettings
from taskcast_server.app import TaskcastApp, create_taskcast_app
from tests.fixtures.eventually import DEADLINE_S
from tests.server.app_server import client, serving

QUICK = WorkerSettings(
    enabled=True,
    heartbeat_interval_ms=100,
    heartbeat_timeout_ms=600,
    offer_timeout_ms=400,
    disconnect_grace_ms=300,
    first_sign_ms=300,
)
CALLERS: dict[str, dict[str, Any]] = {
    "all": {"scope": ["*"], "sub": "all"},
    "worker": {"scope": ["worker:connect"], "sub": "worker", "workerId": "mine"},
    "reader": {"scope": ["event:subscribe"], "sub": "reader"},
}


def bearer(name: str) -> dict[str, str]:
    return {"authorization": f"Bearer {name}"}


def callers(connection: Any) -> dict[str, Any] | None:
    return CALLERS.get(connection.headers.get("authorization", "").removeprefix("Bearer "))


class Room:
    """One node: its engine, its application, its URL, a client that may do everything."""

    def __init__(self, engine: TaskEngine, app: TaskcastApp, url: str, http: httpx.AsyncClient) -> None:
        self.engine, self.app, self.url, self.http = engine, app, url, http

    async def create(self, **body: Any) -> dict[str, Any]:
        reply = await self.http.post("/tasks", json={"assignMode": "pull", **body})
        assert reply.status_code == 201, reply.text
        task: dict[str, Any] = reply.json()
        return task

    async def task(self, task_id: str) -> dict[str, Any]:
        task: dict[str, Any] = (await self.http.get(f"/tasks/{task_id}")).json()
        return task

    async def move(self, task_id: str, status: str, assignment: str | None = None, **body: Any) -> httpx.Response:
        headers = {} if assignment is None else {"x-taskcast-assignment": assignment}
        return await self.http.patch(f"/tasks/{task_id}/status", json={"status": status, **body}, headers=headers)

    async def pull(self, worker_id: str, timeout: int = 1000, **query: Any) -> httpx.Response:
        return await self.http.get("/workers/pull", params={"workerId": worker_id, "timeout": timeout, **query})

    async def worker(self, worker_id: str) -> httpx.Response:
        return await self.http.get(f"/workers/{worker_id}")


@asynccontextmanager
async def rooms(count: int = 1, settings: WorkerSettings = QUICK) -> AsyncIterator[list[Room]]:
    """Servers whose engines share one store and one broadcast."""
    store, broadcast, cold = MemoryShortTermStore(), MemoryBroadcastProvider(), MemoryLongTermStore()
    async with AsyncExitStack() as stack:
        made = []
        for _ in range(count):
            engine = TaskEngine(
                broadcast=broadcast,
                short_term_store=store,
                long_term_store=cold,
                settings=EngineSettings(workers=settings),
            )
            await stack.enter_async_context(engine)
            app = create_taskcast_app(engine=engine, auth=callers)
            url = await stack.enter_async_context(serving(app, ws="websockets-sansio"))
            http = await stack.enter_async_context(client(url, headers=bearer("all")))
            made.append(Room(engine, app, url, http))
        yield made


@asynccontextmanager
async def room(settings: WorkerSettings = QUICK) -> AsyncIterator[Room]:
    """One of them."""
    async with rooms(1, settings) as (only,):
        yield only


class SocketWorker:
    """A worker's end; answers pings while ``pongs`` is true, and keeps the other messages for ``expect``."""

    def __init__(self, connection: ClientConnection) -> None:
        self.connection = connection
        self.pongs = True
        self.pings = 0
        self.messages: list[dict[str, Any]] = []
        self._heard = asyncio.Event()
        self._reading: asyncio.Task[None] | None = None
        self.id = ""

    async def __aenter__(self) -> Self:
        self._reading = asyncio.create_task(self._read())
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.connection.close()
        if self._reading is not None:
            await asyncio.wait({self._reading})

    async def _read(self) -> None:
        async for text in self.connection:
            message = json.loads(text)
            if message["type"] == "ping":
                self.pings += 1
                if self.pongs:
                    await self.say(type="pong")
                continue
            self.messages.append(message)
            self._heard.set()

    async def say(self, **message: Any) -> None:
        await self.connection.send(json.dumps(message))

    async def expect(self, kind: str, within_s: float = DEADLINE_S) -> dict[str, Any]:
        """The next message of a kind; others stay."""
        async with asyncio.timeout(within_s):
            while True:
                for message in self.messages:
                    if message["type"] == kind:
                        self.messages.remove(message)
                        return message
                self._heard.clear()
                await self._heard.wait()

    async def register(self, worker_id: str | None = None, **facts: Any) -> str:
        given = {} if worker_id is None else {"workerId": worker_id}
        await self.say(type="register", **given, **facts)
        self.id = (await self.expect("registered"))["workerId"]
        return self.id

    async def cut(self) -> None:
        """End the connection without a word, as a killed process does."""
        self.connection.transport.abort()
        if self._reading is not None:
            await asyncio.wait({self._reading})


@asynccontextmanager
async def socket_worker(
    room: Room, worker_id: str | None = None, caller: str = "all", **facts: Any
) -> AsyncIterator[SocketWorker]:
    """A connected and registered worker."""
    async with connected(room, caller) as worker:
        await worker.register(worker_id, **facts)
        yield worker


@asynccontextmanager
async def connected(room: Room, caller: str = "all") -> AsyncIterator[SocketWorker]:
    """A connected worker that has not registered yet."""
    url = room.url.replace("http", "ws", 1) + "/workers/ws"
    connection = await connect(url, additional_headers=bearer(caller), proxy=None)
    async with SocketWorker(connection) as worker:
        yield worker
