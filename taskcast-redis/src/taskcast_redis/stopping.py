"""Ending background tasks for certain.

Before Python 3.12 ``asyncio.wait_for``, which the driver sends with, swallows a cancellation that comes
together with its result.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable

ASK_AGAIN_S = 0.1


async def stop(tasks: Iterable[asyncio.Task[None]]) -> None:
    """Cancel tasks, again if need be, until they have ended."""
    waiting = set(tasks)
    while waiting:
        for task in waiting:
            task.cancel()
        _, waiting = await asyncio.wait(waiting, timeout=ASK_AGAIN_S)
