"""TaskLog: idempotency keys."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

import pytest

from taskcast_core.contracts import Guard, Key, TaskLog, TrimRule
from taskcast_core.errors import GuardFailed, IdempotencyConflict, ReplyExpired
from taskcast_core.testing.commits import RACERS
from taskcast_core.testing.contract import Contract, StoreTime
from taskcast_core.testing.making import (
    HOUR_MS,
    a_key,
    created,
    current,
    delta,
    fresh_id,
    message,
    publish,
    race,
    replace,
    status,
    whole_log,
)

REMEMBERED = 1_000
"""So many newer keys of one task may follow before a publish may be forgotten within its time."""


class KeyCases(Contract):
    """``Change.key`` and ``reserve``."""

    capability: ClassVar[str] = "TaskLog"
    promise: ClassVar[str] = "a repeat with the same key has the first reply and no effect"

    async def test_a_repeated_publish(self, store: TaskLog) -> None:
        task_id, key = (await created(store, message())).task.id, a_key()
        first = await publish(store, task_id, message("a"), message("b"), key=key)
        await publish(store, task_id, message("between"))
        again = await publish(store, task_id, message("a"), message("b"), key=key)
        assert not first.replayed and again.replayed
        assert [(e.id, e.index, e.text) for e in again.entries] == [(e.id, e.index, e.text) for e in first.entries]
        assert (await current(store, task_id)).last_index == 3

    async def test_a_repeat_advances_no_series(self, store: TaskLog) -> None:
        task_id, key = (await created(store)).task.id, a_key()
        for _ in range(3):
            await publish(store, task_id, delta("s", "a"), key=key)
        await publish(store, task_id, delta("s", "b"))
        assert await store.fold(task_id, "s", 1) == {"delta": "ab"}

    async def test_another_body_is_a_conflict(self, store: TaskLog) -> None:
        task_id = (await created(store)).task.id
        await publish(store, task_id, message(), key=a_key("k" + task_id, "one"))
        with pytest.raises(IdempotencyConflict):
            await publish(store, task_id, message(), key=a_key("k" + task_id, "two"))
        assert (await current(store, task_id)).last_index == 0

    async def test_a_refused_change_does_not_use_up_its_key(self, store: TaskLog) -> None:
        task_id, key = (await created(store)).task.id, a_key()
        with pytest.raises(GuardFailed):
            await publish(store, task_id, message(), key=key, guard=Guard(statuses=frozenset({"running"})))
        done = await publish(store, task_id, message(), key=key)
        assert not done.replayed and len(done.entries) == 1

    async def test_the_key_is_looked_up_before_the_guard(self, store: TaskLog) -> None:
        before, key = await created(store, status="running"), a_key()
        alive = Guard(statuses=frozenset({"running"}))
        first = await publish(store, before.task.id, message(), key=key, guard=alive)
        await replace(store, await current(store, before.task.id), status="completed")
        again = await publish(store, before.task.id, message(), key=key, guard=alive)
        assert again.replayed and again.entries[0].id == first.entries[0].id

    async def test_a_repeated_transition_has_the_record_of_the_first_time(self, store: TaskLog) -> None:
        before, key = await created(store), a_key()
        first = await replace(store, before, status("running"), key=key, status="running")
        later = await replace(store, first.stored, status("paused"), status="paused")
        again = await replace(store, before, status("running"), key=key, status="running")
        assert again.replayed and again.stored.record == first.stored.record
        assert await current(store, before.task.id) == later.stored

    async def test_a_transitions_reply_survives_trimming(self, store: TaskLog) -> None:
        before, key = await created(store), a_key()
        first = await replace(store, before, status("running"), key=key, status="running")
        await store.trim(before.task.id, before.epoch, TrimRule(keep_series_ends=False))
        again = await replace(store, before, status("running"), key=key, status="running")
        assert again.replayed and again.stored.record == first.stored.record
        assert (await current(store, before.task.id)).last_index == 0

    async def test_a_publish_whose_entries_are_gone_is_not_made_again(self, store: TaskLog) -> None:
        stored, key = await created(store), a_key()
        await publish(store, stored.task.id, message("gone"), message("stays"), key=key)
        await store.trim(stored.task.id, stored.epoch, TrimRule(types=("gone",)))
        with pytest.raises(ReplyExpired):
            await publish(store, stored.task.id, message("gone"), message("stays"), key=key)
        assert (await current(store, stored.task.id)).last_index == 1

    async def test_a_key_is_forgotten_after_its_time(self, store: TaskLog, time: StoreTime) -> None:
        task_id, key = (await created(store)).task.id, a_key(ttl_ms=time.brief_ms)
        await publish(store, task_id, message(), key=key)
        await time.passes(time.brief_ms)
        again = await publish(store, task_id, message(), key=key)
        assert not again.replayed and again.entries[0].index == 1

    async def test_a_key_outlives_many_newer_ones(self, store: TaskLog) -> None:
        task_id, key = (await created(store)).task.id, a_key()
        first = await publish(store, task_id, message("first"), key=key)
        for n in range(REMEMBERED - 1):
            await publish(store, task_id, message(data=n), key=a_key(f"{task_id}:{n}"))
        again = await publish(store, task_id, message("first"), key=key)
        assert again.replayed and again.entries[0].id == first.entries[0].id

    async def test_racing_repeats_have_one_effect(self, peers: Sequence[TaskLog]) -> None:
        task_id, key = (await created(peers[0])).task.id, a_key()
        replies, lost = await race(RACERS, lambda n: publish(peers[n % 2], task_id, message("once"), key=key))
        assert not lost and len({reply.entries[0].id for reply in replies}) == 1
        assert sum(not reply.replayed for reply in replies) == 1
        assert len(await whole_log(peers[1], task_id)) == 1

    async def test_racing_repeats_of_a_transition(self, peers: Sequence[TaskLog]) -> None:
        before, key = await created(peers[0]), a_key()
        replies, lost = await race(
            RACERS, lambda n: replace(peers[n % 2], before, status("running"), key=key, status="running")
        )
        assert not lost and {reply.stored.rev for reply in replies} == {before.rev + 1}
        assert sum(not reply.replayed for reply in replies) == 1

    async def test_keys_of_other_names_are_others(self, store: TaskLog) -> None:
        task_id = (await created(store)).task.id
        for name in ("k", "K", "k ", "k\x00", "ключ", "k:1"):
            done = await publish(store, task_id, message(), key=Key(task_id + name, "body", HOUR_MS))
            assert not done.replayed
        assert (await current(store, task_id)).last_index == 5

    async def test_a_creation_is_reserved_once(self, store: TaskLog) -> None:
        key, first = a_key(), fresh_id()
        assert await store.reserve(key, first) == first
        assert await store.reserve(key, fresh_id()) == first
        with pytest.raises(IdempotencyConflict):
            await store.reserve(Key(key.name, "other body", key.ttl_ms), fresh_id())

    async def test_a_reservation_ends(self, store: TaskLog, time: StoreTime) -> None:
        key, second = a_key(ttl_ms=time.brief_ms), fresh_id()
        await store.reserve(key, fresh_id())
        await time.passes(time.brief_ms)
        assert await store.reserve(key, second) == second

    async def test_racing_reservations_agree(self, peers: Sequence[TaskLog]) -> None:
        key = a_key()
        ids, lost = await race(RACERS, lambda n: peers[n % 2].reserve(key, f"{key.name}-{n}"))
        assert not lost and len(set(ids)) == 1
