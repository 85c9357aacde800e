"""Progress of a loop that runs on another thread: the loop counts, and we look now and then how far it is."""

from __future__ import annotations

import asyncio
import contextlib

from taskcast_client.errors import ClientError
from taskcast_client.producer import TaskRun

LOOK_S = 0.05
"""How often to look: what is older than this has been told."""


class Tally:
    """How far a loop is.

    Attributes:
        done: what the loop counts up, from its own thread.
    """

    def __init__(self, run: TaskRun, total: float | None, message: str | None) -> None:
        self._run, self._total, self._message = run, total, message
        self._told = -1
        self.done = 0

    async def tell(self) -> None:
        """Publish how far it is now."""
        self._told = self.done
        await self._run.progress(self._told, self._total, self._message)

    async def report(self) -> None:
        """Tell of every change soon after it, until cancelled; then of the last one.

        Raises:
            ClientError: it cannot be told.
        """
        try:
            while True:
                await asyncio.sleep(LOOK_S)
                await self._tell_news()
        except asyncio.CancelledError:
            with contextlib.suppress(ClientError, RuntimeError):  # the task, or the client, is gone
                await self._tell_news()
            raise

    async def _tell_news(self) -> None:
        if self.done != self._told:
            await self.tell()
