"""A server that is killed under load, on the durable default, has lost nothing that it acknowledged."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.fixtures.eventually import eventually_sync
from tests.server.cli_programs import TaskcastServer

RATE = 200
KILLS = 3


@pytest.fixture
def server(tmp_path: Path) -> Iterator[TaskcastServer]:
    """`taskcast start` on SQLite with its default durability."""
    server = TaskcastServer(tmp_path, ("--storage", "sqlite", "--db-path", str(tmp_path / "taskcast.db")))
    server.start()
    yield server
    server.stop()


class Publisher(threading.Thread):
    """Publishes 1, 2, 3 … with a key each, and repeats what was not acknowledged."""

    def __init__(self, url: str, task_id: str) -> None:
        super().__init__(daemon=True)
        self._url, self._task_id = url, task_id
        self.acknowledged: dict[int, str] = {}
        self.wanted = threading.Event()
        self.wanted.set()

    def run(self) -> None:
        """Go on until told to stop."""
        number = 0
        with httpx.Client(base_url=self._url, timeout=10, trust_env=False) as client:
            while self.wanted.is_set():
                number += 1
                event = {"type": "tick", "level": "info", "data": {"n": number}}
                began = time.monotonic()
                while True:
                    try:
                        reply = client.post(
                            f"/tasks/{self._task_id}/events", json=event, headers={"Idempotency-Key": f"n{number}"}
                        )
                    except httpx.TransportError:
                        time.sleep(0.02)
                        continue
                    assert reply.status_code == 201, reply.text
                    self.acknowledged[number] = reply.json()["id"]
                    break
                time.sleep(max(0.0, 1 / RATE - (time.monotonic() - began)))


class Reader(threading.Thread):
    """Follows the task, and comes back with the last event's id whenever it is cut."""

    def __init__(self, url: str, task_id: str) -> None:
        super().__init__(daemon=True)
        self._url = f"{url}/tasks/{task_id}/events"
        self.events: list[dict[str, Any]] = []
        self.reason: str | None = None
        self.cuts = 0

    def run(self) -> None:
        """Read until the task has ended."""
        while self.reason is None:
            headers = {"Last-Event-ID": self.events[-1]["eventId"]} if self.events else {}
            try:
                with httpx.stream("GET", self._url, headers=headers, timeout=30, trust_env=False) as reply:
                    self._take(reply)
            except httpx.TransportError:
                time.sleep(0.02)
            self.cuts += self.reason is None

    def _take(self, reply: httpx.Response) -> None:
        event = ""
        for line in reply.iter_lines():
            if line.startswith("event: "):
                event = line.removeprefix("event: ")
            elif line.startswith("data: "):
                data = json.loads(line.removeprefix("data: "))
                if event == "taskcast.done":
                    self.reason = data["reason"]
                else:
                    self.events.append(data)


@pytest.mark.timeout(400)
def test_kill_9_under_load(server: TaskcastServer) -> None:
    task_id = server.request("POST", "/tasks", {"type": "load"})["id"]
    server.request("PATCH", f"/tasks/{task_id}/status", {"status": "running"})
    publisher = Publisher(server.url, task_id)
    readers = [Reader(server.url, task_id) for _ in range(3)]
    for thread in (publisher, *readers):
        thread.start()
    for kill in range(1, KILLS + 1):
        eventually_sync(lambda kill=kill: len(publisher.acknowledged) > 150 * kill, within_s=40)
        server.kill()
        server.start()
    eventually_sync(lambda: len(publisher.acknowledged) > 150 * (KILLS + 1), within_s=40)
    publisher.wanted.clear()
    publisher.join(20)
    server.request("PATCH", f"/tasks/{task_id}/status", {"status": "completed"})
    for reader in readers:
        reader.join(20)
        assert reader.reason == "completed" and reader.cuts >= KILLS

    history = server.history(task_id)
    assert [event["index"] for event in history] == list(range(len(history)))
    ticks = {event["data"]["n"]: event["id"] for event in history if event["type"] == "tick"}
    assert ticks == publisher.acknowledged, "every acknowledged event is there once, under the id it was given"
    assert list(ticks) == sorted(ticks)
    for reader in readers:
        assert [event["rawIndex"] for event in reader.events] == list(range(len(history))), "no gap, no repeat"
        assert [event["eventId"] for event in reader.events] == [event["id"] for event in history]
