"""How the connections to Redis are doing, and when silence is no sign of anything."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Coroutine
from typing import Any

from taskcast_core import dependency
from taskcast_core.stopping import stop

LATENESS, MOST_LATE = 1.1, 3
"""A wait for a sign of life that took so much longer than it may does not count, so many times in a row."""

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


async def sign_of_life(
    ask: Coroutine[Any, Any, None], *, quick_s: float, silence_s: float, on_silent: Callable[[], None]
) -> None:
    """Wait for an answer; ``on_silent`` is told when it takes longer than ``quick_s``.

    A server may be held up for a moment, and who asks it again on another connection waits just as long: only
    ``silence_s`` without an answer are taken for a dead connection. What this process slept through is no silence.

    Raises:
        TimeoutError: silence. What ``ask`` raises.
    """
    asked = asyncio.get_running_loop().create_task(ask)
    silent_s, late = 0.0, 0
    try:
        while silent_s < silence_s:
            began, allowed_s = time.monotonic(), min(quick_s, silence_s - silent_s)
            await asyncio.wait([asked], timeout=allowed_s)
            if asked.done():
                return asked.result()
            if late < MOST_LATE and was_late(began, allowed_s):
                late += 1
                continue
            if not silent_s:
                on_silent()
            silent_s += allowed_s
    finally:
        await stop([asked])
    raise TimeoutError("no sign of life")
