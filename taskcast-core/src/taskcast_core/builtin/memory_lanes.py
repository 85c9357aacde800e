"""Follower lanes in memory: dirty marks, cursors, leases, dead letters."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from itertools import islice

from taskcast_core.clock import Clock
from taskcast_core.contracts.followers import Backlog, DeadLetter, Dirty, FollowerKind, kind_of
from taskcast_core.contracts.task_log import Stored
from taskcast_core.errors import TicketRefused
from taskcast_core.ids import Noise, new_ulid
from taskcast_core.values import define

LaneId = tuple[str, str]
"""Task id and lane name."""


@define
class _Lane:
    cursor: int = -1
    rev: int = 0
    attempt: int = 0
    token: str = ""
    held_until: int = 0  # of a lease, or of a deferral (then without a token)
    dirty_since: int | None = None


class LaneTable:
    """All lanes of one store. ``find`` gives the task of a lane (hidden ones included), and whether it is deleted."""

    def __init__(
        self, clock: Clock, find: Callable[[str], tuple[Stored, bool] | None], noise: Noise = os.urandom
    ) -> None:
        self._clock, self._find, self._noise = clock, find, noise
        self._lanes: dict[LaneId, _Lane] = {}
        self._dirty: dict[FollowerKind, dict[LaneId, _Lane]] = {"archive": {}, "webhook": {}, "settle": {}}
        self._letters: dict[str, DeadLetter] = {}

    def mark(self, task_id: str, lanes: Sequence[str]) -> None:
        """The task has something new for these lanes."""
        for name in lanes:
            lane = self._lanes.setdefault((task_id, name), _Lane())
            if lane.dirty_since is None:
                lane.dirty_since = self._clock.now_ms()
                self._dirty[kind_of(name)][task_id, name] = lane

    def passed(self, stored: Stored) -> bool:
        """Whether every lane of a task has everything."""
        return all(
            (lane := self._lanes.get((stored.task.id, name))) is not None
            and lane.cursor == stored.last_index
            and lane.rev == stored.rev
            for name in stored.record.lanes
        )

    def ceiling(self, stored: Stored) -> int:
        """The newest index that every lane of a task has passed."""
        cursors = (
            lane.cursor if (lane := self._lanes.get((stored.task.id, name))) else -1 for name in stored.record.lanes
        )
        return min(cursors, default=stored.last_index)

    def settle_at(self, stored: Stored) -> None:
        """The lanes of a restored task: the copy came from what they had passed."""
        for name in stored.record.lanes:
            self._lanes[stored.task.id, name] = _Lane(cursor=stored.last_index, rev=stored.rev)

    def cut(self, task_id: str, lanes: Sequence[str], floor: int) -> None:
        """A log was rewound: no lane is further than ``floor``, and all have to look again."""
        for name in lanes:
            if lane := self._lanes.get((task_id, name)):
                lane.cursor, lane.rev, lane.token, lane.held_until = min(lane.cursor, floor), 0, "", 0
        self.mark(task_id, lanes)

    def forget(self, task_id: str, lanes: Sequence[str]) -> None:
        """The task is gone."""
        for name in lanes:
            self._lanes.pop((task_id, name), None)
            self._dirty[kind_of(name)].pop((task_id, name), None)

    def claim(self, kind: FollowerKind, limit: int, lease_ms: int) -> list[Dirty]:
        """See Followers.claim_dirty."""
        now = self._clock.now_ms()
        free = (item for item in self._dirty[kind].items() if item[1].held_until <= now)
        return [self._lease(task_id, name, lane, now + lease_ms) for (task_id, name), lane in list(islice(free, limit))]

    def _lease(self, task_id: str, name: str, lane: _Lane, until: int) -> Dirty:
        found = self._find(task_id)
        assert found is not None, "a lane outlived its task"
        stored, is_deleted = found
        lane.token, lane.held_until = new_ulid(self._clock.now_ms(), self._noise), until
        # A leased lane goes to the end of the line, so that the longest waiting is always first.
        line = self._dirty[kind_of(name)]
        line[task_id, name] = line.pop((task_id, name))
        return Dirty(
            lane.token, task_id, name, stored.epoch, lane.cursor, lane.rev, lane.attempt, stored.rev, deleted=is_deleted
        )

    def _held(self, dirty: Dirty) -> _Lane:
        lane = self._lanes.get((dirty.task_id, dirty.lane))
        if lane is None or lane.token != dirty.token or lane.held_until <= self._clock.now_ms():
            raise TicketRefused("the lease of the lane")
        return lane

    def renew(self, dirty: Dirty, lease_ms: int) -> None:
        """See Followers.renew."""
        self._held(dirty).held_until = self._clock.now_ms() + lease_ms

    def ack(self, dirty: Dirty, last_index: int, rev: int) -> None:
        """See Followers.ack."""
        lane = self._held(dirty)
        lane.cursor, lane.rev, lane.attempt, lane.token, lane.held_until = last_index, rev, 0, "", 0
        found = self._find(dirty.task_id)
        if found is None or (found[0].last_index <= last_index and found[0].rev <= rev):
            lane.dirty_since = None
            self._dirty[kind_of(dirty.lane)].pop((dirty.task_id, dirty.lane), None)
        else:
            lane.dirty_since = self._clock.now_ms()

    def defer(self, dirty: Dirty, last_index: int, attempt: int, until: int) -> None:
        """See Followers.defer."""
        lane = self._held(dirty)
        lane.cursor, lane.attempt, lane.token, lane.held_until = last_index, attempt, "", until

    def backlog(self, kind: FollowerKind) -> Backlog:
        """See Followers.backlog."""
        lanes = self._dirty[kind]
        events, oldest = 0, self._clock.now_ms()
        for (task_id, _), lane in lanes.items():
            if found := self._find(task_id):
                events += max(0, found[0].last_index - lane.cursor)
            oldest = min(oldest, lane.dirty_since or oldest)
        return Backlog(len(lanes), events, self._clock.now_ms() - oldest)

    def add_letter(self, letter: DeadLetter) -> None:
        """See Followers.add_dead_letter."""
        self._letters.setdefault(letter.id, letter)

    def letters(self, limit: int, after: str | None) -> list[DeadLetter]:
        """See Followers.dead_letters."""
        return [self._letters[key] for key in sorted(self._letters) if after is None or key > after][:limit]

    def take_letter(self, letter_id: str) -> DeadLetter | None:
        """See Followers.take_dead_letter."""
        return self._letters.pop(letter_id, None)
