"""Figures: every route is counted, labels are bounded, and what happens shows."""

import asyncio
import json
import re
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx
import pytest
import yaml
from prometheus_client.parser import text_string_to_metric_families

from taskcast_core import EngineSettings, MemoryBroadcastProvider, MemoryShortTermStore, TaskEngine
from taskcast_core.builtin.memory_long_term import MemoryLongTermStore
from taskcast_core.errors import StoreUnavailable
from taskcast_core.instruments import Instruments
from taskcast_core.meters import MAX_TYPES, OTHER, Distribution, Labels
from taskcast_core.workers import WorkerSettings
from taskcast_server.app import create_taskcast_app
from taskcast_server.auth.admin import AdminDesk
from taskcast_server.metrics import MetricsOptions, figures
from taskcast_server.options import LimitOptions
from taskcast_server.routes.table import route_table
from taskcast_server.webhooks.follower import WebhookFollower
from taskcast_server.webhooks.options import Retry, WebhookOptions
from tests.fixtures.eventually import eventually
from tests.server.app_server import client, following, memory_engine, serving
from tests.server.http_receiver import Receiver, Reply

pytestmark = pytest.mark.anyio

Figures = dict[str, dict[tuple[tuple[str, str], ...], float]]


@pytest.fixture(scope="module")
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture(scope="module", autouse=True)
def always_fresh() -> Any:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(figures, "FRESH_S", 0.0)
        yield


@pytest.fixture(scope="module")
async def http() -> AsyncIterator[httpx.AsyncClient]:
    """One server for the whole file, with all that can be measured."""
    webhooks = WebhookFollower(WebhookOptions(Retry(retries=0), allow_private_networks=True))
    settings = EngineSettings(workers=WorkerSettings(enabled=True), max_lag=50)
    async with MemoryShortTermStore() as store, webhooks:
        engine = TaskEngine(
            broadcast=MemoryBroadcastProvider(), short_term_store=store, long_term_store=MemoryLongTermStore(),
            handlers=[webhooks], settings=settings,
        )  # fmt: skip

        async def away() -> None:
            raise StoreUnavailable("redisCommand", "timeout")

        async def well() -> None: ...

        app = create_taskcast_app(
            engine, webhooks=webhooks, checks={"redisCommand": away, "postgres": well}, admin=AdminDesk("right"),
            limits=LimitOptions(max_open_streams=3),
        )  # fmt: skip
        async with engine, serving(app, ws="websockets-sansio") as url, client(url) as http:
            yield http


async def scraped(http: httpx.AsyncClient) -> Figures:
    """Every sample by name and labels."""
    reply = await http.get("/metrics")
    assert reply.status_code == 200
    assert reply.headers["content-type"].startswith("text/plain")
    found: Figures = {}
    for family in text_string_to_metric_families(reply.text):
        for sample in family.samples:
            found.setdefault(sample.name, {})[tuple(sorted(sample.labels.items()))] = sample.value
    return found


def value(found: Figures, name: str, **labels: str) -> float:
    return found.get(name, {}).get(tuple(sorted(labels.items())), 0.0)


async def grown(http: httpx.AsyncClient, before: Figures, name: str, **labels: str) -> float:
    return value(await scraped(http), name, **labels) - value(before, name, **labels)


async def made(http: httpx.AsyncClient, **fields: Any) -> str:
    task_id: str = (await http.post("/tasks", json=fields)).json()["id"]
    return task_id


async def ended(http: httpx.AsyncClient, task_id: str) -> None:
    await http.patch(f"/tasks/{task_id}/status", json={"status": "cancelled"})


# ── Routes ────────────────────────────────────────────────────────────────────────────────────────────────────────


async def test_every_route_is_there_before_it_is_used_and_counted_when_it_is(http: httpx.AsyncClient) -> None:
    before = await scraped(http)
    shown = {dict(labels)["route"] for labels in before["taskcast_http_requests_total"]}
    used = []
    for route in route_table():
        assert route.path in shown
        path = re.sub(r"\{\w+\}", "unheard-of", route.path)
        if route.path in ("/events", "/workers/ws"):
            continue  # they do not end by themselves; below
        path = f"{path}?workerId=w&timeout=1" if path == "/workers/pull" else path
        status = (await http.request(route.method, path, json=[] if route.method != "GET" else None)).status_code
        used.append({"method": route.method, "route": route.path, "status": str(status)})
    after = await scraped(http)
    for labels in used:
        name = "taskcast_http_requests_total"
        assert value(after, name, **labels) > value(before, name, **labels), labels


async def test_streams_and_sockets_are_counted_but_not_timed(http: httpx.AsyncClient) -> None:
    from websockets.asyncio.client import connect

    before = await scraped(http)
    async with following(http, "/events"):
        assert value(await scraped(http), "taskcast_open_streams") == 1
    async with connect(f"ws://{http.base_url.host}:{http.base_url.port}/workers/ws"):
        pass
    task_id = await made(http)
    await ended(http, task_id)
    async with following(http, f"/tasks/{task_id}/events") as frames:
        await frames.rest()
    for path, status in (("/events", "200"), ("/workers/ws", "101"), ("/tasks/{taskId}/events", "200")):
        labels = {"method": "GET", "route": path, "status": status}

        async def counted(labels: dict[str, str] = labels) -> bool:
            return await grown(http, before, "taskcast_http_requests_total", **labels) == 1

        await eventually(counted)
        timed = await grown(http, before, "taskcast_http_request_duration_seconds_count", method="GET", route=path)
        assert timed == 0


async def test_what_a_caller_is_free_to_choose_is_no_label(http: httpx.AsyncClient) -> None:
    before = await scraped(http)
    for at in range(20):
        await http.get(f"/tasks/secret-path-{at}")
        await http.get(f"/nowhere/{at}")
        await http.request(("LOCK", "MKCOL", "PROPFIND", "COPY")[at % 4], "/nowhere")
    reply = (await http.get("/metrics")).text
    assert "secret-path" not in reply and "nowhere" not in reply and "MKCOL" not in reply
    lost = {"method": "OTHER", "route": "(none)", "status": "404"}
    assert await grown(http, before, "taskcast_http_requests_total", **lost) == 20
    assert (
        await grown(http, before, "taskcast_http_request_duration_seconds_count", method="GET", route="/tasks/{taskId}")
        == 20
    )


def test_labels_are_the_first_so_many() -> None:
    labels = Labels(2)
    assert [labels.of(each) for each in ("a", "b", "c", "a", None, "d")] == ["a", "b", OTHER, "a", "none", OTHER]


async def test_task_types_are_bounded(http: httpx.AsyncClient) -> None:
    made_of = [f"type-{at}" for at in range(MAX_TYPES + 5)]
    await http.post("/tasks/batch", json={"tasks": [{"type": each} for each in made_of]})
    found = await scraped(http)
    for name in ("taskcast_tasks_created_total", "taskcast_tasks"):
        types = {dict(labels)["type"] for labels in found[name]}
        assert OTHER in types
        assert len(types) <= MAX_TYPES + 2
    assert sum(found["taskcast_tasks"].values()) == sum(found["taskcast_tasks_by_status"].values())


# ── What happens ──────────────────────────────────────────────────────────────────────────────────────────────────


async def test_tasks_events_and_commits(http: httpx.AsyncClient) -> None:
    before = await scraped(http)
    task_id = await made(http)
    await http.patch(f"/tasks/{task_id}/status", json={"status": "running"})
    await http.post(f"/tasks/{task_id}/events", json=[{"type": "x", "level": "info"}] * 7)
    assert await grown(http, before, "taskcast_tasks_created_total", type="none") == 1
    assert await grown(http, before, "taskcast_task_transitions_total", type="none", status="running") == 1
    assert await grown(http, before, "taskcast_active_tasks") == 1
    assert await grown(http, before, "taskcast_tasks_by_status", status="running") == 1
    events = await grown(http, before, "taskcast_events_total")
    assert events >= 7
    assert await grown(http, before, "taskcast_commit_events_sum") == events
    assert await grown(http, before, "taskcast_commit_duration_seconds_count", store="memory") >= 3
    await ended(http, task_id)
    assert await grown(http, before, "taskcast_active_tasks") == 0
    found = await scraped(http)
    assert value(found, "process_cpu_seconds_total") > 0
    assert value(found, "process_resident_memory_bytes") > 1 << 20


async def test_readers_their_lag_and_how_they_came(http: httpx.AsyncClient) -> None:
    before = await scraped(http)
    task_id = await made(http)
    await http.post(f"/tasks/{task_id}/events", json=[{"type": "x", "level": "info"}] * 20)
    events = (await http.get(f"/tasks/{task_id}/events/history")).json()
    last = events[-1]
    cursors: list[tuple[str, str, dict[str, str]]] = [
        ("none", "", {}),
        ("id", f"?since.id={last['id']}", {}),
        ("last-event-id", "", {"last-event-id": last["id"]}),
        ("index", "?since.index=3", {}),
        ("timestamp", f"?since.timestamp={last['timestamp']}", {}),
    ]
    for kind, query, headers in cursors:
        async with following(http, f"/tasks/{task_id}/events{query}", headers=headers) as frames:
            assert await grown(http, before, "taskcast_subscribers") == 1
            await http.post(f"/tasks/{task_id}/events", json={"type": "y", "level": "info"})
            assert await frames.next() is not None
        assert await grown(http, before, "taskcast_stream_resumes_total", cursor=kind) == 1
        gone = await eventually(lambda: _has_left(http))
        assert gone is not False
    assert await grown(http, before, "taskcast_replay_events_count") == len(cursors)
    assert await grown(http, before, "taskcast_replay_events_sum") >= len(events)
    assert await grown(http, before, "taskcast_delivery_lag_seconds_count") >= 1
    await ended(http, task_id)


async def _has_left(http: httpx.AsyncClient) -> bool:
    return value(await scraped(http), "taskcast_subscribers") == 0


async def test_a_gap_notice_is_counted_by_its_reason(http: httpx.AsyncClient) -> None:
    before = await scraped(http)
    task_id = await made(http)
    await ended(http, task_id)
    async with following(http, f"/tasks/{task_id}/events?since.id=01ARZ3NDEKTSV4RRFFQ69G5FAV") as frames:
        first = await frames.next()
        assert first is not None
        reason = first["json"]["data"]["reason"]
    assert await grown(http, before, "taskcast_gap_signals_total", reason=reason) == 1


async def test_a_reader_that_falls_too_far_behind_is_counted() -> None:
    async with memory_engine(settings=EngineSettings(max_lag=10)) as engine:
        task = await engine.create_task()
        await engine.publish_events(task.id, [{"type": "x", "level": "info"}])
        async with engine.subscribe(task.id) as reader:
            batches = reader.batches()
            await anext(batches)
            await engine.publish_events(task.id, [{"type": "x", "level": "info"}] * 100)
            assert [batch async for batch in batches] == []
        assert engine.instruments.meters is not None
        assert engine.instruments.meters.slow_readers == 1


async def test_limits_and_tickets(http: httpx.AsyncClient) -> None:
    before = await scraped(http)
    for _ in range(40):
        await http.post("/admin/token", json={"adminToken": "wrong"})
    assert await grown(http, before, "taskcast_limited_requests_total", limit="admin") >= 1
    task_id = await made(http)
    streams = [http.stream("GET", f"/tasks/{task_id}/events") for _ in range(4)]
    statuses = [(await each.__aenter__()).status_code for each in streams]
    for each in streams:
        await each.__aexit__(None, None, None)
    assert sorted(statuses) == [200, 200, 200, 429]
    assert await grown(http, before, "taskcast_limited_requests_total", limit="streams") == 1
    ticket = (await http.post(f"/tasks/{task_id}/ticket")).json()["ticket"]
    await ended(http, task_id)
    assert (await http.get(f"/tasks/{task_id}/events", params={"ticket": ticket})).status_code == 200
    assert (await http.get(f"/tasks/{task_id}/events", params={"ticket": "tct1.bad"})).status_code == 401
    for outcome in ("issued", "admitted", "refused"):
        assert await grown(http, before, "taskcast_stream_tickets_total", outcome=outcome) == 1


async def test_webhooks_and_dead_letters(http: httpx.AsyncClient) -> None:
    before = await scraped(http)
    async with Receiver(lambda got: Reply(200 if got.path == "/good" else 500)) as receiver:
        for path in ("/good", "/bad"):
            await made(http, webhooks=[{"url": receiver.url(path), "on": "terminal"}])
        for page in [(await http.get("/tasks?limit=2")).json()["tasks"]]:
            for task in page:
                await ended(http, task["id"])

        async def settled() -> bool:
            return await grown(http, before, "taskcast_webhook_attempts_total", outcome="given_up") == 1

        await eventually(settled, within_s=20)
        assert await grown(http, before, "taskcast_webhook_attempts_total", outcome="delivered") == 1
        assert await grown(http, before, "taskcast_webhook_attempts_total", outcome="failed") == 1
        assert await grown(http, before, "taskcast_dead_letters") == 1
        found = await scraped(http)
        assert {dict(labels)["follower"] for labels in found["taskcast_follower_lag_seconds"]} == {"webhook", "archive"}


async def test_workers_and_the_queue(http: httpx.AsyncClient) -> None:
    await made(http, assignMode="pull", type="wanted")
    before = await scraped(http)
    assert value(before, "taskcast_queue_depth") == 1
    assert (await http.get("/workers/pull?workerId=busy&capacity=3&timeout=5000")).status_code == 200
    assert await grown(http, before, "taskcast_queue_depth") == -1
    assert await grown(http, before, "taskcast_worker_slots") == 3
    assert await grown(http, before, "taskcast_worker_slots_used") == 1
    assert sum((await scraped(http))["taskcast_workers"].values()) >= 1


async def test_dependencies(http: httpx.AsyncClient) -> None:
    found = await scraped(http)
    assert value(found, "taskcast_dependency_up", dependency="redisCommand") == 0
    assert value(found, "taskcast_dependency_up", dependency="postgres") == 1


# ── How they are had ──────────────────────────────────────────────────────────────────────────────────────────────


async def test_json_has_the_same_figures(http: httpx.AsyncClient) -> None:
    await http.post("/tasks", json={"type": "wanted"})  # one that is counted: a scrape does not show itself
    text, told = await scraped(http), (await http.get("/metrics.json")).json()
    names = {sample.get("name", family) for family, facts in told.items() for sample in facts["samples"]}
    assert names == set(text)
    assert told["taskcast_info"]["type"] == "gauge"
    created = {each["labels"]["type"]: each["value"] for each in told["taskcast_tasks_created"]["samples"]}
    assert created["wanted" if "wanted" in created else OTHER] >= 1


async def test_they_can_be_for_administrators_only_or_off() -> None:
    async def who(connection: Any) -> dict[str, Any] | None:
        name = connection.headers.get("authorization")
        return {"scope": [name], "sub": "me"} if name else None

    async with memory_engine(instruments=Instruments()) as engine:
        app = create_taskcast_app(engine, who, metrics=MetricsOptions(enabled=False))
        async with serving(app) as url, client(url) as http:
            assert {(await http.get(path)).status_code for path in ("/metrics", "/metrics.json")} == {404}
    async with memory_engine() as engine:
        app = create_taskcast_app(engine, who, metrics=MetricsOptions(access="admin"))
        async with serving(app) as url, client(url) as http:
            tried = {None: 401, "event:subscribe": 403, "admin": 200}
            for given, expected in tried.items():
                headers = {"authorization": given} if given else {}
                assert (await http.get("/metrics", headers=headers)).status_code == expected


async def test_a_store_that_is_away_takes_its_figures_with_it_and_no_others() -> None:
    async with memory_engine() as engine:

        async def away(*_: object) -> Any:
            raise StoreUnavailable("redisCommand", "timeout")

        engine.store.tally = engine.store.dead_letters = away  # type: ignore[method-assign]
        async with serving(create_taskcast_app(engine)) as url, client(url) as http:
            found = await scraped(http)
            assert "taskcast_tasks" not in found and "taskcast_dead_letters" not in found
            assert "taskcast_events_total" in found


async def test_many_scrapers_at_once_ask_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(figures, "FRESH_S", 3600.0)
    asked = 0

    async def check() -> None:
        nonlocal asked
        asked += 1
        await asyncio.sleep(0.05)

    async with memory_engine() as engine:
        app = create_taskcast_app(engine, checks={"redisCommand": check})
        async with serving(app) as url, client(url) as http:
            await asyncio.gather(*(scraped(http) for _ in range(10)))
    assert asked == 1


def test_a_distribution_counts_each_value_at_its_bound() -> None:
    found = Distribution((1, 10))
    for given in (0, 1, 2, 10, 11):
        found.add(given)
    found.add(5, times=3)
    assert (found.counts, found.count, found.sum) == ([2, 5, 1], 8, 39.0)
    found.add_all([0.5, 1, 10, 99])
    assert (found.counts, found.count, found.sum) == ([4, 6, 2], 12, 149.5)


# ── What is written about them ────────────────────────────────────────────────────────────────────────────────────

DOCS = Path(__file__).parents[2] / "docs"
SUFFIXES = r"(_total|_bucket|_sum|_count)?"


async def test_every_figure_is_described_and_no_other(http: httpx.AsyncClient) -> None:
    await scraped(http)
    told = (await http.get("/metrics.json")).json()
    page = (DOCS / "how-to" / "metrics.md").read_text()
    described = set(re.findall(r"^\| `(taskcast_\w+)`", page, re.MULTILINE))
    assert described == {name for name in told if name.startswith("taskcast_")}


async def test_dashboard_and_alerts_ask_for_figures_and_labels_that_exist(http: httpx.AsyncClient) -> None:
    told = (await http.get("/metrics.json")).json()
    dashboard = json.loads((DOCS / "deploy" / "grafana-dashboard.json").read_text())
    asked = [target["expr"] for panel in dashboard["panels"] for target in panel.get("targets", ())]
    groups = yaml.safe_load((DOCS / "deploy" / "alerts.yml").read_text())["groups"]
    asked += [rule["expr"] for group in groups for rule in group["rules"]]
    assert len(asked) > 50
    for expression in asked:
        for name in re.findall(r"\b(?:taskcast|process)_\w+", expression):
            family = next((each for each in told if re.fullmatch(each + SUFFIXES, name)), None)
            assert family is not None, f"{name} in {expression}"
            is_raw = told[family]["type"] in ("counter", "histogram") and name == family
            assert not is_raw, f"{name} lacks its suffix in {expression}"
    shown = {name for name in told if name.startswith("taskcast_")}
    text = " ".join(asked)
    assert [name for name in sorted(shown) if name not in text] == []
