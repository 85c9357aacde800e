"""Secrets are planted wherever one may stand; then every log, error, figure, span and health reply is read."""

import asyncio
import json
import os
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx
import jwt
import pytest
from attrs import frozen

from taskcast_core.config import Config
from taskcast_core.plugins import Plugins
from taskcast_server.live_config import LiveConfig
from tests.fixtures.eventually import eventually
from tests.fixtures.redis_server import RedisServer
from tests.fixtures.servers import running_redis
from tests.server.app_server import client, following
from tests.server.http_receiver import Got, Receiver, Reply
from tests.server.programs import Program, taskcast

pytestmark = pytest.mark.anyio

MARK = "pLaNtEd"
"""Part of every secret, and of nothing else."""


def planted(place: str) -> str:
    return f"{MARK}-{place}-0123456789abcdef0123456789"


CONFIG = f"""
from opentelemetry import trace
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import ConsoleSpanExporter, SimpleSpanProcessor

provider = TracerProvider()
provider.add_span_processor(SimpleSpanProcessor(ConsoleSpanExporter(out=open("spans.json", "a", buffering=1))))
trace.set_tracer_provider(provider)

config = {{
    "logLevel": "debug",
    "adminApi": True,
    "adminToken": "{planted("admin")}",
    "auth": {{"mode": "jwt", "ticketSecret": "{planted("ticket")}", "jwt": {{"secret": "{planted("jwt")}"}}}},
    "trustedServices": [{{"name": "svc", "key": "{planted("service")}", "scope": ["*"]}}],
    "adapters": {{"broadcast": {{"provider": "redis"}}, "shortTermStore": {{"provider": "redis"}}}},
    "webhook": {{"allowPrivateNetworks": True, "defaultRetry": {{"retries": 0}}}},
    "workers": {{"enabled": True}},
    "limits": {{"requestsPerMinute": 100000}},
}}
"""


@frozen
class Stage:
    """A server full of secrets, what it stands on, and what it talks to."""

    program: Program
    redis: RedisServer
    receiver: Receiver
    http: httpx.AsyncClient
    directory: Path

    @property
    def token(self) -> str:
        claims = {"scope": ["*"], "sub": "me", "exp": 4_000_000_000}
        return jwt.encode(claims, planted("jwt"), algorithm="HS256")

    @property
    def headers(self) -> dict[str, str]:
        return {"authorization": f"Bearer {self.token}"}

    def check(self, text: str) -> None:
        """None of it stands there: the secrets themselves, and the tokens that were made of them."""
        assert MARK not in text, around(text, MARK)
        assert self.token not in text
        assert "tct1." not in text, around(text, "tct1.")


def around(text: str, mark: str) -> str:
    at = text.index(mark)
    return text[max(0, at - 200) : at + 100]


@pytest.fixture(scope="module")
def anyio_backend() -> str:
    return "asyncio"


def answer(got: Got) -> Reply:
    return Reply(500) if "/bad" in got.path else Reply(200)


@pytest.fixture(scope="module")
async def stage(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Stage]:
    """One server for the whole file."""
    directory = tmp_path_factory.mktemp("secrets")
    (directory / "taskcast.config.py").write_text(CONFIG)
    user = ("--user", "extra", "on", f">{planted('redis')}", "~*", "&*", "+@all")
    async with Receiver(answer) as receiver:
        with running_redis(options=user) as redis:
            env = {
                "TASKCAST_REDIS_URL": f"redis://extra:{planted('redis')}@127.0.0.1:{redis.port}/0",
                "SENTRY_DSN": f"http://{planted('dsn')}@127.0.0.1:{receiver.port}/1",
                "TASKCAST_CONFIG_DIR": str(directory),
            }
            with taskcast("start", "--verbose", cwd=directory, env=env) as program:
                async with client(program.url) as http:
                    yield Stage(program, redis, receiver, http, directory)


async def test_whatever_happens_no_secret_is_told(stage: Stage) -> None:
    http, headers = stage.http, stage.headers
    texts = [reply.text for reply in await refused(stage)]
    origin = f"http://user:{planted('url-password')}@127.0.0.1:{stage.receiver.port}"
    hooks = [
        {"url": f"{origin}/{path}/{planted('path')}?k={planted('query')}", "secret": planted("hook"), "on": "terminal"}
        for path in ("good", "bad")
    ]  # fmt: skip
    body = {"id": "t", "type": "llm", "params": {"p": planted("params")}, "webhooks": hooks}
    made = await http.post("/tasks", json=body, headers=headers)
    assert made.status_code == 201
    await http.post("/tasks/t/events", json={"type": "x", "level": "info", "data": planted("data")}, headers=headers)
    texts.append((await http.post("/tasks", json=body, headers=headers)).text)  # the id is taken
    ticket = (await http.post("/tasks/t/ticket", headers=headers)).json()["ticket"]
    async with following(http, f"/tasks/t/events?ticket={ticket}") as frames:
        assert await frames.next() is not None
    assert (await http.get("/tasks/t", headers={"x-api-key": planted("service")})).status_code == 200
    error = {"code": "x", "message": planted("error"), "details": {"d": planted("details")}}
    await http.patch("/tasks/t/status", json={"status": "running"}, headers=headers)
    await http.patch("/tasks/t/status", json={"status": "failed", "error": error}, headers=headers)

    def both_were_tried() -> bool:
        assert stage.program.output.count("webhook_attempt") >= 2, stage.program.output[-4000:]
        return True

    await eventually(both_were_tried, within_s=40)
    texts += [reply.text for reply in await asked(stage)]
    stage.redis.stop()
    away = [await http.get("/tasks/t", headers=headers), await http.post("/tasks", json={}, headers=headers)]
    assert {reply.status_code for reply in away} == {503}
    texts += [reply.text for reply in (*away, *await asked(stage))]
    for text in texts:
        stage.check(text)
    stage.check(stage.program.output)
    assert '"event":"http_request_failed"' in stage.program.output
    spans = (stage.directory / "spans.json").read_text()
    assert "taskcast.webhook" in spans and "POST /tasks" in spans
    stage.check(spans)
    for got in stage.receiver.got:
        if "/api/" in got.path:  # Sentry's
            stage.check(got.body.decode(errors="replace"))


async def refused(stage: Stage) -> list[httpx.Response]:
    """Secrets that are wrong, or in the wrong place."""
    http = stage.http
    wrong = jwt.encode({"scope": ["*"], "key": planted("wrong")}, planted("other-key"), algorithm="HS256")
    return [
        await http.get("/tasks", headers={"authorization": f"Bearer {wrong}"}),
        await http.get("/tasks", headers={"authorization": f"Basic {planted('basic')}"}),
        await http.get("/tasks", headers={"x-api-key": planted("wrong-service")}),
        await http.get(f"/tasks/t/events?ticket=tct2.{planted('bad-ticket')}"),
        await http.post("/admin/token", json={"adminToken": planted("wrong-admin")}),
        await http.post("/tasks", content=f'{{"{planted("body")}', headers=stage.headers),
        await http.post("/tasks", json={"ttl": planted("field")}, headers=stage.headers),
    ]  # fmt: skip


async def asked(stage: Stage) -> list[httpx.Response]:
    """Everything that tells of the server itself."""
    paths = ("/", "/health", "/health/ready", "/health/detail?diagnose=1", "/metrics", "/metrics.json", "/openapi.json",
             "/admin/config", "/admin/dead-letters")  # fmt: skip
    return [await stage.http.get(path, headers=stage.headers) for path in paths]


async def test_a_start_that_fails_tells_no_secret(tmp_path: Path) -> None:
    program = Path(sys.executable).with_name("taskcast")
    places = {
        "TASKCAST_REDIS_URL": f"redis://u:{planted('redis')}@127.0.0.1:9/0",
        "TASKCAST_POSTGRES_URL": f"postgresql://u:{planted('postgres')}@127.0.0.1:9/db?connect_timeout=2",
    }
    clean = {name: value for name, value in os.environ.items() if not name.startswith("TASKCAST_")}

    async def failed(name: str, value: str) -> str:
        redis = "{provider: redis, startTimeoutMs: 100}"
        patience = {
            "REDIS": f"shortTermStore: {redis}, broadcast: {redis}",
            "POSTGRES": "longTermStore: {provider: postgres, connectTimeoutMs: 100}",
        }
        file = tmp_path / f"{name}.yaml"
        file.write_text(f"adapters: {{{patience[name.split('_')[1]]}}}")
        process = await asyncio.create_subprocess_exec(
            program, "start", "-p", "0", "-c", file, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT,
            cwd=tmp_path, env={**clean, name: value, "TASKCAST_LOG_LEVEL": "debug"},
        )  # fmt: skip
        output, _ = await asyncio.wait_for(process.communicate(), 60)
        assert process.returncode == 1, output
        return output.decode()

    for text in await asyncio.gather(*(failed(name, value) for name, value in places.items())):
        assert "unavailable" in text
        assert MARK not in text, around(text, MARK)


def test_a_verdict_on_a_configuration_quotes_no_secret() -> None:
    plugins = Plugins()
    config = Config.of({}, plugins=plugins)
    live = LiveConfig(config, plugins, None, lambda _: None)  # type: ignore[arg-type]
    given: list[dict[str, Any]] = [
        {"auth": {"mode": "jwt", "jwt": {"secret": [planted("list")]}}},
        {"auth": {"mode": "jwt", "jwt": {"secret": planted("jwt"), "algorithm": "none"}}},
        {"adminToken": {"a": planted("mapping")}},
        {"trustedServices": [{"name": "svc", "key": [planted("service")], "scope": ["*"]}]},
        {"adapters": {"shortTermStore": {"provider": "redis", "url": f"http://u:{planted('url')}@host"}}},
        {"adapters": {"longTermStore": {"provider": "postgres", "url": [planted("postgres")]}}},
        {"sentry": {"dsn": f"nonsense-{planted('dsn')}"}},
    ]
    for each in given:
        text = json.dumps(live.judge(each).shown())
        assert MARK not in text, (each, text)
