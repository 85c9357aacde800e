"""The shipped proxy configurations before a real server: nothing is held back, whatever the server's headers say."""

from __future__ import annotations

import asyncio
import json
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
import websockets.asyncio.client

from tests.fixtures.eventually import SOON_S, eventually_sync
from tests.fixtures.http_proxies import NGINX, nginx_command, running_proxy
from tests.fixtures.processes import free_port
from tests.server.cli_programs import TaskcastServer
from tests.tools.version import ROOT

CADDY = shutil.which("caddy")


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[TaskcastServer]:
    """A server in memory, with workers."""
    directory = tmp_path_factory.mktemp("server")
    (directory / "config.yaml").write_text("workers: { enabled: true }\n")
    server = TaskcastServer(directory, ("--storage", "memory", "-c", str(directory / "config.yaml")))
    server.start()
    yield server
    server.stop()


@pytest.fixture(scope="module", params=["nginx", "caddy"])
def proxied(
    request: pytest.FixtureRequest, server: TaskcastServer, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[str]:
    """The server's URL behind a proxy."""
    directory, port = tmp_path_factory.mktemp(request.param), free_port()
    write = {"nginx": nginx, "caddy": caddy}[request.param]
    command = write(directory, port, server.port)
    with running_proxy(command, directory, port) as url:
        yield url


def nginx(directory: Path, port: int, upstream: int) -> list[str]:
    if NGINX is None:
        pytest.skip("nginx is not installed")
    text = (ROOT / "docs/deploy/nginx.conf").read_text()
    text, listens = re.subn(r"listen 80;", f"listen 127.0.0.1:{port};", text)
    text, servers = re.subn(r"^    server 127\.0\.0\.1:3721;", f"    server 127.0.0.1:{upstream};", text, flags=re.M)
    assert (listens, servers) == (1, 1)
    (directory / "taskcast.conf").write_text(text)
    return nginx_command(directory, f"proxy_ignore_headers X-Accel-Buffering; include {directory}/taskcast.conf;")


def caddy(directory: Path, port: int, upstream: int) -> list[str]:
    if CADDY is None:
        pytest.skip("caddy is not installed")
    text = (ROOT / "docs/deploy/Caddyfile").read_text()
    text = text.replace(":80 {", f"http://127.0.0.1:{port} {{").replace("127.0.0.1:3721 {", f"127.0.0.1:{upstream} {{")
    config = directory / "Caddyfile"
    config.write_text("{\n\tadmin off\n}\n" + text)
    return ["/usr/bin/env", f"HOME={directory}", CADDY, "run", "--adapter", "caddyfile", "--config", str(config)]


def test_events_go_on_at_once(server: TaskcastServer, proxied: str) -> None:
    task_id = server.request("POST", "/tasks", {})["id"]
    headers = {"Accept-Encoding": "gzip"}
    url = f"{proxied}/tasks/{task_id}/events"
    with httpx.stream("GET", url, headers=headers, timeout=30, trust_env=False) as reply:
        assert reply.headers["content-type"].startswith("text/event-stream")
        assert "content-encoding" not in reply.headers
        lines = reply.iter_lines()
        assert next(lines).startswith(":"), "the stream begins before there is an event"
        for number in range(3):
            began = time.monotonic()
            server.request("POST", f"/tasks/{task_id}/events", {"type": "tick", "level": "info", "data": {"n": number}})
            while f'"n":{number}' not in next(lines):
                pass
            assert time.monotonic() - began < SOON_S, "an event was held back"
        server.request("PATCH", f"/tasks/{task_id}/status", {"status": "cancelled"})
        assert any("taskcast.done" in line for line in lines)


def test_lines_are_taken_while_they_are_written(server: TaskcastServer, proxied: str) -> None:
    task_id = server.request("POST", "/tasks", {})["id"]

    def lines() -> Iterator[bytes]:
        yield b'{"type":"tick","level":"info","data":1}\n'
        eventually_sync(lambda: len(server.history(task_id)) == 1)  # it is in the log before the request has ended
        yield b'{"type":"tick","level":"info","data":2}\n'

    reply = httpx.post(
        f"{proxied}/tasks/{task_id}/events",
        content=lines(), headers={"Content-Type": "application/x-ndjson"}, timeout=60, trust_env=False,
    )  # fmt: skip
    assert reply.is_success, reply.text
    assert len(server.history(task_id)) == 2


def test_workers_speak_websocket_through_it(proxied: str) -> None:
    async def talk() -> str:
        address = proxied.replace("http://", "ws://") + "/workers/ws"
        async with websockets.asyncio.client.connect(address, proxy=None) as socket:
            await socket.send(json.dumps({"type": "register", "workerId": "w1", "capacity": 1, "matchRule": {}}))
            async with asyncio.timeout(20):
                return str(json.loads(await socket.recv())["type"])

    assert asyncio.run(talk()) == "registered"


def test_figures_are_not_for_everybody(server: TaskcastServer, proxied: str) -> None:
    forwarded = httpx.get(f"{proxied}/metrics", trust_env=False)
    assert forwarded.status_code in (200, 403, 404), "this machine's own network may ask nginx"
    text = (ROOT / "docs/deploy/nginx.conf").read_text()
    assert re.search(r"location = /metrics \{\s+allow 127\.0\.0\.1;\s+deny all;", text)


def test_the_image_s_health_check_likes_this_server(server: TaskcastServer) -> None:
    from tests.deploy.test_image import last

    command = json.loads(last("HEALTHCHECK").partition("CMD ")[2])
    done = subprocess.run(
        [sys.executable, *command[1:]],
        env={"TASKCAST_PORT": str(server.port)},
        capture_output=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr
