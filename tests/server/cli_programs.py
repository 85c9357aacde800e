"""The real `taskcast` program, for tests: one command at a time, or a server on a port of its own."""

import json
import os
import signal
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from tests.fixtures.processes import GuardedProcess, Server

TASKCAST = Path(sys.executable).with_name("taskcast")


def own_environment(home: Path, **more: str) -> dict[str, str]:
    """An environment in which nothing of this machine's user counts."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("TASKCAST_", "XDG_"))}
    for name in ("PORT", "BIND_ADDRESS", "COLUMNS", "FORCE_COLOR"):
        kept.pop(name, None)
    return {**kept, "HOME": str(home), "TASKCAST_CONFIG_DIR": str(home / ".taskcast"), **more}


def taskcast(
    *arguments: str | Path,
    home: Path,
    env: Mapping[str, str] | None = None,
    cwd: Path | None = None,
    stdin: str = "",
) -> subprocess.CompletedProcess[str]:
    """Run a command to its end."""
    return subprocess.run(
        [TASKCAST, *map(str, arguments)],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
        env=own_environment(home, **(env or {})),
        cwd=cwd or home,
        input=stdin,
    )


class TaskcastServer(Server):
    """`taskcast start` in a directory of its own, on SQLite unless the flags say otherwise."""

    def __init__(self, directory: Path, flags: Sequence[str] = ("--storage", "sqlite"), **env: str) -> None:
        super().__init__(directory)
        self.flags, self.env = flags, env

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @property
    def log(self) -> Path:
        return self.directory / "server.log"

    def request(self, method: str, path: str, body: Any = None) -> Any:
        """JSON in and out; raises `urllib.error.HTTPError` for a refusal."""
        data = None if body is None else json.dumps(body).encode()
        headers = {"Content-Type": "application/json"}
        request = urllib.request.Request(self.url + path, data, headers, method=method)
        with urllib.request.urlopen(request, timeout=10) as reply:
            content = reply.read()
        return json.loads(content) if content else None

    def history(self, task_id: str) -> list[Any]:
        found: list[Any] = self.request("GET", f"/tasks/{task_id}/events/history")
        return found

    def _launch(self) -> GuardedProcess:
        # The guard hands its environment down; `env` sets ours for the server alone.
        own = own_environment(self.directory, **self.env)
        assignments = [f"{name}={value}" for name, value in own.items()]
        command = ["/usr/bin/env", "-i", *assignments, TASKCAST, "start", "--port", str(self.port), *self.flags]
        return GuardedProcess(command, log=self.log, stop_signal=signal.SIGTERM)

    def _answers(self) -> bool:
        try:
            return bool(self.request("GET", "/health")["ok"])
        except (OSError, urllib.error.URLError, ValueError):
            return False
