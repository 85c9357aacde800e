"""The next page of a replay, asked for while the one before is on its way to the reader.

So store and process work at the same time, where each would wait for the other. A channel has at most one such page,
however many readers there are, and not for long: whoever does not come for it in time is only a cursor again, and reads
when it is ready for more.

What is shown is the log as it was up to ``KEPT_S`` before, but not before the page in front of it was read: a reader
who is a little quicker has seen the same, and pages are of different times anyway. An entry never changes; all that can
happen to it is that it makes way for a hole, or that its log is cut, replaced or deleted, which a reader finds out
behind this page as it would have found out behind the last. What a hole means, or the total of a series, is looked up
when it is presented, though, and may be of a later time than the page only by as much as ever: a page with holes is
not taken from here, and where entries are to be folded none is read ahead.
"""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import Any

from taskcast_core.contracts.log_reader import Page
from taskcast_core.entries import has_holes
from taskcast_core.errors import EpochChanged, NotHot, NotRetained, StoreUnavailable
from taskcast_core.stretch import Stretch

KEPT_S = 1.0
"""A page that nobody has come for is given up after so long; who takes longer from page to page is not read ahead."""


class Ahead:
    """Room for one page that is not wanted yet: on its way, or there."""

    __slots__ = ("_owner", "_place", "_reading", "_timer")

    def __init__(self) -> None:
        self._reading: asyncio.Task[Page] | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._owner: object = None
        self._place: tuple[int, int] | None = None

    @property
    def is_empty(self) -> bool:
        """Whether there is room."""
        return self._reading is None

    def begin(self, owner: object, epoch: int, after: int, read: Coroutine[Any, Any, Page]) -> None:
        """Read what is behind an index, for a reader who will soon want it. There must be room."""
        assert self._reading is None
        loop = asyncio.get_running_loop()
        self._owner, self._place = owner, (epoch, after)
        self._reading = loop.create_task(read)
        self._reading.add_done_callback(_see_failure)
        self._timer = loop.call_later(KEPT_S, self.drop)

    async def take(self, epoch: int, after: int) -> Page | None:
        """What was read behind an index, waited for if it is on its way; None if it has to be read now."""
        reading = self._reading
        if reading is None or self._place != (epoch, after):
            return None
        self._leave_room()
        try:
            page = await reading
        except (EpochChanged, NotHot, NotRetained, StoreUnavailable):
            return None  # whoever reads it now is told, if that is still so
        return page if isinstance(page.items, Stretch) or not has_holes(page.items) else None

    def drop(self, owner: object | None = None) -> None:
        """Give up the page, if there is one; only if it was read for ``owner``, where that is given."""
        if self._reading is not None and (owner is None or owner is self._owner):
            self._reading.cancel()
            self._leave_room()

    def _leave_room(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._reading = self._timer = self._owner = None


def _see_failure(reading: asyncio.Task[Page]) -> None:
    """A failure that nobody waits for any more is not reported as forgotten."""
    if not reading.cancelled():
        reading.exception()
