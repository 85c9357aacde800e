"""The server's log: what stands in it, in which form, from which level on."""

import json
import logging
from collections.abc import Iterator
from contextlib import suppress
from io import StringIO
from pathlib import Path
from typing import Any

import httpx
import pytest

from taskcast_core import MemoryBroadcastProvider, MemoryShortTermStore, TaskEngine, archiver
from taskcast_core.builtin.memory_long_term import MemoryLongTermStore
from taskcast_core.errors import StorageBusy
from taskcast_core.log_events import tell, tell_storage
from taskcast_server import request_ids
from taskcast_server.cli.log_setup import JsonFormatter, TextFormatter
from taskcast_server.failures import without_credentials
from taskcast_server.log_levels import set_level
from tests.fixtures.eventually import eventually, eventually_sync
from tests.server.http_receiver import Receiver, Reply
from tests.server.programs import Program, taskcast

pytestmark = pytest.mark.anyio


@pytest.fixture(scope="module")
def anyio_backend() -> str:
    return "asyncio"


# ── A server ──────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Program]:
    """One server for the whole file, whose log is JSON."""
    directory = tmp_path_factory.mktemp("logs")
    config = directory / "config.yaml"
    config.write_text("logFormat: json\nwebhook: {allowPrivateNetworks: true, defaultRetry: {retries: 0}}\n")
    with taskcast("start", "-c", str(config), "--storage", "memory", cwd=directory) as program:
        yield program


def events(server: Program) -> list[dict[str, Any]]:
    """Every line of the log, parsed; the banner is no log."""
    lines = [line for line in server.output.splitlines() if not line.startswith("[taskcast]")]
    return [json.loads(line) for line in lines]


def of(server: Program, event: str, **facts: Any) -> list[dict[str, Any]]:
    return [each for each in events(server) if each.get("event") == event and facts.items() <= each.items()]


def test_one_line_when_a_task_begins_and_one_when_it_ends(server: Program) -> None:
    headers = {"x-request-id": "begin-1"}
    task = httpx.post(f"{server.url}/tasks", json={"type": "llm", "params": {"k": "payload"}}, headers=headers).json()
    status = f"{server.url}/tasks/{task['id']}/status"
    httpx.patch(status, json={"status": "running"})
    error = {"code": "broke", "message": "payload"}
    httpx.patch(status, json={"status": "failed", "error": error}, headers={"x-request-id": "end-1"})
    (created,) = eventually_sync(lambda: of(server, "task_created", taskId=task["id"]))
    (ended,) = eventually_sync(lambda: of(server, "task_ended", taskId=task["id"]))
    assert (created["type"], created["level"], created["requestId"]) == ("llm", "info", "begin-1")
    assert (ended["status"], ended["errorCode"], ended["requestId"]) == ("failed", "broke", "end-1")
    assert ended["livedMs"] >= 0
    assert "payload" not in server.output


async def test_one_line_for_each_attempt_of_a_webhook(server: Program) -> None:
    async with Receiver(lambda got: Reply(200 if got.path.startswith("/good") else 500)) as receiver:
        tasks = {}
        for path in ("/good?key=payload", "/bad?key=payload"):
            hook = {"url": receiver.url(path), "secret": "payload", "on": "terminal"}
            async with httpx.AsyncClient(base_url=server.url, trust_env=False) as http:
                tasks[path] = (await http.post("/tasks", json={"webhooks": [hook]})).json()["id"]
                await http.patch(f"/tasks/{tasks[path]}/status", json={"status": "cancelled"})
        (good,) = await eventually(lambda: of(server, "webhook_attempt", taskId=tasks["/good?key=payload"]))
        (bad,) = await eventually(lambda: of(server, "webhook_attempt", taskId=tasks["/bad?key=payload"]))
        target = f"http://127.0.0.1:{receiver.port}"
    assert (good["delivered"], good["attempt"], good["target"], good["level"]) == (True, 1, target, "info")
    assert (bad["delivered"], bad["reason"], bad["level"]) == (False, "HTTP 500", "warn")
    assert "payload" not in server.output


def test_one_line_for_each_refused_request_without_its_query(server: Program) -> None:
    headers = {"x-request-id": "refused-1"}
    reply = httpx.get(f"{server.url}/tasks/missing?ticket=payload", headers=headers, trust_env=False)
    assert reply.headers["x-request-id"] == "refused-1"
    (line,) = eventually_sync(lambda: of(server, "http_request_refused", requestId="refused-1"))
    facts = {"method": "GET", "path": "/tasks/missing", "status": 404, "code": "task_not_found", "level": "info"}
    assert facts.items() <= line.items()
    assert "payload" not in server.output


def test_every_reply_has_an_id_of_its_own_or_the_callers(server: Program) -> None:
    with httpx.Client(base_url=server.url, trust_env=False) as http:
        made = {http.get("/health").headers["x-request-id"] for _ in range(20)}
        assert len(made) == 20
        assert http.get("/health", headers={"x-request-id": "mine-1"}).headers["x-request-id"] == "mine-1"
        for bad in ("", "a b", "x" * 129, 'quote"'):
            assert http.get("/health", headers={"x-request-id": bad}).headers["x-request-id"] != bad
        task = http.post("/tasks", json={}).json()
        http.patch(f"/tasks/{task['id']}/status", json={"status": "cancelled"})
        for path in (f"/tasks/{task['id']}/events", f"/tasks/{task['id']}/events/history", "/nowhere"):
            assert http.get(path, headers={"x-request-id": "mine-2"}).headers["x-request-id"] == "mine-2"


def test_the_level_and_the_form_come_from_the_environment(tmp_path: Path) -> None:
    env = {"TASKCAST_LOG_LEVEL": "error"}
    (tmp_path / "config.yaml").write_text("logLevel: debug\n")
    with taskcast("start", "-c", "config.yaml", "--storage", "memory", cwd=tmp_path, env=env) as program:
        httpx.post(f"{program.url}/tasks", json={}, trust_env=False)
        httpx.get(f"{program.url}/nowhere", trust_env=False)
        assert program.stop() == 0
        assert all(line.startswith("[taskcast]") for line in program.output.splitlines())


# ── Formats ───────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.fixture
def log() -> Iterator[logging.Logger]:
    logger = logging.getLogger("taskcast_server.test_logs")
    logger.propagate = False
    logger.setLevel(logging.DEBUG)
    yield logger
    logger.handlers.clear()


def told(log: logging.Logger, formatter: logging.Formatter) -> StringIO:
    text = StringIO()
    handler = logging.StreamHandler(text)
    handler.setFormatter(formatter)
    log.handlers[:] = [handler]
    return text


def test_an_event_as_text(log: logging.Logger) -> None:
    text = told(log, TextFormatter())
    forged = "x\n[taskcast] error: forged"
    tell(log, logging.WARNING, "task_created", taskId=forged, type="a b", nothing=None, count=3)
    (line,) = text.getvalue().splitlines()
    assert line.endswith(r'[taskcast] warn: task_created taskId="x\n[taskcast] error: forged" type="a b" count=3')


def test_an_event_as_json_keeps_what_is_ours(log: logging.Logger) -> None:
    text = told(log, JsonFormatter())
    token = request_ids.current.set("r-1")
    try:
        tell(log, logging.INFO, "task_created", taskId="t", level="forged", event_="x")
        log.warning("plain %s", "words")
    finally:
        request_ids.current.reset(token)
    event, plain = (json.loads(line) for line in text.getvalue().splitlines())
    assert (event["event"], event["taskId"], event["level"], event["requestId"]) == ("task_created", "t", "info", "r-1")
    assert (plain["message"], plain["level"], plain["logger"]) == ("plain words", "warn", log.name)


def test_a_traceback_is_told_without_credentials(log: logging.Logger) -> None:
    for formatter in (TextFormatter(), JsonFormatter()):
        text = told(log, formatter)
        try:
            raise RuntimeError("cannot reach redis://user:pa55word@host/0")
        except RuntimeError:
            log.exception("at postgresql://me:pa55word@db/x failed")
        assert "RuntimeError" in text.getvalue()
        assert "pa55word" not in text.getvalue()


@pytest.mark.parametrize(
    ("text", "masked"),
    [
        ("redis://u:p@host/0 and http://x@y", "redis://***@host/0 and http://***@y"),
        ("redis://u:p@ss@host/0", "redis://***@host/0"),
        ("host=db password=hush user=me", "host=db password=*** user=me"),
        ("Secret: hush, api_key=hush", "Secret: ***, api_key=***"),
        ("http://host/path without", "http://host/path without"),
    ],
)
def test_credentials_are_masked(text: str, masked: str) -> None:
    assert without_credentials(text) == masked


def test_events_of_the_storage_life_cycle(log: logging.Logger) -> None:
    storage = logging.getLogger("taskcast_core.storage")
    text = told(storage, JsonFormatter())
    storage.propagate, before = False, storage.level
    storage.setLevel(logging.DEBUG)
    try:
        tell_storage("storage_release", taskId="t", archiveWatermark=3)
    finally:
        storage.handlers.clear()
        storage.propagate = True
        storage.setLevel(before)
    line = json.loads(text.getvalue())
    assert (line["component"], line["event"], line["archiveWatermark"]) == ("storage-lifecycle", "storage_release", 3)


async def test_the_life_of_a_task_between_its_stores(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(archiver, "LARGE", 10)
    caplog.set_level(logging.DEBUG, "taskcast_core.storage")
    async with MemoryShortTermStore() as store:
        engine = TaskEngine(
            broadcast=MemoryBroadcastProvider(), short_term_store=store, long_term_store=MemoryLongTermStore()
        )
        async with engine:
            task = await engine.create_task()
            await engine.publish_events(task.id, [{"type": "x", "level": "info"}] * 12)

            async def is_cold() -> bool:
                with suppress(StorageBusy):
                    return (await engine.release_task(task.id, 11, engine.now_ms() + 1)).state == "cold"
                return False

            await eventually(is_cold)
            await engine.get_history(task.id)
            await engine.publish_event(task.id, {"type": "y", "level": "info"})
    facts = {each.event: each.facts for each in caplog.records if hasattr(each, "event")}
    assert facts["storage_hot_task"]["events"] >= 10
    assert facts["storage_release"]["archiveWatermark"] == 11
    read = next(each.facts for each in caplog.records if getattr(each, "event", "") == "storage_history_read")
    assert read["entries"] == 12
    assert facts["storage_rehydrate"]["taskId"] == task.id
    assert {each["component"] for each in facts.values()} == {"storage-lifecycle"}


def test_libraries_are_heard_when_their_news_is_bad() -> None:
    root, uvicorn = logging.getLogger(), logging.getLogger("uvicorn")
    before = root.level, uvicorn.level
    try:
        set_level("debug")
        assert (root.level, uvicorn.level) == (logging.DEBUG, logging.WARNING)
        set_level("error")
        assert (root.level, uvicorn.level) == (logging.ERROR, logging.ERROR)
    finally:
        root.setLevel(before[0])
        uvicorn.setLevel(before[1])
