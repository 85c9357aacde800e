"""Idempotency keys that do not belong to one log: of creations and transitions, whose replies outlive their task."""

from __future__ import annotations

from typing import Any

from taskcast_core.clock import Clock
from taskcast_core.contracts.task_log import Key
from taskcast_core.machine import KeyRecord

KEPT_REPLIES = 100_000
"""So many of either are remembered, within their time; the oldest go first."""


class ReplyTable:
    """What keys were promised, and what was replied under them."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._kept: dict[str, KeyRecord] = {}
        self._reserved: dict[str, tuple[KeyRecord, str]] = {}  # with the promised task id

    def reserve(self, key: Key, task_id: str) -> str:
        """See TaskLog.reserve."""
        now = self._clock.now_ms()
        known = self._reserved.get(key.name)
        if known is not None and known[0].expires_at > now:
            known[0].check(key)
            return known[1]
        promise = KeyRecord(key.name, key.body_hash, now + key.ttl_ms, 0, 0, 0, None)
        _put_newest(self._reserved, key.name, (promise, task_id))
        return task_id

    def known(self, key: Key) -> KeyRecord | None:
        """The reply that is remembered under a key.

        Raises:
            IdempotencyConflict: it was given to another body.
        """
        known = self._kept.get(key.name)
        if known is None or known.expires_at <= self._clock.now_ms():
            return None
        known.check(key)
        return known

    def keep(self, reply: KeyRecord) -> None:
        """Remember a reply."""
        _put_newest(self._kept, reply.name, reply)


def _put_newest(table: dict[str, Any], name: str, value: object) -> None:
    table.pop(name, None)
    table[name] = value
    while len(table) > KEPT_REPLIES:
        del table[next(iter(table))]
