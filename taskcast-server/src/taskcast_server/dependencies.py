"""What this process depends on: asked whenever somebody wants to know, and remembered (wire spec, rest section 2.1)."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Mapping
from datetime import UTC, datetime
from typing import Any, Literal

from taskcast_core.errors import StoreUnavailable
from taskcast_core.values import define, frozen

Check = Callable[[], Awaitable[None]]
"""Asks a dependency for a sign of life; raises StoreUnavailable."""

WITHIN_S = 2.0
"""One deadline for all dependencies together."""
PUB_SUB = "redisPubSub"


@frozen
class DependencyState:
    """How a dependency is.

    Attributes:
        since: Unix seconds of the last change. failures: in a row. error_kind: of the last failure.
    """

    state: Literal["starting", "healthy", "unhealthy"]
    since: float
    failures: int = 0
    error_kind: str | None = None

    @property
    def is_healthy(self) -> bool:
        """Whether it answered."""
        return self.state == "healthy"

    def shown(self, name: str) -> dict[str, Any]:
        """As ``/health/detail`` shows it."""
        changed = datetime.fromtimestamp(self.since, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
        facts: dict[str, Any] = {
            "configured": True, "state": self.state, "lastTransitionAt": changed, "consecutiveFailures": self.failures,
        }  # fmt: skip
        if self.error_kind is not None:
            facts["lastErrorKind"] = self.error_kind
        if name == PUB_SUB:
            facts["reconnectAttempts"] = self.failures
        return facts


@define(eq=False)
class Dependencies:
    """The checks of all dependencies by name, and what they found last."""

    checks: Mapping[str, Check]
    states: dict[str, DependencyState]

    @classmethod
    def of(cls, checks: Mapping[str, Check]) -> Dependencies:
        """None of them asked yet."""
        now = time.time()
        return cls(checks, {name: DependencyState("starting", now) for name in checks})

    async def look(self) -> Mapping[str, DependencyState]:
        """Ask all at once; those that do not answer in time are unhealthy."""
        kinds = await asyncio.gather(*(_failure_of(check) for check in self.checks.values()))
        for name, kind in zip(self.checks, kinds, strict=True):
            self._note(name, kind)
        return dict(self.states)

    def _note(self, name: str, error_kind: str | None) -> None:
        before = self.states[name]
        state: Literal["healthy", "unhealthy"] = "healthy" if error_kind is None else "unhealthy"
        since = before.since if before.state == state else time.time()
        failures = 0 if error_kind is None else before.failures + 1
        self.states[name] = DependencyState(state, since, failures, error_kind)


async def _failure_of(check: Check) -> str | None:
    try:
        async with asyncio.timeout(WITHIN_S):
            await check()
    except TimeoutError:
        return "timeout"
    except StoreUnavailable as error:
        return error.kind
    return None
