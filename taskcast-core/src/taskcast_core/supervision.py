"""Loops that are not meant to end: what they fail of is told, and they are begun again."""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable

from taskcast_core.backoff import Backoff
from taskcast_core.observers import Observers

_log = logging.getLogger(__name__)

_FIRST_S, _MOST_S = 1.0, 60.0


async def keep_running(operation: str, loop: Callable[[], Awaitable[None]], observers: Observers) -> None:
    """Run a loop until it returns; whatever nobody expected is told (`Observers.failed`), and it begins anew, ever
    later.
    """
    patience = Backoff(first_s=_FIRST_S, most_s=_MOST_S)
    while True:
        try:
            return await loop()
        except Exception as error:  # noqa: BLE001 - without this loop something would silently be done no more
            observers.failed(_log, error, operation)
            await patience.wait()
