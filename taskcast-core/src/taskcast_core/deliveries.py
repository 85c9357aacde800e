"""What a subscription hands to its reader: entries with their place in the reader's view, in shareable batches."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import count
from typing import NamedTuple, overload

from attrs import evolve, field

from taskcast_core.entries import GAP_TYPE, Entry, Origin
from taskcast_core.models import Event, EventDraft, TaskStatus
from taskcast_core.values import define


class Delivery(NamedTuple):
    """One entry as one view shows it.

    Attributes:
        position: its filtered index. is_snapshot: the payload is the series' total. is_gap: a gap frame; not of the
        log, has no id.
    """

    entry: Entry
    position: int
    is_snapshot: bool = False
    is_gap: bool = False

    def event(self) -> Event:
        """As the public model; a gap's ``id`` is empty."""
        event = self.entry.event()
        return evolve(event, series_snapshot=True) if self.is_snapshot else event


class Run(Sequence[Delivery]):
    """Entries as they were published, at consecutive positions; a delivery is made when somebody asks for it.

    Attributes:
        position: of the first one.
    """

    __slots__ = ("entries", "position")

    def __init__(self, entries: Sequence[Entry], position: int) -> None:
        self.entries, self.position = entries, position

    def __len__(self) -> int:
        return len(self.entries)

    @overload
    def __getitem__(self, at: int) -> Delivery: ...

    @overload
    def __getitem__(self, at: slice) -> Sequence[Delivery]: ...

    def __getitem__(self, at: int | slice) -> Delivery | Sequence[Delivery]:
        if isinstance(at, slice):
            return list(self)[at]
        return Delivery(self.entries[at], self.position + range(len(self.entries))[at])

    def __iter__(self) -> Iterator[Delivery]:
        return map(Delivery, self.entries, count(self.position))


@define
class Batch:
    """Consecutive deliveries. Readers of one view at one position are handed the very same object.

    Attributes:
        after: log index up to which the reader has seen everything now. position: filtered index of what comes next.
        ended: the terminal status, when nothing can follow. memo: whatever an encoder wants to make only once.
    """

    deliveries: Sequence[Delivery]
    after: int
    position: int
    ended: TaskStatus | None = None
    memo: dict[object, bytes] = field(factory=dict)


def gap(origin: Origin, reason: str, *, next_index: int, next_position: int, epoch: int, timestamp: int) -> Delivery:
    """The frame that says: what you resumed from is not (all) there; here is everything that is."""
    data = {"reason": reason, "nextIndex": next_index, "epoch": epoch}
    entry = Entry(origin, next_index - 1, timestamp, EventDraft(GAP_TYPE, "warn", data), given_id="")
    return Delivery(entry, next_position - 1, is_gap=True)
