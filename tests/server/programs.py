"""The server as a program of its own: started, told to stop, killed."""

import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from tests.fixtures.eventually import eventually_sync

TASKCAST = Path(sys.executable).with_name("taskcast")


class Program:
    """A running server. ``url`` is where it listens."""

    def __init__(self, command: list[str], cwd: Path, env: Mapping[str, str]) -> None:
        self._log = cwd / f"output-{os.urandom(4).hex()}.log"
        with self._log.open("wb") as log:
            self.process = subprocess.Popen(
                command, cwd=cwd, stdout=log, stderr=subprocess.STDOUT, stdin=subprocess.DEVNULL, env=dict(env)
            )
        self.url = ""

    @property
    def output(self) -> str:
        return self._log.read_text(errors="replace")

    def wait_until_started(self) -> None:
        def started() -> bool:
            found = re.search(r"Server started on http://localhost:(\d+)", self.output)
            if found is None:
                assert self.process.poll() is None, f"ended with {self.process.returncode}:\n{self.output}"
                return False
            self.url = f"http://127.0.0.1:{found.group(1)}"
            return True

        eventually_sync(started, within_s=30)

    def stop(self, within_s: float = 20) -> int:
        """SIGTERM; the exit status."""
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(within_s)

    def kill(self) -> None:
        """SIGKILL: no goodbye."""
        self.process.kill()
        self.process.wait(10)


@contextmanager
def taskcast(*arguments: str, cwd: Path, port: int = 0, env: Mapping[str, str] | None = None) -> Iterator[Program]:
    """``taskcast …`` on a free port, killed at the end if it still runs."""
    clean = {name: value for name, value in os.environ.items() if not name.startswith("TASKCAST_")}
    program = Program([str(TASKCAST), *arguments, "-p", str(port)], cwd, {**clean, **(env or {})})
    try:
        program.wait_until_started()
        yield program
    finally:
        if program.process.poll() is None:
            program.kill()
