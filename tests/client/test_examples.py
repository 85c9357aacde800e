"""The examples of the documentation run as they stand."""

import asyncio
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import pytest

from taskcast_client import SyncTaskcastClient, TaskcastClient
from tests.client.conftest import TaskcastServer
from tests.client.raw_server import RawServer
from tests.docs.snippets import snippets
from tests.examples.loading import EXAMPLES, example
from tests.fixtures.eventually import DEADLINE_S
from tests.server.app_server import serving
from tests.tools.version import ROOT

pytestmark = pytest.mark.anyio


def run(server: TaskcastServer, *command: str) -> str:
    done = subprocess.run(
        [sys.executable, *command], cwd=EXAMPLES, env={**os.environ, "TASKCAST_URL": server.url},
        capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return done.stdout


@contextmanager
def running(url: str, *command: str) -> Iterator[None]:
    process = subprocess.Popen(command, cwd=EXAMPLES, env={**os.environ, "TASKCAST_URL": url})
    try:
        yield
    finally:
        process.terminate()
        try:
            process.wait(20)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def test_a_script_and_a_notebook_that_follows_it(memory_server: TaskcastServer) -> None:
    task_id = run(memory_server, "script_with_progress.py").strip()
    seen = run(memory_server, "notebook.py", task_id)
    assert "20 of 20" in seen
    assert "info reached page 10" in seen
    assert "completed {'pages': 20}" in seen
    with SyncTaskcastClient(memory_server.url) as client:
        assert client.get_task(task_id).type == "script"


def test_a_pool_of_workers(memory_server: TaskcastServer) -> None:
    command = (str(Path(sys.executable).with_name("taskcast")), "worker", "worker_pool:worker")
    with running(memory_server.url, *command):
        told = run(memory_server, "worker_pool.py", "10")
    assert told.count("image.resize completed") == 10
    assert "report completed {'words': ['ALL', 'DONE']}" in told


async def test_a_chat_that_survives_a_refresh() -> None:
    async with (
        serving(example("fastapi_chat.py").app) as url,
        httpx.AsyncClient(base_url=url) as browser,
        TaskcastClient(f"{url}/taskcast") as reader,
    ):
        assert "EventSource" in (await browser.get("/")).text
        task_id = (await browser.post("/chat", params={"question": "why"})).json()["task"]
        first = reader.text(task_id)
        beginning = [await anext(first) for _ in range(3)]
        await first.aclose()
        whole = "".join([piece async for piece in reader.text(task_id)])
        assert whole.startswith("".join(beginning))
        words = ["You", "asked:", "why.", "Let", "me", "think", "about", "that", "for", "a", "while.", ""] * 3
        assert whole == "".join(f"{word} " for word in words)
        assert (await asyncio.wait_for(reader.wait(task_id), DEADLINE_S)).status == "completed"


async def test_an_endpoint_in_five_lines(memory_server: TaskcastServer, monkeypatch: pytest.MonkeyPatch) -> None:
    chunk = {"id": "c", "created": 1, "model": "m", "object": "chat.completion.chunk"}
    deltas = [
        {**chunk, "choices": [{"index": 0, "delta": {"content": text}, "finish_reason": None}]}
        for text in ("Hel", "lo", "!")
    ]
    body = "".join(f"data: {json.dumps(each)}\n\n" for each in deltas) + "data: [DONE]\n\n"
    async with RawServer([(200, {"Content-Type": "text/event-stream"}, body.encode())]) as model:
        monkeypatch.setenv("OPENAI_BASE_URL", model.url)
        monkeypatch.setenv("OPENAI_API_KEY", "a key")
        monkeypatch.setenv("TASKCAST_URL", memory_server.url)
        program = example("openai_endpoint.py")
        async with (
            program.openai, program.taskcast as reader, serving(program.app) as url, httpx.AsyncClient() as browser
        ):  # fmt: skip
            task_id = (await browser.post(f"{url}/chat", params={"question": "why"})).json()["task"]
            assert "".join([piece async for piece in reader.text(task_id)]) == "Hello!"
            assert (await asyncio.wait_for(reader.wait(task_id), DEADLINE_S)).status == "completed"
        assert json.loads(model.requests[0].body)["messages"] == [{"role": "user", "content": "why"}]


def test_the_readme_shows_what_is_in_the_programs() -> None:
    marked = [each for each in snippets(ROOT / "taskcast-client" / "README.md") if each.mark]
    assert marked
    for each in marked:
        assert each.code in (ROOT / "docs" / each.mark.removeprefix("part of ")).read_text()
