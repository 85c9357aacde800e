"""The application as such: mounting, errors, limits of bodies, CORS, HEAD, health."""

import json
import logging
from typing import Any

import httpx
import pytest
from starlette.applications import Starlette
from starlette.routing import Mount

from taskcast_core import MemoryBroadcastProvider, MemoryShortTermStore, TaskEngine
from taskcast_core.errors import StoreUnavailable
from taskcast_server.app import create_taskcast_app
from taskcast_server.options import CorsOptions, LimitOptions
from tests.server.app_server import client, following, memory_engine, serving

pytestmark = [pytest.mark.anyio, pytest.mark.usefixtures("no_stray_tasks")]


async def create(http: httpx.AsyncClient, prefix: str = "", **body: Any) -> dict[str, Any]:
    reply = await http.post(f"{prefix}/tasks", json=body)
    assert reply.status_code == 201, reply.text
    return reply.json()  # type: ignore[no-any-return]


@pytest.mark.parametrize("prefix", ["/taskcast", "/a/b/c"])
async def test_it_works_mounted_under_a_prefix_of_a_starlette_program(prefix: str) -> None:
    async with memory_engine() as engine:
        outer = Starlette(routes=[Mount(prefix, app=create_taskcast_app(engine=engine))])
        async with serving(outer) as url, client(url) as http:
            task = await create(http, prefix, id="a/b c")
            assert (await http.get(f"{prefix}/tasks/a%2Fb%20c")).json()["id"] == "a/b c"
            assert (await http.get(f"{prefix}/health")).json()["ok"] is True
            assert (await http.get(prefix + "/")).json()["name"] == "taskcast"
            await http.patch(f"{prefix}/tasks/a%2Fb%20c/status", json={"status": "cancelled"})
            async with following(http, f"{prefix}/tasks/a%2Fb%20c/events") as frames:
                received = await frames.rest()
            assert [frame["event"] for frame in received] == ["taskcast.event", "taskcast.done"]
            assert received[0]["json"]["taskId"] == task["id"]
            assert (await http.get("/tasks")).status_code == 404


async def test_served_under_a_root_path_that_a_proxy_strips() -> None:
    async with memory_engine() as engine:
        app = create_taskcast_app(engine=engine)

        async def below(scope: Any, receive: Any, send: Any) -> None:
            await app({**scope, "root_path": "/api"}, receive, send)

        async with serving(below, lifespan="off") as url, client(url) as http:
            assert (await http.get("/health")).status_code == 200
            assert (await http.get("/api/health")).status_code == 200


async def test_served_alone_it_opens_and_closes_the_engine() -> None:
    async with MemoryShortTermStore() as store:
        engine = TaskEngine(broadcast=MemoryBroadcastProvider(), short_term_store=store)
        async with serving(create_taskcast_app(engine=engine)) as url, client(url) as http:
            assert engine.is_open
            await create(http)
        assert not engine.is_open


async def test_an_open_engine_stays_the_callers() -> None:
    async with memory_engine() as engine:
        async with serving(create_taskcast_app(engine=engine)) as url, client(url) as http:
            await create(http)
        assert engine.is_open
        assert len((await engine.list_tasks()).tasks) == 1


@pytest.fixture
async def http() -> Any:
    limits = LimitOptions(max_body_bytes=2000, max_batch_events=5, max_json_depth=8, max_id_length=40, max_tags=3)
    async with memory_engine() as engine:
        app = create_taskcast_app(engine=engine, limits=limits)
        async with serving(app) as url, client(url) as http:
            yield http


async def test_an_unknown_route_is_json_404(http: httpx.AsyncClient) -> None:
    for path in ("/nowhere", "/tasks/", "/tasks/x/nothing", "/workers", "/tasks//events"):
        reply = await http.get(path)
        assert reply.status_code == 404, path
        assert reply.json() == {"error": "Not found", "code": "not_found"}


async def test_another_method_is_json_405_and_names_those_that_exist(http: httpx.AsyncClient) -> None:
    reply = await http.put("/tasks")
    assert (reply.status_code, reply.headers["allow"]) == (405, "GET, POST")
    assert reply.json()["code"] == "method_not_allowed"
    reply = await http.post("/tasks/import/archive")
    assert reply.status_code == 405


async def test_a_task_may_be_called_import(http: httpx.AsyncClient) -> None:
    await create(http, id="import")
    assert (await http.get("/tasks/import")).json()["id"] == "import"


async def test_probes_may_send_head(http: httpx.AsyncClient) -> None:
    reply = await http.head("/health")
    assert (reply.status_code, reply.content) == (200, b"")
    task = await create(http, params={"long": "x" * 1_000})
    for path in ("/tasks", f"/tasks/{task['id']}", f"/tasks/{task['id']}/events/history", "/tasks/none"):
        shown = await http.get(path)
        reply = await http.head(path)
        assert (reply.status_code, reply.content) == (shown.status_code, b"")
        assert reply.headers["content-type"] == shown.headers["content-type"]
        assert reply.headers.get("content-length") == shown.headers.get("content-length")
    for path in ("/tasks/x/events", "/events"):
        assert (await http.head(path)).status_code == 405


@pytest.mark.parametrize("text", [b"", b"{", b"\xff", b"[" * 100_000, b"NaN"])
async def test_a_malformed_body_is_400(http: httpx.AsyncClient, text: bytes) -> None:
    reply = await http.post("/tasks", content=text[:1900], headers={"content-type": "application/json"})
    assert (reply.status_code, reply.json()["code"]) == (400, "malformed_json")


@pytest.mark.parametrize("body", ["[]", "1", "null", '"x"'])
async def test_a_body_that_is_no_object_is_400_with_details(http: httpx.AsyncClient, body: str) -> None:
    reply = await http.post("/tasks", content=body)
    assert reply.status_code == 400
    assert reply.json()["details"] == [{"path": "", "reason": "expected an object"}]


async def test_a_large_body_is_413_however_it_comes(http: httpx.AsyncClient) -> None:
    text = json.dumps({"metadata": {"x": "y" * 3000}}).encode()

    async def parts() -> Any:
        for start in range(0, len(text), 500):
            yield text[start : start + 500]

    for content in (text, parts()):
        reply = await http.post("/tasks", content=content)
        assert (reply.status_code, reply.json()["code"]) == (413, "body_too_large")


@pytest.mark.parametrize(
    ("body", "path"),
    [
        ({"id": "x" * 41}, "id"),
        ({"id": "a\0b"}, "id"),
        ({"id": "\ud800"}, "id"),
        ({"id": ""}, "id"),
        ({"tags": ["a", "b", "c", "d"]}, "tags"),
        ({"tags": ["a", "\ud800"]}, "tags[1]"),
        ({"params": {"a": [[[[[[[[1]]]]]]]]}}, "params"),
        ({"ttl": 10**30}, "ttl"),
        ({"webhooks": [{"url": "ftp://example.com/"}]}, "webhooks[0].url"),
        ({"webhooks": [{"url": "http://x.test/", "retry": {"retries": -1}}]}, "webhooks[0].retry.retries"),
    ],
    ids=str,
)
async def test_a_field_out_of_bounds_is_named(http: httpx.AsyncClient, body: dict[str, Any], path: str) -> None:
    reply = await http.post("/tasks", content=json.dumps(body))
    assert reply.status_code == 400, reply.text
    assert [fault["path"] for fault in reply.json()["details"]] == [path]
    assert reply.json()["code"] == "validation_error"


async def test_faults_of_a_batch_name_item_and_field(http: httpx.AsyncClient) -> None:
    task = await create(http)
    event = {"type": "x", "level": "info", "data": 1}
    deep: Any = 0
    for _ in range(9):
        deep = [deep]
    cases = [
        ([event, {**event, "level": "loud"}], "[1].level"),
        ([event, event, {"level": "info"}], "[2].type"),
        ([event, 5], "[1]"),
        ([{**event, "seriesId": "x" * 41}], "[0].seriesId"),
        ([{**event, "data": deep}], "[0].data"),
        ({**event, "seriesMode": "sum"}, "seriesMode"),
        ([event] * 6, ""),
    ]
    for body, path in cases:
        reply = await http.post(f"/tasks/{task['id']}/events", json=body)
        assert reply.status_code == 400, (path, reply.text)
        assert [fault["path"] for fault in reply.json()["details"]] == [path]
    assert (await http.get(f"/tasks/{task['id']}/events/history")).json() == []


async def test_lone_surrogates_and_nul_survive_in_data(http: httpx.AsyncClient) -> None:
    task = await create(http)
    body = '{"type":"x","level":"info","data":{"delta":"\\ud83d","nul":"\\u0000"}}'
    reply = await http.post(f"/tasks/{task['id']}/events", content=body)
    assert reply.status_code == 201
    assert json.loads(reply.text)["data"] == {"delta": "\ud83d", "nul": "\0"}
    history = (await http.get(f"/tasks/{task['id']}/events/history")).text
    assert json.loads(history)[0]["data"] == {"delta": "\ud83d", "nul": "\0"}


async def test_a_fault_of_ours_is_500_without_a_trace_and_one_json_line(caplog: pytest.LogCaptureFixture) -> None:
    async with memory_engine() as engine:
        failures: list[tuple[str, str | None]] = []

        async def broken(*_: object, **__: object) -> None:
            raise RuntimeError("secret at http://user:pass@host/")

        engine.get_task = broken  # type: ignore[method-assign]
        engine.observers.unhandled_error = lambda **facts: failures.append(  # type: ignore[assignment]
            (facts["operation"], facts["task_id"])
        )
        with caplog.at_level(logging.ERROR, "taskcast_server.failed_requests"):
            async with serving(create_taskcast_app(engine=engine)) as url, client(url) as http:
                reply = await http.get("/tasks/x")
        assert (reply.status_code, reply.json()["code"]) == (500, "internal_error")
        assert "secret" not in reply.text
        (line,) = [json.loads(record.getMessage()) for record in caplog.records if "http_request" in record.message]
        assert (line["method"], line["path"], line["status"], line["errorKind"]) == ("GET", "/tasks/x", 500, "internal")
        assert line["error"] == "RuntimeError: secret at http://***@host/"
        assert failures == [("GET /tasks/x", "x")]


async def test_a_dependency_that_is_away_is_503_and_worth_a_retry(caplog: pytest.LogCaptureFixture) -> None:
    async with memory_engine() as engine:

        async def away(*_: object, **__: object) -> None:
            raise StoreUnavailable("redisCommand", "connection_refused")

        engine.get_task = away  # type: ignore[method-assign]
        app = create_taskcast_app(engine=engine, checks={"redisCommand": away})
        async with serving(app) as url, client(url) as http:
            reply = await http.get("/tasks/x")
            assert (reply.status_code, reply.headers["retry-after"]) == (503, "1")
            assert reply.json() == {
                "error": "redisCommand unavailable (connection_refused)", "code": "storage_unavailable"
            }  # fmt: skip
            ready = await http.get("/health/ready")
            state = {"state": "unhealthy", "errorKind": "connection_refused"}
            assert (ready.status_code, ready.json()) == (503, {"ok": False, "dependencies": {"redisCommand": state}})
            detail = await http.get("/health/detail")
            assert (detail.status_code, detail.json()["ok"]) == (200, False)
            assert (await http.get("/health")).json()["ok"] is True


async def test_health_detail_puts_new_facts_into_keys_of_their_own(http: httpx.AsyncClient) -> None:
    await create(http)
    facts = (await http.get("/health/detail")).json()
    assert facts["auth"] == {"mode": "none"}
    ok = {"provider": "memory", "status": "ok"}
    assert facts["adapters"] == {"broadcast": ok, "shortTermStore": ok}
    assert facts["tasks"] == {"active": 0, "queued": 1, "total": 1, "byStatus": {"pending": 1}}
    assert isinstance(facts["durability"]["shortTermStore"], str)
    assert set(facts["versions"]) == {"server", "core", "python"}


async def test_pages_of_other_origins_need_permission() -> None:
    async with memory_engine() as engine:
        closed = create_taskcast_app(engine=engine)
        open_ = create_taskcast_app(engine=engine, cors=CorsOptions(origins=("https://app.example",)))
        origin = {"origin": "https://app.example"}
        ask = {**origin, "access-control-request-method": "PATCH", "access-control-request-headers": "authorization"}
        async with serving(closed, lifespan="off") as url, client(url) as http:
            assert "access-control-allow-origin" not in (await http.get("/health", headers=origin)).headers
            assert (await http.options("/tasks", headers=ask)).status_code == 405
        async with serving(open_, lifespan="off") as url, client(url) as http:
            allowed = await http.options("/tasks/x/status", headers=ask)
            assert allowed.status_code == 200
            assert "PATCH" in allowed.headers["access-control-allow-methods"]
            for path in ("/health", "/nowhere"):
                reply = await http.get(path, headers=origin)
                assert reply.headers["access-control-allow-origin"] == "https://app.example"
            stranger = await http.get("/health", headers={"origin": "https://evil.example"})
            assert "access-control-allow-origin" not in stranger.headers


async def test_it_mounts_into_a_dispatcher_as_django_programs_have_one() -> None:
    async with memory_engine() as engine:
        app = create_taskcast_app(engine=engine)

        async def outer(scope: Any, receive: Any, send: Any) -> None:
            if scope["path"].startswith("/stream/"):
                await app({**scope, "root_path": "/stream"}, receive, send)
                return
            await send({"type": "http.response.start", "status": 418, "headers": []})
            await send({"type": "http.response.body"})

        async with serving(outer, lifespan="off") as url, client(url) as http:
            assert (await http.get("/")).status_code == 418
            task = await create(http, "/stream")
            assert (await http.get(f"/stream/tasks/{task['id']}")).status_code == 200


async def test_the_reference_can_be_switched_off() -> None:
    async with memory_engine() as engine:
        app = create_taskcast_app(engine=engine, has_docs=False)
        async with serving(app, lifespan="off") as url, client(url) as http:
            assert [(await http.get(path)).status_code for path in ("/docs", "/openapi.json")] == [404, 404]
