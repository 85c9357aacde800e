"""How something that a process depends on is doing: its state, and one log line per change.

Stores and broadcasts keep one for each connection to a server (wire spec, storage section 9).
"""

from __future__ import annotations

import logging
import time
from typing import Literal

from taskcast_core.log_events import tell

State = Literal["starting", "healthy", "reconnecting", "unhealthy"]

SUMMARY_EVERY_S = 60.0
"""While a dependency is away, a line says so this often."""


class Dependency:
    """What is known of it, from the calls that did and did not get through.

    Attributes:
        name: as health checks and log lines have it. error_kind: why it is away. attempt: failed ones since it is away.
        since: monotonic seconds of the last change.
    """

    def __init__(self, name: str, log: logging.Logger) -> None:
        self.name, self._log = name, log
        self.state: State = "starting"
        self.error_kind: str | None = None
        self.attempt = 0
        self.since = 0.0
        self._away_since: float | None = None
        self._next_summary = 0.0

    @property
    def is_healthy(self) -> bool:
        """Whether it may be used."""
        return self.state == "healthy"

    def is_back(self) -> None:
        """It answers."""
        if self.state == "healthy":
            return
        downtime = None if self._away_since is None else round((time.monotonic() - self._away_since) * 1000)
        self.error_kind, self.attempt, self._away_since = None, 0, None
        self._become("healthy", downtimeMs=downtime)

    def is_away(self, kind: str, *, next_retry_s: float | None = None, state: State = "reconnecting") -> None:
        """It does not answer; another attempt follows after so many seconds."""
        now = time.monotonic()
        if self._away_since is None:
            self._away_since, self._next_summary = now, now + SUMMARY_EVERY_S
        self.attempt += 1
        self.error_kind = kind
        retry = None if next_retry_s is None else round(next_retry_s * 1000)
        self._become(state, attempt=self.attempt, nextRetryMs=retry, errorKind=kind)
        if now >= self._next_summary:
            self._next_summary = now + SUMMARY_EVERY_S
            away_ms = round((now - self._away_since) * 1000)
            tell(
                self._log, logging.WARNING, "dependency_outage_summary",
                dependency=self.name, state=self.state, attempts=self.attempt, downtimeMs=away_ms,
            )  # fmt: skip

    def _become(self, state: State, **facts: object) -> None:
        if state == self.state:
            return
        told = {"dependency": self.name, "from": self.state, "to": state, **facts}
        self.state, self.since = state, time.monotonic()
        level = logging.INFO if state == "healthy" else logging.WARNING
        tell(self._log, level, "dependency_state_change", **told)
