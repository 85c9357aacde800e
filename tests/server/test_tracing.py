"""Spans, as OpenTelemetry's own SDK collects them; and none where nobody collects."""

import re
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from typing import Any

import httpx
import pytest
from opentelemetry import trace
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from taskcast_core import EngineSettings, MemoryBroadcastProvider, MemoryShortTermStore, TaskEngine
from taskcast_core.builtin.memory_long_term import MemoryLongTermStore
from taskcast_core.instruments import Instruments
from taskcast_core.meters import Meters
from taskcast_core.workers import WorkerSettings
from taskcast_server.app import create_taskcast_app
from taskcast_server.routes.table import route_table
from taskcast_server.tracing import TracingOptions, find_tracer
from taskcast_server.webhooks.follower import WebhookFollower
from taskcast_server.webhooks.options import WebhookOptions
from tests.fixtures.eventually import eventually
from tests.server.app_server import client, following, memory_engine, serving
from tests.server.http_receiver import Receiver

pytestmark = pytest.mark.anyio

TRACE = "0af7651916cd43dd8448eb211c80319c"
CREATOR = f"00-{TRACE}-b7ad6b7169203331-01"
OTHER = "00-1bf7651916cd43dd8448eb211c80319c-c7ad6b7169203331-01"


@pytest.fixture(scope="module")
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture(scope="module")
def exporter() -> Iterator[InMemorySpanExporter]:
    """A provider is set, in this process and for this file only."""
    collected = InMemorySpanExporter()
    provider = TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(collected))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(trace, "_TRACER_PROVIDER", provider)
        yield collected
    provider.shutdown()


@pytest.fixture(scope="module")
async def server(exporter: InMemorySpanExporter) -> AsyncIterator[httpx.AsyncClient]:
    webhooks = WebhookFollower(WebhookOptions(allow_private_networks=True))
    async with MemoryShortTermStore() as store, webhooks:
        engine = TaskEngine(
            broadcast=MemoryBroadcastProvider(), short_term_store=store, long_term_store=MemoryLongTermStore(),
            handlers=[webhooks], settings=EngineSettings(workers=WorkerSettings(enabled=True)),
            instruments=Instruments(Meters(), find_tracer()),
        )  # fmt: skip
        app = create_taskcast_app(engine, webhooks=webhooks)
        async with engine, serving(app, ws="websockets-sansio") as url, client(url) as http:
            yield http


@pytest.fixture
def spans(exporter: InMemorySpanExporter, server: httpx.AsyncClient) -> InMemorySpanExporter:
    exporter.clear()
    return exporter


def named(spans: InMemorySpanExporter, name: str) -> list[ReadableSpan]:
    return [each for each in spans.get_finished_spans() if each.name == name]


async def finished(spans: InMemorySpanExporter, name: str) -> ReadableSpan:
    """The first finished span of this name."""
    found = await eventually(lambda: named(spans, name))
    return found[0]


def links_to(span: ReadableSpan, trace_id: str) -> bool:
    return int(trace_id, 16) in {link.context.trace_id for link in span.links}


def context_of(span: ReadableSpan) -> Any:
    assert span.context is not None
    return span.context


# ── Who is recorded ───────────────────────────────────────────────────────────────────────────────────────────────


async def test_every_route_is_a_span_by_its_template(server: httpx.AsyncClient, spans: InMemorySpanExporter) -> None:
    for route in route_table():
        if route.path in ("/events", "/workers/ws"):
            continue  # they do not end by themselves; below
        path = re.sub(r"\{\w+\}", "unheard-of", route.path)
        path = f"{path}?workerId=w&timeout=1" if path == "/workers/pull" else path
        status = (await server.request(route.method, path, json=[] if route.method != "GET" else None)).status_code
        span = await finished(spans, f"{route.method} {route.path}")
        assert span.kind is trace.SpanKind.SERVER
        assert span.attributes is not None
        assert span.attributes["http.route"] == route.path
        assert span.attributes["http.response.status_code"] == status
        assert ("taskcast.task_id" in span.attributes) == route.names_task


async def test_streams_of_all_tasks_and_sockets_too(server: httpx.AsyncClient, spans: InMemorySpanExporter) -> None:
    from websockets.asyncio.client import connect

    async with following(server, "/events"):
        pass
    async with connect(f"ws://{server.base_url.host}:{server.base_url.port}/workers/ws"):
        pass
    await finished(spans, "GET /events")
    await finished(spans, "GET /workers/ws")


# ── What belongs together ─────────────────────────────────────────────────────────────────────────────────────────


async def test_a_request_is_part_of_its_callers_trace_and_commit_and_broadcast_are_part_of_it(
    server: httpx.AsyncClient, spans: InMemorySpanExporter
) -> None:
    headers = {"traceparent": CREATOR, "x-request-id": "mine"}
    reply = await server.post("/tasks", json={"type": "llm"}, headers=headers)
    request = await finished(spans, "POST /tasks")
    commit, broadcast = await finished(spans, "taskcast.commit"), await finished(spans, "taskcast.broadcast")
    assert request.parent is not None
    assert f"{request.parent.span_id:016x}" == "b7ad6b7169203331"
    assert {context_of(each).trace_id for each in (request, commit, broadcast)} == {int(TRACE, 16)}
    assert commit.parent is not None and commit.parent.span_id == context_of(request).span_id
    assert broadcast.parent is not None and broadcast.parent.span_id == context_of(commit).span_id
    assert request.attributes is not None and request.attributes["taskcast.request_id"] == "mine"
    # The task carries what its creation was recorded as.
    assert reply.json()["traceparent"] == f"00-{TRACE}-{context_of(request).span_id:016x}-01"


async def test_whoever_goes_on_with_a_task_is_linked_to_its_creator(
    server: httpx.AsyncClient, spans: InMemorySpanExporter
) -> None:
    task = (await server.post("/tasks", json={"assignMode": "pull"}, headers={"traceparent": CREATOR})).json()
    spans.clear()
    worker = {"traceparent": OTHER}
    pulled = await server.get("/workers/pull?workerId=w&timeout=5000", headers=worker)
    assert pulled.json()["traceparent"] == task["traceparent"]
    events = f"/tasks/{task['id']}/events"
    for status in ("running", "completed"):
        await server.post(events, json={"type": "x", "level": "info"}, headers=worker)
        await server.patch(f"/tasks/{task['id']}/status", json={"status": status}, headers=worker)
    async with following(server, events, headers=worker) as frames:
        await frames.rest()
    templates = ("GET /workers/pull", "POST /tasks/{taskId}/events", "PATCH /tasks/{taskId}/status",
                 "GET /tasks/{taskId}/events")  # fmt: skip
    for template in templates:
        span = await finished(spans, template)
        assert links_to(span, TRACE), template
        assert context_of(span).trace_id != int(TRACE, 16)
    assert all(links_to(commit, TRACE) for commit in named(spans, "taskcast.commit"))


async def test_archive_and_webhooks_are_linked_and_receivers_go_on_with_the_trace(
    server: httpx.AsyncClient, spans: InMemorySpanExporter
) -> None:
    async with Receiver() as receiver:
        hook = {"url": receiver.url("/secret-path?key=secret"), "secret": "hush", "on": "terminal"}
        task = (await server.post("/tasks", json={"webhooks": [hook]}, headers={"traceparent": CREATOR})).json()
        await server.patch(f"/tasks/{task['id']}/status", json={"status": "cancelled"})
        webhook = await finished(spans, "taskcast.webhook")
        sent = receiver.got[0].headers["traceparent"]
    assert links_to(webhook, TRACE)
    assert sent.startswith(f"00-{context_of(webhook).trace_id:032x}-{context_of(webhook).span_id:016x}-")
    assert webhook.attributes is not None
    assert dict(webhook.attributes) == {
        "taskcast.task_id": task["id"], "taskcast.target": f"http://127.0.0.1:{receiver.port}",
        "taskcast.attempt": 1, "taskcast.delivered": True, "taskcast.status": 200,
    }  # fmt: skip
    archive = await finished(spans, "taskcast.archive")
    assert links_to(archive, TRACE)


async def test_an_error_is_told_by_its_class_alone(server: httpx.AsyncClient, spans: InMemorySpanExporter) -> None:
    await server.post("/tasks/missing/events", json={"type": "x", "level": "info"})
    commit = await finished(spans, "taskcast.commit")
    assert commit.attributes is not None and commit.attributes["error.type"] == "TaskNotFound"
    assert commit.status.status_code is trace.StatusCode.ERROR
    assert commit.status.description is None
    assert commit.events == ()


# ── Where nobody collects ─────────────────────────────────────────────────────────────────────────────────────────


def test_there_is_a_tracer_only_if_somebody_set_a_provider(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(trace, "_TRACER_PROVIDER", None)
    assert find_tracer() is None
    monkeypatch.setattr(trace, "_TRACER_PROVIDER", trace.NoOpTracerProvider())
    assert find_tracer() is None


def test_it_can_be_switched_off(exporter: InMemorySpanExporter) -> None:
    assert find_tracer() is not None
    assert find_tracer(TracingOptions(enabled=False)) is None


async def test_without_a_tracer_a_trace_still_goes_with_the_task_and_to_receivers() -> None:
    webhooks = WebhookFollower(WebhookOptions(allow_private_networks=True))
    async with Receiver() as receiver, webhooks, memory_engine(handlers=[webhooks]) as engine:
        app = create_taskcast_app(engine, webhooks=webhooks, tracing=TracingOptions(enabled=False))
        async with serving(app) as url, client(url) as http:
            hook = {"url": receiver.url(), "on": "terminal"}
            task = (await http.post("/tasks", json={"webhooks": [hook]}, headers={"traceparent": CREATOR})).json()
            assert task["traceparent"] == CREATOR
            await http.patch(f"/tasks/{task['id']}/status", json={"status": "cancelled"})
            await eventually(lambda: receiver.got)
            assert receiver.got[0].headers["traceparent"] == CREATOR
            for bad in ("00-" + "0" * 32 + "-b7ad6b7169203331-01", "rubbish", CREATOR + "-x"):
                task = (await http.post("/tasks", json={}, headers={"traceparent": bad})).json()
                assert "traceparent" not in task


def test_the_server_works_where_opentelemetry_is_not_installed() -> None:
    program = (
        "import sys; sys.modules['opentelemetry'] = None\n"
        "from taskcast_server import create_taskcast_app\n"
        "from taskcast_server.tracing import find_tracer\n"
        "assert find_tracer() is None\n"
    )
    subprocess.run([sys.executable, "-c", program], check=True, timeout=60)
