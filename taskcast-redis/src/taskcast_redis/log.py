"""TaskLog's writing half, and the records."""

from __future__ import annotations

from collections.abc import Coroutine, Sequence
from typing import Any

from taskcast_core.contracts.task_log import (
    Change,
    Committed,
    Head,
    Held,
    Key,
    Record,
    Stored,
    TrimRule,
)
from taskcast_core.errors import EpochChanged, IdempotencyConflict, NotHot, TaskDeleting, TaskExists
from taskcast_core.filters import View
from taskcast_core.ids import event_id, new_salt
from taskcast_redis.codec import LETTERS, record_arguments, stored_of, view_arguments
from taskcast_redis.commits import CommitQueue
from taskcast_redis.connection import Argument, RedisConnection
from taskcast_redis.keys import given, pack, unpack
from taskcast_redis.looks import LookQueue

TRIM_PORTION = 2_000
"""Entries that one call looks at: Redis does nothing else meanwhile."""


class LogWriter:
    """What changes tasks and their logs."""

    def __init__(self, connection: RedisConnection, looks: LookQueue) -> None:
        self._connection, self._looks = connection, looks
        self._queue = CommitQueue(connection)

    async def close(self) -> None:
        """Wait for the commits in flight."""
        await self._queue.close()

    def commit(self, task_id: str, change: Change) -> Coroutine[Any, Any, Committed]:
        """See TaskLog."""
        return self._queue.commit(task_id, change)

    async def reserve(self, key: Key, task_id: str) -> str:
        """See TaskLog."""
        arguments: list[Argument] = [pack(key.name), key.body_hash, key.ttl_ms, pack(task_id)]
        reply = await self._connection.run_and_wait("reserve", [self._connection.keys.of(key.name)], arguments)
        if reply[0] == b"conflict":
            raise IdempotencyConflict(key.name)
        return unpack(reply[1])

    async def create(self, record: Record, key: Key | None = None) -> Committed:
        """See TaskLog."""
        task_id = record.task.id
        named: list[Argument] = [""] if key is None else [given(key.name), key.body_hash, key.ttl_ms]
        ring = self._connection.ringing
        arguments: list[Argument] = [pack(task_id), new_salt(), ring, *named, *record_arguments(record)]
        reply = await self._connection.run_and_wait("create", [self._connection.keys.of(task_id)], arguments)
        outcome = reply[0]
        if outcome == b"exists":
            raise TaskExists(task_id)
        if outcome == b"deleting":
            raise TaskDeleting(task_id)
        if outcome == b"conflict":
            assert key is not None
            raise IdempotencyConflict(key.name)
        stored = stored_of(reply[1], record)
        if ring and outcome == b"done":
            self._connection.note_rung(task_id, stored.epoch, stored.last_index)
        return Committed(stored, (), replayed=outcome == b"kept")

    async def get(self, task_id: str) -> Stored | None:
        """See TaskLog."""
        reply = await self._looks.look("get", self._connection.keys.of(task_id), [pack(task_id)])
        return None if reply is None else stored_of(reply)

    async def heads(self, held: Sequence[Held]) -> Sequence[Head | None]:
        """See TaskLog."""
        found: list[Head | None] = [None] * len(held)
        by_group: dict[str, list[int]] = {}
        for place, one in enumerate(held):
            tag = self._connection.keys.of(one.task_id)
            by_group.setdefault(tag if self._connection.is_cluster else "", []).append(place)
        for places in by_group.values():
            tags = {tag: n for n, tag in enumerate({self._connection.keys.of(held[p].task_id) for p in places}, 1)}
            arguments: list[Argument] = [len(places)]
            for place in places:
                one = held[place]
                arguments += [tags[self._connection.keys.of(one.task_id)], pack(one.task_id), one.index]
            for place, reply in zip(places, await self._connection.run("heads", list(tags), arguments), strict=True):
                found[place] = None if reply is None else _head(held[place], *reply)
        return found

    async def found_epoch(self, task_id: str, seen_epoch: int, floor: int) -> Stored | None:
        """See TaskLog."""
        arguments: list[Argument] = [pack(task_id), seen_epoch, floor, new_salt()]
        reply = await self._connection.run_and_wait("found_epoch", [self._connection.keys.of(task_id)], arguments)
        return None if reply is None else stored_of(reply)

    async def delete(self, task_id: str, linger_ms: int) -> bool:
        """See TaskLog."""
        tag = self._connection.keys.of(task_id)
        return bool(await self._connection.run_and_wait("delete", [tag], [pack(task_id), linger_ms]))

    async def purge(self, task_id: str, tombstone_ms: int) -> bool:
        """See TaskLog."""
        tag = self._connection.keys.of(task_id)
        return bool(await self._connection.run_and_wait("purge", [tag], [pack(task_id), max(1, tombstone_ms)]))

    async def trim(self, task_id: str, epoch: int, rule: TrimRule, limit: int) -> int:
        """See TaskLog."""
        modes: list[Argument] = [-1]
        if rule.series_modes is not None:
            letters = [letter for mode, letter in LETTERS.items() if mode in rule.series_modes]
            modes = [len(letters), *letters]
        view = view_arguments(View(rule.types, rule.levels))
        tag, removed, start = self._connection.keys.of(task_id), 0, 0
        while start >= 0 and removed < limit:
            arguments: list[Argument] = [
                pack(task_id), epoch, limit - removed, start, TRIM_PORTION, "1" if rule.keep_series_ends else "0",
                given(rule.older_than), *modes, *view,
            ]  # fmt: skip
            reply = await self._connection.run_and_wait("trim", [tag], arguments)
            if reply[0] == b"not_hot":
                raise NotHot(task_id)
            if reply[0] == b"epoch":
                raise EpochChanged(task_id, reply[1])
            removed, start = removed + reply[1], reply[2]
        return removed


def _head(
    held: Held, epoch: int, last_index: int, status: bytes, salt: bytes, timestamp: int, given_id: bytes | None
) -> Head:
    id_at: str | None = None
    if given_id is not None:
        id_at = unpack(given_id)
    elif timestamp >= 0:
        id_at = event_id(timestamp, int(salt), held.index)
    return Head(held.task_id, epoch, last_index, status.decode(), id_at)  # type: ignore[arg-type]
