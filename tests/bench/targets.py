"""The servers that are measured: the yardsticks, and ours in each storage configuration."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

from attrs import frozen

from tests.bench.load import HERE, LoadError, cores
from tests.fixtures.processes import free_port
from tests.fixtures.redis_server import RedisServer

START_S = 60.0
STOP_S = 20.0
YARDSTICKS = {"raw": "raw", "asgi": "asgi"}
STORAGES = ("memory", "sqlite", "redis")


@frozen
class Target:
    """A running server.

    Attributes:
        start_s: from its start to its first reply. redis_url: what it keeps its tasks in, if that is Redis.
        peer_port: of another node on the same stores, if there is one.
    """

    name: str
    port: int
    pid: int
    start_s: float
    redis_url: str | None = None
    peer_port: int = 0

    def new_task(self) -> str:
        """The id of a running task."""
        task = str(_call("POST", f"http://127.0.0.1:{self.port}/tasks", {"type": "bench"})["id"])
        _call("PATCH", f"http://127.0.0.1:{self.port}/tasks/{task}/status", {"status": "running"})
        return task


@contextmanager
def running(name: str, redis_url: str | None = None) -> Iterator[Target]:
    """A fresh server on the servers' core; with ``redis``, one that joins the Redis at that URL.

    Raises:
        LoadError: it does not start.
    """
    with TemporaryDirectory(prefix="taskcast-bench-") as folder:
        port = free_port()
        environment = {key: value for key, value in os.environ.items() if not key.startswith("TASKCAST_")}
        environment |= {"HOME": folder, "XDG_STATE_HOME": folder}
        environment.pop("PYTHONDONTWRITEBYTECODE", None)  # else a start is mostly compiling
        if redis_url is not None:
            environment["TASKCAST_REDIS_URL"] = redis_url
        with (Path(folder) / "log").open("wb") as log:
            began = time.monotonic()
            process = subprocess.Popen(
                [*cores()[0], *_command(name, port, Path(folder))], cwd=folder, env=environment, stdout=log, stderr=log
            )
            try:
                _wait_until_listening(process, name, port, Path(folder) / "log")
                yield Target(name, port, process.pid, time.monotonic() - began, redis_url)
            finally:
                process.send_signal(signal.SIGTERM)
                try:
                    process.wait(STOP_S)
                except subprocess.TimeoutExpired:
                    process.kill()
                    process.wait()


@contextmanager
def redis_on_other_core() -> Iterator[str]:
    """A Redis beside the generators; its URL."""
    with TemporaryDirectory(prefix="taskcast-bench-redis-") as folder:
        server = RedisServer(Path(folder))
        server.start()
        try:
            other = cores()[1]
            if other:
                subprocess.run(
                    ["taskset", "-a", "-p", "-c", other[-1], str(server.process.pid)], check=True, capture_output=True
                )
            yield server.url
        finally:
            server.stop()


def _command(name: str, port: int, folder: Path) -> list[str]:
    if name in YARDSTICKS:
        return [sys.executable, str(HERE / "yardstick.py"), YARDSTICKS[name], "--port", str(port)]
    command = [str(Path(sys.executable).with_name("taskcast")), "start", "--port", str(port)]
    command += ["--storage", name]
    if name == "sqlite":
        command += ["--db-path", str(folder / "bench.db")]
    return command


def _wait_until_listening(process: subprocess.Popen[bytes], name: str, port: int, log: Path) -> None:
    deadline = time.monotonic() + START_S
    while time.monotonic() < deadline and process.poll() is None:
        try:
            with socket.create_connection(("127.0.0.1", port), 1.0) as probe:
                probe.sendall(b"GET /health HTTP/1.1\r\nhost: localhost\r\ncontent-length: 0\r\n\r\n")
                if probe.recv(64):
                    return
        except OSError:
            time.sleep(0.002)
    raise LoadError(f"{name} does not start: {log.read_text(errors='replace')[-2000:]}")


def _call(method: str, url: str, body: dict[str, object]) -> dict[str, object]:
    request = urllib.request.Request(
        url, json.dumps(body).encode(), {"content-type": "application/json"}, method=method
    )
    with urllib.request.urlopen(request, timeout=20) as reply:
        answer: dict[str, object] = json.loads(reply.read() or b"{}")
        return answer
