"""Reading a task's log: the same verbs on the hot and on the cold copy."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Protocol

from taskcast_core.entries import Entry, Hole
from taskcast_core.filters import View
from taskcast_core.models import JsonValue
from taskcast_core.series import SeriesState
from taskcast_core.values import frozen

PAGE_BYTES = 1 << 20
"""A page ends early once its entries' texts pass about this size."""


@frozen
class Page:
    """A stretch of a log, in index order and without a hidden gap.

    Attributes:
        items: entries, and holes where entries have been. Read forwards they cover every index from the asked one to
            ``last`` (backwards: from ``last`` down, still listed in ascending order).
        last: the index up to which (backwards: down to which) the page goes; the asked position when it is empty.
        log_last: the log's newest index when the page was read, −1 for an empty log.
    """

    epoch: int
    items: Sequence[Entry | Hole]
    last: int
    log_last: int


@frozen
class SeriesPage:
    """All series of a task that have a state, as of ``log_last``."""

    epoch: int
    log_last: int
    states: Mapping[str, SeriesState]


class LogReader(Protocol):
    """A log's entries and what can be computed from them without reading them.

    ``epoch`` names the log that the caller means; None means the current one. A log that is being deleted is still
    readable under its epoch, by the readers that had it open. Unless a verb says otherwise it raises

    Raises:
        NotHot: there is no readable copy here. EpochChanged: there is one, but of another epoch.
        NotRetained: the asked stretch lies before the copy's first index (it has been moved to the cold store).
        StoreUnavailable: try again later.
    """

    async def read(
        self,
        task_id: str,
        *,
        epoch: int | None = None,
        after: int = -1,
        before: int | None = None,
        limit: int = 1000,
        reverse: bool = False,
    ) -> Page:
        """At most ``limit`` items with ``after < index < before``; fewer when they are large. Safe at any time.

        A page may begin or end inside a hole: then it has that part of it, with the counts of what stood in the part.
        """

    async def series(self, task_id: str, *, epoch: int | None = None) -> SeriesPage:
        """The state of every accumulate and latest series, and the newest index, at one instant."""

    async def fold(self, task_id: str, series_id: str, index: int, *, epoch: int | None = None) -> JsonValue:
        """The payload of the series' entry at ``index`` with the series' total up to and including it.

        Raises:
            NotRetained: no accumulate entry of that series stands there.
        """

    async def count(self, task_id: str, view: View, before: int, *, epoch: int | None = None) -> int:
        """How many entries below index ``before`` the view lets through, removed ones included.

        A removed entry counts where it stood: the number for an index never changes while entries are removed, and
        agrees with pages that are read before or after. Of a hole that came with a copy only the counts are known; its
        entries may count anywhere inside it, but must stay there.

        Must not read the log: the cost may grow with the number of distinct types and with one checkpoint span only.
        """

    async def seek(self, task_id: str, view: View, position: int, *, epoch: int | None = None) -> int | None:
        """The index of the entry at a filtered position (0-based, removed ones included); None beyond the newest."""

    async def seek_time(self, task_id: str, timestamp: int, *, epoch: int | None = None) -> int:
        """The index of the newest entry that is not younger than ``timestamp`` (ms); −1 when all are younger."""

    async def locate(self, task_id: str, event_id: str, *, epoch: int | None = None) -> int | None:
        """The index that an event id names in this log; None when the log has, and had, no such entry.

        An id inside a hole is accepted if its salt and its time fit the hole.
        """
