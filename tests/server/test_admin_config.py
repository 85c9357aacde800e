"""The configuration of a running server: seen, tried out, changed; by administrators, and on the record."""

import logging
from collections.abc import AsyncIterator, Iterator
from typing import Any

import httpx
import jwt
import pytest

from taskcast_core.config import Config
from taskcast_core.plugins import Plugins
from taskcast_server.app import assemble_app, create_taskcast_app
from taskcast_server.live_config import REMEMBERED
from tests.fixtures.eventually import eventually
from tests.server.app_server import client, memory_engine, serving
from tests.server.http_receiver import Receiver, Reply

pytestmark = pytest.mark.anyio

SECRET = "a-planted-secret-that-is-long-enough-0123456789"
CONFIG: dict[str, Any] = {
    "storage": "memory",
    "logLevel": "warn",
    "auth": {"mode": "jwt", "jwt": {"secret": SECRET}},
    "adminApi": True,
    "adminToken": "another-planted-secret",
    "trustedServices": [{"name": "svc", "key": "service-key-planted-secret", "scope": ["*"]}],
    "webhook": {"allowPrivateNetworks": True, "defaultRetry": {"retries": 0}},
    "limits": {"maxBatchEvents": 10},
    "storageLifecycle": {"ttlSweepIntervalSeconds": 1},
}


def bearer(*scopes: str, sub: str = "root") -> dict[str, str]:
    claims = {"scope": list(scopes), "sub": sub, "exp": 4_000_000_000}
    return {"authorization": f"Bearer {jwt.encode(claims, SECRET, algorithm='HS256')}"}


@pytest.fixture
async def http() -> AsyncIterator[httpx.AsyncClient]:
    """A standalone server, as its configuration says."""
    app = assemble_app(Config.of(CONFIG), Plugins(always=("taskcast-core", "taskcast-server")))
    async with serving(app) as url, client(url, headers=bearer("*")) as http:
        yield http


@pytest.fixture(autouse=True)
def the_level_comes_back() -> Iterator[None]:
    root = logging.getLogger()
    before = root.level
    yield
    root.setLevel(before)


async def put(http: httpx.AsyncClient, **given: Any) -> dict[str, Any]:
    reply = await http.put("/admin/config", json=given)
    assert reply.status_code == 200, reply.text
    changed: dict[str, Any] = reply.json()["changed"]
    return changed


async def live(http: httpx.AsyncClient) -> dict[str, Any]:
    found: dict[str, Any] = (await http.get("/admin/config")).json()["live"]
    return found


# ── Seeing ────────────────────────────────────────────────────────────────────────────────────────────────────────


async def test_what_holds_is_shown_with_its_origin_and_without_secrets(http: httpx.AsyncClient) -> None:
    reply = await http.get("/admin/config")
    shown = reply.json()
    assert shown["settings"]["limits.maxBatchEvents"] == {"value": "10", "origin": "file"}
    assert shown["settings"]["limits.maxTags"]["origin"] == "default"
    assert shown["settings"]["adminToken"]["value"] == "***"
    assert "planted" not in reply.text
    assert shown["live"]["limits"]["maxBatchEvents"] == 10
    assert set(shown["live"]) == {"logLevel", "limits", "cors", "cleanup", "webhook"}


async def test_only_administrators_see_or_change_it(http: httpx.AsyncClient) -> None:
    for method, path in (("GET", ""), ("PUT", ""), ("POST", "/validate")):
        for headers, expected in (({"authorization": ""}, 401), (bearer("task:manage", "event:subscribe"), 403)):
            reply = await http.request(method, f"/admin/config{path}", headers=headers, json={})
            assert reply.status_code == expected
        assert (await http.request(method, f"/admin/config{path}", headers=bearer("admin"), json={})).status_code == 200


async def test_an_embedded_application_has_none() -> None:
    async with memory_engine() as engine, serving(create_taskcast_app(engine)) as url, client(url) as http:
        assert (await http.get("/admin/config")).status_code == 404


# ── Trying out ────────────────────────────────────────────────────────────────────────────────────────────────────


async def verdict(http: httpx.AsyncClient, given: dict[str, Any]) -> dict[str, Any]:
    reply = await http.post("/admin/config/validate", json=given)
    assert reply.status_code == 200
    found: dict[str, Any] = reply.json()
    return found


async def test_a_right_configuration_is_valid(http: httpx.AsyncClient) -> None:
    assert await verdict(http, CONFIG) == {"valid": True, "errors": [], "warnings": []}
    assert await verdict(http, {}) == {"valid": True, "errors": [], "warnings": []}


@pytest.mark.parametrize(
    ("given", "path"),
    [
        ({"port": "many"}, "port"),
        ({"logLevel": "loud"}, "logLevel"),
        ({"limits": {"maxBatchEvents": 0}}, "limits.maxBatchEvents"),
        ({"webhook": {"defaultRetry": {"backoff": "never"}}}, "webhook.defaultRetry.backoff"),
        ({"adapters": {"shortTermStore": {"provider": "no-such"}}}, "adapters.shortTermStore.provider"),
    ],
)
async def test_what_is_wrong_is_told_by_its_path(http: httpx.AsyncClient, given: dict[str, Any], path: str) -> None:
    found = await verdict(http, given)
    assert found["valid"] is False
    assert path in {each["path"] for each in found["errors"]}


async def test_what_is_odd_is_a_warning(http: httpx.AsyncClient) -> None:
    found = await verdict(http, {"limit": {}})
    assert found["valid"] is True
    assert "did you mean" in found["warnings"][0]


async def test_variables_of_the_server_are_nobodys_business(
    http: httpx.AsyncClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PLANTED", "a-secret-of-the-environment")
    for given in ({"port": "${PLANTED}"}, {"auth": {"mode": "${PLANTED}"}}, {"logLevel": "${PLANTED:-${PLANTED}}"}):
        found = await verdict(http, given)
        assert "a-secret-of-the-environment" not in str(found)
        assert "PLANTED" in str(found)


async def test_a_body_that_is_no_configuration_is_400(http: httpx.AsyncClient) -> None:
    for path in ("/admin/config/validate", "/admin/config"):
        method = "PUT" if path == "/admin/config" else "POST"
        for body in (b"[]", b"{", b'"text"'):
            assert (await http.request(method, path, content=body)).status_code == 400


# ── Changing ──────────────────────────────────────────────────────────────────────────────────────────────────────


async def test_the_log_level_changes_at_once(http: httpx.AsyncClient) -> None:
    await put(http, logLevel="warn")
    assert await put(http, logLevel="debug") == {"logLevel": {"from": "warn", "to": "debug"}}
    assert logging.getLogger().level == logging.DEBUG
    assert await put(http, logLevel="debug") == {}
    assert await put(http, logLevel="error") == {"logLevel": {"from": "debug", "to": "error"}}
    assert logging.getLogger().level == logging.ERROR


async def test_limits_of_requests_and_callers(http: httpx.AsyncClient) -> None:
    task = (await http.post("/tasks", json={})).json()
    events = [{"type": "x", "level": "info"}] * 5
    assert (await http.post(f"/tasks/{task['id']}/events", json=events)).status_code == 201
    await put(http, limits={"maxBatchEvents": 4, "maxOpenStreams": 1})
    assert (await http.post(f"/tasks/{task['id']}/events", json=events)).status_code == 400
    async with http.stream("GET", f"/tasks/{task['id']}/events") as first:
        assert first.status_code == 200
        assert (await http.get(f"/tasks/{task['id']}/events")).status_code == 429
        await put(http, limits={"maxOpenStreams": 2})  # the stream that is open counts on
        async with http.stream("GET", f"/tasks/{task['id']}/events") as second:
            assert second.status_code == 200
            assert (await http.get(f"/tasks/{task['id']}/events")).status_code == 429
    await put(http, limits={"maxBatchEvents": 10, "maxOpenStreams": None})
    assert (await live(http))["limits"]["maxOpenStreams"] is None


async def test_limits_of_a_task(http: httpx.AsyncClient) -> None:
    task = (await http.post("/tasks", json={})).json()
    await put(http, limits={"maxEventsPerTask": 3})
    statuses = [
        (await http.post(f"/tasks/{task['id']}/events", json={"type": "x", "level": "info"})).status_code
        for _ in range(4)
    ]
    assert statuses == [201, 201, 201, 409]
    await put(http, limits={"maxEventsPerTask": 1000})
    assert (await http.post(f"/tasks/{task['id']}/events", json={"type": "x", "level": "info"})).status_code == 201


async def test_cors(http: httpx.AsyncClient) -> None:
    page = {"origin": "https://page.example"}
    assert "access-control-allow-origin" not in (await http.get("/health", headers=page)).headers
    await put(http, cors={"origins": ["https://page.example"]})
    assert (await http.get("/health", headers=page)).headers["access-control-allow-origin"] == "https://page.example"
    await put(http, cors={"origins": []})
    assert "access-control-allow-origin" not in (await http.get("/health", headers=page)).headers


async def test_cleanup_rules_reach_tasks_that_have_ended_already(http: httpx.AsyncClient) -> None:
    task = (await http.post("/tasks", json={"type": "short-lived"})).json()
    await http.patch(f"/tasks/{task['id']}/status", json={"status": "cancelled"})
    await put(http, cleanup={"rules": [{"target": "all", "match": {"taskTypes": ["short-lived"]}}]})

    async def is_gone() -> bool:
        return (await http.get(f"/tasks/{task['id']}")).status_code == 404

    await eventually(is_gone, within_s=30)
    await put(http, cleanup={"rules": []})
    assert (await live(http))["cleanup"]["rules"] == []


async def test_defaults_of_webhooks(http: httpx.AsyncClient) -> None:
    await put(http, webhook={"defaultRetry": {"retries": 2, "backoff": "fixed", "initialDelayMs": 1}})
    async with Receiver(lambda _: Reply(500)) as receiver:
        task = (await http.post("/tasks", json={"webhooks": [{"url": receiver.url(), "on": "terminal"}]})).json()
        await http.patch(f"/tasks/{task['id']}/status", json={"status": "cancelled"})
        await eventually(lambda: len(receiver.got) == 3)
    await put(http, webhook={"defaultRetry": {"retries": 0}})


@pytest.mark.parametrize(
    ("given", "path"),
    [
        ({"port": 1}, "port"),
        ({"auth": {"mode": "none"}}, "auth"),
        ({"webhook": {"allowPrivateNetworks": False}}, "webhook.allowPrivateNetworks"),
        ({"webhook": 5}, "webhook."),
        ({"logLevel": "loud"}, "logLevel"),
        ({"limits": {"maxTags": -1}}, "limits.maxTags"),
        ({"limits": {"maxTag": 1}}, ""),
        ({"cleanup": {"rules": [{"target": "nothing"}]}}, "cleanup.rules[0].target"),
    ],
)
async def test_nothing_changes_when_something_is_wrong(
    http: httpx.AsyncClient, given: dict[str, Any], path: str
) -> None:
    before = await live(http)
    reply = await http.put("/admin/config", json={"cors": {"origins": ["https://never.example"]}, **given})
    assert reply.status_code == 400, reply.text
    assert path in {each["path"] for each in reply.json()["details"]}
    assert await live(http) == before


async def test_every_change_is_on_the_record(http: httpx.AsyncClient, caplog: pytest.LogCaptureFixture) -> None:
    await put(http, logLevel="warn")
    with caplog.at_level(logging.WARNING):
        headers = {**bearer("admin", sub="alice"), "x-request-id": "change-7"}
        await http.put("/admin/config", json={"logLevel": "error", "limits": {"maxTags": 7}}, headers=headers)
    changed = {"limits.maxTags": {"from": 100, "to": 7}, "logLevel": {"from": "warn", "to": "error"}}
    last = (await http.get("/admin/config")).json()["changes"][-1]
    assert (last["by"], last["requestId"], last["changed"]) == ("alice", "change-7", changed)
    line = [each for each in caplog.records if getattr(each, "event", "") == "config_changed"][-1]
    assert line.facts["by"] == "alice" and "limits.maxTags" in line.facts["changed"]  # type: ignore[attr-defined]
    shown = (await http.get("/admin/config")).json()["settings"]["limits.maxTags"]
    assert shown == {"value": "7", "origin": "changed by alice"}
    await put(http, limits={"maxTags": 100})


async def test_the_record_is_bounded(http: httpx.AsyncClient) -> None:
    for at in range(REMEMBERED + 2):
        await put(http, limits={"maxTags": 50 + at})
    assert len((await http.get("/admin/config")).json()["changes"]) == REMEMBERED
