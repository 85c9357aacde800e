"""`tasks`, `ping`, `doctor`, `export`, `import`, `backup`, `restore` against a real server."""

import json
import re
import sqlite3
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.fixtures.processes import private_directory
from tests.server.cli_programs import TaskcastServer, taskcast

Cli = Callable[..., "subprocess.CompletedProcess[str]"]


@pytest.fixture(scope="module")
def server() -> Iterator[TaskcastServer]:
    with private_directory("taskcast-tasks-") as directory:
        server = TaskcastServer(directory)
        server.start()
        yield server
        server.stop()


@pytest.fixture
def cli(server: TaskcastServer, tmp_path: Path) -> Cli:
    def call(*arguments: str | Path, **more: str) -> "subprocess.CompletedProcess[str]":
        return taskcast(*arguments, home=tmp_path, env={"TASKCAST_URL": server.url}, **more)

    return call


def test_a_task_from_its_creation_to_its_end(server: TaskcastServer, cli: Cli) -> None:
    flags = ("--type", "llm.chat", "--params", '{"a": 1}', "--tag", "x", "--tag", "y", "--ttl", "60")
    task_id = cli("tasks", "create", *flags).stdout.strip()
    made = server.request("GET", f"/tasks/{task_id}")
    assert (made["type"], made["params"], made["tags"], made["ttl"]) == ("llm.chat", {"a": 1}, ["x", "y"], 60)
    lines = cli("tasks", "list", "--type", "llm.*").stdout.splitlines()
    assert lines[0] == f"{'ID':<28} {'TYPE':<13} {'STATUS':<11} CREATED"
    assert re.fullmatch(rf"{task_id:<28} llm\.chat      pending     \d{{4}}-\d\d-\d\d \d\d:\d\d:\d\d", lines[1])
    assert cli("tasks", "cancel", task_id).stdout == f"Cancelled {task_id}\n"
    again = cli("tasks", "cancel", task_id)
    assert (again.returncode, again.stderr) == (1, "[taskcast] Invalid transition: cancelled → cancelled\n")
    assert cli("tasks", "delete", task_id).stdout == f"Deleted {task_id}\n"
    gone = cli("tasks", "inspect", task_id)
    assert (gone.returncode, gone.stderr) == (1, "[taskcast] Task not found\n")


def test_inspect_shows_the_last_five_events(server: TaskcastServer, cli: Cli) -> None:
    server.request("POST", "/tasks", {"id": "long one/ä?"})
    path = "/tasks/long%20one%2F%C3%A4%3F"
    server.request("PATCH", f"{path}/status", {"status": "running"})
    series = {"seriesId": "s", "seriesMode": "latest"}
    for start in range(0, 2100, 700):
        batch = [{"type": "n", "level": "debug", "data": n, **series} for n in range(start, start + 700)]
        batch = [{**each, "seriesId": f"s{at}"} for at, each in enumerate(batch)]
        server.request("POST", f"{path}/events", batch)
    output = cli("tasks", "inspect", "long one/ä?").stdout
    assert "status:           running" in output
    events = [line for line in output.splitlines() if line.startswith("  #")]
    assert [re.sub(r" [\d:]{8}$", "", line) for line in events] == [
        f"  #{index} n debug series:s{index - 1401}" for index in range(2096, 2101)
    ]
    facts = json.loads(cli("tasks", "inspect", "long one/ä?", "--output", "json").stdout)
    assert facts["task"]["id"] == "long one/ä?"
    assert [each["index"] for each in facts["events"]] == list(range(2096, 2101))


def test_lists_are_cut_and_may_be_empty(server: TaskcastServer, cli: Cli) -> None:
    for _ in range(3):
        server.request("POST", "/tasks", {"type": "many"})
    found = json.loads(cli("tasks", "list", "--type", "many", "--limit", "2", "--output", "json").stdout)
    assert len(found["tasks"]) == 2
    assert cli("tasks", "list", "--status", "blocked").stdout == "No tasks found.\n"


def test_bodies_that_are_not_json(cli: Cli) -> None:
    for text, reason in (("{", "is not JSON"), ("[]", "must be a JSON object")):
        done = cli("tasks", "create", "--params", text)
        assert done.returncode == 1
        assert f"[taskcast] --params {reason}" in done.stderr


def test_a_refusal_tells_the_field(cli: Cli) -> None:
    done = cli("tasks", "create", "--priority", "sometimes")
    assert done.returncode == 1
    assert "priority" in done.stderr


def test_ping_and_doctor(server: TaskcastServer, cli: Cli) -> None:
    done = cli("ping")
    assert done.returncode == 0
    assert re.fullmatch(rf"OK — taskcast at {server.url} \(\d+ms\)\n", done.stdout)
    assert json.loads(cli("ping", "--output", "json").stdout)["ok"] is True
    lines = cli("doctor").stdout.splitlines()
    assert re.fullmatch(rf"Server:    OK  taskcast at {server.url} \(uptime: \d+s\)", lines[0])
    assert lines[1:5] == [
        "Auth:      OK  none", "Broadcast: OK  sqlite", "ShortTerm: OK  sqlite", "LongTerm:  SKIP  not configured",
    ]  # fmt: skip
    assert [line[:15] for line in lines[5:]] == ["Clock:     OK  ", "Follower:  OK  ", "Stream:    OK  "]
    assert json.loads(cli("doctor", "--output", "json").stdout)["adapters"]["shortTermStore"]["provider"] == "sqlite"


def test_a_server_that_is_away(cli: Cli) -> None:
    for command, start in (
        ("ping", "FAIL — cannot reach http://127.0.0.1:9: "),
        ("doctor", "Server:    FAIL  cannot reach http://127.0.0.1:9: "),
    ):
        done = cli(command, "--url", "http://127.0.0.1:9")
        assert done.returncode == 1
        assert done.stdout.startswith(start)
        assert json.loads(cli(command, "--url", "http://127.0.0.1:9", "--output", "json").stdout)["ok"] is False


def test_tasks_travel_as_archives(server: TaskcastServer, cli: Cli, tmp_path: Path) -> None:
    for name in ("one", "two"):
        server.request("POST", "/tasks", {"id": name, "type": "travel"})
        server.request("POST", f"/tasks/{name}/events", {"type": "n", "level": "info", "data": name})
    file = tmp_path / "archives.jsonl"
    assert cli("export", "one", "two", "--file", file).stdout == f"Exported 2 task(s) to {file}\n"
    refused = cli("import", file)
    assert refused.returncode == 1
    assert refused.stderr == "[taskcast] 0 task(s) were imported before\n[taskcast] Task already exists: one\n"
    server.request("DELETE", "/tasks/one")
    single = cli("export", "two").stdout
    replaced = cli("import", "-", "--overwrite", stdin=json.dumps(json.loads(single), indent=2))
    assert replaced.stdout == "Imported two (1 events, replaced the one that was there)\n"
    assert [each["data"] for each in server.history("two")] == ["two"]
    assert cli("import", "-", stdin="nonsense").returncode == 1


def test_a_backup_of_a_working_store_can_be_restored(tmp_path: Path) -> None:
    with private_directory("taskcast-backup-") as directory:
        server = TaskcastServer(directory, ["--db-path", "store.db"])
        server.start()
        try:
            server.request("POST", "/tasks", {"id": "kept"})
            store, file = directory / "store.db", tmp_path / "backup.db"
            done = taskcast("backup", file, "--db-path", store, home=tmp_path)
            assert (done.returncode, done.stdout.split(" (")[0]) == (0, f"Copied {store} to {file}")
            server.request("POST", "/tasks", {"id": "lost"})
            server.request("DELETE", "/tasks/kept")

            in_use = taskcast("restore", file, "--db-path", store, "--yes", home=tmp_path)
            assert in_use.returncode == 1
            assert f"the file is in use by the process {server.pid}" in in_use.stderr
            assert {each["id"] for each in server.request("GET", "/tasks")["tasks"]} == {"lost"}

            server.kill()  # leaves a write-ahead log, which must not be applied to the backup
            unasked = taskcast("restore", file, "--db-path", store, home=tmp_path)
            assert unasked.returncode == 1
            assert "repeat with --yes" in unasked.stderr
            done = taskcast("restore", file, "--db-path", store, "--yes", home=tmp_path)
            assert (done.returncode, done.stdout) == (0, f"Restored {store} from {file}\n")
            server.start()
            assert {each["id"] for each in server.request("GET", "/tasks")["tasks"]} == {"kept"}
        finally:
            server.stop()


def test_what_is_no_store_is_neither_backed_up_nor_restored(tmp_path: Path) -> None:
    other = tmp_path / "other.db"
    with sqlite3.connect(other) as connection:
        connection.execute("CREATE TABLE t (x)")
    connection.close()
    target = tmp_path / "target.db"
    done = taskcast("backup", target, "--db-path", other, home=tmp_path)
    assert (done.returncode, done.stderr) == (1, f"[taskcast] {other} is not a Taskcast store\n")
    done = taskcast("backup", target, "--db-path", tmp_path / "none.db", home=tmp_path)
    assert (done.returncode, done.stderr) == (1, f"[taskcast] there is no store at {tmp_path / 'none.db'}\n")
    assert not (tmp_path / "none.db").exists()
    done = taskcast("restore", other, "--db-path", target, home=tmp_path)
    assert done.returncode == 1
    assert "the file is not a Taskcast store" in done.stderr
    assert not target.exists()
    done = taskcast("backup", target, home=tmp_path, env={"TASKCAST_STORAGE": "memory"})
    assert "the short-term store is memory" in done.stderr
