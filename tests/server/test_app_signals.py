"""Signals over HTTP: an event of the task's log, once per id, within the bounds of events."""

import asyncio
from typing import Any

import httpx
import jwt
import pytest

from taskcast_core import EngineSettings, TaskEngine
from taskcast_core.contracts.task_log import LogLimits
from taskcast_core.models import AuthRule, AuthRuleMatch, AuthRuleRequire, TaskAuthConfig
from taskcast_server.app import create_taskcast_app
from taskcast_server.auth.jwt import open_jwt
from taskcast_server.auth.options import JwtOptions
from taskcast_server.options import LimitOptions
from tests.server.app_server import client, following, memory_engine, serving

pytestmark = [pytest.mark.anyio, pytest.mark.usefixtures("no_stray_tasks")]

SECRET = "a-secret-that-is-long-enough-for-hs256-0123456789"
LIMITS = LimitOptions(max_body_bytes=20_000, max_json_depth=5, max_type_length=40, max_id_length=40)


@pytest.fixture
async def engine() -> Any:
    async with memory_engine(settings=EngineSettings(limits=LogLimits(max_events=5))) as engine:
        await engine.create_task(id="t")
        yield engine


@pytest.fixture
async def http(engine: TaskEngine) -> Any:
    async with serving(create_taskcast_app(engine=engine, limits=LIMITS)) as url, client(url) as http:
        yield http


async def send(http: httpx.AsyncClient, body: Any, task_id: str = "t") -> httpx.Response:
    return await http.post(f"/tasks/{task_id}/signals", json=body)


async def history(http: httpx.AsyncClient, **query: str) -> list[dict[str, Any]]:
    return (await http.get("/tasks/t/events/history", params=query)).json()  # type: ignore[no-any-return]


async def test_it_is_an_event_of_the_log(http: httpx.AsyncClient) -> None:
    reply = await send(http, {"type": "stop", "data": {"now": True}})
    event = reply.json()
    assert reply.status_code == 201
    assert (event["type"], event["level"], event["index"]) == ("taskcast:signal", "info", 0)
    assert (event["data"]["type"], event["data"]["data"]) == ("stop", {"now": True})
    assert event["data"]["id"]
    bare = (await send(http, {"type": "stop"})).json()
    assert bare["data"]["data"] is None
    assert bare["data"]["id"] != event["data"]["id"]
    assert await history(http) == [event, bare]


async def test_filters_see_the_type_of_the_event(http: httpx.AsyncClient) -> None:
    sent = (await send(http, {"type": "llm.x", "data": 1})).json()
    assert await history(http, types="taskcast:signal") == [sent]
    assert await history(http, types="llm.*") == []
    query = "types=taskcast:signal&includeStatus=false&wrap=false"
    async with following(http, f"/tasks/t/events?{query}") as frames:
        first = await frames.next()
        assert first is not None
        assert first["json"] == sent


async def test_an_id_is_appended_once(http: httpx.AsyncClient) -> None:
    body = {"id": "one", "type": "tool_result", "data": {"callId": "c", "result": [1]}}
    replies = await asyncio.gather(*[send(http, body) for _ in range(8)])
    assert {reply.status_code for reply in replies} == {201}
    assert len({reply.text for reply in replies}) == 1
    assert replies[0].json()["data"] == body
    reused = await send(http, {**body, "data": None})
    assert (reused.status_code, reused.json()["code"]) == (422, "idempotency_key_reused")
    assert len(await history(http)) == 1


async def test_an_id_is_of_one_task(http: httpx.AsyncClient, engine: TaskEngine) -> None:
    await engine.create_task(id="u")
    for task_id in ("t", "u"):
        assert (await send(http, {"id": "one", "type": task_id}, task_id)).status_code == 201
    publish = {"type": "x", "level": "info"}
    reply = await http.post("/tasks/t/events", json=publish, headers={"idempotency-key": "one"})
    assert reply.status_code == 201, "keys of publishes are others"


async def test_a_task_that_has_ended_takes_none(http: httpx.AsyncClient, engine: TaskEngine) -> None:
    body = {"id": "one", "type": "x"}
    first = await send(http, body)
    await engine.transition_task("t", "cancelled")
    late = await send(http, {"type": "x"})
    assert (late.status_code, late.json()["code"]) == (400, "task_ended")
    assert (await send(http, body)).text == first.text, "a repeat is told what came of it"
    missing = await send(http, {"type": "x"}, "nobody")
    assert (missing.status_code, missing.json()["code"]) == (404, "task_not_found")


@pytest.mark.parametrize(
    ("body", "path"),
    [
        ([], ""),
        ({}, "type"),
        ({"type": 1}, "type"),
        ({"type": "x" * 41}, "type"),
        ({"type": "\0"}, "type"),
        ({"type": "x", "id": 1}, "id"),
        ({"type": "x", "id": ""}, "id"),
        ({"type": "x", "id": "i" * 41}, "id"),
        ({"type": "x", "data": [[[[[]]]]]}, "data"),
    ],
    ids=str,
)
async def test_what_is_no_signal_is_refused(http: httpx.AsyncClient, body: Any, path: str) -> None:
    reply = await send(http, body)
    assert (reply.status_code, reply.json()["code"]) == (400, "validation_error")
    assert [each["path"] for each in reply.json()["details"]] == [path]
    assert await history(http) == []


async def test_the_deepest_signal_is_an_event_that_may_be_published(http: httpx.AsyncClient) -> None:
    event = (await send(http, {"type": "x", "data": [[[[]]]]})).json()
    again = {"type": event["type"], "level": "info", "data": event["data"]}
    assert (await http.post("/tasks/t/events", json=again)).status_code == 201


async def test_the_bounds_of_a_log_are_for_signals_too(http: httpx.AsyncClient) -> None:
    assert (await send(http, {"type": "x", "data": "x" * 20_000})).status_code == 413
    statuses = [(await send(http, {"type": "x"})).status_code for _ in range(6)]
    assert statuses == [201] * 5 + [409]


async def test_it_wants_a_scope_of_its_own_and_the_rules_of_the_task(engine: TaskEngine) -> None:
    rule = AuthRule(AuthRuleMatch(("task:signal",)), AuthRuleRequire(sub=("bob",)))
    await engine.create_task(id="of bob", auth_config=TaskAuthConfig((rule,)))

    def headers(scope: str, sub: str = "alice") -> dict[str, str]:
        claims = {"sub": sub, "scope": [scope], "taskIds": "*"}
        return {"authorization": f"Bearer {jwt.encode(claims, SECRET, algorithm='HS256')}"}

    async with (
        open_jwt(JwtOptions(secret=SECRET)) as auth,
        serving(create_taskcast_app(engine=engine, auth=auth)) as url,
        client(url) as http,
    ):

        async def status(task_id: str, **who: str) -> int:
            reply = await http.post(f"/tasks/{task_id}/signals", json={"type": "x"}, headers=headers(**who))
            return reply.status_code

        assert await status("t", scope="task:signal") == 201
        assert await status("t", scope="event:publish") == 403
        assert await status("of bob", scope="task:signal") == 403
        assert await status("of bob", scope="task:signal", sub="bob") == 201
