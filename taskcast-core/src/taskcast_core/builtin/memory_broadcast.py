"""Bells within one process: every listener of this provider hears every bell of its channels at once."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Iterable
from contextlib import asynccontextmanager

from taskcast_core.contracts.broadcast import ALL_TASKS, Bell, Listener


class MemoryBroadcastProvider:
    """Broadcast for engines that share this object (normally just one)."""

    is_shared = False

    def __init__(self) -> None:
        self._ears: list[_Ear] = []

    def publish(self, bell: Bell) -> None:
        """See Broadcast."""
        for ear in self._ears:
            if bell.channel in ear.channels or ALL_TASKS in ear.channels:
                ear.on_bell(bell)

    def is_heard(self, channel: str) -> bool:
        """See Broadcast."""
        for ear in self._ears:  # noqa: SIM110 - every commit asks, and mostly there is one
            if channel in ear.channels or ALL_TASKS in ear.channels:
                return True
        return False

    @asynccontextmanager
    async def listen(
        self,
        on_bell: Callable[[Bell], None],
        on_absence: Callable[[], None],
    ) -> AsyncIterator[Listener]:
        """See Broadcast; nothing is ever missed here, so ``on_absence`` is never called."""
        ear = _Ear(on_bell)
        self._ears.append(ear)
        try:
            yield ear
        finally:
            self._ears.remove(ear)


class _Ear:
    """One listener and the channels that it follows."""

    def __init__(self, on_bell: Callable[[Bell], None]) -> None:
        self.on_bell = on_bell
        self.channels: set[str] = set()

    async def follow(self, channels: Iterable[str]) -> None:
        """See Listener."""
        self.channels.update(channels)

    async def unfollow(self, channels: Iterable[str]) -> None:
        """See Listener."""
        self.channels.difference_update(channels)
