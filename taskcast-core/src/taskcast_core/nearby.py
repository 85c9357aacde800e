"""The places that readers come back to, found near a channel's head without asking the store for each of them."""

from __future__ import annotations

from functools import partial

from taskcast_core.channel import NOTHING_WANTED, Channel
from taskcast_core.contracts.log_reader import PAGE_BYTES, LogReader
from taskcast_core.filters import View
from taskcast_core.ids import parse_event_id
from taskcast_core.sharing import once, remembered

REACH = 500
"""So far behind a channel's head readers share what they have missed; others read pages of their own."""
_READING = "backlog"


class Nearby:
    """What a channel knows of its log, completed from the store: see `taskcast_core.cursors.Places`."""

    __slots__ = ("_channel", "_reader")

    def __init__(self, channel: Channel, reader: LogReader) -> None:
        self._channel, self._reader = channel, reader

    async def reach(self, index: int) -> bool:
        """Have the channel hold everything from an index on; False if that is too far behind, or not to be had.

        Raises:
            What LogReader raises.
        """
        channel = self._channel
        while (first := channel.first_held) > index:
            if channel.head - index >= REACH or (channel.backlog is not None and channel.backlog.size > PAGE_BYTES):
                return False
            channel.wanted = min(channel.wanted, index)
            await once(channel, _READING, partial(_read_back, channel, self._reader))
            if channel.first_held >= first and channel.wanted > index:
                return False  # we were heard, but cleanup or a new epoch came between
        return True

    async def locate(self, task_id: str, event_id: str, *, epoch: int) -> int | None:
        """See LogReader."""
        position = parse_event_id(event_id)
        if position is not None and epoch == self._channel.epoch and await self.reach(position.index):
            entry = self._channel.entry(position.index)
            if entry is not None and entry.id == event_id:
                return position.index
        return await self._reader.locate(task_id, event_id, epoch=epoch)

    async def seek(self, task_id: str, view: View, position: int, *, epoch: int) -> int | None:
        """See LogReader."""
        if view.is_everything and epoch == self._channel.epoch and position <= self._channel.head:
            return position
        return await self._reader.seek(task_id, view, position, epoch=epoch)

    async def seek_time(self, task_id: str, timestamp: int, *, epoch: int) -> int:
        """See LogReader."""
        return await self._reader.seek_time(task_id, timestamp, epoch=epoch)

    async def count(self, task_id: str, view: View, before: int, *, epoch: int) -> int:
        """See LogReader."""
        if view.is_everything:
            return before  # positions never change, whatever is removed
        key = ("count", view, before, epoch)
        return await remembered(self._channel, key, partial(self._reader.count, task_id, view, before, epoch=epoch))


async def _read_back(channel: Channel, reader: LogReader) -> None:
    """Read from the lowest index that is wanted up to the first that is there.

    Who asks while this is on its way is served by the next read. From the second on, each reads at least as much as is
    there already: so cursors all over the place cost a few reads, and a single reader costs only what it gets.
    """
    first, held, epoch = channel.first_held, channel.held, channel.epoch
    lowest, channel.wanted = channel.wanted, NOTHING_WANTED
    if held:
        lowest = max(0, channel.head + 1 - REACH, min(lowest, first - held))
    try:
        if lowest < first:
            page = await reader.read(
                channel.task_id, epoch=epoch, after=lowest - 1, before=first, limit=first - lowest, reverse=True
            )
            if page.items and channel.epoch == epoch:
                channel.prepend(page.items, page.last, first - 1)
    finally:
        del channel.making[_READING]  # from now on somebody else has to be sent
