"""Streams through nginx as it comes: buffering on, gzip on, a short idle limit."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from tests.fixtures.eventually import SOON_S
from tests.fixtures.http_proxies import NGINX, nginx_command, running_proxy
from tests.fixtures.processes import free_port
from tests.fixtures.scale import Scale
from tests.server.cli_programs import TaskcastServer

INSIDE = """
  proxy_read_timeout {idle_s}s;
  server {{
    listen 127.0.0.1:{port};
    location / {{ proxy_pass {upstream}; }}
  }}
"""

pytestmark = pytest.mark.skipif(NGINX is None, reason="nginx is not installed (.ci/run installs it where it can)")


@pytest.fixture
def idle_s(scale: Scale) -> int:
    """After so long without a byte nginx gives up: a little more than our heartbeat, or its own default."""
    return scale(18, 60)


@pytest.fixture
def server(tmp_path: Path) -> Iterator[TaskcastServer]:
    """A server in memory."""
    server = TaskcastServer(tmp_path, ("--storage", "memory"))
    server.start()
    yield server
    server.stop()


@pytest.fixture
def proxied(server: TaskcastServer, tmp_path: Path, idle_s: int) -> Iterator[str]:
    """The server's URL behind nginx."""
    port = free_port()
    inside = INSIDE.format(port=port, upstream=server.url, idle_s=idle_s)
    with running_proxy(nginx_command(tmp_path, inside), tmp_path, port) as url:
        yield url


@pytest.mark.timeout(400)
def test_a_stream_is_neither_held_back_nor_cut(server: TaskcastServer, proxied: str, idle_s: int) -> None:
    task_id = server.request("POST", "/tasks", {})["id"]
    headers = {"Accept-Encoding": "gzip"}
    url = f"{proxied}/tasks/{task_id}/events"
    with httpx.stream("GET", url, headers=headers, timeout=idle_s + 30, trust_env=False) as reply:
        lines = reply.iter_lines()
        assert next(lines).startswith(":"), "the stream begins before there is an event"
        for number in range(5):
            began = time.monotonic()
            server.request("POST", f"/tasks/{task_id}/events", {"type": "tick", "level": "info", "data": {"n": number}})
            while f'"n":{number}' not in next(lines):
                pass
            assert time.monotonic() - began < SOON_S, "an event was held back"
        opened = time.monotonic()
        beats = 0
        while time.monotonic() - opened < idle_s + 2:
            beats += next(lines).startswith(":")
        assert beats >= 1
        server.request("PATCH", f"/tasks/{task_id}/status", {"status": "cancelled"})
        assert any("taskcast.done" in line for line in lines), "the idle stream was still open"
