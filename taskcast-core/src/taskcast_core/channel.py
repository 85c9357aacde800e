"""What a process knows of one followed task, and how that changes; no input or output."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Hashable, Sequence
from typing import Any, Protocol, cast

from attrs import field

from taskcast_core.ahead import Ahead
from taskcast_core.backlog import Backlog
from taskcast_core.contracts.task_log import Head, Segment, Stored
from taskcast_core.entries import Entry, Hole
from taskcast_core.models import TaskStatus
from taskcast_core.ring import Ring
from taskcast_core.states import TERMINAL
from taskcast_core.values import define

NOTHING_WANTED = sys.maxsize
"""No index is so high."""
KEPT_CHECKS = 15
"""For so many checks what was read from the store is believed, while there is no news."""
_STEPS = 64  # shared batches remembered per channel


class Waiter(Protocol):
    """Something that wants to know when a channel has news."""

    def wake(self) -> None:
        """There may be more to read. Must not block; may be called when there is nothing."""


@define(eq=False)
class Channel:
    """A followed task. ``head`` is the newest index up to which the channel knows the log without a gap."""

    task_id: str
    segments: tuple[Segment, ...]
    head: int
    status: TaskStatus
    ring: Ring
    rumour: int = -1  # newest index that somebody spoke of
    measured: int = -1  # newest index whose way to the readers was timed
    backlog: Backlog | None = None
    wanted: int = NOTHING_WANTED  # lowest index that somebody wants the backlog to begin with
    ahead: Ahead = field(factory=Ahead)
    readers: set[Waiter] = field(factory=set)
    waiting: set[Waiter] = field(factory=set)
    steps: dict[Hashable, Any] = field(factory=dict)
    steps_age: int = 0  # in checks
    shared: dict[int, tuple[object, object]] = field(factory=dict)
    making: dict[object, asyncio.Future[Any]] = field(factory=dict)
    folds: dict[int, asyncio.Future[Any]] = field(factory=dict)
    agreed: Head | None = None  # the head that the channel was last found to be at
    last_news: float = 0.0
    last_flush: float = 0.0
    flush: asyncio.TimerHandle | None = None
    repair: asyncio.Task[None] | None = None
    is_lost: bool = False

    @property
    def epoch(self) -> int:
        """The log's current epoch."""
        return self.segments[-1].epoch

    @property
    def is_ended(self) -> bool:
        """Whether the task has ended and the channel knows its last entry."""
        return self.status in TERMINAL and self.head >= self.rumour

    # ── What the log has ───────────────────────────────────────────────────────────────────────────────────────────

    def take_status(self, status: TaskStatus, last_index: int) -> None:
        """The status as of an index. News come in any order; to a task that has ended nothing is ever appended."""
        if self.status not in TERMINAL and last_index >= self.rumour:
            self.status = status

    def extend(self, entries: Sequence[Entry], last_index: int) -> None:
        """Entries somebody speaks of, as far as they follow on the head; whatever is missing has to be read."""
        self.rumour = max(self.rumour, last_index)
        follows = entries and entries[0].index == self.head + 1
        fresh = entries if follows else [entry for entry in entries if entry.index > self.head]
        if fresh and fresh[0].index == self.head + 1:
            self.ring.extend(fresh)
            self.head = fresh[-1].index

    def adopt(self, entries: Sequence[Entry], last_index: int) -> None:
        """Take entries from the store; where they leave out indexes, the ring begins anew behind the gap."""
        run: list[Entry] = []
        for entry in entries:
            if run and entry.index != run[-1].index + 1:
                run.clear()
            run.append(entry)
        if run and run[0].index == self.head + 1:
            self.extend(run, last_index)
        elif run and run[-1].index > self.head:
            self.ring.restart(run[0].index, run)
            self.head = run[-1].index
        if last_index > self.head:  # it ends with holes
            self.ring.restart(last_index + 1)
            self.head = last_index
        self.rumour = max(self.rumour, last_index)

    def renew(self, stored: Stored) -> None:
        """The log continues in another epoch; readers find out by comparing segments."""
        self.segments, self.head, self.status = stored.segments, stored.last_index, stored.task.status
        self.ring.restart(stored.last_index + 1)
        self.backlog = None
        self.ahead.drop()
        self.folds.clear()
        self.rumour = stored.last_index
        self.agreed = None

    def agrees(self, index: int, id_there: str | None) -> bool:
        """Whether the store's entry at an index is the one that the ring has there (as far as both know one)."""
        newest = self.ring.newest
        return newest is None or newest.index != index or id_there is None or newest.id == id_there

    def is_at(self, head: Head) -> bool:
        """Whether this is where the channel stands."""
        if head.last_index != self.head or head.status != self.status:
            return False
        if head is self.agreed:  # as stores in memory give it again and again, so that a silent task costs hardly any
            return True
        if head.epoch != self.epoch or not self.agrees(self.head, head.id_at):
            return False
        self.agreed = head
        return True

    # ── What is at hand ────────────────────────────────────────────────────────────────────────────────────────────

    @property
    def first_held(self) -> int:
        """The oldest index that is at hand; of the next one to come, while nothing is."""
        backlog = self.backlog
        return backlog.first if backlog is not None and self.ring.first <= backlog.last + 1 else self.ring.first

    @property
    def held(self) -> int:
        """How many of the newest indexes are at hand."""
        return self.head + 1 - self.first_held

    def since(self, index: int) -> Sequence[Entry | Hole] | None:
        """What is behind an index; None if it has to be read from the store."""
        items: Sequence[Entry | Hole] | None = self.ring.after(index)
        if items is None and self.backlog is not None and (newer := self.ring.after(self.backlog.last)) is not None:
            older = self.backlog.after(index)
            items = None if older is None else [*older, *newer]
        return items

    def entries_since(self, index: int) -> Sequence[Entry] | None:
        """The same, if nothing is missing in between; at least one."""
        entries = self.ring.after(index)
        if entries is None and self.backlog is not None and self.backlog.is_whole:
            entries = cast("Sequence[Entry] | None", self.since(index))
        return entries

    def entry(self, index: int) -> Entry | None:
        """The entry at an index, if it is at hand."""
        items = self.since(index - 1)
        return items[0] if items and isinstance(items[0], Entry) and items[0].index == index else None

    def prepend(self, items: Sequence[Entry | Hole], first: int, last: int) -> None:
        """Keep what the store has from ``first`` to ``last``, if that is right below what is at hand."""
        if last + 1 == self.first_held:
            below = self.backlog if self.backlog is not None and self.backlog.first == last + 1 else None
            self.backlog = (below or Backlog((), last + 1, last)).with_older(items, first)

    def grow_older(self) -> None:
        """A check interval is over: forget what the store may have removed since it was read."""
        if self.backlog is not None:
            self.backlog.age += 1
            if self.backlog.age > KEPT_CHECKS:
                self.backlog = None
        if self.steps:
            self.steps_age += 1
            if self.steps_age > KEPT_CHECKS:
                self.forget_steps()

    # ── What readers share ─────────────────────────────────────────────────────────────────────────────────────────

    def remember(self, key: Hashable, step: object) -> None:
        """Keep what readers at equal places share, until there is news."""
        while len(self.steps) >= _STEPS:
            del self.steps[next(iter(self.steps))]
        self.steps[key] = step

    def share(self, place: object, step: object) -> None:
        """Keep what readers at the very same place share, until there is news; the place is kept, so its id is too."""
        while len(self.shared) >= _STEPS:
            del self.shared[next(iter(self.shared))]
        self.shared[id(place)] = place, step

    def forget_steps(self) -> None:
        """There is news: what leads to the head leads there no longer."""
        if self.steps:
            self.steps.clear()
            self.shared.clear()
        self.steps_age = 0
