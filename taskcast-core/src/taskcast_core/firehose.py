"""The readers of all tasks in one process."""

from __future__ import annotations

from typing import Protocol

from taskcast_core.contracts.broadcast import ALL_TASKS, Bell, Listener


class FirehoseReader(Protocol):
    """Something that hears of every task."""

    def offer(self, bell: Bell) -> None:
        """A task's log grew. Must not block."""

    def close(self) -> None:
        """The hub closes: nothing follows."""


class Firehose:
    """Every bell goes to every reader; while there is none, other processes' bells are not listened to."""

    def __init__(self) -> None:
        self._readers: set[FirehoseReader] = set()

    def __len__(self) -> int:
        return len(self._readers)

    def offer(self, bell: Bell) -> None:
        """Pass a bell on."""
        for reader in self._readers:
            reader.offer(bell)

    async def join(self, reader: FirehoseReader, listener: Listener) -> None:
        """Add a reader."""
        self._readers.add(reader)
        await listener.follow((ALL_TASKS,))

    async def leave(self, reader: FirehoseReader, listener: Listener | None) -> None:
        """Remove it; there is no listener any more when the hub has closed."""
        self._readers.discard(reader)
        if not self._readers and listener is not None:
            await listener.unfollow((ALL_TASKS,))

    def close(self) -> None:
        """Tell all readers that nothing follows."""
        for reader in tuple(self._readers):
            reader.close()
