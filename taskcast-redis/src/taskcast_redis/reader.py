"""LogReader: each verb is one look at one state of the log."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from taskcast_core.contracts.log_reader import PAGE_BYTES, Page, SeriesPage
from taskcast_core.entries import Entry, Hole, draft_of
from taskcast_core.errors import EpochChanged, NotHot, NotRetained
from taskcast_core.filters import View
from taskcast_core.ids import event_id, parse_event_id
from taskcast_core.series import folded
from taskcast_core.stretch import Stretch
from taskcast_core.wire import loads
from taskcast_redis.codec import (
    LogNames,
    Reply,
    kinds_of,
    pairs,
    part_of,
    segments_of,
    series_of,
    spread,
    view_arguments,
)
from taskcast_redis.connection import Argument, RedisConnection
from taskcast_redis.keys import given, pack, unpack
from taskcast_redis.looks import LookQueue


class LogLooks:
    """The reading half of TaskLog.

    Attributes:
        looked_at: entries that ``count`` and ``seek`` had to look at so far; for tests of the bounds.
    """

    def __init__(self, connection: RedisConnection, queue: LookQueue) -> None:
        self._connection, self._queue = connection, queue
        self.looked_at = 0

    async def _ask(self, verb: str, task_id: str, epoch: int | None, *arguments: Argument) -> Reply:
        tag = self._connection.keys.of(task_id)
        reply: Reply = await self._queue.look(verb, tag, [pack(task_id), given(epoch), *arguments])
        if reply[0] == b"not_hot":
            raise NotHot(task_id)
        if reply[0] == b"epoch":
            raise EpochChanged(task_id, reply[1])
        if reply[0] == b"not_retained":
            raise NotRetained(task_id, reply[1])
        return reply

    async def read(
        self, task_id: str, epoch: int | None, after: int, before: int | None, limit: int, *, reverse: bool
    ) -> Page:
        """See LogReader."""
        _, now, last_index, segments, start, stop, kinds, *columns, holes = await self._ask(
            "read", task_id, epoch, after, given(before), limit, PAGE_BYTES, "1" if reverse else "0"
        )
        names = LogNames(task_id, segments_of(segments), kinds_of(kinds))
        if not reverse and not holes and (plain := _stretch(names, *columns)):
            return Page(now, plain, plain.columns.indexes[-1], last_index)
        items: list[Entry | Hole] = [*_entries(names, *columns, step=-1 if reverse else 1)]
        if holes:
            items += [part_of(names.hole(raw), start, stop) for raw in holes]
            items.sort(key=_first_of, reverse=reverse)
            del items[limit:]
        if not items:
            return Page(now, (), stop if reverse else after, last_index)
        edge = items[-1]
        if reverse:
            items.sort(key=_first_of)
            return Page(now, tuple(items), _first_of(edge), last_index)
        return Page(now, tuple(items), edge.index if isinstance(edge, Entry) else edge.last, last_index)

    async def series(self, task_id: str, epoch: int | None) -> SeriesPage:
        """See LogReader."""
        _, now, last_index, kinds, series = await self._ask("series_all", task_id, epoch)
        named = kinds_of(kinds)
        return SeriesPage(now, last_index, dict(series_of(raw, named) for raw in series))

    async def fold(self, task_id: str, series_id: str, index: int, epoch: int | None) -> Any:
        """See LogReader."""
        _, text, total = await self._ask("fold", task_id, epoch, pack(series_id), index)
        return folded(draft_of(loads(text)), None if total is None else unpack(total))

    async def count(self, task_id: str, view: View, before: int, epoch: int | None) -> int:
        """See LogReader."""
        _, number, looked = await self._ask("count", task_id, epoch, before, *view_arguments(view))
        self.looked_at += looked
        return int(number)

    async def seek(self, task_id: str, view: View, position: int, epoch: int | None) -> int | None:
        """See LogReader."""
        _, index, looked = await self._ask("seek", task_id, epoch, position, *view_arguments(view))
        self.looked_at += looked
        return None if index < 0 else int(index)

    async def seek_time(self, task_id: str, timestamp: int, epoch: int | None) -> int:
        """See LogReader."""
        _, index = await self._ask("seek_time", task_id, epoch, timestamp)
        return int(index)

    async def locate(self, task_id: str, wanted: str, epoch: int | None) -> int | None:
        """See LogReader."""
        position = parse_event_id(wanted)
        index = position.index if position else -1
        what, *facts = await self._ask("locate", task_id, epoch, pack(wanted), index)
        if what == b"given":
            return int(facts[0])
        if what == b"none" or position is None:
            return None
        if what == b"entry":
            salt, timestamp, given_id = facts
            there = event_id(timestamp, int(salt), index) if given_id is None else unpack(given_id)
            return index if there == wanted else None
        salt, first, last = facts
        return index if first <= position.timestamp <= last and position.salt == int(salt) else None


def _stretch(
    names: LogNames, places: Reply, numbers: Reply, series: Reply, texts: Sequence[bytes], ids: Reply
) -> Stretch | None:
    """The entries of a page, if they are consecutive and belong to no series."""
    is_plain = len(places) == 2 and series[::2] == [b""] and not ids
    return names.stretch(places[0], numbers, texts) if is_plain else None


def _entries(
    names: LogNames, places: Reply, numbers: Reply, series: Reply, texts: Sequence[bytes], ids: Reply, *, step: int
) -> list[Entry]:
    """The entries of a page."""
    runs = zip(places[::2], places[1::2], strict=True)
    indexes = [index for first, count in runs for index in range(first, first + step * count, step)]
    return names.entries(indexes, spread(numbers), spread(series), texts, pairs(ids))


def _first_of(item: Entry | Hole) -> int:
    return item.index if isinstance(item, Entry) else item.first
