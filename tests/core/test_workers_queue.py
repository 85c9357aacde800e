"""Pulling: the queue, waiting, giving back, races between nodes."""

import asyncio
import time

import pytest
from attrs import evolve

from taskcast_core.errors import InvalidInput, StaleAssignment
from taskcast_core.models import MatchRule, TagMatch
from taskcast_core.workers import ClaimFailed
from tests.core.worker_rooms import QUICK, node, nodes
from tests.fixtures.eventually import SOON_S, eventually
from tests.fixtures.scale import Scale

pytestmark = [pytest.mark.anyio, pytest.mark.usefixtures("no_stray_tasks")]

PATIENT = evolve(QUICK, first_sign_ms=60_000, heartbeat_timeout_ms=60_000)
"""Nothing is taken back from a worker that is slow to show that it has it."""


async def test_an_unknown_worker_is_registered_by_its_first_pull() -> None:
    async with node(PATIENT) as one:
        made = await one.task(type="llm.chat", tags=("gpu",))
        task = await one.workers.pull("w", 1, capacity=3, weight=7, match_rule=MatchRule(("llm.*",)))
        assert task is not None and task.id == made.id
        assert (task.status, task.assigned_worker, task.cost) == ("assigned", "w", 1)
        assert task.assignment_id
        worker = await one.workers.roster.get("w")
        assert (worker.capacity, worker.weight, worker.used_slots, worker.status) == (3, 7, 1, "idle")


async def test_a_pull_without_work_ends_in_time() -> None:
    async with node(PATIENT) as one:
        began = time.monotonic()
        assert await one.workers.pull("w", 0.3) is None
        assert 0.25 < time.monotonic() - began < SOON_S


async def test_priority_then_age() -> None:
    async with node(PATIENT) as one:
        for name, priority in (("a", "low"), ("b", None), ("c", "critical"), ("d", "high"), ("e", "high")):
            await one.task(id=name, priority=priority)
            await asyncio.sleep(0.002)
        got = [await one.workers.pull("w", 1) for _ in range(5)]
        assert [task.id for task in got if task] == ["c", "d", "e", "b", "a"]


async def test_rules_and_capacity_decide() -> None:
    async with node(PATIENT) as one:
        rule = MatchRule(("a.*",), TagMatch(all=("x",), none=("y",)))
        await one.task(id="type", type="b.c", tags=("x",))
        await one.task(id="tag", type="a.c", tags=("x", "y"))
        await one.task(id="cost", type="a.c", tags=("x",), cost=5)
        await one.task(id="fits", type="a.c", tags=("x", "z"), cost=4)
        task = await one.workers.pull("w", 1, capacity=4, match_rule=rule)
        assert task is not None and task.id == "fits"
        assert (await one.workers.roster.get("w")).status == "busy"
        assert await one.workers.pull("w", 0.2) is None


async def test_a_match_behind_many_others_is_found() -> None:
    async with node(PATIENT) as one:
        for _ in range(250):
            await one.task(type="other")
        last = await one.task(type="mine")
        task = await one.workers.pull("w", 2, match_rule=MatchRule(("mine",)))
        assert task is not None and task.id == last.id


async def test_a_waiting_pull_is_woken_from_another_node(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("taskcast_core.workers.queue._LOOK_AGAIN_S", 60.0)  # so that only a ring wakes it
    async with nodes(2, PATIENT) as (here, there):
        for _ in range(50):
            pull = asyncio.create_task(here.workers.pull("w", 60))
            await eventually(lambda: here.workers.queue.waiting == 1)
            made = await there.task()
            task = await asyncio.wait_for(pull, SOON_S)
            assert task is not None and task.id == made.id
            await there.engine.transition_task(task.id, "running", assignment_id=task.assignment_id)
            await there.engine.transition_task(task.id, "completed", assignment_id=task.assignment_id)


async def test_a_full_worker_waits_for_room() -> None:
    async with nodes(2, PATIENT) as (here, there):
        await here.task(id="first")
        await here.task(id="second")
        first = await here.workers.pull("w", 1, capacity=1)
        assert first is not None
        pull = asyncio.create_task(here.workers.pull("w", 5))
        await eventually(lambda: here.workers.queue.waiting == 1)
        await there.engine.transition_task("first", "running")
        await there.engine.transition_task("first", "completed")
        second = await asyncio.wait_for(pull, SOON_S)
        assert second is not None and second.id == "second"


async def test_an_abandoned_pull_gives_its_task_back() -> None:
    async with node(PATIENT) as one:
        for number in range(100):
            pull = asyncio.create_task(one.workers.pull("gone", 5, capacity=1))
            await eventually(lambda: one.workers.queue.waiting == 1)
            made = await one.task(retry={"attempts": 2})
            for _ in range(number % 12):
                await asyncio.sleep(0)
            pull.cancel()
            await asyncio.wait({pull})
            if not pull.cancelled():  # it had come through
                task = pull.result()
                assert task is not None
                await one.workers.claims.put_back(task)

            async def is_back(task_id: str = made.id) -> bool:
                task = await one.now(task_id)
                return task.status == "pending" and not task.attempt and await one.slots("gone") == 0

            await eventually(is_back)
            await one.engine.transition_task(made.id, "cancelled")


async def test_a_reply_that_never_arrived_strands_nothing() -> None:
    """The worker lives on and pulls, but never learnt of the task."""
    async with node(evolve(QUICK, heartbeat_timeout_ms=60_000)) as one:
        made = await one.task()
        lost = await one.workers.pull("w", 1)
        assert lost is not None and lost.id == made.id
        began = time.monotonic()
        again = await one.workers.pull("w", 60)
        assert again is not None and again.id == made.id and again.assignment_id != lost.assignment_id
        assert time.monotonic() - began < SOON_S
        with pytest.raises(StaleAssignment):
            await one.engine.transition_task(made.id, "running", assignment_id=lost.assignment_id)
        await one.engine.transition_task(made.id, "running", assignment_id=again.assignment_id)


async def test_a_sign_of_the_owner_keeps_the_task() -> None:
    async with node(evolve(QUICK, heartbeat_timeout_ms=600)) as one:
        for name in ("moved", "published", "named"):
            await one.task(id=name)
        got = [await one.workers.pull("w", 1) for _ in range(3)]
        assert got[0] is not None
        await one.engine.transition_task("moved", "running", assignment_id=got[0].assignment_id)
        await one.engine.publish_event("published", type="x")
        _, lost = await one.workers.heartbeat("w", frozenset({"named", "other"}))
        assert lost == ["other"]
        for _ in range(12):
            await asyncio.sleep(0.1)
            await one.workers.pull("w", 0.1, capacity=3)
        assert [(await one.now(name)).assigned_worker for name in ("moved", "published", "named")] == ["w"] * 3
        assert await one.slots("w") == 3


async def test_draining_takes_nothing_and_keeps_what_it_has() -> None:
    async with node(PATIENT) as one:
        await one.task(id="kept")
        assert await one.workers.pull("w", 1)
        waiting = asyncio.create_task(one.workers.pull("w", 60))
        await eventually(lambda: one.workers.queue.waiting == 1)
        await one.workers.roster.update("w", status="draining")
        assert await asyncio.wait_for(waiting, SOON_S) is None
        await one.task(id="new")
        began = time.monotonic()
        assert await one.workers.pull("w", 60) is None
        assert time.monotonic() - began < SOON_S
        with pytest.raises(ClaimFailed):
            await one.workers.claims.claim("new", "w")
        await one.workers.roster.update("w", status="idle")
        task = await one.workers.pull("w", 1)
        assert task is not None and task.id == "new"


async def test_capacity_must_be_positive() -> None:
    async with node(PATIENT) as one:
        with pytest.raises(InvalidInput, match=r"Invalid capacity: 0\. Capacity must be a positive number\."):
            await one.workers.pull("w", 1, capacity=0)


async def test_the_heavier_of_two_waiting_workers_gets_it() -> None:
    async with node(PATIENT) as one:
        light = asyncio.create_task(one.workers.pull("light", 2, weight=1))
        heavy = asyncio.create_task(one.workers.pull("heavy", 2, weight=2))
        await eventually(lambda: one.workers.queue.waiting == 2)
        await one.task()
        task = await heavy
        assert task is not None and task.assigned_worker == "heavy"
        light.cancel()
        await asyncio.wait({light})


async def test_a_blacklisted_worker_is_passed_over() -> None:
    async with node(PATIENT) as one:
        made = await one.task()
        assert await one.workers.pull("w", 1)
        assert await one.workers.claims.decline(made.id, "w", blacklist=True)
        assert (await one.now(made.id)).status == "pending"
        assert await one.workers.pull("w", 0.3) is None
        assert await one.workers.pull("other", 1)


async def test_a_task_waits_for_the_one_before_it() -> None:
    async with node(PATIENT) as one:
        first = await one.task()
        second = await one.engine.create_task(assign_mode="pull", after=first.id)
        task = await one.workers.pull("w", 1)
        assert task is not None and task.id == first.id
        await one.engine.transition_task(first.id, "running")
        pull = asyncio.create_task(one.workers.pull("other", 60))
        done, _ = await asyncio.wait({pull}, timeout=0.3)
        assert not done
        with pytest.raises(ClaimFailed):
            await one.workers.claims.claim(second.id, "w")
        await one.engine.transition_task(first.id, "cancelled")
        task = await asyncio.wait_for(pull, SOON_S)
        assert task is not None and task.id == second.id


async def test_fifty_workers_race_for_a_thousand_tasks_on_three_nodes(scale: Scale) -> None:
    await fifty_workers_race(scale(1000, 10_000))


async def fifty_workers_race(count: int) -> None:
    """Every task is owned by exactly one of them at any time, and is done once."""
    owners: dict[str, str] = {}
    done: set[str] = set()
    settings = evolve(QUICK, first_sign_ms=30_000, heartbeat_interval_ms=20_000, heartbeat_timeout_ms=60_000)
    async with nodes(3, settings, stutters=True) as rooms:

        async def work(number: int) -> None:
            room = rooms[number % 3]
            while len(done) < count:
                task = await room.workers.pull(f"w{number}", 1.0, capacity=2)
                if task is None:
                    continue
                assert task.id not in owners, "owned by two"
                owners[task.id] = f"w{number}"
                await asyncio.sleep(0)
                other = rooms[(number + 1) % 3].engine
                await other.transition_task(task.id, "running", assignment_id=task.assignment_id)
                assert owners.pop(task.id) == f"w{number}"
                done.add(task.id)
                await other.transition_task(task.id, "completed", assignment_id=task.assignment_id)

        workers = [asyncio.create_task(work(number)) for number in range(50)]
        made = set()
        for number in range(count):
            made.add((await rooms[number % 3].task()).id)
            if number % 20 == 0:
                await asyncio.sleep(0)
        async with asyncio.timeout(60 + count * 0.1):
            await asyncio.gather(*workers)
        assert done == made
        assert all(worker.used_slots == 0 for worker in await rooms[0].workers.roster.all())
