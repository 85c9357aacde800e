"""A task's life on every store: races, deadlines, wake-ups, cleanup, deletion, repeated requests, assignments."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any

import pytest
from attrs import evolve

from taskcast_core.builtin.memory_broadcast import MemoryBroadcastProvider
from taskcast_core.builtin.memory_long_term import MemoryLongTermStore
from taskcast_core.builtin.memory_store import MemoryShortTermStore
from taskcast_core.contracts.followers import Due
from taskcast_core.contracts.task_log import Change, Guard, LogLimits, TimerKind
from taskcast_core.deadlines import SweepSettings
from taskcast_core.engine import EngineSettings, TaskEngine
from taskcast_core.errors import (
    IdempotencyConflict,
    InvalidInput,
    InvalidTransition,
    LimitExceeded,
    NotBlocked,
    StaleAssignment,
    TaskDeleting,
    TaskEnded,
    TaskExists,
    TaskNotFound,
)
from taskcast_core.followers import Progress
from taskcast_core.models import (
    CleanupMatch,
    CleanupRule,
    CleanupTrigger,
    EventDraft,
    EventFilter,
    Task,
    TaskError,
)
from taskcast_core.retention import RetentionSettings
from taskcast_core.testing import ManualClock
from tests.core.conftest import OpenEngine
from tests.core.stores import AnyStore
from tests.fixtures.eventually import eventually
from tests.fixtures.scale import Scale

pytestmark = pytest.mark.anyio

IDLE = EngineSettings(background=False)
"""Nothing happens by itself: the test sweeps."""


@pytest.fixture
async def engine(open_engine: OpenEngine) -> TaskEngine:
    opened: TaskEngine = await open_engine(settings=IDLE)
    return opened


async def running(engine: TaskEngine, **fields: Any) -> Task:
    task = await engine.create_task(**fields)
    return await engine.transition_task(task.id, "running")


def x(n: int = 0) -> dict[str, Any]:
    return {"type": "x", "level": "info", "data": n}


# ── Races ────────────────────────────────────────────────────────────────────────────────────────────────────────────


async def test_sixteen_racing_ends_have_one_winner(open_engine: OpenEngine, scale: Scale) -> None:
    engines = [await open_engine(settings=IDLE) for _ in range(3)]
    for round_ in range(scale(12, 1000)):
        task = await running(engines[0])
        ends = [("completed", "failed", "timeout", "cancelled")[n % 4] for n in range(16)]
        reader = await engines[round_ % 3].subscribe(task.id).open()
        outcomes = await asyncio.gather(
            *(
                engines[n % 3].transition_task(task.id, end, result={"n": n})  # type: ignore[arg-type]
                for n, end in enumerate(ends)
            ),
            return_exceptions=True,
        )
        won = [outcome for outcome in outcomes if isinstance(outcome, Task)]
        lost = [outcome for outcome in outcomes if not isinstance(outcome, Task)]
        assert len(won) == 1 and all(isinstance(each, InvalidTransition) for each in lost), outcomes
        events = [event async for event in reader]
        assert [event.data["status"] for event in events] == ["running", won[0].status]
        assert reader.status == won[0].status
        stored = await engines[0].get_task(task.id)
        assert stored == won[0]


async def test_publishing_races_with_the_end(engine: TaskEngine) -> None:
    task = await running(engine)

    async def publish(n: int) -> int:
        await asyncio.sleep(0.0005 * (n % 5))
        return (await engine.publish_event(task.id, x(n))).index

    outcomes = await asyncio.gather(
        *(publish(n) for n in range(40)), engine.transition_task(task.id, "completed"), return_exceptions=True
    )
    indexes = sorted(outcome for outcome in outcomes if isinstance(outcome, int))
    history = await engine.get_history(task.id)
    assert [event.index for event in history] == list(range(len(indexes) + 2))
    assert history[-1].data == {"status": "completed"}
    assert all(isinstance(each, int | Task | TaskEnded) for each in outcomes)


async def test_a_full_log_can_still_end(open_engine: OpenEngine) -> None:
    """Bounds are for publishers: whatever fills a log, the task can be ended, timed out and deleted."""
    limits = LogLimits(max_events=5, max_types=2)
    engine = await open_engine(settings=evolve(IDLE, limits=limits))
    for end in ("completed", "cancelled"):
        task = await running(engine)
        await engine.publish_events(task.id, [x()] * 4)
        with pytest.raises(LimitExceeded):
            await engine.publish_event(task.id, x())
        assert (await engine.transition_task(task.id, end)).status == end  # type: ignore[arg-type]
    task = await engine.create_task()
    await engine.publish_events(task.id, [{"type": str(n)} for n in range(2)])
    await engine.delete_task(task.id)
    assert await engine.get_task(task.id) is None


# ── Deadlines ────────────────────────────────────────────────────────────────────────────────────────────────────────


async def status(engine: TaskEngine, task: Task) -> str:
    found = await engine.get_task(task.id)
    assert found is not None
    return found.status


async def after(engine: TaskEngine, clock: ManualClock, ms: int, task: Task) -> str:
    clock.advance(ms)
    await engine.sweeper.sweep()
    return await status(engine, task)


async def test_a_deadline_fires_from_every_live_status(engine: TaskEngine, clock: ManualClock) -> None:
    for path in ([], ["assigned"], ["running"], ["running", "blocked"], ["running", "paused", "running"]):
        task = await engine.create_task(ttl=10)
        for step in path:
            await engine.transition_task(task.id, step)  # type: ignore[arg-type]
        assert await after(engine, clock, 9_999, task) == (path or ["pending"])[-1]
        assert await after(engine, clock, 1, task) == "timeout"
        history = await engine.get_history(task.id)
        assert (history[-1].type, history[-1].data) == ("taskcast:status", {"status": "timeout"})
        assert await engine.sweeper.sweep() == 0


async def test_pausing_stops_the_clock_and_leaving_starts_it_in_full(engine: TaskEngine, clock: ManualClock) -> None:
    for then in ("running", "assigned", "blocked"):
        task = await running(engine, ttl=10)
        clock.advance(9_000)
        await engine.transition_task(task.id, "paused")
        assert await after(engine, clock, 3_600_000, task) == "paused"
        await engine.transition_task(task.id, then)  # type: ignore[arg-type]
        assert await after(engine, clock, 9_999, task) == then
        assert await after(engine, clock, 1, task) == "timeout"


async def test_a_changed_ttl_starts_the_clock_anew_and_the_same_one_does_not(
    engine: TaskEngine, clock: ManualClock
) -> None:
    same, other = await engine.create_task(ttl=10), await engine.create_task(ttl=10)
    clock.advance(5_000)
    await engine.transition_task(same.id, "running", ttl=10)
    await engine.transition_task(other.id, "running", ttl=20)
    assert await after(engine, clock, 5_000, same) == "timeout"
    assert await after(engine, clock, 14_999, other) == "running"
    assert await after(engine, clock, 1, other) == "timeout"


async def test_deadline_races_with_the_end(open_engine: OpenEngine, clock: ManualClock) -> None:
    engines = [await open_engine(settings=IDLE) for _ in range(3)]
    for _ in range(10):
        task = await running(engines[0], ttl=1)
        clock.advance(1_000)
        await asyncio.gather(
            *(engine.sweeper.sweep() for engine in engines),
            engines[0].transition_task(task.id, "completed"),
            return_exceptions=True,
        )
        history = await engines[0].get_history(task.id)
        assert len(history) == 2 and history[-1].data["status"] in ("completed", "timeout")


async def test_a_stepped_clock_ends_a_task_once(engine: TaskEngine, clock: ManualClock) -> None:
    task = await running(engine, ttl=10)
    clock.step(-3_600_000)
    await engine.publish_event(task.id, x())
    assert await after(engine, clock, 1, task) == "running"
    clock.step(7_200_000)
    assert await after(engine, clock, 0, task) == "timeout"
    clock.step(-3_600_000)
    assert await engine.sweeper.sweep() == 0
    stamps = [event.timestamp for event in await engine.get_history(task.id)]
    assert stamps == sorted(stamps) and len(stamps) == 3


async def test_a_blocked_task_wakes_up(engine: TaskEngine, clock: ManualClock) -> None:
    task = await running(engine)
    await engine.transition_task(task.id, "blocked", resume_after_ms=500, blocked_request={"type": "ask", "data": 1})
    assert (await engine.get_blocked_request(task.id)).type == "ask"
    assert await after(engine, clock, 499, task) == "blocked"
    assert await after(engine, clock, 1, task) == "running"
    assert [event.type for event in await engine.get_history(task.id)][-2:] == ["taskcast:status", "taskcast:resolved"]
    with pytest.raises(NotBlocked):
        await engine.resolve_task(task.id, "late")


async def test_deadlines_of_this_process_are_met_on_time() -> None:
    """In real time, without waiting for the next sweep."""
    settings = EngineSettings(sweep=SweepSettings(interval_s=3600))
    broadcast = MemoryBroadcastProvider()
    async with TaskEngine(broadcast=broadcast, short_term_store=MemoryShortTermStore(), settings=settings) as engine:
        slow, quick = await running(engine, ttl=2), await running(engine, ttl=1)
        blocked = await running(engine)
        await engine.transition_task(blocked.id, "blocked", resume_after_ms=300)
        for task, wanted in ((blocked, "running"), (quick, "timeout"), (slow, "timeout")):

            async def has_moved(task: Task = task, wanted: str = wanted) -> bool:
                return await status(engine, task) == wanted

            await eventually(has_moved)


class _TimePasses(MemoryShortTermStore):
    """A store that is asked for deadlines just before one, and answers just after it."""

    def __init__(self, clock: ManualClock) -> None:
        super().__init__(clock)
        self.manual = clock

    async def due(self, kind: TimerKind, limit: int, lease_ms: int) -> Sequence[Due]:
        found = await super().due(kind, limit, lease_ms)
        if kind == "ttl":
            self.manual.advance(1)
        return found


async def test_a_deadline_that_passes_while_the_store_is_asked_is_met(clock: ManualClock) -> None:
    settings = evolve(IDLE, sweep=SweepSettings(interval_s=3600))
    parts = {"broadcast": MemoryBroadcastProvider(), "short_term_store": _TimePasses(clock)}
    async with (
        TaskEngine(**parts, settings=settings, clock=clock) as engine,
        TaskEngine(**parts, settings=settings, clock=clock) as another,
    ):
        task = await running(engine, ttl=10)
        assert await after(another, clock, 9_999, task) == "running"
        sweeping = asyncio.create_task(another.sweeper.run())

        async def has_ended() -> bool:
            return await status(engine, task) == "timeout"

        await eventually(has_ended)
        sweeping.cancel()


# ── Cleanup ──────────────────────────────────────────────────────────────────────────────────────────────────────────


def with_rules(*rules: CleanupRule, keep_ended_ms: int | None = None) -> EngineSettings:
    return evolve(IDLE, retention=RetentionSettings(rules, keep_ended_ms))


async def test_rules_of_all_kinds_run_in_their_time(open_engine: OpenEngine, clock: ManualClock) -> None:
    settings = with_rules(
        CleanupRule("events", event_filter=EventFilter(levels=("debug",))),
        CleanupRule("events", trigger=CleanupTrigger(1_000), match=CleanupMatch(task_types=("llm.*",))),
        CleanupRule("all", trigger=CleanupTrigger(5_000), match=CleanupMatch(status=("failed",))),
        keep_ended_ms=60_000,
    )
    engine = await open_engine(settings=settings)
    tasks = []
    for type_, end in (("llm.chat", "completed"), ("other", "failed"), ("other", "completed")):
        task = await running(engine, type=type_)
        await engine.publish_events(task.id, [x(), {"type": "x", "level": "debug"}, x()])
        await engine.transition_task(task.id, end)  # type: ignore[arg-type]
        tasks.append(task)
    clock.advance(1)
    await engine.sweeper.sweep()
    assert [len(await engine.get_history(task.id)) for task in tasks] == [4, 4, 4]
    clock.advance(1_000)
    await engine.sweeper.sweep()
    assert [len(await engine.get_history(task.id)) for task in tasks] == [0, 4, 4]
    clock.advance(4_000)
    await engine.sweeper.sweep()
    assert [await engine.get_task(task.id) is not None for task in tasks] == [True, False, True]
    clock.advance(60_000)
    await engine.sweeper.sweep()
    assert [await engine.get_task(task.id) for task in tasks] == [None] * 3


async def test_a_tasks_own_rule_and_a_live_task(engine: TaskEngine, clock: ManualClock) -> None:
    cleanup = {"rules": [{"target": "task", "trigger": {"afterMs": 100}}]}
    task = await running(engine, cleanup=cleanup)
    clock.advance(1_000)
    await engine.sweeper.sweep()
    assert await status(engine, task) == "running"
    await engine.transition_task(task.id, "completed")
    clock.advance(99)
    await engine.sweeper.sweep()
    assert await engine.get_task(task.id) is not None
    clock.advance(1)
    await engine.sweeper.sweep()
    assert await engine.get_task(task.id) is None


class Held:
    """A webhook follower that waits until it may go on."""

    kind = "webhook"

    def __init__(self) -> None:
        self.may_go = asyncio.Event()

    def attach(self, engine: TaskEngine) -> None:
        pass

    async def handle(self, dirty: Any, stored: Any, items: Any) -> Progress:
        await self.may_go.wait()
        return Progress(items[-1].index if items else dirty.cursor)


async def test_cleanup_waits_for_followers(open_engine: OpenEngine, clock: ManualClock) -> None:
    handler = Held()
    settings = evolve(with_rules(CleanupRule("events")), background=True)
    engine = await open_engine(settings=settings, handlers=[handler])
    task = await running(engine, webhooks=[{"url": "http://receiver.test/"}])
    await engine.publish_event(task.id, x())
    await engine.transition_task(task.id, "completed")
    clock.advance(1)
    await engine.sweeper.sweep()
    assert len(await engine.get_history(task.id)) == 3
    handler.may_go.set()
    await eventually(lambda: engine.store.has_passed(task.id))
    clock.advance(40_000)
    await engine.sweeper.sweep()
    assert await engine.get_history(task.id) == []


async def test_cleanup_comes_soon_after_followers() -> None:
    """In real time, without waiting for the next sweep or for the end of a lease."""
    handler = Held()
    settings = EngineSettings(sweep=SweepSettings(interval_s=3600))
    parts: dict[str, Any] = {"broadcast": MemoryBroadcastProvider(), "short_term_store": MemoryShortTermStore()}
    async with TaskEngine(**parts, settings=settings, handlers=[handler]) as engine:
        cleanup = {"rules": [{"target": "events"}]}
        task = await running(engine, webhooks=[{"url": "http://receiver.test/"}], cleanup=cleanup)
        await engine.transition_task(task.id, "completed")
        await engine.sweeper.sweep()
        assert len(await engine.get_history(task.id)) == 2
        handler.may_go.set()

        async def is_clean() -> bool:
            return await engine.get_history(task.id) == []

        await eventually(is_clean)


# ── Deletion ─────────────────────────────────────────────────────────────────────────────────────────────────────────


async def test_deletion_ends_readers_and_frees_the_id(engine: TaskEngine, clock: ManualClock) -> None:
    task = await running(engine, id="mine")
    event = await engine.publish_event("mine", x())
    reader = await engine.subscribe("mine").open()
    await engine.delete_task("mine")
    assert [event.data async for event in reader] == [{"status": "running"}, 0, {"status": "cancelled"}]
    assert reader.status == "cancelled"
    for gone in (engine.get_history("mine"), engine.publish_event("mine", x()), engine.delete_task("mine")):
        with pytest.raises(TaskNotFound):
            await gone
    with pytest.raises(TaskDeleting):
        await engine.create_task(id="mine")
    clock.advance(60_000)
    await engine.sweeper.sweep()
    again = await running(engine, id="mine")
    assert again.created_at > task.created_at
    await engine.publish_event("mine", x())
    old = engine.subscribe("mine", {"since": {"id": event.id}})
    first = await anext(aiter(old))
    assert (first.type, first.data["reason"]) == ("taskcast:gap", "epoch")
    stored = await engine.store.get("mine")
    assert stored is not None and stored.epoch == 2
    with pytest.raises(TaskExists):
        await engine.create_task(id="mine")


async def test_deleting_an_ended_task_keeps_its_status(engine: TaskEngine) -> None:
    task = await running(engine)
    await engine.transition_task(task.id, "completed")
    reader = await engine.subscribe(task.id).open()
    await engine.delete_task(task.id)
    assert len([event async for event in reader]) == 2
    assert reader.status == "completed"


async def test_many_deletions_leave_nothing_for_ever(engine: TaskEngine, store: AnyStore, clock: ManualClock) -> None:
    buried: list[int] = []
    for _day in (0, 1, 2):
        for _ in range(5):
            task = await running(engine)
            await engine.delete_task(task.id)
            clock.advance(60_000)
            await engine.sweeper.sweep()
            if isinstance(store, MemoryShortTermStore):
                buried.append(len(store._tombstones))
        clock.advance(25 * 3600 * 1000)
    assert buried in ([], [1, 2, 3, 4, 5, 4, 3, 3, 4, 5, 4, 3, 3, 4, 5])


# ── Repeated requests ────────────────────────────────────────────────────────────────────────────────────────────────


async def test_a_repeated_creation(engine: TaskEngine, clock: ManualClock) -> None:
    first = await engine.create_task(type="a", params={"n": 1}, idempotency_key="k")
    await engine.transition_task(first.id, "running")
    clock.advance(1_000)
    again = await engine.create_task(type="a", params={"n": 1}, idempotency_key="k")
    assert again == first
    with pytest.raises(IdempotencyConflict):
        await engine.create_task(type="a", params={"n": 2}, idempotency_key="k")
    assert len((await engine.list_tasks()).tasks) == 1
    own = await engine.create_task(id="mine", idempotency_key="own")
    assert await engine.create_task(id="mine", idempotency_key="own") == own
    clock.advance(25 * 3600 * 1000)
    assert (await engine.create_task(type="a", params={"n": 1}, idempotency_key="k")).id != first.id


async def test_a_repeated_creation_of_an_archived_task(open_engine: OpenEngine) -> None:
    cold = MemoryLongTermStore()
    engine = await open_engine(long_term_store=cold)
    first = await engine.create_task(id="mine", idempotency_key="k")

    async def is_archived() -> bool:
        return await cold.get("mine") is not None

    await eventually(is_archived)
    assert await engine.create_task(id="mine", idempotency_key="k") == first
    with pytest.raises(TaskExists):
        await engine.create_task(id="mine", idempotency_key="other")


async def test_a_secret_is_part_of_the_request(engine: TaskEngine) -> None:
    def hooks(secret: str) -> list[dict[str, str]]:
        return [{"url": "http://receiver.test/", "secret": secret}]

    await engine.create_task(webhooks=hooks("one"), idempotency_key="k")
    with pytest.raises(IdempotencyConflict):
        await engine.create_task(webhooks=hooks("two"), idempotency_key="k")


async def test_racing_creations_with_one_key_make_one_task(open_engine: OpenEngine) -> None:
    engines = [await open_engine(settings=IDLE) for _ in range(2)]
    made = await asyncio.gather(*(engines[n % 2].create_task(type="a", idempotency_key="k") for n in range(16)))
    assert len({task.id for task in made}) == 1
    assert len((await engines[0].list_tasks()).tasks) == 1


async def test_a_repeated_publish(engine: TaskEngine, clock: ManualClock) -> None:
    task = await running(engine)
    first = await engine.publish_events(task.id, [x(1), x(2)], idempotency_key="k")
    await engine.publish_event(task.id, x(3))
    assert await engine.publish_events(task.id, [x(1), x(2)], idempotency_key="k") == first
    with pytest.raises(IdempotencyConflict):
        await engine.publish_events(task.id, [x(1), x(9)], idempotency_key="k")
    await engine.transition_task(task.id, "completed")
    assert await engine.publish_events(task.id, [x(1), x(2)], idempotency_key="k") == first
    with pytest.raises(TaskEnded):
        await engine.publish_events(task.id, [x(1), x(2)], idempotency_key="other")
    assert len(await engine.get_history(task.id)) == 5


async def test_racing_publishes_with_one_key_append_once(open_engine: OpenEngine) -> None:
    engines = [await open_engine(settings=IDLE) for _ in range(2)]
    task = await running(engines[0])
    events = await asyncio.gather(*(engines[n % 2].publish_event(task.id, x(), idempotency_key="k") for n in range(16)))
    assert {event.index for event in events} == {1} and len({event.id for event in events}) == 1
    assert len(await engines[0].get_history(task.id)) == 2


async def test_a_repeated_transition_gets_the_first_reply_for_ever(engine: TaskEngine, clock: ManualClock) -> None:
    task = await engine.create_task()
    first = await engine.transition_task(task.id, "running", idempotency_key="k")
    await engine.transition_task(task.id, "paused", reason="later")
    assert await engine.transition_task(task.id, "running", idempotency_key="k") == first
    assert await status(engine, task) == "paused"
    with pytest.raises(IdempotencyConflict):
        await engine.transition_task(task.id, "running", result={"other": 1}, idempotency_key="k")
    done = await engine.transition_task(task.id, "cancelled", idempotency_key="end")
    clock.advance(5_000)
    assert await engine.transition_task(task.id, "cancelled", idempotency_key="end") == done
    assert await engine.transition_task(task.id, "running", idempotency_key="k") == first
    with pytest.raises(InvalidTransition):
        await engine.transition_task(task.id, "cancelled", idempotency_key="fresh")


async def test_a_reply_outlives_the_task(engine: TaskEngine, clock: ManualClock) -> None:
    task = await running(engine)
    done = await engine.transition_task(task.id, "completed", idempotency_key="end")
    await engine.delete_task(task.id)
    assert await engine.transition_task(task.id, "completed", idempotency_key="end") == done
    clock.advance(60_000)
    await engine.sweeper.sweep()
    assert await engine.transition_task(task.id, "completed", idempotency_key="end") == done
    with pytest.raises(TaskNotFound):
        await engine.transition_task(task.id, "completed", idempotency_key="fresh")


# ── Assignments and input ────────────────────────────────────────────────────────────────────────────────────────────


async def test_a_stale_owner_is_refused(engine: TaskEngine) -> None:
    task = await running(engine)
    stored = await engine.store.get(task.id)
    assert stored is not None
    mine = evolve(stored.record, task=evolve(stored.task, assigned_worker="w", assignment_id="now"))
    await engine.store.commit(task.id, Change(record=mine, guard=Guard(rev=stored.rev)))
    for stale in ("before", ""):
        with pytest.raises(StaleAssignment):
            await engine.publish_event(task.id, x(), assignment_id=stale)
        with pytest.raises(StaleAssignment):
            await engine.transition_task(task.id, "completed", assignment_id=stale)
    assert (await engine.publish_event(task.id, x(), assignment_id="now")).index == 1
    assert (await engine.transition_task(task.id, "completed", assignment_id="now")).status == "completed"


async def test_bad_input_is_refused_and_named(engine: TaskEngine) -> None:
    for wrong, path in (({"ttl": 0}, "ttl"), ({"cost": -1}, "cost"), ({"id": ""}, "id"), ({"tags": [1]}, "tags[0]")):
        with pytest.raises(InvalidInput) as refused:
            await engine.create_task(wrong)
        assert refused.value.details[0][0] == path
    task = await running(engine)
    with pytest.raises(InvalidInput) as refused:
        await engine.publish_events(task.id, [x(), {"type": "x", "level": "loud"}])
    assert refused.value.details[0][0] == "[1].level"
    with pytest.raises(InvalidInput):
        await engine.publish_event(task.id, type="x", data=object())
    with pytest.raises(InvalidInput):
        await engine.transition_task(task.id, "done")  # type: ignore[arg-type]
    with pytest.raises(TypeError):
        await engine.create_task(typ="misspelt")
    assert len(await engine.get_history(task.id)) == 1


async def test_what_json_has_no_number_for_is_refused_and_named(engine: TaskEngine) -> None:
    nan, endless = float("nan"), float("inf")
    task = await running(engine)
    error = TaskError("it broke", details={"left": [1.5, -endless]})
    refusals = {
        "data": engine.publish_event(task.id, type="x", level="info", data=nan),
        "data.scores[1]": engine.publish_event(task.id, EventDraft("x", "info", {"scores": [0.5, nan]})),
        "[1].data.at": engine.publish_events(task.id, [x(), {"type": "x", "level": "info", "data": {"at": endless}}]),
        "params.ratio": engine.create_task({"params": {"ratio": nan, "fine": 1.5}}),
        "result.total": engine.transition_task(task.id, "completed", result={"total": endless}),
        "error.details.left[1]": engine.transition_task(task.id, "failed", error=error),
    }
    for path, refusal in refusals.items():
        with pytest.raises(InvalidInput) as refused:
            await refusal
        assert refused.value.details == ((path, "expected a finite number"),)
    assert len(await engine.get_history(task.id)) == 1


async def test_a_batch_is_all_or_nothing(open_engine: OpenEngine) -> None:
    engine = await open_engine(settings=evolve(IDLE, limits=LogLimits(max_events=4), max_batch=10))
    task = await running(engine)
    for too_many in (4, 11):
        with pytest.raises((LimitExceeded, InvalidInput)):
            await engine.publish_events(task.id, [x()] * too_many)
    assert await engine.publish_events(task.id, []) == []
    assert len(await engine.publish_events(task.id, [x()] * 3)) == 3
