"""Lost workers, policies, crashes at every await, stale owners, offers, capacity."""

import asyncio
import itertools
import random
import time
from collections.abc import Coroutine
from functools import partial
from typing import Any

import pytest
from attrs import evolve

from taskcast_core import TaskEngine
from taskcast_core.builtin.memory_broadcast import MemoryBroadcastProvider
from taskcast_core.builtin.memory_store import MemoryShortTermStore
from taskcast_core.errors import GuardFailed, InvalidTransition, StaleAssignment, TaskEnded
from taskcast_core.models import MatchRule, Task, TaskStatus, Worker
from taskcast_core.settings import EngineSettings
from taskcast_core.testing import ManualClock
from taskcast_core.workers import ClaimFailed
from taskcast_core.workers.leases import MARKED_LEASE_MS
from tests.core.worker_rooms import KIND, QUICK, Node, Stuttering, node, nodes
from tests.fixtures.eventually import SOON_S, eventually
from tests.fixtures.scale import FULL_SCALE, Scale

pytestmark = [pytest.mark.anyio, pytest.mark.usefixtures("no_stray_tasks")]

GRACE_S = QUICK.disconnect_grace_ms / 1000
PATIENT = evolve(QUICK, heartbeat_timeout_ms=60_000, first_sign_ms=60_000)


class FakeSocket:
    """What a connected worker is sent; a stand-in for the network only."""

    def __init__(self) -> None:
        self.offers: list[tuple[str, str]] = []
        self.races: list[str] = []
        self.losses: list[tuple[str, TaskStatus]] = []

    def offer(self, task: Task, assignment_id: str) -> None:
        self.offers.append((task.id, assignment_id))

    def announce(self, task: Task) -> None:
        self.races.append(task.id)

    def lost(self, task_id: str, status: TaskStatus) -> None:
        self.losses.append((task_id, status))


async def connect(room: Node, worker_id: str, **fields: Any) -> tuple[Worker, FakeSocket]:
    worker = await room.worker(worker_id, connection_mode="websocket", **fields)
    socket = FakeSocket()
    room.workers.dispatcher.connect(worker.id, socket)
    return worker, socket


def has_offers(socket: FakeSocket, count: int) -> bool:
    return len(socket.offers) == count


async def accept(room: Node, task_id: str, worker_id: str) -> Task:
    room.workers.dispatcher.answered(task_id, worker_id)
    return await room.workers.claims.claim(task_id, worker_id)


async def statuses(room: Node, task_id: str) -> list[str]:
    history = await room.engine.get_history(task_id, types=["taskcast:status"])
    return [event.data["status"] for event in history]


# ── Policies ──────────────────────────────────────────────────────────────────────────────────────────────────────


async def test_all_tasks_of_a_worker_that_left_return_after_the_grace() -> None:
    async with node() as one:
        await one.worker("w")
        steps: dict[str, tuple[TaskStatus, ...]] = {
            "assigned": (), "running": ("running",), "paused": ("running", "paused"), "blocked": ("running", "blocked"),
        }  # fmt: skip
        for name, path in steps.items():
            await one.task(id=name)
            await one.workers.claims.claim(name, "w")
            for step in path:
                await one.engine.transition_task(name, step)
        assert await one.slots("w") == 4
        left_at = time.monotonic()
        await one.workers.roster.remove("w")

        async def all_back() -> bool:
            return all([(await one.now(name)).status == "pending" for name in steps])

        await asyncio.sleep(GRACE_S / 2)
        assert not await all_back(), "the grace time is the worker's"
        await eventually(all_back)
        assert time.monotonic() - left_at < GRACE_S + SOON_S
        assert (await statuses(one, "running"))[-3:] == ["paused", "assigned", "pending"]
        assert all([(await one.now(name)).assigned_worker is None for name in steps])
        assert (await one.worker("w")).used_slots == 0


async def test_policy_fail() -> None:
    async with node() as one:
        await one.worker("w")
        for name in ("assigned", "running"):
            await one.task(id=name, disconnect_policy="fail")
            await one.workers.claims.claim(name, "w")
        await one.engine.transition_task("running", "running")
        await one.workers.roster.remove("w")
        for name in ("assigned", "running"):

            async def failed(name: str = name) -> bool:
                return (await one.now(name)).status == "failed"

            await eventually(failed)
            error = (await one.now(name)).error
            assert error is not None
            assert (error.code, error.message) == ("WORKER_DISCONNECT", "Worker w disconnected (heartbeat timeout)")
        assert (await one.worker("w")).used_slots == 0


async def test_policy_mark() -> None:
    async with node() as one:
        await one.worker("w")
        await one.task(id="t", disconnect_policy="mark")
        await one.workers.claims.claim("t", "w")

        async def offline() -> bool:
            return (await one.workers.roster.get("w")).status == "offline"

        await eventually(offline)
        await asyncio.sleep(GRACE_S * 2)
        task = await one.now("t")
        assert (task.status, task.assigned_worker) == ("assigned", "w")
        assert (await one.workers.roster.heartbeat("w")).status == "idle"
        await one.engine.transition_task("t", "running", assignment_id=task.assignment_id)


async def test_a_marked_task_is_no_sign_of_life() -> None:
    """Its lease may be extended before somebody notices that its worker is silent."""
    async with node() as one:
        await one.worker("w")
        await one.task(id="t", disconnect_policy="mark")
        claimed = await one.workers.claims.claim("t", "w")
        assert claimed.assignment_id is not None
        store: Any = one.engine.store
        assert await store.extend(claimed.assignment_id, MARKED_LEASE_MS)

        async def offline() -> bool:
            return (await one.workers.roster.get("w")).status == "offline"

        await eventually(offline)


async def test_a_reconnect_within_the_grace_keeps_everything() -> None:
    async with nodes(2) as (here, there):
        await connect(here, "w")
        owned = {}
        for name in ("a", "b"):
            await here.task(id=name)
            owned[name] = (await here.workers.claims.claim(name, "w")).assignment_id
        await here.workers.roster.remove("w")
        await asyncio.sleep(GRACE_S / 2)
        await connect(there, "w")
        for _ in range(10):
            await asyncio.sleep(GRACE_S / 4)
            await there.workers.roster.heartbeat("w")
        for name, assignment_id in owned.items():
            assert (await here.now(name)).assignment_id == assignment_id
        assert await here.slots("w") == 2


async def test_the_close_of_an_old_socket_does_not_remove_the_new_registration() -> None:
    async with nodes(2) as (here, there):
        old, old_socket = await connect(here, "w")
        await asyncio.sleep(0.005)
        new, _ = await connect(there, "w")
        assert await here.workers.dispatcher.disconnect("w", old_socket)
        await here.workers.leave(old)
        assert (await here.workers.roster.get("w")).node == new.node
        await there.workers.leave(new)
        assert await there.workers.roster.all() == []


async def test_a_silent_worker_goes_offline_and_its_tasks_return() -> None:
    async with node() as one:
        await one.worker("w")
        await one.task(id="t")
        await one.workers.claims.claim("t", "w")
        silent_at = time.monotonic()

        async def back() -> bool:
            return (await one.now("t")).status == "pending"

        await eventually(back)
        assert time.monotonic() - silent_at < QUICK.lease_ms / 1000 + SOON_S
        assert (await one.workers.roster.get("w")).status == "offline"
        assert (await one.workers.roster.heartbeat("w")).status == "idle"


async def test_a_worker_that_publishes_is_not_silent() -> None:
    async with node() as one:
        await one.worker("w")
        await one.task(id="t")
        await one.workers.claims.claim("t", "w")
        for _ in range(20):
            await one.engine.publish_event("t", type="token")
            await asyncio.sleep(QUICK.heartbeat_timeout_ms / 8000)
        assert (await one.workers.roster.get("w")).status == "idle"
        assert (await one.now("t")).assigned_worker == "w"


# ── Stale owners ──────────────────────────────────────────────────────────────────────────────────────────────────


async def test_a_stale_owner_is_refused_everywhere() -> None:
    async with nodes(2) as (here, there):
        await here.worker("slow")
        await here.task(id="t")
        stale = (await here.workers.claims.claim("t", "slow")).assignment_id
        await here.workers.roster.remove("slow")
        await eventually(lambda: here.workers.queue.waiting == 0)

        async def back() -> bool:
            return (await here.now("t")).status == "pending"

        await eventually(back)
        await there.worker("quick")
        fresh = (await there.workers.claims.claim("t", "quick")).assignment_id
        await there.engine.transition_task("t", "running", assignment_id=fresh)
        for room in (here, there):
            for status in ("completed", "failed", "paused", "cancelled"):
                with pytest.raises(StaleAssignment):
                    await room.engine.transition_task("t", status, assignment_id=stale)
            with pytest.raises(StaleAssignment):
                await room.engine.publish_event("t", type="x", assignment_id=stale)
            assert not await room.workers.claims.decline("t", "slow")
        assert not await here.workers.claims.decline("t", "nobody")
        await here.engine.publish_event("t", type="x", assignment_id=fresh)
        await here.engine.transition_task("t", "completed", assignment_id=fresh)
        with pytest.raises(StaleAssignment):
            await here.engine.publish_event("t", type="x", assignment_id=fresh)


async def test_one_of_sixteen_claims_wins_on_three_nodes(scale: Scale) -> None:
    await one_of_sixteen_claims_wins(scale(100, 1000))


async def one_of_sixteen_claims_wins(count: int) -> None:
    """Of racing claims of a task exactly one succeeds, and no other holds a slot."""
    async with nodes(3, PATIENT, stutters=True) as rooms:
        for number in range(16):
            await rooms[0].worker(f"w{number}", capacity=100_000)
        for _ in range(count):
            task = await rooms[0].task()
            results = await asyncio.gather(
                *(rooms[n % 3].workers.claims.claim(task.id, f"w{n}") for n in range(16)), return_exceptions=True
            )
            won = [each for each in results if isinstance(each, Task)]
            assert len(won) == 1
            assert all(isinstance(each, Task | ClaimFailed) for each in results)
            assert (await rooms[1].now(task.id)).assignment_id == won[0].assignment_id
        assert sum([worker.used_slots for worker in await rooms[0].workers.roster.all()]) == count


@pytest.mark.parametrize("bound", [None, 10])
async def test_accepting_twice_at_once_is_accepting_once(bound: int | None) -> None:
    async with nodes(2, evolve(PATIENT, max_concurrent=bound), stutters=KIND.get() == "memory") as (here, there):
        _, socket = await connect(here, "w")
        for number in range(50):
            task = await there.task(assign_mode="ws-offer", cost=2)
            await eventually(partial(has_offers, socket, number + 1))
            results = await asyncio.gather(
                accept(here, task.id, "w"), accept(here, task.id, "w"), accept(there, task.id, "w"),
                return_exceptions=True,
            )  # fmt: skip
            won = [each for each in results if isinstance(each, Task)]
            assert len(won) == 1 and won[0].assignment_id == socket.offers[-1][1]
            taken = await here.engine.store.assignments()  # type: ignore[attr-defined]
            assert len(taken) == (1 if bound is None else 2)
            assert await here.slots("w") == 2, "the loser must not end what the winner holds"
            await here.engine.transition_task(task.id, "running", assignment_id=won[0].assignment_id)
            await here.engine.transition_task(task.id, "completed", assignment_id=won[0].assignment_id)
            assert await here.slots("w") == 0


async def test_of_an_offer_and_another_task_a_worker_gets_what_fits() -> None:
    """An offer keeps no capacity from its worker, and a claim of each at once takes none twice."""
    async with nodes(2, evolve(PATIENT, offer_timeout_ms=60_000), stutters=KIND.get() == "memory") as (here, there):
        _, socket = await connect(here, "w", capacity=1)
        for number in range(30):
            offered = await there.task(assign_mode="ws-offer")
            await eventually(partial(has_offers, socket, number + 1))
            wanted = await there.task(assign_mode="external")
            first = [there.workers.claims.claim(wanted.id, "w")]
            if number % 2:
                first.append(accept(here, offered.id, "w"))
            results = await asyncio.gather(*first, return_exceptions=True)
            (won,) = (each for each in results if isinstance(each, Task))
            assert all(isinstance(each, Task | ClaimFailed) for each in results)
            assert number % 2 or won.id == wanted.id
            assert await here.slots("w") == 1
            held = await here.engine.store.assignments()  # type: ignore[attr-defined]
            assert [(each.task_id, each.id) for each in held] == [(won.id, won.assignment_id)]
            for task in (offered, wanted):
                await there.engine.transition_task(task.id, "cancelled")
            assert await here.slots("w") == 0


async def test_one_of_fifty_wins_every_race_on_three_nodes(scale: Scale) -> None:
    async with nodes(3, evolve(PATIENT, offer_timeout_ms=60_000), stutters=True) as rooms:
        sockets = [(await connect(rooms[number % 3], f"w{number}", capacity=1000))[1] for number in range(50)]
        for number in range(scale(20, 1000)):
            task = await rooms[number % 3].task(assign_mode="ws-race")
            await eventually(lambda wanted=[task.id]: all(each.races[-1:] == wanted for each in sockets))
            accepted = await asyncio.gather(
                *(accept(rooms[n % 3], task.id, f"w{n}") for n in range(50)), return_exceptions=True
            )
            won = [each for each in accepted if isinstance(each, Task)]
            assert len(won) == 1
            assert all(isinstance(each, Task | ClaimFailed) for each in accepted)
            assert (await rooms[0].now(task.id)).assignment_id == won[0].assignment_id
        assert sum([worker.used_slots for worker in await rooms[0].workers.roster.all()]) == scale(20, 1000)


# ── Offers ────────────────────────────────────────────────────────────────────────────────────────────────────────


async def test_an_offer_goes_to_the_best_and_then_to_the_next() -> None:
    async with node(evolve(QUICK, heartbeat_timeout_ms=60_000)) as one:
        _, best = await connect(one, "best", weight=9)
        _, next_ = await connect(one, "next", weight=8)
        _, never = await connect(one, "never", weight=10, match_rule=MatchRule(("other",)))
        await one.worker("puller", weight=99)
        task = await one.task(assign_mode="ws-offer", type="a")
        await eventually(lambda: best.offers)
        assert not next_.offers
        assert [await one.slots(name) for name in ("best", "next")] == [1, 0]
        await eventually(lambda: next_.offers)
        assert await one.slots("best") == 0
        owned = await accept(one, task.id, "next")
        assert owned.assignment_id == next_.offers[0][1]
        with pytest.raises(ClaimFailed, match=r"Task is not pending \(status: assigned\)"):
            await accept(one, task.id, "best")
        assert not never.offers


async def test_an_offer_reaches_a_worker_on_another_node() -> None:
    async with nodes(3, PATIENT) as (one, two, three):
        _, heavy = await connect(one, "heavy", weight=9)
        _, light = await connect(two, "light", weight=1)
        await three.task(id="t", assign_mode="ws-offer")
        await eventually(lambda: heavy.offers)
        assert not light.offers


async def test_a_declined_offer_goes_on_and_a_blacklisted_worker_never_gets_it_again() -> None:
    async with node(evolve(PATIENT, offer_timeout_ms=200)) as one:
        _, best = await connect(one, "best", weight=99)
        _, other = await connect(one, "other")
        await one.task(id="t", assign_mode="ws-offer")
        await eventually(lambda: best.offers)
        one.workers.dispatcher.answered("t", "best")
        assert await one.workers.claims.decline("t", "best", blacklist=True)
        await eventually(lambda: len(other.offers) >= 2)
        assert len(best.offers) == 1


async def test_a_worker_that_keeps_declining_is_not_asked_all_the_time() -> None:
    async with node(evolve(PATIENT, offer_timeout_ms=500)) as one:
        _, socket = await connect(one, "w")
        for name in ("a", "b"):
            await one.task(id=name, assign_mode="ws-offer")
        answered = 0
        ends = time.monotonic() + 0.4
        while time.monotonic() < ends:
            for task_id, _ in socket.offers[answered:]:
                answered += 1
                one.workers.dispatcher.answered(task_id, "w")
                await one.workers.claims.decline(task_id, "w")
            await asyncio.sleep(0.005)
        assert answered == 2
        await eventually(lambda: len(socket.offers) >= 4)


async def test_a_late_worker_gets_what_waits() -> None:
    async with node(PATIENT) as one:
        await one.task(id="offer", assign_mode="ws-offer")
        await one.task(id="race", assign_mode="ws-race")
        await asyncio.sleep(0.05)
        _, socket = await connect(one, "late")
        await eventually(lambda: socket.offers and socket.races == ["race"])


async def test_room_brings_the_next_offer() -> None:
    async with node(PATIENT) as one:
        _, socket = await connect(one, "w", capacity=1)
        for name in ("a", "b"):
            await one.task(id=name, assign_mode="ws-offer")
        await eventually(lambda: socket.offers)
        await accept(one, "a", "w")
        await one.engine.transition_task("a", "cancelled")
        await eventually(lambda: [name for name, _ in socket.offers] == ["a", "b"])


async def test_a_race_is_announced_again_when_the_task_returns() -> None:
    async with node(PATIENT) as one:
        _, first = await connect(one, "first")
        _, second = await connect(one, "second")
        await one.task(id="t", assign_mode="ws-race")
        await eventually(lambda: first.races and second.races)
        await asyncio.sleep(0.002)
        await one.workers.claims.claim("t", "first")
        assert await one.workers.claims.decline("t", "first")
        await eventually(lambda: second.races == ["t", "t"])


async def test_the_offer_of_a_lost_socket_goes_to_the_next_at_once() -> None:
    async with node(evolve(PATIENT, offer_timeout_ms=60_000)) as one:
        worker, best = await connect(one, "best", weight=99)
        _, other = await connect(one, "other")
        await one.task(id="t", assign_mode="ws-offer")
        await eventually(lambda: best.offers)
        assert await one.workers.dispatcher.disconnect("best", best)
        await one.workers.leave(worker)
        await eventually(lambda: other.offers)


async def test_a_match_behind_two_hundred_others_is_offered() -> None:
    async with node(PATIENT) as one:
        for _ in range(200):
            await one.task(assign_mode="ws-offer", type="nobody")
        _, socket = await connect(one, "w", match_rule=MatchRule(("mine",)))
        mine = await one.task(assign_mode="ws-offer", type="mine")
        await eventually(lambda: [name for name, _ in socket.offers] == [mine.id])


# ── Cancellation ──────────────────────────────────────────────────────────────────────────────────────────────────


async def test_a_cancellation_reaches_the_socket_on_another_node() -> None:
    async with nodes(2, PATIENT) as (here, there):
        _, socket = await connect(here, "w")
        endings: tuple[TaskStatus, ...] = ("cancelled", "completed", "timeout")
        for name in endings:
            await here.task(id=name)
            await here.workers.claims.claim(name, "w")
            await here.engine.transition_task(name, "running")
        for name in endings:
            await there.engine.transition_task(name, name)
        await eventually(lambda: socket.losses == [("cancelled", "cancelled"), ("timeout", "timeout")])


async def test_a_cancellation_reaches_a_worker_that_pulls() -> None:
    async with nodes(2, PATIENT) as (here, there):
        for name in ("a", "b"):
            await here.task(id=name)
            assert await here.workers.pull("w", 1)
        waiting = asyncio.create_task(here.workers.pull("w", 60))
        await eventually(lambda: here.workers.queue.waiting == 1)
        await there.engine.transition_task("a", "cancelled")
        assert await asyncio.wait_for(waiting, SOON_S) is None
        assert here.workers.notices.take("w") == {"a": "cancelled"}
        await there.engine.delete_task("b")
        _, lost = await there.workers.heartbeat("w", frozenset({"a", "b"}))
        assert lost == ["a", "b"]


# ── Crashes ───────────────────────────────────────────────────────────────────────────────────────────────────────


def run_until(coroutine: Coroutine[Any, Any, Any], steps: int) -> bool:
    """Run a coroutine whose awaits never wait, and stop it for good at one of them: whether it got to its end."""
    try:
        for _ in range(steps):
            coroutine.send(None)
    except StopIteration:
        return True
    coroutine.close()
    return False


@pytest.mark.parametrize("verb", ["claim", "pulled", "decline", "completed", "swept"])
async def test_a_crash_at_any_await_strands_nothing_beyond_the_lease(verb: str) -> None:
    clock = ManualClock()
    store, broadcast = MemoryShortTermStore(clock=clock), MemoryBroadcastProvider()
    rhythm = evolve(QUICK, heartbeat_timeout_ms=20_000, disconnect_grace_ms=5_000, first_sign_ms=5_000)
    settings = EngineSettings(background=False, workers=rhythm)
    engines = [
        TaskEngine(broadcast=broadcast, short_term_store=each, settings=settings) for each in (Stuttering(store), store)
    ]
    async with engines[0], engines[1]:
        doomed, healthy = Node(engines[0]), Node(engines[1])
        for steps in range(1, 200):
            task_id = f"t{steps}"
            await healthy.worker("w", capacity=1)
            await healthy.task(id=task_id)
            if verb in ("decline", "completed", "swept"):
                await healthy.workers.claims.claim(task_id, "w")
            if verb == "completed":
                await healthy.engine.transition_task(task_id, "running")
            if verb == "swept":
                clock.advance(rhythm.lease_ms + 1)
            made: dict[str, Coroutine[Any, Any, Any]] = {}
            if verb in ("claim", "pulled"):
                made[verb] = doomed.workers.claims.claim(task_id, "w", is_known=verb == "claim")
            elif verb == "decline":
                made[verb] = doomed.workers.claims.decline(task_id, "w")
            elif verb == "completed":
                made[verb] = doomed.engine.transition_task(task_id, "completed")
            else:
                made[verb] = doomed.workers.leases.sweep()
            ended = run_until(made[verb], steps)
            for _ in range(12):
                # The worker lives on and sends heartbeats: only what nobody confirmed may run out.
                if verb != "swept":
                    await healthy.workers.roster.heartbeat("w")
                clock.advance(2_000)
                await healthy.workers.leases.sweep()
                await healthy.workers.leases.free_ended()
            task = await healthy.now(task_id)
            slots = await healthy.slots("w")
            where = f"{verb} after {steps} steps: {task.status}, {slots} slots"
            assert slots == (1 if task.status in ("assigned", "running") else 0), where
            if task.status == "pending":
                await healthy.workers.claims.claim(task_id, "w")
            if (await healthy.now(task_id)).status != "completed":
                await healthy.engine.transition_task(task_id, "cancelled")
            assert await healthy.slots("w") == 0
            if ended:
                return
        raise AssertionError("it never came to its end")


@pytest.mark.timeout(3600 if FULL_SCALE else 400)
async def test_capacity_never_leaks_over_many_assignments_with_random_kills(
    scale: Scale, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("taskcast_core.workers.roster.FORGET_MS", 15_000)  # so that the dead do not pile up
    await capacity_never_leaks(scale(2_000, 100_000))


async def capacity_never_leaks(count: int) -> None:
    """Workers on three nodes take, work, decline, abandon and die; in the end no slot is held."""
    chance = random.Random(7)
    settings = evolve(QUICK, first_sign_ms=100, disconnect_grace_ms=100, heartbeat_timeout_ms=300)
    async with nodes(3, settings) as rooms:
        made = done = deaths = 0
        over: list[str] = []

        async def life(name: str) -> None:
            """What a worker does until it dies, or enough is done."""
            nonlocal made, done
            while done < count:
                room = rooms[chance.randrange(3)]
                if made < count + 50:
                    made += 1
                    await room.task(cost=chance.randrange(1, 4))
                pull = asyncio.create_task(room.workers.pull(name, 0.2, capacity=4))
                if chance.random() < 0.1:
                    for _ in range(chance.randrange(30)):
                        await asyncio.sleep(0)
                    pull.cancel()
                await asyncio.wait({pull})
                task = None if pull.cancelled() else pull.result()
                if task is None:
                    continue
                done += 1
                worker = await room.workers.roster.get(name)
                if worker.used_slots > worker.capacity:
                    over.append(worker.id)
                fate = chance.random()
                try:
                    if fate < 0.02:
                        return  # it never says a word about the task
                    other = rooms[chance.randrange(3)].engine
                    if fate < 0.1:
                        await room.workers.claims.decline(task.id, worker.id)
                        continue
                    await other.transition_task(task.id, "running", assignment_id=task.assignment_id)
                    if fate < 0.12:
                        return  # in the middle of the work
                    last: TaskStatus = chance.choice(["completed", "failed", "cancelled", "timeout"])
                    await other.transition_task(task.id, last, assignment_id=task.assignment_id)
                except (StaleAssignment, InvalidTransition, TaskEnded, GuardFailed):
                    pass  # it was too slow

        async def lives(number: int) -> None:
            nonlocal deaths
            for incarnation in itertools.count():
                await life(f"w{number}.{incarnation}")
                if done >= count:
                    return
                deaths += 1

        async with asyncio.timeout(60 + count * 0.02):
            await asyncio.gather(*(lives(number) for number in range(20)))
        assert not over
        assert deaths

        async def all_free() -> bool:
            """Whatever the dead held has come back, and can be ended."""
            page = await rooms[0].engine.list_tasks(statuses=("pending", "assigned", "running"), limit=1000)
            for task in page.tasks:
                if task.status == "pending":
                    await rooms[0].engine.transition_task(task.id, "cancelled")
            held = await rooms[0].engine.store.assignments()  # type: ignore[attr-defined]
            free = all(worker.used_slots == 0 for worker in await rooms[0].workers.roster.all())
            return not page.tasks and not held and free

        await eventually(all_free)


# ── Retries ───────────────────────────────────────────────────────────────────────────────────────────────────────


async def test_a_failed_attempt_returns_after_its_wait() -> None:
    async with node(PATIENT) as one:
        made = await one.task(retry={"attempts": 3, "backoff": "linear", "delayMs": 100})
        for attempt in (1, 2):
            task = await one.workers.pull("w", 3)
            assert task is not None and (task.id, task.attempt) == (made.id, attempt)
            await one.engine.transition_task(made.id, "running", assignment_id=task.assignment_id)
            failed_at = time.monotonic()
            after = await one.engine.transition_task(
                made.id, "failed", error={"message": "boom"}, assignment_id=task.assignment_id
            )
            assert (after.status, after.reason, after.assigned_worker) == ("paused", "retry", None)
            assert await one.slots("w") == 0

            async def back() -> bool:
                return (await one.now(made.id)).status == "pending"

            await eventually(back)
            assert attempt * 0.1 - 0.01 <= time.monotonic() - failed_at < attempt * 0.1 + SOON_S
        task = await one.workers.pull("w", 3)
        assert task is not None and task.attempt == 3
        await one.engine.transition_task(made.id, "running")
        last = await one.engine.transition_task(made.id, "failed", error={"message": "boom"})
        assert last.status == "failed" and last.error is not None
        told = await one.engine.get_history(made.id, types=["taskcast:audit"])
        failures = [event.data for event in told if event.data["action"] == "attempt_failed"]
        assert [(each["attempt"], each["retryInMs"], each["error"]["message"]) for each in failures] == [
            (1, 100, "boom"), (2, 200, "boom"),
        ]  # fmt: skip


async def test_a_lost_attempt_counts_and_a_declined_one_does_not() -> None:
    async with node() as one:
        await one.worker("w")
        await one.task(id="t", retry={"attempts": 2, "delayMs": 50})
        assert (await one.workers.claims.claim("t", "w")).attempt == 1
        assert await one.workers.claims.decline("t", "w")
        assert (await one.workers.claims.claim("t", "w")).attempt == 1
        await one.workers.roster.remove("w")

        async def waiting() -> bool:
            task = await one.now("t")
            return task.status == "pending" and task.attempt == 1

        await eventually(waiting)
        told = await one.engine.get_history("t", types=["taskcast:audit"])
        assert told[-1].data["error"]["code"] == "WORKER_DISCONNECT"


async def test_no_second_attempt_without_a_policy() -> None:
    async with node() as one:
        await one.worker("w")
        await one.task(id="t")
        await one.workers.claims.claim("t", "w")
        await one.engine.transition_task("t", "running")
        assert (await one.engine.transition_task("t", "failed")).status == "failed"
