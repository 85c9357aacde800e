"""Streams over real connections: first bytes, resume, heartbeats, expiry, disconnects, shutdown, tickets."""

import asyncio
import socket
import time
from contextlib import AsyncExitStack
from typing import Any

import httpx
import pytest

from taskcast_core import TaskEngine
from taskcast_core.contracts.auth import Principal
from taskcast_server import streaming
from taskcast_server.app import TaskcastApp, create_taskcast_app
from taskcast_server.options import LimitOptions
from taskcast_server.protocol import DirectProtocol
from taskcast_server.wheel import Wheel
from tests.fixtures.eventually import SOON_S, eventually
from tests.server.app_server import client, following, memory_engine, serving

pytestmark = [pytest.mark.anyio, pytest.mark.usefixtures("no_stray_tasks")]

EVENT = {"type": "x", "level": "info", "data": 1}


@pytest.fixture
async def engine() -> Any:
    async with memory_engine() as engine:
        await engine.create_task(id="t")
        yield engine


@pytest.fixture
async def app(engine: TaskEngine) -> TaskcastApp:
    return create_taskcast_app(engine=engine)


@pytest.fixture
async def http(app: TaskcastApp) -> Any:
    async with serving(app) as url, client(url) as http:
        yield http


async def test_headers_and_the_first_bytes_come_at_once(http: httpx.AsyncClient) -> None:
    async with http.stream("GET", "/tasks/t/events") as response:
        assert response.headers["content-type"] == "text/event-stream; charset=utf-8"
        assert response.headers["cache-control"] == "no-cache, no-transform"
        assert response.headers["x-accel-buffering"] == "no"
        assert response.headers["connection"] == "keep-alive"
        async with asyncio.timeout(2):
            assert (await anext(response.aiter_bytes())).startswith(b":")


async def test_a_cut_reader_resumes_by_last_event_id_with_folded_snapshots(
    http: httpx.AsyncClient, engine: TaskEngine
) -> None:
    delta = {"type": "d", "level": "info", "seriesId": "s", "seriesMode": "accumulate"}
    events = await engine.publish_events("t", [{**delta, "data": {"delta": text}} for text in "abcd"])
    await engine.transition_task("t", "cancelled")
    async with following(http, "/tasks/t/events", headers={"last-event-id": events[1].id}) as frames:
        received = [frame["json"] for frame in await frames.rest()]
    assert [(e.get("data"), e.get("seriesSnapshot")) for e in received[:2]] == [
        ({"delta": "abc"}, True), ({"delta": "d"}, None)
    ]  # fmt: skip
    async with following(http, "/tasks/t/events", params={"since.id": events[1].id}) as frames:
        received = [frame["json"] for frame in await frames.rest()]
    assert [e.get("data") for e in received[:2]] == [{"delta": "c"}, {"delta": "d"}]


async def test_a_cursor_that_cannot_be_honoured_begins_with_a_gap(http: httpx.AsyncClient, engine: TaskEngine) -> None:
    await engine.publish_events("t", [EVENT] * 2)
    await engine.transition_task("t", "cancelled")
    async with following(http, "/tasks/t/events?since.id=never") as frames:
        received = await frames.rest()
    assert received[0]["json"]["type"] == "taskcast:gap"
    assert received[0]["json"]["data"]["reason"] == "unknown_id"
    assert "id" not in received[0]
    assert [frame["json"].get("rawIndex") for frame in received[1:-1]] == [0, 1, 2]


async def test_an_idle_stream_gets_heartbeats_and_only_comments(engine: TaskEngine) -> None:
    app = create_taskcast_app(engine=engine)
    assert app.services is not None
    app.services.wheel = Wheel(beat_s=0.2, tick_s=0.05)
    async with serving(app) as url, client(url) as http, following(http, "/tasks/t/events") as frames:
        reading = asyncio.create_task(frames.next())
        await eventually(lambda: frames.comments.count("keep-alive") >= 3)
        assert not reading.done()
        await engine.publish_event("t", EVENT)
        frame = await reading
        assert frame is not None
        assert frame["json"]["rawIndex"] == 0


async def test_a_disconnect_is_noticed_at_once(http: httpx.AsyncClient, engine: TaskEngine, app: TaskcastApp) -> None:
    async with AsyncExitStack() as stack:
        for _ in range(20):
            await stack.enter_async_context(following(http, "/tasks/t/events"))
        await eventually(lambda: engine.hub.subscribers("t") == 20)
        assert (await http.get("/tasks/t")).json()["subscriberCount"] == 20
    await eventually(lambda: engine.hub.subscribers("t") == 0)
    assert engine.hub.followed == 0
    assert app.services is not None
    assert len(app.services.wheel) == 0


async def test_a_stream_ends_when_its_token_does(engine: TaskEngine) -> None:
    def expiring(connection: Any) -> Principal:
        lives_for = float(connection.query_params.get("lives", "3600"))
        return Principal(frozenset({"*"}), name="someone", expires_at=time.time() + lives_for)

    async with serving(create_taskcast_app(engine=engine, auth=expiring)) as url, client(url) as http:
        for path in ("/tasks/t/events", "/events"):
            began = time.monotonic()
            async with following(http, path, params={"lives": "1"}) as frames:
                assert await frames.rest() == []
            assert 0.9 < time.monotonic() - began < SOON_S, path


async def test_a_caller_who_never_expires_is_capped(engine: TaskEngine) -> None:
    def lasting(_: Any) -> Principal:
        return Principal(frozenset({"*"}), name="someone")

    app = create_taskcast_app(engine=engine, auth=lasting, max_stream_s=1)
    async with serving(app) as url, client(url) as http, following(http, "/tasks/t/events") as frames:
        began = time.monotonic()
        assert await frames.rest() == []
        assert time.monotonic() - began < SOON_S


async def test_a_shutdown_tells_readers_to_come_back(engine: TaskEngine) -> None:
    app = create_taskcast_app(engine=engine)
    async with AsyncExitStack() as stack:
        url = await stack.enter_async_context(serving(app))
        http = await stack.enter_async_context(client(url))
        streams = [await stack.enter_async_context(following(http, "/tasks/t/events")) for _ in range(5)]
        streams.append(await stack.enter_async_context(following(http, "/events")))
        app.dismiss_readers()
        for frames in streams:
            assert await frames.rest() == []
            assert frames.retry is not None
            assert 500 <= int(frames.retry) <= 5000
        refused = await http.get("/tasks/t/events")
        assert (refused.status_code, refused.json()["code"]) == (503, "shutting_down")
    retries = {frames.retry for frames in streams}
    assert len(retries) > 1, "all readers would come back at the same time"


async def test_open_streams_are_bounded_per_caller(engine: TaskEngine) -> None:
    app = create_taskcast_app(engine=engine, limits=LimitOptions(max_open_streams=2))
    async with serving(app) as url, client(url) as http:
        async with following(http, "/tasks/t/events"), following(http, "/events"):
            refused = await http.get("/tasks/t/events")
            assert (refused.status_code, refused.json()["code"]) == (429, "too_many_requests")
            assert "retry-after" in refused.headers
        await eventually(lambda: engine.hub.subscribers("t") == 0)
        async with following(http, "/tasks/t/events"):
            pass


async def test_a_reader_that_takes_nothing_is_cut_off(engine: TaskEngine, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(streaming, "STALLED_S", 0.3)
    lost: list[object] = []

    class Noted(DirectProtocol):
        def connection_lost(self, exc: Exception | None) -> None:
            super().connection_lost(exc)
            lost.append(self)

    app = create_taskcast_app(engine=engine)
    assert app.services is not None
    app.services.wheel = Wheel(beat_s=0.2, tick_s=0.05)
    async with serving(app, http=Noted) as url:
        with socket.socket() as reader:
            reader.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            reader.setblocking(False)
            target = httpx.URL(url)
            await asyncio.get_running_loop().sock_connect(reader, (target.host, target.port))
            await asyncio.get_running_loop().sock_sendall(reader, b"GET /tasks/t/events HTTP/1.1\r\nhost: x\r\n\r\n")
            await eventually(lambda: engine.hub.subscribers("t") == 1)
            big = {**EVENT, "data": "x" * 100_000}
            for _ in range(100):
                await engine.publish_event("t", big)
            await eventually(lambda: engine.hub.subscribers("t") == 0)
            await eventually(lambda: len(lost) == 1)  # although it has not taken what was written
            assert app.services.meters is not None
            assert app.services.meters.stalled == 1


async def test_a_ticket_opens_the_stream_of_its_task_only(engine: TaskEngine) -> None:
    def by_header(connection: Any) -> dict[str, Any] | None:
        known = connection.headers.get("authorization") == "Bearer good"
        return {"scope": ["event:subscribe"], "sub": "me"} if known else None

    await engine.create_task(id="u")
    async with serving(create_taskcast_app(engine=engine, auth=by_header)) as url, client(url) as http:
        issued = await http.post("/tasks/t/ticket", headers={"authorization": "Bearer good"})
        assert issued.status_code == 201
        assert issued.json()["expiresAt"] > time.time()
        ticket = issued.json()["ticket"]
        assert (await http.get("/tasks/t/events")).status_code == 401
        async with following(http, "/tasks/t/events", params={"ticket": ticket}) as frames:
            await engine.publish_event("t", EVENT)
            frame = await frames.next()
            assert frame is not None
            assert frame["json"]["taskId"] == "t"
        for path in ("/tasks/u/events", "/tasks/t", "/events", "/tasks/t/events/history"):
            assert (await http.get(path, params={"ticket": ticket})).status_code == 401, path
        assert (await http.get("/tasks/t/events", params={"ticket": ticket + "x"})).status_code == 401


async def test_the_stream_of_all_tasks_shows_later_ones_that_the_caller_may_see(engine: TaskEngine) -> None:
    def tenant(_: Any) -> dict[str, Any]:
        return {"scope": ["*"], "sub": "tenant", "taskIds": ["a", "b", "t"]}

    app = create_taskcast_app(engine=engine, auth=tenant)
    async with serving(app) as url, client(url) as http, following(http, "/events") as frames:
        await eventually(lambda: engine.hub.has_firehose)
        rules = {"rules": [{"match": {"scope": ["event:subscribe"]}, "require": {"sub": ["somebody else"]}}]}
        await asyncio.sleep(0.01)  # the clock has to pass the stream's beginning
        await engine.create_task({"id": "a"})
        await engine.create_task({"id": "b", "authConfig": rules})
        await engine.create_task({"id": "c"})
        for name in ("t", "b", "c", "a"):
            await engine.publish_event(name, EVENT)
        frame = await frames.next()
        assert frame is not None
        assert (frame["json"]["taskId"], frame["json"]["filteredIndex"]) == ("a", 0)
        assert frame["id"] == frame["json"]["eventId"]


async def test_observers_hear_of_readers(http: httpx.AsyncClient, engine: TaskEngine) -> None:
    seen: list[tuple[str, dict[str, Any]]] = []
    engine.observers.subscriber_connected = lambda **facts: seen.append(("+", facts))  # type: ignore[assignment]
    engine.observers.subscriber_disconnected = lambda **facts: seen.append(("-", facts))  # type: ignore[assignment]
    async with following(http, "/tasks/t/events"):
        pass
    await eventually(lambda: len(seen) == 2)
    assert [sign for sign, _ in seen] == ["+", "-"]
    assert seen[0][1]["client_id"] == seen[1][1]["client_id"]
    assert seen[1][1]["duration_ms"] >= 0
