"""Task routes: secrets, idempotency, lists, batches, archives, dead ends."""

from typing import Any

import httpx
import pytest

from taskcast_core import Task
from taskcast_core.models import TaskStatus
from taskcast_server.app import create_taskcast_app
from taskcast_server.options import LimitOptions
from taskcast_server.routes import archive as archive_routes
from tests.server.app_server import client, memory_engine, serving

pytestmark = [pytest.mark.anyio, pytest.mark.usefixtures("no_stray_tasks")]

SECRET = {"url": "http://user:pw@hooks.example/x", "secret": "s3cret"}


def bearer(name: str) -> dict[str, str]:
    return {"authorization": f"Bearer {name}"}


CALLERS: dict[str, dict[str, Any]] = {
    "all": {"scope": ["*"], "sub": "all"},
    "other": {"scope": ["*"], "sub": "other"},
    "maker": {"scope": ["task:create", "task:manage", "event:subscribe", "event:history"], "sub": "maker"},
    "tenant": {"scope": ["*"], "sub": "tenant", "taskIds": ["t1", "t2"]},
}


def callers(connection: Any) -> dict[str, Any] | None:
    return CALLERS.get(connection.headers.get("authorization", "").removeprefix("Bearer "))


@pytest.fixture
async def http() -> Any:
    async with memory_engine() as engine:
        app = create_taskcast_app(engine=engine, auth=callers, limits=LimitOptions(max_live_tasks=30))
        async with serving(app) as url, client(url, headers=bearer("all")) as http:
            yield http


async def create(http: httpx.AsyncClient, **body: Any) -> dict[str, Any]:
    reply = await http.post("/tasks", json=body)
    assert reply.status_code == 201, reply.text
    return reply.json()  # type: ignore[no-any-return]


async def test_webhook_secrets_are_in_no_reply(http: httpx.AsyncClient) -> None:
    replies = [await http.post("/tasks", json={"id": "t", "webhooks": [SECRET]})]
    replies.append(await http.get("/tasks/t"))
    replies.append(await http.get("/tasks"))
    replies.append(await http.patch("/tasks/t/status", json={"status": "running"}))
    replies.append(await http.get("/tasks/t/archive"))
    replies.append(await http.post("/tasks/batch", json={"tasks": [{"webhooks": [SECRET]}]}))
    for reply in replies:
        assert reply.is_success, reply.text
        assert "hooks.example" in reply.text
        assert "s3cret" not in reply.text
        assert ":pw@" not in reply.text
    whole = await http.get("/tasks/t/archive?secrets=include")
    assert whole.json()["task"]["webhooks"] == [SECRET]


async def test_an_archive_with_secrets_needs_the_right_to_manage(http: httpx.AsyncClient) -> None:
    await create(http, id="t", webhooks=[SECRET])
    CALLERS["reader"] = {"scope": ["event:history"], "sub": "reader"}
    reply = await http.get("/tasks/t/archive?secrets=include", headers=bearer("reader"))
    assert reply.status_code == 403
    assert (await http.get("/tasks/t/archive", headers=bearer("reader"))).status_code == 200


async def test_webhooks_need_a_scope_of_their_own(http: httpx.AsyncClient) -> None:
    assert (await http.post("/tasks", json={"webhooks": [SECRET]}, headers=bearer("maker"))).status_code == 403
    assert (await http.post("/tasks", json={}, headers=bearer("maker"))).status_code == 201
    await create(http, id="w", webhooks=[SECRET])
    archive = (await http.get("/tasks/w/archive?secrets=include")).json()
    body = {"archive": archive, "overwrite": True}
    assert (await http.post("/tasks/import", json=body, headers=bearer("maker"))).status_code == 403


async def test_one_key_makes_one_task_per_caller(http: httpx.AsyncClient) -> None:
    key = {"idempotency-key": "k"}
    first, again = [(await http.post("/tasks", json={"type": "a"}, headers=key)) for _ in range(2)]
    assert first.json() == again.json()
    reused = await http.post("/tasks", json={"type": "b"}, headers=key)
    assert (reused.status_code, reused.json()["code"]) == (422, "idempotency_key_reused")
    others = await http.post("/tasks", json={"type": "b"}, headers={**key, **bearer("other")})
    assert others.status_code == 201
    assert others.json()["id"] != first.json()["id"]
    too_long = await http.post("/tasks", json={}, headers={"idempotency-key": "k" * 300})
    assert too_long.status_code == 400


async def test_a_repeated_transition_gets_the_first_reply(http: httpx.AsyncClient) -> None:
    task = await create(http)
    body, key = {"status": "running"}, {"idempotency-key": "go"}
    replies = [await http.patch(f"/tasks/{task['id']}/status", json=body, headers=key) for _ in range(2)]
    assert [reply.status_code for reply in replies] == [200, 200]
    assert replies[0].json() == replies[1].json()
    assert (await http.patch(f"/tasks/{task['id']}/status", json=body)).status_code == 409


async def test_a_list_is_paged_newest_first_and_filtered(http: httpx.AsyncClient) -> None:
    made = [
        (await create(http, type=f"llm.{number % 2}", tags=["all", f"n{number}"]))["id"] for number in range(7)
    ]  # fmt: skip
    seen: list[str] = []
    cursor = None
    while True:
        page = (await http.get("/tasks", params={"limit": 3, **({"cursor": cursor} if cursor else {})})).json()
        seen += [task["id"] for task in page["tasks"]]
        cursor = page.get("nextCursor")
        if cursor is None:
            break
        assert len(page["tasks"]) == 3
    assert sorted(seen) == sorted(made)
    assert len(set(seen)) == 7

    async def found(**query: Any) -> set[int]:
        reply = await http.get("/tasks", params=query)
        assert reply.status_code == 200, reply.text
        return {made.index(task["id"]) for task in reply.json()["tasks"]}

    everything = set(range(7))
    assert await found(type="llm.*") == everything
    assert await found(types="llm.0,other") == {0, 2, 4, 6}
    assert await found(tags="all,n3") == {3}
    assert await found(tagsAny="n1,n2") == {1, 2}
    assert await found(tagsNone="n1,n2") == everything - {1, 2}
    assert await found(status="completed,nonsense") == set()
    assert await found(status="") == everything
    assert await found(createdAfter=10**15) == set()
    assert await found(createdBefore=10**15) == everything
    assert (await http.get("/tasks?createdAfter=x")).status_code == 400
    assert (await http.get("/tasks?cursor=%21")).status_code == 400


async def test_a_caller_confined_to_tasks_sees_and_makes_only_those(http: httpx.AsyncClient) -> None:
    for name in ("t1", "t2", "t3"):
        await create(http, id=name)
    tenant = bearer("tenant")
    assert {task["id"] for task in (await http.get("/tasks", headers=tenant)).json()["tasks"]} == {"t1", "t2"}
    assert (await http.get("/tasks/t3", headers=tenant)).status_code == 403
    assert (await http.get("/tasks/nothing", headers=tenant)).status_code == 403
    assert (await http.post("/tasks", json={"id": "t4"}, headers=tenant)).status_code == 403
    archive = (await http.get("/tasks/t3/archive")).json()
    body = {"archive": archive, "overwrite": True}
    assert (await http.post("/tasks/import", json=body, headers=tenant)).status_code == 403


async def test_a_tasks_own_rules_hold_on_every_route(http: httpx.AsyncClient) -> None:
    rules = {"rules": [{"match": {"scope": ["*"]}, "require": {"sub": ["other"]}}]}
    await create(http, id="t", authConfig=rules)
    event = {"type": "x", "level": "info", "data": 1}
    calls: list[tuple[str, str, dict[str, Any] | None]] = [
        ("GET", "/tasks/t", None),
        ("PATCH", "/tasks/t/status", {"status": "running"}),
        ("POST", "/tasks/t/resolve", {"data": 1}),
        ("GET", "/tasks/t/request", None),
        ("POST", "/tasks/t/events", event),
        ("GET", "/tasks/t/events", None),
        ("GET", "/tasks/t/events/history", None),
        ("GET", "/tasks/t/archive", None),
        ("POST", "/tasks/t/ticket", None),
        ("POST", "/tasks/t/storage/release", {"expectedLastEventIndex": -1, "inactiveSince": 0}),
        ("DELETE", "/tasks/t", None),
    ]
    for method, path, body in calls:
        reply = await http.request(method, path, json=body)
        assert (reply.status_code, reply.json()["error"]) == (403, "Forbidden"), (method, path)
    lines = await http.post("/tasks/t/events", content="{}\n", headers={"content-type": "application/x-ndjson"})
    assert lines.status_code == 403
    assert (await http.get("/tasks")).json()["tasks"] == []
    assert (await http.get("/tasks/t", headers=bearer("other"))).status_code == 200
    archive = (await http.get("/tasks/t/archive", headers=bearer("other"))).json()
    archive["task"].pop("authConfig")
    body = {"archive": archive, "overwrite": True}
    assert (await http.post("/tasks/import", json=body)).status_code == 403
    assert (await http.post("/tasks/import", json=body, headers=bearer("other"))).status_code == 200


async def test_a_batch_says_what_became_of_each(http: httpx.AsyncClient) -> None:
    body = {"tasks": [{"id": "b1"}, {"ttl": 0}, {"id": "b1"}, 7, {"type": "x"}]}
    reply = await http.post("/tasks/batch", json=body)
    assert reply.status_code == 200
    results = reply.json()["results"]
    assert [result["ok"] for result in results] == [True, False, False, False, True]
    assert [result.get("status") for result in results] == [None, 400, 409, 400, None]
    assert results[1]["details"] == [{"path": "ttl", "reason": "expected a positive integer"}]
    assert results[2]["code"] == "task_exists"


async def test_a_sequence_waits_task_by_task(http: httpx.AsyncClient) -> None:
    body = {"tasks": [{"id": "s1"}, {"ttl": 0}, {"id": "s2"}, {"id": "s3"}], "mode": "sequential"}
    results = (await http.post("/tasks/batch", json=body)).json()["results"]
    assert [result["task"].get("after") for result in results if result["ok"]] == [None, "s1", "s2"]


@pytest.mark.parametrize(
    ("body", "code"),
    [
        ({"tasks": [{}], "atomic": True}, "not_atomic_here"),
        ({"tasks": []}, "validation_error"),
        ({"tasks": [{}] * 1001}, "validation_error"),
        ({"tasks": [{}], "mode": "zigzag"}, "validation_error"),
        ({"tasks": [{}], "atomic": "yes"}, "validation_error"),
        ({}, "validation_error"),
    ],
    ids=["atomic", "empty", "too many", "mode", "flag", "nothing"],
)
async def test_a_batch_that_cannot_be(http: httpx.AsyncClient, body: dict[str, Any], code: str) -> None:
    reply = await http.post("/tasks/batch", json=body)
    assert (reply.status_code, reply.json()["code"]) == (400, code)


async def test_a_repeated_batch_makes_nothing_new(http: httpx.AsyncClient) -> None:
    body, key = {"tasks": [{}, {"type": "x"}]}, {"idempotency-key": "batch"}
    replies = [(await http.post("/tasks/batch", json=body, headers=key)).json() for _ in range(2)]
    assert replies[0] == replies[1]
    assert len((await http.get("/tasks")).json()["tasks"]) == 2


async def test_live_tasks_are_bounded_per_caller(http: httpx.AsyncClient) -> None:
    results = (await http.post("/tasks/batch", json={"tasks": [{}] * 31})).json()["results"]
    assert [result["ok"] for result in results] == [True] * 30 + [False]
    assert results[-1]["status"] == 429
    refused = await http.post("/tasks", json={})
    assert (refused.status_code, refused.json()["code"]) == (429, "too_many_requests")
    assert int(refused.headers["retry-after"]) > 0
    assert (await http.post("/tasks", json={}, headers=bearer("other"))).status_code == 201


async def test_storage_release_needs_stores_that_can_and_a_good_body(http: httpx.AsyncClient) -> None:
    await create(http, id="t")
    good = {"expectedLastEventIndex": -1, "inactiveSince": 0}
    reply = await http.post("/tasks/t/storage/release", json=good)
    assert (reply.status_code, reply.json()["code"]) == (503, "storage_release_unsupported")
    for body in (
        {},
        {**good, "expectedLastEventIndex": -2},
        {**good, "inactiveSince": -1},
        {**good, "inactiveSince": "x"},
    ):
        assert (await http.post("/tasks/t/storage/release", json=body)).status_code == 400
    missing = await http.post("/tasks/none/storage/release", json=good)
    assert (missing.status_code, missing.json()["error"]) == (404, "Task not found")


async def test_a_large_archive_there_and_back(http: httpx.AsyncClient, monkeypatch: pytest.MonkeyPatch) -> None:
    """Sent while it is read, taken in while it comes; at a size at which a test need not wait for it."""
    monkeypatch.setattr(archive_routes, "LARGE", 2_000)
    monkeypatch.setattr(archive_routes, "_CHUNK", 1_000)
    await create(http, id="t")
    await http.patch("/tasks/t/status", json={"status": "running"})
    drafts = [{"type": "log", "level": "info", "data": {"n": n, "text": "x" * 50}} for n in range(300)]
    assert (await http.post("/tasks/t/events", json=drafts)).status_code == 201
    exported = await http.get("/tasks/t/archive")
    archive = exported.json()
    assert len(archive["events"]) == 301 and "content-length" not in exported.headers
    assert (await http.post("/tasks/import", json={"archive": archive})).status_code == 409
    done = await http.post("/tasks/import", json={"archive": archive, "overwrite": True})
    assert done.json() == {"ok": True, "taskId": "t", "eventCount": 301, "overwritten": True}
    assert (await http.get("/tasks/t/archive")).json()["events"] == archive["events"]
    renamed = {**archive, "task": {**archive["task"], "id": "t2"}}
    for body, path in (
        ({"archive": renamed}, "events[0].taskId"),
        ({"archive": archive, "overwrite": "yes"}, "overwrite"),
        ({"archive": {**archive, "events": archive["events"][:-1] + archive["events"][:1]}}, "events"),
        ({"archive": {**archive, "events": [{**archive["events"][0], "type": "x" * 5_000}, *archive["events"][1:]]}},
         "events[0].type"),
    ):  # fmt: skip
        reply = await http.post("/tasks/import", json=body)
        assert reply.status_code == 400 and reply.json()["details"][0]["path"] == path, reply.text
    assert (await http.get("/tasks/t2")).status_code == 404, "nothing of it"
    events = [{**event, "taskId": "t2", "id": f"e{event['index']}"} for event in archive["events"]]
    reply = await http.post("/tasks/import", json={"archive": {**renamed, "events": events}})
    assert reply.json() == {"ok": True, "taskId": "t2", "eventCount": 301, "overwritten": False}
    assert (await http.get("/tasks/t2/events/history?limit=1000")).json() == events


async def test_an_import_names_its_first_defect(http: httpx.AsyncClient) -> None:
    await create(http, id="t")
    archive = (await http.get("/tasks/t/archive")).json()
    assert (await http.post("/tasks/import", json={"archive": archive})).status_code == 409
    for body, path in [
        ({}, "archive"),
        ({"archive": archive, "overwrite": "yes"}, "overwrite"),
        ({"archive": {**archive, "version": 9}}, "schema"),
        ({"archive": {**archive, "task": {**archive["task"], "status": "odd"}}}, "task.status"),
        ({"archive": {**archive, "task": {**archive["task"], "id": "x" * 500}}}, "task.id"),
    ]:
        reply = await http.post("/tasks/import", json=body)
        assert reply.status_code == 400, reply.text
        assert reply.json()["details"][0]["path"] == path
    done = await http.post("/tasks/import", json={"archive": archive, "overwrite": True})
    assert done.json() == {"ok": True, "taskId": "t", "eventCount": 0, "overwritten": True}


async def test_unknown_tasks_are_told_as_the_reference_does(http: httpx.AsyncClient) -> None:
    event = {"type": "x", "level": "info"}
    for method, path, body, text in [
        ("GET", "/tasks/no", None, "Task not found"),
        ("GET", "/tasks/no/events", None, "Task not found"),
        ("GET", "/tasks/no/events/history", None, "Task not found"),
        ("GET", "/tasks/no/request", None, "Task not found"),
        ("POST", "/tasks/no/resolve", {"data": 1}, "Task not found"),
        ("PATCH", "/tasks/no/status", {"status": "running"}, "Task not found: no"),
        ("POST", "/tasks/no/events", event, "Task not found: no"),
        ("GET", "/tasks/no/archive", None, "Task not found: no"),
        ("DELETE", "/tasks/no", None, "Task not found"),
        ("POST", "/tasks/no/ticket", None, "Task not found"),
    ]:
        reply = await http.request(method, path, json=body)
        assert reply.status_code == 404, (method, path)
        assert reply.json() == {"error": text, "code": "task_not_found"}


async def test_priority_and_fields_of_ours_round_trip(http: httpx.AsyncClient) -> None:
    task = await create(http, priority="high", retry={"attempts": 3})
    assert task["priority"] == "high"
    assert task["retry"]["attempts"] == 3
    status: TaskStatus = "running"
    moved = (await http.patch(f"/tasks/{task['id']}/status", json={"status": status})).json()
    assert isinstance(moved["startedAt"], int)
    assert set(moved) <= {_camel(name) for name in Task.__slots__}


def _camel(name: str) -> str:
    head, *rest = name.split("_")
    return head + "".join(part.capitalize() for part in rest)
