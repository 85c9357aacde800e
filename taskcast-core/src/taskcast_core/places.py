"""Where a reader of one task stands, and where it begins."""

from __future__ import annotations

from functools import partial

from attrs import evolve

from taskcast_core.channel import Channel
from taskcast_core.contracts.log_reader import LogReader, SeriesPage
from taskcast_core.cursors import GapReason, resolve
from taskcast_core.entries import Entry
from taskcast_core.filters import View
from taskcast_core.models import SubscribeFilter
from taskcast_core.nearby import Nearby
from taskcast_core.presentation import accumulates, snapshot_places
from taskcast_core.sharing import remembered
from taskcast_core.values import frozen, value

_PORTION = 500
"""Items per read, where the last so many frames are looked for."""


@value
class Place:
    """All that the next batch of a reader of one view depends on; readers at one place share it.

    Attributes:
        snapshots: while ``after`` is below ``collapsed_upto``, series are shown at these places only.
    """

    after: int = -1
    position: int = 0
    due: frozenset[str] = frozenset()
    snapshots: frozenset[tuple[str, int]] = frozenset()
    collapsed_upto: int = -1


@frozen
class Outset:
    """Where a reader sets out from.

    Attributes:
        whole_upto: up to there, what cleanup has removed was never shown to this reader. gap: why it begins anew.
    """

    place: Place
    whole_upto: int = -1
    gap: GapReason | None = None


class Outsets:
    """Finds the places where a reader sets out, in one epoch of its task's log. Raises what LogReader raises."""

    def __init__(self, channel: Channel, reader: LogReader, view: View, epoch: int) -> None:
        self._channel, self._reader, self._view, self._epoch = channel, reader, view, epoch

    async def first(self, wanted: SubscribeFilter) -> Outset:
        """Of a reader who comes: at its cursor, or at the start of a collapsed replay."""
        places = Nearby(self._channel, self._reader)
        start = await resolve(places, self._channel.task_id, wanted.since, self._view, epoch=self._epoch)
        if not start.is_resumed:
            outset = await self.collapsed(Place())
            if start.gap is not None:
                return evolve(outset, gap=start.gap)
            return outset if wanted.limit is None else await self._with_last(outset, wanted.limit)
        place = Place(start.after, start.position)
        if wanted.series_format == "accumulated":
            return await self.collapsed(place)
        if wanted.resume == "snapshot":
            page = await self.series()
            if due := frozenset(name for name, state in page.states.items() if state.last_by_kind):
                place = evolve(place, due=due)
        return Outset(place)

    async def collapsed(self, place: Place) -> Outset:
        """From a place to the log's present end, each accumulate series is shown once, as a snapshot."""
        page = await self.series()
        if page.states:
            snapshots = frozenset(snapshot_places(page, self._view).items())
            place = evolve(place, snapshots=snapshots, collapsed_upto=page.log_last)
        return Outset(place, page.log_last if place.after < 0 else -1)

    async def series(self) -> SeriesPage:
        """The state of all series."""
        key = ("series", self._channel.head, self._epoch)
        read = partial(self._reader.series, self._channel.task_id, epoch=self._epoch)
        return await remembered(self._channel, key, read)

    async def _with_last(self, outset: Outset, limit: int) -> Outset:
        """So that exactly the last ``limit`` frames of the replay are left."""
        task_id, epoch = self._channel.task_id, self._epoch
        before, left = outset.whole_upto + 1, limit
        snapshots = dict(outset.place.snapshots)
        while left > 0 and before > 0:
            page = await self._reader.read(task_id, epoch=epoch, before=before, limit=_PORTION, reverse=True)
            for item in reversed(page.items):
                if isinstance(item, Entry) and self._is_frame(item, snapshots):
                    left -= 1
                    before = item.index
                    if left == 0:
                        break
            else:
                before = page.last if page.items else 0
        position = await self._reader.count(task_id, self._view, before, epoch=epoch)
        return evolve(outset, place=evolve(outset.place, after=before - 1, position=position))

    def _is_frame(self, entry: Entry, snapshots: dict[str, int]) -> bool:
        if not self._view.matches(entry.type, entry.level):
            return False
        return not accumulates(entry) or snapshots.get(entry.series_id or "") == entry.index
