"""Ending background tasks for certain.

Before Python 3.12 ``asyncio.wait_for``, with which drivers read and send, swallows a cancellation that comes together
with its result.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from typing import Any

ASK_AGAIN_S = 0.1


async def stop(tasks: Iterable[asyncio.Future[Any]]) -> None:
    """Cancel tasks, again if need be, until they have ended; so long a cancellation of the caller has to wait."""
    waiting = set(tasks)
    cancelled: asyncio.CancelledError | None = None
    while waiting:
        for task in waiting:
            task.cancel()
        try:
            await asyncio.wait(waiting, timeout=ASK_AGAIN_S)
        except asyncio.CancelledError as error:
            cancelled = error
        waiting = {task for task in waiting if not task.done()}
    if cancelled is not None:
        raise cancelled
