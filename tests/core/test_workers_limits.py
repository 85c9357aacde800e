"""How many tasks are in workers' hands at a time: ``workers.maxConcurrent``, ``workers.maxConcurrentByType``."""

import asyncio
from pathlib import Path

import pytest
from attrs import evolve

from taskcast_core.assembly import worker_settings
from taskcast_core.config import load_config
from taskcast_core.config.errors import InvalidConfig
from taskcast_core.errors import InvalidInput
from taskcast_core.workers import ClaimFailed, WorkerSettings
from tests.core.worker_rooms import KIND, QUICK, node, nodes
from tests.fixtures.eventually import SOON_S, eventually

pytestmark = [pytest.mark.anyio, pytest.mark.usefixtures("no_stray_tasks")]

PATIENT = evolve(QUICK, heartbeat_timeout_ms=60_000, first_sign_ms=60_000)


@pytest.mark.parametrize("kind", ["memory", "sqlite"])
async def test_bounds_hold_over_three_nodes(kind: str) -> None:
    token = KIND.set(kind)
    at_once: dict[str, int] = {"llm": 0, "other": 0}
    most: dict[str, int] = {"llm": 0, "other": 0, "all": 0}
    done = 0
    async with nodes(3, evolve(PATIENT, max_concurrent=7, max_concurrent_by_type={"llm.*": 3})) as rooms:

        async def work(number: int) -> None:
            nonlocal done
            room = rooms[number % 3]
            while done < 120:
                task = await room.workers.pull(f"w{number}", 0.5)
                if task is None or task.type is None:
                    continue
                kind = task.type.partition(".")[0]
                at_once[kind] += 1
                most[kind] = max(most[kind], at_once[kind])
                most["all"] = max(most["all"], sum(at_once.values()))
                await asyncio.sleep(0.002)
                await room.engine.transition_task(task.id, "running")
                at_once[kind] -= 1
                done += 1
                await room.engine.transition_task(task.id, "completed")

        for number in range(120):
            await rooms[0].task(type="llm.chat" if number % 2 else "other.thing")
        async with asyncio.timeout(30):
            await asyncio.gather(*(work(number) for number in range(12)))
        assert most["llm"] == 3
        assert most["all"] <= 7
        assert most["other"] > 3
        assert [worker.used_slots for worker in await rooms[0].workers.roster.all()] == [0] * 12
    KIND.reset(token)


async def test_a_bound_does_not_hold_up_other_types_and_is_told_of() -> None:
    async with node(evolve(PATIENT, max_concurrent_by_type={"a": 1})) as one:
        for name in ("a1", "a2", "b"):
            await one.task(id=name, type=name[0])
        assert [task.id for task in [await one.workers.pull("w", 1) for _ in range(2)] if task] == ["a1", "b"]
        with pytest.raises(ClaimFailed, match="Too many tasks are running"):
            await one.workers.claims.claim("a2", "w")
        assert await one.slots("w") == 2
        waiting = asyncio.create_task(one.workers.pull("w", 60))
        await eventually(lambda: one.workers.queue.waiting == 1)
        await one.engine.transition_task("a1", "cancelled")
        ended = await asyncio.wait_for(waiting, SOON_S) or await one.workers.pull("w", 1)
        assert ended is not None and ended.id == "a2"


async def test_a_crash_does_not_keep_a_place() -> None:
    async with node(evolve(QUICK, max_concurrent=1, first_sign_ms=100, heartbeat_timeout_ms=300)) as one:
        lost = await one.task()
        stored = await one.workers.claims.reserve(lost, (await one.worker("w")).id, 50)
        assert stored is not None
        assert await one.workers._permits.take(lost, stored.id)

        async def free() -> bool:
            return (await one.workers._permits.room())[next(iter(await one.workers._permits.room()))] == 1

        assert not await free()
        await eventually(free)
        task = await one.workers.pull("w", 2)
        assert task is not None
        await one.engine.transition_task(task.id, "running")
        for _ in range(10):
            await asyncio.sleep(0.1)
            await one.workers.roster.heartbeat("w")
        assert not await free(), "a place lasts as long as its assignment"


async def test_the_rows_of_the_bounds_are_no_workers() -> None:
    async with node(evolve(PATIENT, max_concurrent=1)) as one:
        assert await one.workers.roster.all() == []
        with pytest.raises(InvalidInput):
            await one.workers.pull("\x1flimit:x", 0.1)


async def test_a_task_gets_the_configured_mode() -> None:
    async with node(evolve(PATIENT, assign_mode="pull")) as one:
        made = await one.engine.create_task()
        assert made.assign_mode == "pull"
        assert (await one.engine.create_task(assign_mode="external")).assign_mode == "external"
        task = await one.workers.pull("w", 1)
        assert task is not None and task.id == made.id


def test_configuration(tmp_path: Path) -> None:
    path = tmp_path / "taskcast.config.yaml"
    path.write_text(
        "workers: {enabled: true, maxConcurrent: 9, maxConcurrentByType: {'llm.*': 2},"
        " defaults: {assignMode: pull, disconnectGraceMs: 70}}"
    )
    assert worker_settings(load_config(path).core) == WorkerSettings(
        enabled=True, assign_mode="pull", max_concurrent=9, max_concurrent_by_type={"llm.*": 2},
        disconnect_grace_ms=70, first_sign_ms=70,
    )  # fmt: skip
    path.write_text("workers: {maxConcurrentByType: {'llm.*': 0}}")
    with pytest.raises(InvalidConfig, match="maxConcurrentByType"):
        load_config(path)
