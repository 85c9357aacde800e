"""Sentry in the standalone server: switched on by a variable or a section, and neither in the way nor indiscreet."""

from __future__ import annotations

import logging
import os
import socket
import subprocess
import sys
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest

from taskcast_core.config import Config, InvalidConfig
from taskcast_core.models import TaskError, TaskInput, TransitionInput
from taskcast_core.plugins import Plugins
from taskcast_server.assembly import open_services
from tests.fixtures.eventually import eventually, eventually_sync
from tests.fixtures.processes import free_port
from tests.fixtures.proxy import FaultProxy
from tests.fixtures.redis_server import RedisServer
from tests.fixtures.sentry_sink import LEGACY_SECRET, SentrySink
from tests.server.cli_programs import TaskcastServer

pytestmark = pytest.mark.anyio

PLANTED = {
    name: f"PLANTED-{name}-0123456789"
    for name in (
        "params", "metadata", "webhook-secret", "webhook-path", "url-password", "service-key", "jwt-secret", "token",
        "admin-token", "details", "result", "ticket-secret", "event-data",
    )
}  # fmt: skip


def load(data: dict[str, Any], env: dict[str, str] | None = None) -> tuple[Config, Plugins]:
    plugins = Plugins()
    memory = {"adapters": {"shortTermStore": {"provider": "memory"}}}
    return Config.of({**memory, **data}, env=env, plugins=plugins), plugins


async def fail_a_task(config: Config, plugins: Plugins) -> None:
    """Open a server's services, let a task fail, and close them."""
    async with open_services(config, plugins) as services:
        task = await services.engine.create_task(TaskInput(type="t"))
        await services.engine.transition_task(task.id, "running")
        await services.engine.transition_task(task.id, "failed", TransitionInput(error=TaskError("it broke")))


@pytest.mark.parametrize("by", ["section", "variable"])
async def test_a_dsn_switches_it_on_and_the_end_sends_what_waits(sink: SentrySink, by: str) -> None:
    if by == "section":
        options = {"dsn": sink.dsn, "environment": "staging", "serverName": "node-1", "flushTimeoutMs": 60_000}
        config, plugins = load({"sentry": options})
    else:
        config, plugins = load({}, {"SENTRY_DSN": sink.dsn, "SENTRY_ENVIRONMENT": "staging"})
    await fail_a_task(config, plugins)
    (event,) = sink.items("event")
    assert "it broke" in event["exception"]["values"][0]["value"]
    assert event["environment"] == "staging"
    assert (event["server_name"] == "node-1") == (by == "section")
    assert not {"modules", "request", "user", "breadcrumbs"} & set(event), "nothing but what was built here"


async def test_all_options_can_be_set_in_the_section(sink: SentrySink) -> None:
    off = {
        "captureTaskFailures": False, "captureTaskTimeouts": False, "captureUnhandledErrors": False,
        "captureDroppedEvents": False, "captureStorageErrors": False, "captureBroadcastErrors": False,
        "traceSSEConnections": True, "traceEventPublish": True, "tracesSampleRate": 1, "sampleRate": 1,
        "taskTypes": ["a.*"], "levels": {"taskFailure": "fatal"}, "sendPayloads": False, "release": "r",
        "flushTimeoutMs": 60_000,
    }  # fmt: skip
    config, plugins = load({"sentry": {"dsn": sink.dsn, **off}})
    assert config.warnings == ()
    await fail_a_task(config, plugins)
    assert sink.items("event") == []
    assert len(sink.items("transaction")) == 2, "two commits with events"


@pytest.mark.parametrize("options", [{}, {"enabled": False, "dsn": "http://key@127.0.0.1:9/1"}, {"dsn": ""}])
async def test_without_a_dsn_nobody_observes(options: dict[str, Any]) -> None:
    config, plugins = load({"sentry": options})
    async with open_services(config, plugins) as services:
        assert services.engine.observers.task_failed is None


async def test_a_share_of_the_errors_is_sent(sink: SentrySink) -> None:
    await fail_a_task(*load({"sentry": {"dsn": sink.dsn, "sampleRate": 0, "flushTimeoutMs": 60_000}}))
    assert sink.items("event") == []


def test_a_malformed_dsn_is_refused_without_being_repeated() -> None:
    with pytest.raises(InvalidConfig) as caught:
        load({"sentry": {"dsn": "https://hunter2@sentry.example/not-a-project"}})
    assert "sentry.dsn" in str(caught.value)
    assert "hunter2" not in str(caught.value)


async def test_a_dsn_whose_variable_is_not_set_is_no_reason_not_to_start(caplog: pytest.LogCaptureFixture) -> None:
    config, plugins = load({"sentry": {"dsn": "${SENTRY_DSN}", "captureTaskFailures": True}})
    async with open_services(config, plugins) as services:
        assert services.engine.observers.task_failed is None
    assert "sentry stays off" in caplog.text
    assert "SENTRY_DSN" in caplog.text


async def test_a_dsn_without_the_distribution_says_what_to_install(caplog: pytest.LogCaptureFixture) -> None:
    config, plugins = load({"plugins": ["taskcast-server"]}, {"SENTRY_DSN": "https://hunter2@sentry.example/1"})
    with caplog.at_level(logging.WARNING):
        await fail_a_task(config, plugins)
    assert "pip install taskcast-sentry" in caplog.text
    assert "hunter2" not in caplog.text


@pytest.mark.parametrize("sentry", ["refuses", "says nothing"])
async def test_a_sentry_that_is_away_is_not_waited_for(sentry: str) -> None:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        if sentry == "says nothing":
            listener.listen()
        dsn = f"http://key@127.0.0.1:{listener.getsockname()[1]}/1"
        began = time.monotonic()
        await fail_a_task(*load({"sentry": {"dsn": dsn, "flushTimeoutMs": 100}}))
        assert time.monotonic() - began < 20, "its own time-out is 30 s"


async def test_a_redis_that_goes_away_is_told_of(
    sink: SentrySink, redis_server: RedisServer, fault_proxy: Callable[[int], Awaitable[FaultProxy]]
) -> None:
    proxy = await fault_proxy(redis_server.port)
    redis = {"provider": "redis", "url": f"redis://127.0.0.1:{proxy.port}/0", "prefix": f"t{os.urandom(4).hex()}"}
    config, plugins = load({"sentry": {"dsn": sink.dsn}, "adapters": {"shortTermStore": redis, "broadcast": redis}})
    async with open_services(config, plugins):
        await proxy.refuse()
        proxy.cut()
        wanted = {"Storage error: redisCommand", "Broadcast error: redisPubSub"}
        await eventually(lambda: {" ".join(each["message"].split()[:3]) for each in sink.items("event")} == wanted)
        await proxy.heal()


def test_the_sdk_is_loaded_when_it_is_used() -> None:
    program = "import sys, taskcast_sentry.plugin; raise SystemExit('sentry_sdk' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", program], check=False, timeout=60).returncode == 0


CONFIG = """\
sentry: {{ dsn: "{dsn}", flushTimeoutMs: 60000, traceSSEConnections: true, traceEventPublish: true }}
auth:
  mode: jwt
  jwt: {{ secret: "{jwt-secret}" }}
  ticketSecret: "{ticket-secret}"
trustedServices: [{{ name: ci, key: "{service-key}", scope: ["*"] }}]
adminApi: true
adminToken: "{admin-token}"
webhook: {{ allowPrivateNetworks: true, defaultRetry: {{ retries: 0, timeoutMs: 2000 }} }}
"""


def test_no_planted_secret_and_no_payload_leaves_a_real_server(tmp_path: Path, sink: SentrySink) -> None:
    path = tmp_path / "taskcast.config.yaml"
    path.write_text(CONFIG.format(dsn=sink.dsn, **PLANTED))
    server = TaskcastServer(tmp_path, ("--storage", "memory", "-c", str(path)), PLANTED_TOKEN=PLANTED["token"])
    server.start()
    try:
        drive(server, sink)
    finally:
        server.stop()
    raw = sink.raw.decode()
    assert [name for name, value in {**PLANTED, "dsn": LEGACY_SECRET, "dsn2": sink.dsn}.items() if value in raw] == []
    assert "quoted here" not in raw
    log = server.log.read_text()
    assert LEGACY_SECRET not in log


def drive(server: TaskcastServer, sink: SentrySink) -> None:
    """A failed task that quotes everything, a webhook that cannot be delivered, a stream."""
    import httpx

    with httpx.Client(
        base_url=server.url, headers={"Authorization": f"Bearer {PLANTED['service-key']}"}, trust_env=False, timeout=20
    ) as http:
        webhook = {
            "url": f"http://user:{PLANTED['url-password']}@127.0.0.1:{free_port()}/{PLANTED['webhook-path']}",
            "secret": PLANTED["webhook-secret"],
        }
        body = {
            "type": "llm.chat", "params": {"p": PLANTED["params"]}, "metadata": {"m": PLANTED["metadata"]},
            "webhooks": [webhook],
        }  # fmt: skip
        task_id = http.post("/tasks", json=body).raise_for_status().json()["id"]

        def move(**to: Any) -> None:
            http.patch(f"/tasks/{task_id}/status", json=to).raise_for_status()

        move(status="running")
        event = {"type": "llm.delta", "level": "info", "data": {"delta": PLANTED["event-data"]}}
        http.post(f"/tasks/{task_id}/events", json=event).raise_for_status()
        message = (
            f"cannot reach redis://:{PLANTED['url-password']}@redis:6379 or {sink.dsn}; {PLANTED['params']} "
            f"{PLANTED['metadata']} {PLANTED['result']} {PLANTED['webhook-secret']} {PLANTED['service-key']} "
            f"{PLANTED['jwt-secret']} {PLANTED['admin-token']} {PLANTED['ticket-secret']} {PLANTED['token']} "
            f"{PLANTED['details']} {PLANTED['webhook-path']}"
        )
        error = {"code": "away", "message": message, "details": {"d": PLANTED["details"]}}
        move(status="failed", error=error, result={"r": PLANTED["result"]})
        with http.stream("GET", f"/tasks/{task_id}/events") as stream:
            assert "taskcast.done" in stream.read().decode()
        wanted = {"TaskFailed": "taskId", "DeliveryFailed": "webhookUrl"}

        def told() -> dict[str, str]:
            return {each["exception"]["values"][0]["type"]: next(iter(each["tags"])) for each in sink.items("event")}

        eventually_sync(lambda: told() == wanted)
