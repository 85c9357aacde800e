"""The cases of Deadlines."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar, Protocol

from taskcast_core.contracts import Deadlines, TaskLog
from taskcast_core.testing.contract import LONG_MS, Contract, StoreTime
from taskcast_core.testing.making import created, current, fresh_id, message, publish, race, replace

RACERS = 16


class TimedLog(TaskLog, Deadlines, Protocol):
    """A store with timers."""


class DeadlinesContract(Contract):
    """Everything that ``taskcast_core.contracts.Deadlines`` promises. Override the fixture ``store``."""

    capability: ClassVar[str] = "Deadlines"
    promise: ClassVar[str] = "a timer is due when the store's time says so, to one caller at a time"

    async def test_a_timer_runs_out(self, store: TimedLog, time: StoreTime) -> None:
        at = store.now_ms() + time.roomy_ms
        task_id = (await created(store, timers={"ttl": at})).task.id
        assert list(await store.due("ttl", 10, LONG_MS)) == []
        assert await store.next_due("ttl") == at
        await time.passes(time.roomy_ms)
        (due,) = await store.due("ttl", 10, LONG_MS)
        assert (due.task_id, due.kind, due.due_at) == (task_id, "ttl", at)

    async def test_kinds_are_apart(self, store: TimedLog) -> None:
        past, future = store.now_ms() - 10, store.now_ms() + LONG_MS
        await created(store, timers={"ttl": past, "resume": future, "cleanup": past})
        assert [len(await store.due(kind, 10, LONG_MS)) for kind in ("ttl", "resume", "cleanup", "retry")] == [
            1,
            0,
            1,
            0,
        ]
        assert await store.next_due("resume") == future
        assert await store.next_due("retry") is None

    async def test_the_earliest_come_first(self, store: TimedLog) -> None:
        now = store.now_ms()
        tasks = {back: (await created(store, timers={"ttl": now - back})).task.id for back in (10, 40, 20, 30)}
        assert await store.next_due("ttl") == now - 40
        first = await store.due("ttl", 2, LONG_MS)
        rest = await store.due("ttl", 10, LONG_MS)
        assert [due.task_id for due in [*first, *rest]] == [tasks[back] for back in (40, 30, 20, 10)]

    async def test_a_leased_timer_is_hidden_until_the_lease_ends(self, store: TimedLog, time: StoreTime) -> None:
        task_id = (await created(store, timers={"ttl": store.now_ms() - 1})).task.id
        assert len(await store.due("ttl", 10, time.roomy_ms)) == 1
        assert list(await store.due("ttl", 10, time.roomy_ms)) == []
        await time.passes(time.roomy_ms)
        assert [due.task_id for due in await store.due("ttl", 10, LONG_MS)] == [task_id]

    async def test_one_of_many_racing_callers_gets_each_timer(self, peers: Sequence[TimedLog]) -> None:
        now = peers[0].now_ms()
        for n in range(10):
            await created(peers[0], timers={"ttl": now - n})
        found, lost = await race(RACERS, lambda n: peers[n % 2].due("ttl", 3, LONG_MS))
        assert not lost and all(len(mine) <= 3 for mine in found)
        tasks = [due.task_id for mine in found for due in mine]
        assert len(tasks) == len(set(tasks)) == 10

    async def test_timers_are_replaced_with_the_record(self, store: TimedLog) -> None:
        now = store.now_ms()
        first = await created(store, timers={"ttl": now - 5, "cleanup": now - 5})
        second = (await replace(store, first, timers={"ttl": now + LONG_MS, "resume": now - 3})).stored
        assert list(await store.due("ttl", 10, LONG_MS)) == []
        assert list(await store.due("cleanup", 10, LONG_MS)) == []
        assert [due.due_at for due in await store.due("resume", 10, LONG_MS)] == [now - 3]
        assert (await store.next_due("ttl"), await store.next_due("cleanup")) == (now + LONG_MS, None)
        await replace(store, second, timers={})
        assert [await store.next_due(kind) for kind in ("ttl", "resume")] == [None, None]

    async def test_a_new_timer_of_the_same_kind_is_not_hidden_by_the_old_lease(self, store: TimedLog) -> None:
        now = store.now_ms()
        stored = await created(store, timers={"ttl": now - 50})
        assert len(await store.due("ttl", 10, LONG_MS)) == 1
        await replace(store, stored, timers={"ttl": now - 20})
        assert [due.due_at for due in await store.due("ttl", 10, LONG_MS)] == [now - 20]

    async def test_publishing_leaves_timers_alone(self, store: TimedLog) -> None:
        at = store.now_ms() + LONG_MS
        task_id = (await created(store, timers={"ttl": at})).task.id
        await publish(store, task_id, message())
        assert await store.next_due("ttl") == at
        assert dict((await current(store, task_id)).record.timers) == {"ttl": at}

    async def test_a_deleted_tasks_timers_are_gone(self, store: TimedLog) -> None:
        task_id = (await created(store, timers={"ttl": store.now_ms() - 1, "cleanup": store.now_ms() - 1})).task.id
        await store.delete(task_id, linger_ms=LONG_MS)
        assert list(await store.due("ttl", 10, LONG_MS)) == []
        assert list(await store.due("cleanup", 10, LONG_MS)) == []

    async def test_a_deletion_is_due_for_purging_when_it_has_lingered(self, store: TimedLog, time: StoreTime) -> None:
        task_id = (await created(store)).task.id
        await store.delete(task_id, linger_ms=time.roomy_ms)
        assert list(await store.due("purge", 10, LONG_MS)) == []
        await time.passes(time.roomy_ms)
        assert [due.task_id for due in await store.due("purge", 10, time.brief_ms)] == [task_id]
        assert await store.purge(task_id, tombstone_ms=LONG_MS) is True
        await time.passes(time.brief_ms)
        assert list(await store.due("purge", 10, LONG_MS)) == []

    async def test_many_timers(self, store: TimedLog) -> None:
        now, word = store.now_ms(), fresh_id()
        for n in range(60):
            await created(store, id=f"{word}-{n:02}", timers={"ttl": now - 1 - (n * 37) % 60})
        seen: list[int] = []
        for _ in range(10):
            seen += [due.due_at for due in await store.due("ttl", 7, LONG_MS)]
        assert seen == sorted(seen) and len(seen) == 60
