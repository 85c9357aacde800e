"""`taskcast start`: what it prints, where it listens, how it ends."""

import json
import os
import signal
import socket
import subprocess
import sys
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from taskcast_server.cli.main import with_default_command
from tests.fixtures.processes import free_port
from tests.server.cli_programs import TASKCAST, own_environment, taskcast


@contextmanager
def started(home: Path, *arguments: str, **env: str) -> Iterator["subprocess.Popen[str]"]:
    process = subprocess.Popen(
        [TASKCAST, *arguments],
        cwd=home,
        env=own_environment(home, **env),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        yield process
    finally:
        if process.poll() is None:
            process.kill()
        process.communicate(timeout=20)


def banner(process: "subprocess.Popen[str]") -> list[str]:
    """What it prints until it serves."""
    assert process.stdout is not None
    lines: list[str] = []
    while not lines or "Server started" not in lines[-1]:
        line = process.stdout.readline()
        assert line, (lines, process.communicate(timeout=20))
        lines.append(line.rstrip("\n"))
    return lines


def first_fact(process: "subprocess.Popen[str]") -> Any:
    assert process.stdout is not None
    line = process.stdout.readline()
    assert line, process.communicate(timeout=20)
    return json.loads(line)


def test_the_banner_and_the_end(tmp_path: Path) -> None:
    port = free_port()
    with started(tmp_path, "-p", str(port), TASKCAST_AUTO_MIGRATE="yes") as process:
        path = tmp_path / ".local/state/taskcast/taskcast.db"
        assert banner(process) == [
            "[taskcast] Config: (none)",
            f"[taskcast] Short-term store: sqlite ({path})",
            "[taskcast] Long-term store:  (none)",
            f"[taskcast] Server started on http://localhost:{port}",
        ]
        assert path.parent.stat().st_mode & 0o077 == 0
        with urllib.request.urlopen(f"http://localhost:{port}/health", timeout=10) as reply:
            assert json.load(reply)["ok"]
        process.send_signal(signal.SIGTERM)
        output, errors = process.communicate(timeout=20)
        skipped = "[taskcast] TASKCAST_AUTO_MIGRATE is set but no Postgres configured — skipping\n"
        assert (process.returncode, output, errors) == (0, "", skipped)


def test_json_says_the_same(tmp_path: Path) -> None:
    (tmp_path / "taskcast.config.yaml").write_text("adminApi: true\n")
    with started(tmp_path, "start", "--output", "json", "--port", "0", "-v") as process:
        facts = first_fact(process)
        assert (facts["event"], facts["host"]) == ("started", "127.0.0.1")
        assert facts["config"] == str(tmp_path / "taskcast.config.yaml")
        assert (facts["shortTermStore"], facts["longTermStore"]) == ({"provider": "memory"}, None)
        assert len(facts["adminToken"]) == 26
        with urllib.request.urlopen(f"{facts['url']}/health", timeout=10):
            pass
        request = first_fact(process)
        assert request["event"] == "request"
        assert "/health" in request["line"]
        process.send_signal(signal.SIGINT)
        process.communicate(timeout=20)
        assert process.returncode == 0


def test_a_generated_admin_token_is_printed_and_works(tmp_path: Path) -> None:
    (tmp_path / "taskcast.config.yaml").write_text(
        "port: 0\nadminApi: true\nauth: {mode: jwt, jwt: {secret: a-secret-of-thirty-two-characters}}\n"
    )
    with started(tmp_path) as process:
        *_, told, last = banner(process)
        prefix = "[taskcast] Admin token (auto-generated): "
        assert told.startswith(prefix)
        url = last.rpartition(" ")[2]
        add = ("node", "add", "here", "--url", url, "--token", told.removeprefix(prefix), "--token-type", "admin")
        taskcast(*add, home=tmp_path)
        refused = taskcast("tasks", "create", "--url", url, home=tmp_path)
        assert (refused.returncode, refused.stderr) == (1, "[taskcast] Missing Bearer token\n")
        made = taskcast("tasks", "create", "--node", "here", "--id", "by-admin", home=tmp_path)
        assert (made.returncode, made.stdout) == (0, "by-admin\n")
        minted = taskcast("token", "--scope", "event:subscribe", home=tmp_path).stdout.strip()
        listed = taskcast("tasks", "list", "--url", url, home=tmp_path, env={"TASKCAST_TOKEN": minted})
        assert "by-admin" in listed.stdout
        bare = taskcast("doctor", "--url", url, home=tmp_path)
        assert "Auth:      WARN  no token configured for this node" in bare.stdout


def test_a_flag_decides_before_the_environment(tmp_path: Path) -> None:
    (tmp_path / "taskcast.config.yaml").write_text("port: 1\nhost: 127.0.0.9\n")
    port = str(free_port())
    env = {"TASKCAST_PORT": "2", "TASKCAST_HOST": "127.0.0.3"}
    with started(tmp_path, "--output=json", "--port", port, "--host", "127.0.0.4", **env) as process:
        facts = first_fact(process)
        assert (facts["host"], facts["port"], facts["url"]) == ("127.0.0.4", int(port), f"http://127.0.0.4:{port}")


@pytest.mark.parametrize(
    ("file", "env", "expected"),
    [
        ("", {}, ("'127.0.0.1'", "3721")),
        ("port: 1\nhost: h", {}, ("'h'", "1")),
        ("port: 1\nhost: h", {"PORT": "2", "BIND_ADDRESS": "b"}, ("'b'", "2")),
        ("", {"PORT": "2", "BIND_ADDRESS": "b", "TASKCAST_PORT": "3", "TASKCAST_HOST": "t"}, ("'t'", "3")),
    ],
)
def test_who_decides_on_address_and_port(
    tmp_path: Path, file: str, env: dict[str, str], expected: tuple[str, str]
) -> None:
    (tmp_path / "taskcast.config.yaml").write_text(file)
    settings = json.loads(taskcast("config", "check", "--output", "json", home=tmp_path, env=env).stdout)["settings"]
    assert (settings["host"]["value"], settings["port"]["value"].strip("'")) == expected


def test_errors_are_one_line(tmp_path: Path) -> None:
    def fails(*arguments: str, **env: str) -> str:
        done = taskcast("start", "--port", "0", *arguments, home=tmp_path, env=env)
        assert (done.returncode, done.stderr.count("\n")) == (1, 1), done
        return done.stderr

    expected = '[taskcast] invalid TASKCAST_LOG_LEVEL "loud"; expected debug, info, warn, or error\n'
    assert fails(TASKCAST_LOG_LEVEL="loud") == expected
    assert 'unknown short-term store "nope"' in fails("--storage", "nope")
    assert "there is no such configuration file" in fails("--config", "missing.yaml")
    assert "ttlSweepIntervalSeconds" in fails(TASKCAST_TTL_SWEEP_INTERVAL_SECONDS="0")
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        assert fails("-s", "memory", "--port", str(port)).startswith(f"[taskcast] cannot listen on 127.0.0.1:{port}")


def test_a_store_that_is_in_use_is_an_error_of_one_line(tmp_path: Path) -> None:
    with started(tmp_path, "--port", "0", "--db-path", "here.db") as process:
        banner(process)
        done = taskcast("start", "--port", "0", "--db-path", "here.db", home=tmp_path)
        assert done.returncode == 1
        assert done.stderr == (
            f"[taskcast] SQLite store {tmp_path / 'here.db'}: the file is in use by the process {process.pid}; "
            "only one store may have it open\n"
        )


def test_it_never_asks(tmp_path: Path) -> None:
    with started(tmp_path, "--port", "0", "--playground") as process:
        banner(process)
        process.terminate()
        assert process.communicate(timeout=20)[1].startswith("[taskcast] There is no playground")


def test_what_is_not_a_command_is_for_start() -> None:
    assert with_default_command([]) == ["start"]
    assert with_default_command(["-p", "1"]) == ["start", "-p", "1"]
    assert with_default_command(["ping"]) == ["ping"]
    assert with_default_command(["--help"]) == ["--help"]
    assert with_default_command([], is_completing=True) == []


def test_help_loads_nothing_heavy() -> None:
    program = "import sys, taskcast_server.cli; print('\\n'.join(sys.modules))"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True, timeout=60)
    loaded = set(done.stdout.split())
    heavy = {"httpx", "uvicorn", "starlette", "jwt", "cryptography", "taskcast_core.config", "taskcast_core.engine"}
    assert not loaded & heavy


def test_a_start_loads_nothing_that_it_does_not_need(tmp_path: Path) -> None:
    program = """
import os, signal, sys
from taskcast_server.cli.loading import load
from taskcast_server.serve import serve

loaded = load(None, storage="memory")
def started(_):
    print(*sys.modules, sep="\\n")
    os.kill(os.getpid(), signal.SIGTERM)
serve(loaded.config, loaded.plugins, port=0, on_started=started)
"""
    env = {"HOME": str(tmp_path), "PATH": os.environ["PATH"]}
    command = [sys.executable, "-c", program]
    done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=60, cwd=tmp_path, env=env)
    loaded = set(done.stdout.split())
    late = {"cattrs", "cryptography", "difflib", "httpx", "jwt", "prometheus_client", "redis", "sqlite3", "starlette"}
    assert "taskcast_core.engine" in loaded
    assert not loaded & (late | {"asyncpg", "sentry_sdk", "opentelemetry", "tomllib", "websockets", "yaml"})
