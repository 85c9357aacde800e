"""How the connections to Redis are doing, and when silence is no sign of anything."""

from __future__ import annotations

import logging
import time

from taskcast_core import dependency

LATENESS, MOST_LATE = 1.1, 3
"""A wait for a sign of life that took so much longer than it may is asked again, so many times in a row."""

_log = logging.getLogger(__name__)


class Dependency(dependency.Dependency):
    """One connection that this process depends on: ``redisCommand`` or ``redisPubSub``."""

    def __init__(self, name: str) -> None:
        super().__init__(name, _log)


def was_late(began: float, allowed_s: float) -> bool:
    """Whether a wait ran out because this process was busy: the answer may lie there unread, so it says nothing.

    ``began``: monotonic seconds.
    """
    return time.monotonic() - began > LATENESS * allowed_s
