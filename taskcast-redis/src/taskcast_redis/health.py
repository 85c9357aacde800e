"""How the connections to Redis are doing: their states, and one log line per change (wire spec, storage section 9)."""

from __future__ import annotations

import logging
import time
from typing import Literal

from attrs import define

from taskcast_core.log_events import tell

State = Literal["starting", "healthy", "reconnecting", "unhealthy"]

SUMMARY_EVERY_S = 60.0
"""While a dependency is away, a line says so this often."""

LATENESS, MOST_LATE = 1.1, 3
"""A wait for a sign of life that took so much longer than it may is asked again, so many times in a row."""

_log = logging.getLogger(__name__)


@define
class Dependency:
    """One connection that this process depends on.

    Attributes:
        name: ``redisCommand`` or ``redisPubSub``. error_kind: why it is away. attempt: of getting it back.
        since: monotonic seconds of the last change.
    """

    name: str
    state: State = "starting"
    error_kind: str | None = None
    attempt: int = 0
    since: float = 0.0
    _away_since: float | None = None
    _next_summary: float = 0.0

    @property
    def is_healthy(self) -> bool:
        """Whether it may be used."""
        return self.state == "healthy"

    def is_back(self) -> None:
        """It answers."""
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
                _log, logging.WARNING, "dependency_outage_summary",
                dependency=self.name, state=self.state, attempts=self.attempt, downtimeMs=away_ms,
            )  # fmt: skip

    def _become(self, state: State, **facts: object) -> None:
        if state == self.state:
            return
        told = {"dependency": self.name, "from": self.state, "to": state, **facts}
        self.state, self.since = state, time.monotonic()
        tell(_log, logging.INFO if state == "healthy" else logging.WARNING, "dependency_state_change", **told)


def was_late(began: float, allowed_s: float) -> bool:
    """Whether a wait ran out because this process was busy: the answer may lie there unread, so it says nothing.

    ``began``: monotonic seconds.
    """
    return time.monotonic() - began > LATENESS * allowed_s
