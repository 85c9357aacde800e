"""`taskcast workers` against a real server with workers on."""

import json
import subprocess
import urllib.parse
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.fixtures.processes import private_directory
from tests.server.cli_programs import TaskcastServer, taskcast

Cli = Callable[..., "subprocess.CompletedProcess[str]"]


@pytest.fixture(scope="module")
def server() -> Iterator[TaskcastServer]:
    with private_directory("taskcast-workers-") as directory:
        server = TaskcastServer(directory, ("--storage", "memory"), TASKCAST_WORKERS__ENABLED="true")
        server.start()
        yield server
        server.stop()


@pytest.fixture
def cli(server: TaskcastServer, tmp_path: Path) -> Cli:
    def call(*arguments: str) -> "subprocess.CompletedProcess[str]":
        return taskcast("workers", *arguments, home=tmp_path, env={"TASKCAST_URL": server.url})

    return call


def test_a_worker_from_its_first_pull_to_its_end(server: TaskcastServer, cli: Cli) -> None:
    assert cli("list").stdout == "No workers found.\n"
    worker_id = "w one/ä"
    query = urllib.parse.urlencode({"workerId": worker_id, "timeout": 1, "capacity": 3, "types": "llm.*"})
    server.request("GET", f"/workers/pull?{query}")
    header, row = cli("list").stdout.splitlines()
    assert header.split() == ["ID", "STATUS", "SLOTS", "MODE", "TYPES", "LAST", "SIGN"]
    assert row.startswith(worker_id) and row.split()[2:6] == ["idle", "0/3", "pull", "llm.*"]
    assert json.loads(cli("list", "--output", "json").stdout)["workers"][0]["id"] == worker_id
    assert "capacity:         3" in cli("inspect", worker_id).stdout.splitlines()
    assert cli("drain", worker_id).stdout == f"Draining {worker_id}\n"
    assert json.loads(cli("inspect", worker_id, "--output", "json").stdout)["status"] == "draining"
    assert cli("resume", worker_id).stdout == f"Resumed {worker_id}\n"
    assert cli("events", worker_id).stdout == "No events found.\n"
    assert cli("remove", worker_id).stdout == f"Removed {worker_id}\n"
    gone = cli("inspect", worker_id)
    assert (gone.returncode, gone.stderr) == (1, "[taskcast] Worker not found\n")
