"""The life of an engine while it is open: it listens, and works in the background if the settings say so."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from contextlib import AsyncExitStack

from taskcast_core.backoff import Backoff
from taskcast_core.deadlines import Sweeper
from taskcast_core.errors import StoreUnavailable
from taskcast_core.followers import Follower
from taskcast_core.hub import Hub
from taskcast_core.lifecycle import Lifecycle
from taskcast_core.observers import Observers
from taskcast_core.stopping import stop
from taskcast_core.supervision import keep_running
from taskcast_core.workers import WorkerLayer

SHUTDOWN_S = 10.0
"""How long closing waits for followers and observers to finish what they have begun."""


class Background:
    """Begins what lives as long as an engine is open.

    ``is_working``: this process also runs deadlines, cleanup and followers.
    """

    def __init__(
        self,
        hub: Hub,
        observers: Observers,
        lifecycle: Lifecycle,
        sweeper: Sweeper,
        followers: Sequence[Follower],
        workers: WorkerLayer | None,
        *,
        is_working: bool,
    ) -> None:
        self._hub, self._observers, self._lifecycle = hub, observers, lifecycle
        self._sweeper, self._followers, self._workers = sweeper, followers, workers
        self._is_working = is_working

    async def begin(self) -> AsyncExitStack:
        """Begin all of it; closing what this gives ends it, in reverse order."""
        async with AsyncExitStack() as stack:
            stack.push_async_callback(self._observers.aclose, SHUTDOWN_S)
            await stack.enter_async_context(self._hub.running())
            if self._workers is not None:
                await stack.enter_async_context(self._workers.running(background=self._is_working))
            if self._is_working:
                loops = [
                    ("timers", self._sweeper.run),
                    ("cleanup", self._schedule_cleanup),
                    *((follower.operation, follower.run) for follower in self._followers),
                ]
                kept = [keep_running(operation, loop, self._observers) for operation, loop in loops]
                stack.push_async_callback(self._stop, [asyncio.create_task(each) for each in kept])
            return stack.pop_all()

    async def _schedule_cleanup(self) -> None:
        """Once per start: the rules may have changed since the tasks ended."""
        patience = Backoff(first_s=1.0, most_s=60.0)
        while True:
            try:
                await self._lifecycle.schedule_cleanup()
                return
            except StoreUnavailable:
                await patience.wait()

    async def _stop(self, loops: Sequence[asyncio.Task[None]]) -> None:
        """Let followers finish what they hold, then stop all loops."""
        await asyncio.gather(*(follower.drain(SHUTDOWN_S) for follower in self._followers))
        await stop(loops)
