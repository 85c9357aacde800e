"""`taskcast start` as the pages assume it."""

from __future__ import annotations

import signal
import urllib.error
import urllib.request
from pathlib import Path

from tests.docs.running import BIN
from tests.fixtures.processes import HOST, GuardedProcess, Server

CONFIG = """
logLevel: error
workers: {enabled: true}
webhook: {allowPrivateNetworks: true}
"""


class DocsServer(Server):
    """A server on a free port."""

    def __init__(self, directory: Path) -> None:
        super().__init__(directory)
        (directory / "taskcast.config.yaml").write_text(CONFIG)

    @property
    def url(self) -> str:
        return f"http://{HOST}:{self.port}"

    def _launch(self) -> GuardedProcess:
        return GuardedProcess(
            [BIN / "taskcast", "start", "-p", str(self.port)],
            log=self.directory / "taskcast.log",
            stop_signal=signal.SIGTERM,
        )

    def _answers(self) -> bool:
        try:
            with urllib.request.urlopen(f"{self.url}/health/ready", timeout=2) as reply:
                return bool(reply.status == 200)
        except (OSError, urllib.error.URLError):
            return False
