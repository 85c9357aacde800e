"""How PostgreSQL is doing: its state, and one log line per change (wire spec, storage section 9)."""

from __future__ import annotations

import logging
import time
from typing import Literal

from attrs import define

from taskcast_core.log_events import tell

State = Literal["starting", "healthy", "reconnecting", "unhealthy"]

DEPENDENCY = "postgres"
SUMMARY_EVERY_S = 60.0
"""While it is away, a line says so this often."""

_log = logging.getLogger(__name__)


@define
class Health:
    """What the calls so far have found.

    Attributes:
        error_kind: why it is away. attempt: failed calls since it is away. since: monotonic seconds of the last change.
    """

    name: str = DEPENDENCY
    state: State = "starting"
    error_kind: str | None = None
    attempt: int = 0
    since: float = 0.0
    _away_since: float | None = None
    _next_summary: float = 0.0

    @property
    def is_healthy(self) -> bool:
        """Whether the last call got through."""
        return self.state == "healthy"

    def is_back(self) -> None:
        """It answers."""
        if self.state == "healthy":
            return
        downtime = None if self._away_since is None else round((time.monotonic() - self._away_since) * 1000)
        self.error_kind, self.attempt, self._away_since = None, 0, None
        self._become("healthy", downtimeMs=downtime)

    def is_away(self, kind: str) -> None:
        """It does not answer."""
        now = time.monotonic()
        if self._away_since is None:
            self._away_since, self._next_summary = now, now + SUMMARY_EVERY_S
        self.attempt += 1
        self.error_kind = kind
        self._become("unhealthy" if self.state == "starting" else "reconnecting", attempt=self.attempt, errorKind=kind)
        if now >= self._next_summary:
            self._next_summary = now + SUMMARY_EVERY_S
            away_ms = round((now - self._away_since) * 1000)
            tell(
                _log, logging.WARNING, "dependency_outage_summary",
                dependency=self.name, state=self.state, attempts=self.attempt, downtimeMs=away_ms,
            )  # fmt: skip

    def _become(self, state: State, **facts: object) -> None:
        if state == self.state or (self.state == "unhealthy" and state == "reconnecting"):
            return
        told = {"dependency": self.name, "from": self.state, "to": state, **facts}
        self.state, self.since = state, time.monotonic()
        tell(_log, logging.INFO if state == "healthy" else logging.WARNING, "dependency_state_change", **told)
