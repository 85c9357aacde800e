"""Deadlines and Followers: timers, dirty lanes, dead letters."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from itertools import count
from typing import Any

from taskcast_core import wire
from taskcast_core.contracts.followers import Backlog, DeadLetter, Dirty, Due, FollowerKind
from taskcast_core.contracts.task_log import TimerKind
from taskcast_core.errors import TicketRefused
from taskcast_core.ids import new_ulid
from taskcast_redis.codec import Reply
from taskcast_redis.connection import Argument, RedisConnection
from taskcast_redis.keys import given, pack, unpack

MOST_AT_ONCE = 1_000
"""Items that one call claims or lists at most."""

LOOK = -1
"""In place of a lease: only look."""

MOST_LOOKS = 16
"""So often a look is repeated that others were faster than."""

BACKLOG_LANES = 1_000
"""Lanes per shard whose backlog is added up; more count as lanes only."""


class Pending:
    """What waits for its time, or for a follower."""

    def __init__(self, connection: RedisConnection) -> None:
        self._connection = connection
        self._owner = new_ulid(connection.now_ms())
        self._claims = count()

    async def _everywhere(self, verb: str, *arguments: Argument) -> list[tuple[list[str], Any]]:
        groups = self._connection.groups
        replies = await asyncio.gather(*(self._connection.run(verb, tags, arguments) for tags in groups))
        return list(zip(groups, replies, strict=True))

    async def _first(self, verb: str, kind: str, limit: int, lease_ms: int, owner: str = "") -> list[Reply]:
        """Lease what comes first by its last element.

        In a Cluster all shards are looked at, then those that have the first are asked for them; who comes too late for
        some looks again.
        """
        limit = min(limit, MOST_AT_ONCE)
        groups = self._connection.groups
        found: list[Reply] = []
        for _ in range(MOST_LOOKS):
            shares = {0: limit}
            if len(groups) > 1:
                looks = await self._everywhere(verb, kind, limit - len(found), LOOK, "")
                order = sorted((one[-1], n) for n, (_, reply) in enumerate(looks) for one in reply)
                shares = _shares(n for _, n in order[: limit - len(found)])
            replies = await asyncio.gather(
                *(
                    self._connection.run_and_wait(verb, groups[n], [kind, share, lease_ms, self._token(owner)])
                    for n, share in shares.items()
                )
            )
            found += [one for reply in replies for one in reply]
            if len(groups) == 1 or not shares or len(found) >= limit:
                break
        return sorted(found, key=lambda one: int(one[-1]))

    # ── Timers ────────────────────────────────────────────────────────────────────────────────────────────────────

    async def due(self, kind: TimerKind, limit: int, lease_ms: int) -> Sequence[Due]:
        """See Deadlines."""
        found = await self._first("due", kind, limit, lease_ms)
        return [Due(unpack(task_id), kind, at) for task_id, at in found]

    async def next_due(self, kind: TimerKind) -> int | None:
        """See Deadlines."""
        return min((reply for _, reply in await self._everywhere("next_due", kind) if reply is not None), default=None)

    # ── Lanes ─────────────────────────────────────────────────────────────────────────────────────────────────────

    async def claim_dirty(self, kind: FollowerKind, owner: str, limit: int, lease_ms: int) -> Sequence[Dirty]:
        """See Followers."""
        return [_dirty(one) for one in await self._first("claim", kind, limit, lease_ms, owner)]

    def _token(self, owner: str) -> str:
        """No claim of any process has the same one."""
        word = "".join(c for c in owner if c.isascii() and c.isalnum())[:32]
        return f"{word}.{self._owner}.{next(self._claims)}"

    async def _held(self, verb: str, dirty: Dirty, *arguments: Argument) -> None:
        tag = self._connection.keys.of(dirty.task_id)
        held: list[Argument] = [pack(dirty.task_id), dirty.lane, dirty.token, *arguments]
        if not await self._connection.run_and_wait(verb, [tag], held):
            raise TicketRefused("the lease of the lane")

    async def renew(self, dirty: Dirty, lease_ms: int) -> None:
        """See Followers."""
        await self._held("renew", dirty, lease_ms)

    async def ack(self, dirty: Dirty, last_index: int, rev: int) -> None:
        """See Followers."""
        await self._held("ack", dirty, last_index, rev)

    async def defer(self, dirty: Dirty, last_index: int, attempt: int, until: int) -> None:
        """See Followers."""
        await self._held("defer", dirty, last_index, attempt, until)

    async def has_passed(self, task_id: str) -> bool:
        """See Followers."""
        return bool(await self._connection.run("has_passed", [self._connection.keys.of(task_id)], [pack(task_id)]))

    async def backlog(self, kind: FollowerKind) -> Backlog:
        """See Followers."""
        parts = [reply for _, reply in await self._everywhere("backlog", kind, BACKLOG_LANES)]
        return Backlog(sum(p[0] for p in parts), sum(p[1] for p in parts), max(p[2] for p in parts))

    # ── Dead letters ──────────────────────────────────────────────────────────────────────────────────────────────

    async def add_dead_letter(self, letter: DeadLetter) -> None:
        """See Followers."""
        fields = [letter.task_id, letter.lane, letter.index, letter.created_at, letter.detail]
        arguments = [pack(letter.id), wire.dumps([letter.id, *fields])]
        await self._connection.run_and_wait("add_letter", [self._connection.keys.workers], arguments)

    async def dead_letters(self, limit: int, after: str | None = None) -> Sequence[DeadLetter]:
        """See Followers."""
        arguments: list[Argument] = [min(limit, MOST_AT_ONCE), given(after)]
        found = await self._connection.run("letters", [self._connection.keys.workers], arguments)
        return [_letter(text) for text in found if text is not None]

    async def take_dead_letter(self, letter_id: str) -> DeadLetter | None:
        """See Followers."""
        tags = [self._connection.keys.workers]
        text = await self._connection.run_and_wait("take_letter", tags, [pack(letter_id)])
        return None if text is None else _letter(text)


def _shares(numbers: Any) -> dict[int, int]:
    """How often each number comes."""
    shares: dict[int, int] = {}
    for n in numbers:
        shares[n] = shares.get(n, 0) + 1
    return shares


def _dirty(one: Reply) -> Dirty:
    token, task_id, lane, epoch, cursor, rev, attempt, task_rev, is_deleted, _ = one
    return Dirty(
        token.decode(), unpack(task_id), lane.decode(), epoch, cursor, rev, attempt, task_rev, deleted=bool(is_deleted)
    )


def _letter(text: bytes) -> DeadLetter:
    id_, task_id, lane, index, created_at, detail = wire.loads(text)
    return DeadLetter(id_, task_id, lane, index, created_at, detail)
