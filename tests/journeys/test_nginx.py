"""Streams through nginx as it comes: buffering on, gzip on, a short idle limit."""

from __future__ import annotations

import shutil
import signal
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from tests.fixtures.eventually import SOON_S, eventually_sync
from tests.fixtures.processes import GuardedProcess, free_port
from tests.fixtures.scale import Scale
from tests.server.cli_programs import TaskcastServer

NGINX = shutil.which("nginx") or shutil.which("/usr/sbin/nginx")
CONFIG = """
daemon off;
worker_processes 1;
error_log {directory}/error.log;
pid {directory}/nginx.pid;
events {{}}
http {{
  access_log off;
  gzip on;
  gzip_types text/event-stream application/json;
  gzip_min_length 0;
  proxy_read_timeout {idle_s}s;
  client_body_temp_path {directory}/body;
  proxy_temp_path {directory}/proxy;
  fastcgi_temp_path {directory}/fastcgi;
  uwsgi_temp_path {directory}/uwsgi;
  scgi_temp_path {directory}/scgi;
  server {{
    listen 127.0.0.1:{port};
    location / {{ proxy_pass {upstream}; }}
  }}
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
    assert NGINX is not None
    port = free_port()
    config = tmp_path / "nginx.conf"
    config.write_text(CONFIG.format(directory=tmp_path, port=port, upstream=server.url, idle_s=idle_s))
    process = GuardedProcess(
        [NGINX, "-p", str(tmp_path), "-c", str(config)], log=tmp_path / "nginx.log", stop_signal=signal.SIGTERM
    )
    url = f"http://127.0.0.1:{port}"

    def answers() -> bool:
        try:
            return httpx.get(url + "/health", trust_env=False).status_code == 200
        except httpx.TransportError:
            return False

    eventually_sync(answers, within_s=10)
    yield url
    process.stop()


@pytest.mark.timeout(200)
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
