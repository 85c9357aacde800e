"""What lies right below a channel's ring, for readers who come back: read once, whatever their cursors are."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Sequence

from taskcast_core.entries import Entry, Hole
from taskcast_core.values import define


@define(eq=False)
class Backlog:
    """A stretch of a log as the store had it: every index from ``first`` to ``last`` is in ``items``, maybe in a hole.

    Attributes:
        age: since its newest part was read, in checks. size: bytes of the entries' texts.
    """

    items: Sequence[Entry | Hole]
    first: int
    last: int
    age: int = 0
    size: int = 0

    def with_older(self, items: Sequence[Entry | Hole], first: int) -> Backlog:
        """A longer stretch, that begins with these items."""
        size = self.size + sum(len(each.text) for each in items if isinstance(each, Entry))
        return Backlog([*items, *self.items], first, self.last, self.age, size)

    @property
    def is_whole(self) -> bool:
        """Whether there is an entry at every index."""
        return len(self.items) == self.last + 1 - self.first and not any(isinstance(each, Hole) for each in self.items)

    def after(self, index: int) -> Sequence[Entry | Hole] | None:
        """What is behind an index; None if that is before the stretch, or inside a hole."""
        if index >= self.last:
            return ()
        if index + 1 < self.first:
            return None
        at = bisect_left(self.items, index + 1, key=first_of)
        return self.items[at:] if at < len(self.items) and first_of(self.items[at]) == index + 1 else None


def first_of(item: Entry | Hole) -> int:
    """Where an item of a log begins."""
    return item.index if isinstance(item, Entry) else item.first
