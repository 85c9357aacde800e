"""Background work that reads the log: leases, durable cursors, deadlines, dead letters."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, Protocol, cast, get_args

from taskcast_core.contracts.task_log import TimerKind
from taskcast_core.models import JsonObject
from taskcast_core.values import frozen

FollowerKind = Literal["archive", "webhook", "settle"]


def kind_of(lane: str) -> FollowerKind:
    """The kind of follower that serves a lane (``webhook:3`` → ``webhook``)."""
    kind = lane.partition(":")[0]
    if kind not in get_args(FollowerKind):
        raise ValueError(f"no such lane: {lane}")
    return cast(FollowerKind, kind)


@frozen
class Dirty:
    """A lane with work to do.

    Attributes:
        token: proves the lease; names this claim of this lane. epoch, task_rev: of the task now.
        cursor: newest index that the lane has passed, −1 at first. rev: newest record it has passed, 0 at first.
        attempt: of the delivery that was deferred, 0 if none was. deleted: the task is hidden and waits for this lane.
    """

    token: str
    task_id: str
    lane: str
    epoch: int
    cursor: int
    rev: int
    attempt: int
    task_rev: int
    deleted: bool = False


@frozen
class Backlog:
    """How far a kind of follower is behind. ``oldest_ms``: age of the oldest mark, 0 when there is none."""

    lanes: int
    events: int
    oldest_ms: int


@frozen
class DeadLetter:
    """A delivery that was given up. ``detail`` says what it was and why, in the follower's own words."""

    id: str
    task_id: str
    lane: str
    index: int
    created_at: int
    detail: JsonObject


class Followers(Protocol):
    """The outbox: every commit marks its task's lanes dirty in the same atomic step.

    One owner per lane at a time keeps order. All times are the store's.
    """

    async def claim_dirty(self, kind: FollowerKind, owner: str, limit: int, lease_ms: int) -> Sequence[Dirty]:
        """Lease up to ``limit`` dirty lanes, longest waiting first; leased and deferred ones are left out."""

    async def renew(self, dirty: Dirty, lease_ms: int) -> None:
        """Hold a lane for longer.

        Raises:
            TicketRefused: the lease is over, or somebody else's.
        """

    async def ack(self, dirty: Dirty, last_index: int, rev: int) -> None:
        """Store how far the lane is, and give it back. The mark goes only if the task has nothing newer.

        Raises:
            TicketRefused: see ``renew``; the cursor is unchanged.
        """

    async def defer(self, dirty: Dirty, last_index: int, attempt: int, until: int) -> None:
        """Store how far the lane is and that it waits until ``until`` (ms), and give it back.

        Raises:
            TicketRefused: see ``renew``.
        """

    async def has_passed(self, task_id: str) -> bool:
        """Whether every lane of a task has everything; True for one that has no lanes, or is not here."""

    async def backlog(self, kind: FollowerKind) -> Backlog:
        """For health and metrics; may be slightly old."""

    async def add_dead_letter(self, letter: DeadLetter) -> None:
        """Keep a letter; the same id twice is one letter."""

    async def dead_letters(self, limit: int, after: str | None = None) -> Sequence[DeadLetter]:
        """Letters in id order, after the given id."""

    async def take_dead_letter(self, letter_id: str) -> DeadLetter | None:
        """Remove and return a letter (to deliver it again); None if it is not there (any more)."""


@frozen
class Due:
    """A timer that has run out. A hint: the commit that acts on it guards on the record it was read from."""

    task_id: str
    kind: TimerKind
    due_at: int


class Deadlines(Protocol):
    """Timers of records, by time."""

    async def due(self, kind: TimerKind, limit: int, lease_ms: int) -> Sequence[Due]:
        """Timers that have run out by the store's clock, earliest first, each hidden from others for ``lease_ms``."""

    async def next_due(self, kind: TimerKind) -> int | None:
        """When (ms) the earliest timer of the kind runs out; None if there is none."""
