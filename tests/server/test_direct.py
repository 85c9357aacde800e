"""Around ASGI or through it: readers see the same, and no more is buffered for them."""

import asyncio
import json
import re
import socket
from collections.abc import AsyncIterator, Awaitable, Callable, MutableMapping
from contextlib import AsyncExitStack
from typing import Any

import httpx
import pytest
from starlette.middleware.cors import CORSMiddleware

from taskcast_core import TaskEngine
from taskcast_core.deliveries import Batch
from taskcast_server.app import create_taskcast_app
from taskcast_server.exchange import Exchange
from taskcast_server.failures import FAILURES
from taskcast_server.options import CorsOptions
from taskcast_server.protocol import DirectProtocol
from taskcast_server.routes import stream
from taskcast_server.sse import encode_wrapped
from tests.fixtures.eventually import eventually
from tests.server.app_server import client, following, memory_engine, serving

pytestmark = [pytest.mark.anyio, pytest.mark.usefixtures("no_stray_tasks")]

Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]


@pytest.fixture
async def engine() -> AsyncIterator[TaskEngine]:
    async with memory_engine() as engine:
        await engine.create_task(id="t")
        await engine.transition_task("t", "running")
        yield engine


@pytest.fixture
def pushed(monkeypatch: pytest.MonkeyPatch) -> list[bytes]:
    """What went around ASGI's messages."""
    seen: list[bytes] = []
    push = Exchange.push

    def noted(direct: Exchange, framed: bytes) -> bool:
        is_sent = push(direct, framed)
        if is_sent:
            seen.append(framed)
        return is_sent

    monkeypatch.setattr(Exchange, "push", noted)
    return seen


class Wrapped:
    """A middleware that looks at every message that is sent."""

    def __init__(self, app: Any) -> None:
        self._app = app
        self.bodies = b""

    async def __call__(self, scope: Any, receive: Any, send: Send) -> None:
        async def watched(message: MutableMapping[str, Any]) -> None:
            self.bodies += message.get("body", b"")
            await send(message)

        await self._app(scope, receive, watched)


@pytest.mark.parametrize("way", ["direct", "plain", "wrapped"])
async def test_readers_see_the_same_on_every_way(engine: TaskEngine, pushed: list[bytes], way: str) -> None:
    app: Any = create_taskcast_app(engine=engine)
    wrapped = Wrapped(app)
    given = wrapped if way == "wrapped" else app
    protocol = "httptools" if way == "plain" else DirectProtocol
    async with serving(given, http=protocol) as url, client(url) as http:  # noqa: SIM117 - the stream ends first
        async with following(http, "/tasks/t/events", params={"types": "x.*"}) as frames:
            await eventually(lambda: engine.hub.subscribers("t") == 1)
            reply = await http.post("/tasks/t/events", json={"type": "x.a", "level": "info", "data": "ä"})
            assert reply.status_code == 201
            assert reply.json()["data"] == "ä"
            assert (await frames.next() or {})["json"]["data"] == "ä"
            await http.post("/tasks/t/events", json={"type": "hidden", "level": "info", "data": 1})
            await http.post("/tasks/t/events", json=[{"type": "x.b", "level": "info", "data": n} for n in range(3)])
            assert [(await frames.next() or {})["json"]["filteredIndex"] for _ in range(3)] == [1, 2, 3]
            await http.patch("/tasks/t/status", json={"status": "completed"})
            assert (await frames.next() or {})["event"] == "taskcast.done"
            assert await frames.next() is None
    assert bool(pushed) == (way == "direct")
    assert (b"taskcast.done" in wrapped.bodies) == (way == "wrapped")


async def test_a_reader_who_takes_nothing_is_only_its_cursor(engine: TaskEngine, pushed: list[bytes]) -> None:
    async with serving(create_taskcast_app(engine=engine)) as url:
        reader, writer = await _open(url, b"GET /tasks/t/events?types=x HTTP/1.1\r\nhost: x\r\n\r\n", window=4096)
        await eventually(lambda: engine.hub.subscribers("t") == 1)
        count, size = 300, 50_000
        for number in range(count):
            await engine.publish_event("t", type="x", data={"n": number, "pad": "x" * size})
            await asyncio.sleep(0)
        assert sum(map(len, pushed)) < 100 * size  # the rest is in the log, not in the transport
        numbers: list[int] = []
        text = b""
        while len(numbers) < count:
            text += await asyncio.wait_for(reader.read(1 << 20), 20)
            found = list(re.finditer(rb'"data":\{"n":(\d+),', text))
            numbers += [int(each[1]) for each in found]
            text = text[found[-1].end() :] if found else text[-100:]
        assert numbers == list(range(count))
        writer.close()
        await eventually(lambda: engine.hub.subscribers("t") == 0)


async def test_a_reader_who_has_sent_another_request_still_leaves(engine: TaskEngine) -> None:
    async with serving(create_taskcast_app(engine=engine)) as url:
        request = b"GET /tasks/t/events HTTP/1.1\r\nhost: x\r\n\r\n"
        _, writer = await _open(url, request)
        await eventually(lambda: engine.hub.subscribers("t") == 1)
        writer.write(request)
        await writer.drain()
        writer.close()

        async def is_gone() -> bool:
            # The server reads nothing more from this line; that it is dead shows when something is written.
            await engine.publish_event("t", type="x")
            return engine.hub.subscribers("t") == 0

        await eventually(is_gone)


async def test_readers_who_have_everything_need_no_task(engine: TaskEngine, pushed: list[bytes]) -> None:
    """Neither while they wait nor when there is news; only for what cannot be written at once."""
    async with serving(create_taskcast_app(engine=engine)) as url, AsyncExitStack() as lines:
        before = len(asyncio.all_tasks())
        readers = []
        for _ in range(20):
            reader, writer = await _open(url, b"GET /tasks/t/events HTTP/1.1\r\nhost: x\r\n\r\n")
            lines.callback(writer.close)
            readers.append(reader)
        for reader in readers:
            await asyncio.wait_for(reader.readuntil(b'"status":"running"'), 20)
        await eventually(lambda: len(asyncio.all_tasks()) == before)
        assert engine.hub.subscribers("t") == 20
        pushed.clear()
        for number in range(3):
            await engine.publish_event("t", type="x", data=f"number {number}")
            assert len(asyncio.all_tasks()) == before
            for reader in readers:
                await asyncio.wait_for(reader.readuntil(b"number %d" % number), 20)
        assert len(pushed) == 3 * len(readers)
        await engine.transition_task("t", "completed")
        for reader in readers:
            await asyncio.wait_for(reader.readuntil(b"taskcast.done"), 20)
        assert engine.hub.subscribers("t") == 0


async def test_an_error_behind_the_request_is_told_and_the_line_closed(
    engine: TaskEngine, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def encode(batch: Batch) -> bytes:
        if batch.deliveries[0].entry.type == "poison":
            raise ValueError("this cannot be encoded")
        return encode_wrapped(batch)

    monkeypatch.setattr(stream, "encode_wrapped", encode)
    async with serving(create_taskcast_app(engine=engine)) as url:
        reader, writer = await _open(url, b"GET /tasks/t/events HTTP/1.1\r\nhost: x\r\nx-request-id: mine\r\n\r\n")
        await asyncio.wait_for(reader.readuntil(b'"status":"running"'), 20)
        await engine.publish_event("t", type="poison")
        rest = await asyncio.wait_for(reader.read(), 20)
        assert b"poison" not in rest and not rest.endswith(b"0\r\n\r\n")
        writer.close()
    (told,) = [json.loads(each.message) for each in caplog.records if each.name == FAILURES.name]
    assert (told["path"], told["status"], told["requestId"]) == ("/tasks/t/events", 500, "mine")
    assert "this cannot be encoded" in told["error"]
    assert engine.hub.subscribers("t") == 0


async def test_other_origins_get_their_headers(engine: TaskEngine) -> None:
    app = create_taskcast_app(engine=engine, cors=CorsOptions(origins=("https://a.example",)))
    async with serving(app) as url, client(url, headers={"origin": "https://a.example"}) as http:
        reply = await http.post("/tasks/t/events", json={"type": "x", "level": "info"})
        assert reply.headers["access-control-allow-origin"] == "https://a.example"
        assert (await http.head("/health")).content == b""


async def test_pages_of_other_origins_are_streamed_to_directly(engine: TaskEngine, pushed: list[bytes]) -> None:
    app = create_taskcast_app(engine=engine, cors=CorsOptions(origins=("https://a.example",)))
    headers = {"origin": "https://a.example"}
    async with (
        serving(app) as url,
        client(url, headers=headers) as http,
        http.stream("GET", "/tasks/t/events", params={"types": "x"}) as reply,
    ):
        assert reply.headers.get_list("access-control-allow-origin") == ["https://a.example"]
        await eventually(lambda: engine.hub.subscribers("t") == 1)
        await engine.publish_event("t", type="x", data="told")
        async with asyncio.timeout(20):
            async for line in reply.aiter_lines():
                if '"told"' in line:
                    break
    assert pushed


@pytest.mark.parametrize("http", [DirectProtocol, "httptools"])
@pytest.mark.parametrize("credentials", [True, False])
@pytest.mark.parametrize("origins", [("https://a.example", "https://b.example"), ("*",)])
async def test_origins_are_told_what_starlette_tells_them(
    engine: TaskEngine, origins: tuple[str, ...], credentials: bool, http: Any
) -> None:
    options = CorsOptions(origins=origins, credentials=credentials)
    app = create_taskcast_app(engine=engine, cors=options)
    plain = CORSMiddleware(
        create_taskcast_app(engine=engine),
        allow_origins=options.origins,
        allow_methods=options.methods,
        allow_headers=options.headers,
        allow_credentials=options.credentials,
        expose_headers=("Taskcast-Gap", "Retry-After", "X-Request-Id"),
        max_age=options.max_age_seconds,
    )
    given = {"x-request-id": "r"}
    asked = {"access-control-request-method": "PATCH", "access-control-request-headers": "authorization"}
    requests = [
        (method, path, {**given, **origin, **more})
        for origin in ({}, *({"origin": f"https://{name}.example"} for name in "abz"))
        for method, path in (("GET", "/tasks/t"), ("GET", "/tasks/none"), ("GET", "/nowhere"), ("OPTIONS", "/tasks/t"))
        for more in ({}, {"cookie": "a=b"}, asked)
    ]

    async def answers(app: Any) -> list[tuple[int, list[tuple[str, str]]]]:
        async with serving(app, http=http) as url, client(url) as caller:
            replies = [await caller.request(method, path, headers=headers) for method, path, headers in requests]
            return [
                (reply.status_code, sorted(each for each in reply.headers.multi_items() if each[0] != "date"))
                for reply in replies
            ]

    assert await answers(app) == await answers(plain)


async def _open(url: str, request: bytes, window: int = 0) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    target = httpx.URL(url)
    line = socket.socket()
    if window:
        line.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, window)
    line.setblocking(False)
    await asyncio.get_running_loop().sock_connect(line, (target.host, target.port))
    reader, writer = await asyncio.open_connection(sock=line, limit=1 << 16)
    writer.write(request)
    await writer.drain()
    return reader, writer
