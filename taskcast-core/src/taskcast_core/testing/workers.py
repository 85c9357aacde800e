"""The cases of Workers: registration, capacity, leases, the queue."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar, Protocol

from attrs import evolve

from taskcast_core.contracts import Assignment, TaskLog, Workers
from taskcast_core.models import AssignMode, MatchRule, TagMatch, Worker
from taskcast_core.testing.contract import LONG_MS, Contract, StoreTime
from taskcast_core.testing.making import created, fresh_id, race, replace

RACERS = 16
PULL: frozenset[AssignMode] = frozenset({"pull"})


class WorkedLog(TaskLog, Workers, Protocol):
    """A store with workers."""


def a_worker(now_ms: int, **fields: Any) -> Worker:
    """An idle worker with four slots, unless the fields say otherwise."""
    given: dict[str, Any] = {
        "id": fresh_id("worker"), "status": "idle", "match_rule": MatchRule(("llm.*",), TagMatch(all=("gpu",))),
        "capacity": 4, "used_slots": 0, "weight": 50, "connection_mode": "pull", "connected_at": now_ms,
        "last_heartbeat_at": now_ms,
    }  # fmt: skip
    return Worker(**given | fields)


def an_assignment(worker: Worker, task_id: str, *, cost: int = 1, lease_ms: int = LONG_MS, **fields: Any) -> Assignment:
    """What ``reserve_slot`` is asked for."""
    return Assignment(fresh_id("assignment"), task_id, worker.id, cost, 0, lease_ms, confirmed=False, **fields)


async def reserved(store: WorkedLog, worker: Worker, **others: Any) -> Assignment:
    """A live assignment of a new task."""
    task_id = (await created(store, assign_mode="pull")).task.id
    wanted = an_assignment(worker, task_id, **others)
    assert await store.reserve_slot(wanted) is True
    (held,) = await store.assignments(task_id=task_id)
    return held


async def used(store: Workers, worker: Worker) -> int:
    """Slots in use."""
    stored = await store.get_worker(worker.id)
    assert stored is not None
    return stored.used_slots


class RegistrationCases(Contract):
    """``put_worker``, ``get_worker``, ``list_workers``, ``remove_worker``, ``heartbeat``."""

    capability: ClassVar[str] = "Workers"
    promise: ClassVar[str] = "a worker is kept as it registered, with its slots counted"

    async def test_a_worker_is_kept_whole(self, store: WorkedLog) -> None:
        worker = a_worker(store.now_ms(), metadata={"odd": "\x00"}, weight=1.5, connection_mode="websocket")
        assert await store.put_worker(worker) == worker
        assert await store.get_worker(worker.id) == worker
        assert await store.get_worker(fresh_id()) is None

    async def test_replacing(self, store: WorkedLog) -> None:
        worker = await store.put_worker(a_worker(store.now_ms()))
        await reserved(store, worker, cost=2)
        again = evolve(worker, status="draining", capacity=9, used_slots=99)
        stored = await store.put_worker(again)
        assert stored == evolve(again, used_slots=2) == await store.get_worker(worker.id)

    async def test_all_by_id(self, store: WorkedLog) -> None:
        for id_ in ("w3", "w1", "w2"):
            await store.put_worker(a_worker(store.now_ms(), id=id_))
        assert [worker.id for worker in await store.list_workers()] == ["w1", "w2", "w3"]

    async def test_removing(self, store: WorkedLog) -> None:
        worker = await store.put_worker(a_worker(store.now_ms()))
        held = await reserved(store, worker)
        assert await store.remove_worker(worker.id) is True
        assert await store.remove_worker(worker.id) is False
        assert await store.get_worker(worker.id) is None and list(await store.list_workers()) == []
        assert list(await store.assignments(worker_id=worker.id)) == [held]
        assert await store.release_slot(held.id) == held

    async def test_assignments_of_a_removed_worker_count_when_it_comes_back(self, store: WorkedLog) -> None:
        worker = await store.put_worker(a_worker(store.now_ms()))
        await reserved(store, worker, cost=3)
        await store.remove_worker(worker.id)
        assert (await store.put_worker(worker)).used_slots == 3

    async def test_heartbeat(self, store: WorkedLog, time: StoreTime) -> None:
        worker = await store.put_worker(a_worker(store.now_ms()))
        await time.passes(20)
        alive = await store.heartbeat(worker.id, LONG_MS)
        assert alive is not None and alive.last_heartbeat_at >= worker.last_heartbeat_at + 20
        assert alive == await store.get_worker(worker.id)
        assert await store.heartbeat(fresh_id(), LONG_MS) is None

    async def test_a_heartbeat_extends_confirmed_leases(self, store: WorkedLog, time: StoreTime) -> None:
        worker, other = [await store.put_worker(a_worker(store.now_ms())) for _ in range(2)]
        mine = {(await reserved(store, worker, lease_ms=time.roomy_ms)).id for _ in range(2)}
        for id_ in mine:
            await store.confirm(id_)
        offered = await reserved(store, worker, lease_ms=time.roomy_ms)
        others = await reserved(store, other, lease_ms=time.roomy_ms)
        await store.confirm(others.id)
        await store.heartbeat(worker.id, LONG_MS)
        await time.passes(time.roomy_ms)
        assert {a.id for a in await store.expired(10, LONG_MS)} == {offered.id, others.id}
        kept = [a for a in await store.assignments(worker_id=worker.id) if a.id in mine]
        assert len(kept) == 2 and all(a.lease_until > store.now_ms() for a in kept)


class SlotCases(Contract):
    """Assignments."""

    capability: ClassVar[str] = "Workers"
    promise: ClassVar[str] = "slots in use are the sum of live assignments and never exceed the capacity"

    async def test_a_reservation(self, store: WorkedLog) -> None:
        worker = await store.put_worker(a_worker(store.now_ms()))
        before = store.now_ms()
        held = await reserved(store, worker, cost=3, lease_ms=LONG_MS, status="offered")
        assert (held.worker_id, held.cost, held.confirmed, held.status) == (worker.id, 3, False, "offered")
        assert before - 1000 <= held.assigned_at <= store.now_ms() + 1000
        assert held.lease_until == held.assigned_at + LONG_MS
        assert await used(store, worker) == 3
        assert list(await store.assignments(worker_id=worker.id)) == [held]

    async def test_what_does_not_fit_is_refused(self, store: WorkedLog) -> None:
        worker = await store.put_worker(a_worker(store.now_ms(), capacity=4))
        await reserved(store, worker, cost=3)
        task_id = (await created(store)).task.id
        assert await store.reserve_slot(an_assignment(worker, task_id, cost=2)) is False
        assert await store.reserve_slot(an_assignment(worker, task_id, cost=1)) is True
        assert await used(store, worker) == 4

    async def test_a_worker_that_is_not_there_gets_nothing(self, store: WorkedLog) -> None:
        stranger = a_worker(store.now_ms())
        task_id = (await created(store)).task.id
        assert await store.reserve_slot(an_assignment(stranger, task_id)) is False
        assert list(await store.assignments(task_id=task_id)) == []

    async def test_a_task_has_one_assignment(self, store: WorkedLog) -> None:
        one, two = [await store.put_worker(a_worker(store.now_ms())) for _ in range(2)]
        held = await reserved(store, one)
        assert await store.reserve_slot(an_assignment(two, held.task_id)) is False
        assert await store.reserve_slot(an_assignment(one, held.task_id)) is False
        assert [await used(store, worker) for worker in (one, two)] == [1, 0]
        await store.release_slot(held.id)
        assert await store.reserve_slot(an_assignment(two, held.task_id)) is True

    async def test_many_racing_for_one_task(self, peers: Sequence[WorkedLog]) -> None:
        workers = [await peers[0].put_worker(a_worker(peers[0].now_ms())) for _ in range(RACERS)]
        task_id = (await created(peers[0])).task.id
        wins, lost = await race(RACERS, lambda n: peers[n % 2].reserve_slot(an_assignment(workers[n], task_id)))
        assert not lost and sum(wins) == 1
        assert len(await peers[1].assignments(task_id=task_id)) == 1
        assert sum([await used(peers[0], worker) for worker in workers]) == 1

    async def test_many_racing_for_one_workers_slots(self, peers: Sequence[WorkedLog]) -> None:
        worker = await peers[0].put_worker(a_worker(peers[0].now_ms(), capacity=5))
        tasks = [(await created(peers[0])).task.id for _ in range(RACERS)]
        wins, lost = await race(RACERS, lambda n: peers[n % 2].reserve_slot(an_assignment(worker, tasks[n], cost=2)))
        assert not lost and sum(wins) == 2
        assert await used(peers[1], worker) == 4

    async def test_ending_twice_frees_once(self, peers: Sequence[WorkedLog]) -> None:
        worker = await peers[0].put_worker(a_worker(peers[0].now_ms()))
        held, _ = await reserved(peers[0], worker, cost=2), await reserved(peers[0], worker, cost=1)
        ended, lost = await race(RACERS, lambda n: peers[n % 2].release_slot(held.id))
        assert not lost and [one for one in ended if one] == [held]
        assert await used(peers[0], worker) == 1
        assert await peers[0].release_slot(fresh_id()) is None

    async def test_confirming(self, store: WorkedLog) -> None:
        held = await reserved(store, await store.put_worker(a_worker(store.now_ms())))
        assert await store.confirm(held.id) is True
        assert list(await store.assignments(task_id=held.task_id)) == [evolve(held, confirmed=True)]
        await store.release_slot(held.id)
        assert await store.confirm(held.id) is False
        assert list(await store.assignments(task_id=held.task_id)) == []

    async def test_a_stale_owner_cannot_extend(self, store: WorkedLog) -> None:
        one, two = [await store.put_worker(a_worker(store.now_ms())) for _ in range(2)]
        stale = await reserved(store, one)
        await store.release_slot(stale.id)
        fresh = an_assignment(two, stale.task_id)
        assert await store.reserve_slot(fresh) is True
        assert await store.extend(stale.id, LONG_MS) is False
        assert await store.confirm(stale.id) is False
        assert await store.release_slot(stale.id) is None
        assert [a.id for a in await store.assignments(task_id=stale.task_id)] == [fresh.id]

    async def test_expired_leases(self, store: WorkedLog, time: StoreTime) -> None:
        worker = await store.put_worker(a_worker(store.now_ms()))
        short, long = await reserved(store, worker, lease_ms=time.roomy_ms), await reserved(store, worker)
        assert list(await store.expired(10, LONG_MS)) == []
        await time.passes(time.roomy_ms)
        assert [a.id for a in await store.expired(10, time.roomy_ms)] == [short.id]
        assert list(await store.expired(10, time.roomy_ms)) == [], "hidden from other sweepers"
        assert await used(store, worker) == 2, "an expired lease holds its slots until it is released"
        await time.passes(time.roomy_ms)
        assert [a.id for a in await store.expired(10, LONG_MS)] == [short.id]
        await store.release_slot(short.id)
        assert [a.id for a in await store.assignments(worker_id=worker.id)] == [long.id]

    async def test_an_extended_lease_lasts(self, store: WorkedLog, time: StoreTime) -> None:
        held = await reserved(store, await store.put_worker(a_worker(store.now_ms())), lease_ms=time.roomy_ms)
        assert await store.extend(held.id, LONG_MS) is True
        await time.passes(time.roomy_ms)
        assert list(await store.expired(10, LONG_MS)) == []

    async def test_sweepers_share_the_work(self, peers: Sequence[WorkedLog], time: StoreTime) -> None:
        worker = await peers[0].put_worker(a_worker(peers[0].now_ms(), capacity=10))
        for _ in range(10):
            await reserved(peers[0], worker, lease_ms=time.brief_ms)
        await time.passes(time.brief_ms)
        found, lost = await race(RACERS, lambda n: peers[n % 2].expired(3, LONG_MS))
        ids = [a.id for mine in found for a in mine]
        assert not lost and all(len(mine) <= 3 for mine in found)
        assert len(ids) == len(set(ids)) == 10

    async def test_churn_leaks_no_slot(self, peers: Sequence[WorkedLog]) -> None:
        worker = await peers[0].put_worker(a_worker(peers[0].now_ms(), capacity=3))
        tasks = [(await created(peers[0])).task.id for _ in range(12)]

        async def work(n: int) -> int:
            done = 0
            for task_id in tasks[n:] + tasks[:n]:
                wanted = an_assignment(worker, task_id)
                if await peers[n % 2].reserve_slot(wanted):
                    assert await used(peers[n % 2], worker) <= 3
                    done += await peers[(n + 1) % 2].release_slot(wanted.id) is not None
            return done

        done, lost = await race(6, work)
        assert not lost and sum(done) > 0
        assert await used(peers[0], worker) == 0 and list(await peers[0].assignments(worker_id=worker.id)) == []


class QueueCases(Contract):
    """``queue``."""

    capability: ClassVar[str] = "Workers"
    promise: ClassVar[str] = "the queue holds claimable tasks, by priority, age and id"

    async def _ids(self, store: WorkedLog, **others: Any) -> list[str]:
        return [task.id for task in await store.queue(PULL, 100, **others)]

    async def test_order(self, store: WorkedLog) -> None:
        now = store.now_ms()
        cast = [
            ("low", "low", 0), ("normal", "normal", 5), ("unset", None, 4), ("high-b", "high", 3),
            ("high-a", "high", 3), ("critical", "critical", 9), ("older", "high", 1),
        ]  # fmt: skip
        for id_, priority, age in cast:
            await created(store, id=id_, priority=priority, created_at=now + age, assign_mode="pull")
        wanted = ["critical", "older", "high-a", "high-b", "unset", "normal", "low"]
        assert await self._ids(store) == wanted
        pages: list[list[str]] = [[]]
        for _ in range(3):
            last = pages[-1][-1] if pages[-1] else None
            pages.append([task.id for task in await store.queue(PULL, 3, after=last)])
        assert pages[1:] == [wanted[:3], wanted[3:6], wanted[6:]]

    async def test_only_pending_tasks_of_these_modes(self, store: WorkedLog) -> None:
        pull = await created(store, id="pull", assign_mode="pull")
        await created(store, id="offer", assign_mode="ws-offer")
        await created(store, id="external")
        await created(store, id="running", assign_mode="pull", status="running")
        assert await self._ids(store) == ["pull"]
        both = await store.queue(frozenset({"pull", "ws-offer"}), 10)
        assert {task.id for task in both} == {"pull", "offer"}
        assert pull.task in both

    async def test_a_task_comes_and_goes_with_its_status(self, store: WorkedLog) -> None:
        stored = await created(store, assign_mode="pull")
        after = (await replace(store, stored, status="assigned")).stored
        assert await self._ids(store) == []
        await replace(store, after, status="pending")
        assert await self._ids(store) == [stored.task.id]
        await store.delete(stored.task.id, linger_ms=LONG_MS)
        assert await self._ids(store) == []

    async def test_a_task_in_somebodys_hands_is_not_claimable(self, store: WorkedLog) -> None:
        worker = await store.put_worker(a_worker(store.now_ms()))
        held = await reserved(store, worker)
        assert await self._ids(store) == []
        await store.release_slot(held.id)
        assert await self._ids(store) == [held.task_id]

    async def test_a_page_goes_on_behind_a_task_that_was_claimed_meanwhile(self, store: WorkedLog) -> None:
        now = store.now_ms()
        stored = [await created(store, id=f"t{n}", created_at=now + n, assign_mode="pull") for n in range(4)]
        first = await store.queue(PULL, 2)
        assert [task.id for task in first] == ["t0", "t1"]
        await replace(store, stored[1], status="assigned")
        assert await self._ids(store, after="t1") == ["t2", "t3"]

    async def test_a_new_priority_moves_the_task(self, store: WorkedLog) -> None:
        now = store.now_ms()
        tasks = [await created(store, id=f"t{n}", created_at=now + n, assign_mode="pull") for n in range(3)]
        urgent = (await replace(store, tasks[2], priority="critical")).stored.task
        assert await self._ids(store) == ["t2", "t0", "t1"]
        assert list(await store.queue(PULL, 1)) == [urgent]


class WorkersContract(RegistrationCases, SlotCases, QueueCases):
    """Everything that ``taskcast_core.contracts.Workers`` promises. Override the fixture ``store``."""
