"""Channels that fell behind, or may have: compared with the store, and brought up to date from there."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Coroutine, Iterable, Sequence
from typing import Any, Protocol

from taskcast_core.channel import Channel
from taskcast_core.contracts.log_reader import LogReader
from taskcast_core.contracts.task_log import Held, Stored, TaskLog
from taskcast_core.entries import Entry
from taskcast_core.errors import EpochChanged, NotHot, NotRetained, StoreUnavailable, TaskNotFound

_log = logging.getLogger(__name__)
_AT_ONCE = 500  # channels that are checked in one go: some milliseconds

_SILENT = 0.25
"""This part of the time between two checks a channel has to be silent to be compared.

So the loss of a last bell is found within 1.25 times of that time, and busy channels are left alone.
"""


class Following(Protocol):
    """What repairs need from whoever keeps the channels."""

    async def stored(self, task_id: str) -> Stored:
        """The task as it is, hot or cold.

        Raises:
            TaskNotFound: there is none.
        """

    def announce(self, channel: Channel) -> None:
        """The channel has news for its readers."""

    def lose(self, channel: Channel) -> None:
        """The task is gone."""

    def spawn(self, coroutine: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        """Run something until it is done, or following ends."""


class Repairs:
    """The repairs of one process' channels."""

    def __init__(self, following: Following, log: TaskLog, reader: LogReader, ring_entries: int) -> None:
        self._following, self._log, self._reader = following, log, reader
        self._ring_entries = ring_entries

    def begin(self, channel: Channel) -> asyncio.Task[None]:
        """Bring a channel up to date from the store; one repair at a time."""
        if channel.repair is None or channel.repair.done():
            channel.repair = self._following.spawn(self._catch_up(channel))
        return channel.repair

    async def _catch_up(self, channel: Channel) -> None:
        try:
            while True:
                head = channel.head
                await self._compare(channel)
                # Bells that rang meanwhile need another round, as long as there is progress.
                if channel.is_lost or channel.head >= channel.rumour or channel.head == head:
                    break
        except (NotHot, TaskNotFound, EpochChanged):
            self._following.lose(channel)
        except (StoreUnavailable, NotRetained):
            _log.debug("channel of %s stays behind until the next check", channel.task_id)

    async def _compare(self, channel: Channel) -> None:
        held = channel.head
        (head,) = await self._log.heads([Held(channel.task_id, held)])
        if head is None or head.epoch != channel.epoch:
            stored = await self._following.stored(channel.task_id)
            if (stored.epoch, stored.last_index, stored.task.status) != (channel.epoch, held, channel.status):
                self._renew(channel, stored)
        elif head.last_index < held or not channel.agrees(held, head.id_at):
            # The hot store has lost what we have seen: what is left of the log continues in a new epoch.
            _log.warning("log of %s was rewound to %d", channel.task_id, head.last_index)
            founded = await self._log.found_epoch(channel.task_id, head.epoch, head.last_index)
            self._renew(channel, founded or await self._following.stored(channel.task_id))
        else:
            await self._fill(channel, head.last_index)
            channel.take_status(head.status, head.last_index)
            self._following.announce(channel)

    async def _fill(self, channel: Channel, last_index: int) -> None:
        """Read what the ring lacks; whatever it cannot hold is left to the readers, who find it in the store."""
        room = self._ring_entries
        start = max(channel.head, last_index - room)
        while start < last_index:
            page = await self._reader.read(channel.task_id, epoch=channel.epoch, after=start, limit=room)
            if not page.items:
                break
            channel.adopt([item for item in page.items if isinstance(item, Entry)], page.last)
            channel.last_news = asyncio.get_running_loop().time()
            start = page.last

    def _renew(self, channel: Channel, stored: Stored) -> None:
        channel.renew(stored)
        self._following.announce(channel)

    async def check_forever(self, channels: Iterable[Channel], interval_s: float) -> None:
        """Look at silent channels again and again; ``channels`` may change meanwhile."""
        while True:
            await asyncio.sleep(interval_s)
            for each in channels:
                each.grow_older()
            await self.check(channels, interval_s * _SILENT)

    async def check(self, channels: Iterable[Channel], silent_s: float) -> None:
        """Compare channels that were silent for so long with the store: a lost last bell is found here."""
        deadline = asyncio.get_running_loop().time() - silent_s
        silent = [each for each in channels if each.last_news <= deadline and not each.is_ended]
        for start in range(0, len(silent), _AT_ONCE):
            try:
                await self._check([each for each in silent[start : start + _AT_ONCE] if not each.is_lost])
            except StoreUnavailable as error:
                _log.warning("heads could not be checked: %s", error)
                return
            await asyncio.sleep(0)  # a store in memory answers at once; others have a turn, too

    async def _check(self, channels: Sequence[Channel]) -> None:
        heads = await self._log.heads([Held(each.task_id, each.head) for each in channels])
        for channel, head in zip(channels, heads, strict=True):
            if head is None or not channel.is_at(head):
                self.begin(channel)
