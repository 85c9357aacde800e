"""How PostgreSQL is doing."""

from __future__ import annotations

import logging

from taskcast_core.dependency import Dependency

DEPENDENCY = "postgres"

_log = logging.getLogger(__name__)


class Health(Dependency):
    """What the calls so far have found."""

    def __init__(self) -> None:
        super().__init__(DEPENDENCY, _log)

    def has_failed(self, kind: str) -> None:
        """A call did not get through; until the first one does, there is nothing to be reconnected to."""
        was_never_there = self.state in ("starting", "unhealthy")
        self.is_away(kind, state="unhealthy" if was_never_there else "reconnecting")
