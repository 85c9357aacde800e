"""How a stretch of log looks to one reader: filtered, numbered, series folded where the reader needs a total."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import cast

from taskcast_core.contracts.log_reader import SeriesPage
from taskcast_core.deliveries import Delivery, Run
from taskcast_core.entries import Entry, Hole, has_holes
from taskcast_core.filters import View
from taskcast_core.stretch import Stretch
from taskcast_core.values import define


def accumulates(entry: Entry) -> bool:
    """Whether the entry adds to the text of a series."""
    return entry.series_mode == "accumulate" and entry.series_id is not None


def snapshot_places(page: SeriesPage, view: View) -> dict[str, int]:
    """Per accumulate series, the index of its newest entry that the view lets through; none for the others."""
    places: dict[str, int] = {}
    for series_id, state in page.states.items():
        visible = [index for kind, index in state.last_by_kind.items() if view.matches(*kind)]
        if visible:
            places[series_id] = max(visible)
    return places


def present_live(view: View, entries: Sequence[Entry], position: int) -> Run:
    """New entries as a reader sees them who has everything before, and wants them as they were published."""
    return Run(entries if view.is_everything else _visible(view, entries), position)


def _visible(view: View, entries: Sequence[Entry]) -> Sequence[Entry]:
    return entries if view.is_everything else [each for each in entries if view.matches(each.type, each.level)]


@define
class Presenter:
    """Turns log items into deliveries; what it remembers in between is what makes a reader's place.

    Attributes:
        fold: gives an accumulate entry the series' total as payload. totals: the reader wants totals always.
        position: filtered index of the next visible entry. due: series whose next entry goes as a snapshot.
        snapshots, collapsed_upto: up to that index a series is shown only once, as a snapshot at its place.
        all_series: what becomes due behind a hole that has swallowed parts of series.
    """

    view: View
    fold: Callable[[Entry], Awaitable[Entry]]
    totals: bool = False
    position: int = 0
    due: frozenset[str] = frozenset()
    snapshots: Mapping[str, int] = {}
    collapsed_upto: int = -1
    all_series: frozenset[str] = frozenset()

    async def present(self, items: Sequence[Entry | Hole]) -> Sequence[Delivery]:
        """The deliveries of the next items, which follow on those before."""
        if isinstance(items, Stretch) or not has_holes(items):
            visible = _visible(self.view, cast(Sequence[Entry], items))
            if self._shows_as_published(visible):
                run = Run(visible, self.position)
                self.position += len(run)
                return run
        shown: list[Delivery] = []
        shows_all = self.view.is_everything
        for item in items:
            if isinstance(item, Hole):
                self.position += self._hidden(item)
                if item.cut_series and item.last > self.collapsed_upto:
                    self.due |= self.all_series
            elif shows_all or self.view.matches(item.type, item.level):
                # Most entries belong to no series, and need nobody asked.
                delivery = Delivery(item, self.position) if item.series_id is None else await self._show(item)
                self.position += 1
                if delivery is not None:
                    shown.append(delivery)
        return shown

    def _shows_as_published(self, entries: Sequence[Entry]) -> bool:
        """Whether no series is in the way of handing these on as they are."""
        if not self.totals and not self.due and entries and entries[0].index > self.collapsed_upto:
            return True
        return isinstance(entries, Stretch) or {entry.series_id for entry in entries} <= {None}

    def _hidden(self, hole: Hole) -> int:
        """How many positions a hole takes. A store may keep the counts of a whole hole only, and so of a cut one."""
        return hole.last - hole.first + 1 if self.view.is_everything else self.view.total(hole.counts)

    async def _show(self, entry: Entry) -> Delivery | None:
        if not accumulates(entry) or entry.series_id is None:
            return Delivery(entry, self.position)
        if entry.index <= self.collapsed_upto:
            if self.snapshots.get(entry.series_id) != entry.index:
                return None
            return Delivery(await self.fold(entry), self.position, is_snapshot=True)
        if entry.series_id in self.due:
            self.due -= {entry.series_id}
            return Delivery(await self.fold(entry), self.position, is_snapshot=True)
        return Delivery(await self.fold(entry) if self.totals else entry, self.position)
