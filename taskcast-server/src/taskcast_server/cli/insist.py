"""Requests that are repeated until the server has taken them: bounded in time, harmless by an idempotency key."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from typing import Any
from uuid import uuid4

from taskcast_core.backoff import Backoff
from taskcast_server.cli.http import Api, ApiError, Unreachable


class Insistence:
    """Sends requests to a server that may be away for a while.

    Attributes:
        patience_s: how long it may be away before a request is given up.
    """

    def __init__(self, api: Api, patience_s: float, on_trouble: Callable[[str], None]) -> None:
        self._api, self._on_trouble = api, on_trouble
        self.patience_s = patience_s

    async def send(self, method: str, path: str, body: Any) -> Any:
        """Give the reply's JSON; ``on_trouble`` is told once why it takes long.

        Raises:
            ApiError: refused for good. Unreachable: away for longer than the patience lasts.
        """
        key = uuid4().hex
        backoff = Backoff(first_s=0.1, most_s=3.0)
        begun = time.monotonic()
        while True:
            try:
                return await self._api.request(method, path, body, key=key)
            except (Unreachable, ApiError) as error:
                if isinstance(error, ApiError) and not error.is_retryable:
                    raise
                if time.monotonic() - begun >= self.patience_s:
                    raise
                if not backoff.attempt:
                    self._on_trouble(str(error))
                wait_s = error.retry_after_s if isinstance(error, ApiError) else 0.0
            await asyncio.sleep(max(wait_s, backoff.next_s()))
