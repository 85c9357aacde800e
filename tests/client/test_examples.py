"""The examples of the documentation run as they stand."""

import asyncio
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
from tests.fixtures.eventually import DEADLINE_S, eventually
from tests.fixtures.processes import HOST, free_port
from tests.tools.version import ROOT

pytestmark = pytest.mark.anyio

EXAMPLES = ROOT / "docs" / "examples"


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
    url = f"http://{HOST}:{free_port()}"
    port = url.rpartition(":")[2]
    with running("", sys.executable, "-m", "uvicorn", "fastapi_chat:app", "--port", port, "--log-level", "error"):
        async with httpx.AsyncClient(base_url=url) as browser, TaskcastClient(f"{url}/taskcast") as reader:

            async def is_up() -> bool:
                try:
                    return (await browser.get("/")).status_code == 200
                except httpx.TransportError:
                    return False

            await eventually(is_up, within_s=60)
            task_id = (await browser.post("/chat", params={"question": "why"})).json()["task"]
            first = reader.text(task_id)
            beginning = [await anext(first) for _ in range(3)]
            await first.aclose()
            whole = "".join([piece async for piece in reader.text(task_id)])
            assert whole.startswith("".join(beginning))
            words = ["You", "asked:", "why.", "Let", "me", "think", "about", "that", "for", "a", "while.", ""] * 3
            assert whole == "".join(f"{word} " for word in words)
            assert (await asyncio.wait_for(reader.wait(task_id), DEADLINE_S)).status == "completed"
