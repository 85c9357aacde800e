"""What a reader gets from the store: page by page, the next one asked for early where that pays."""

from __future__ import annotations

from taskcast_core.channel import Channel
from taskcast_core.contracts.log_reader import LogReader, Page
from taskcast_core.entries import has_holes
from taskcast_core.errors import NotRetained
from taskcast_core.nearby import REACH
from taskcast_core.places import Place
from taskcast_core.stretch import Stretch

PAGE, FIRST_PAGE = 500, 100
"""Items per page of a replay, and of the first one, so that a reader soon sees something; pages are bounded by their
bytes, too."""


class Pages:
    """Pages of the log that a channel follows, in one epoch, for one reader.

    Attributes:
        folds: whether series are folded wherever they are, see `taskcast_core.ahead`.
    """

    __slots__ = ("_channel", "_epoch", "_folds", "_owner", "_reader")

    def __init__(self, channel: Channel, reader: LogReader, epoch: int, owner: object, *, folds: bool) -> None:
        """``owner``: the reader that pages are asked for early for."""
        self._channel, self._reader, self._epoch = channel, reader, epoch
        self._owner, self._folds = owner, folds

    async def behind(self, place: Place, *, is_first: bool, is_quick: bool) -> Page:
        """What the store has behind a place; at least one item.

        ``is_quick``: the next page is asked for, too, if it can be shown although it was read early.

        Raises:
            What LogReader raises.
        """
        ahead, limit, page = self._channel.ahead, FIRST_PAGE if is_first else PAGE, None
        if not ahead.is_empty and self._may_be_early(place, place.after):
            page = await ahead.take(self._epoch, place.after)
        if page is None:
            page = await self._read(place.after, limit)
        if not page.items:
            raise NotRetained(self._channel.task_id, place.after + 1)  # the head promised more
        if (
            is_quick
            and ahead.is_empty
            and len(page.items) >= limit  # of large entries nobody is given two pages
            and self._channel.head - page.last > REACH  # what is nearer is read by `Nearby`
            and (isinstance(page.items, Stretch) or not has_holes(page.items))
            and self._may_be_early(place, page.last)
        ):
            ahead.begin(self._owner, self._epoch, page.last, self._read(page.last, PAGE))
        return page

    def _may_be_early(self, place: Place, after: int) -> bool:
        """Whether nothing but its entries is needed to show the page behind an index: no series has to be folded."""
        return not (self._folds or place.due or any(after < index <= after + PAGE for _, index in place.snapshots))

    async def _read(self, after: int, limit: int) -> Page:
        channel = self._channel
        return await self._reader.read(
            channel.task_id, epoch=self._epoch, after=after, before=channel.head + 1, limit=limit
        )
