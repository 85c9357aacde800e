"""What the engine costs without a server: publishing, long series, observers, fan-out.

    python tests/bench/engine.py [series|observers|fanout|profile] [--store memory|sqlite] [--events N]

``series``: is the last thousand of many accumulate deltas as cheap as the first? Exits with 1 where it costs more than
1.2 times as much (medians of interleaved rounds). ``observers``: what nobody, a sync and an async observer add to a
commit. ``fanout``: deliveries a second to many readers. ``profile``: where publishing spends its time.
"""

from __future__ import annotations

import argparse
import asyncio
import cProfile
import pstats
import statistics
import tempfile
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from taskcast_core.builtin.memory_broadcast import MemoryBroadcastProvider
from taskcast_core.builtin.memory_store import MemoryShortTermStore
from taskcast_core.builtin.sqlite.options import SqliteOptions
from taskcast_core.builtin.sqlite.store import SqliteShortTermStore
from taskcast_core.engine import EngineSettings, TaskEngine
from taskcast_core.models import EventDraft

DELTA = (EventDraft("llm.delta", "info", {"delta": "some text "}, "response", "accumulate"),)
ROUND = 250
BOUND = 1.2


@asynccontextmanager
async def opened(kind: str, hooks: object = None) -> AsyncIterator[TaskEngine]:
    settings = EngineSettings(background=False)
    broadcast = MemoryBroadcastProvider()
    with tempfile.TemporaryDirectory() as directory:
        store: Any = MemoryShortTermStore()
        if kind == "sqlite":
            store = SqliteShortTermStore(SqliteOptions(path=Path(directory) / "tasks.db", synchronous="NORMAL"))
        async with (
            store,
            TaskEngine(broadcast=broadcast, short_term_store=store, settings=settings, hooks=hooks) as engine,
        ):
            yield engine


async def running(engine: TaskEngine) -> str:
    task = await engine.create_task()
    await engine.transition_task(task.id, "running")
    return task.id


async def publish(engine: TaskEngine, task_id: str, count: int, batch: int = 1) -> float:
    """Microseconds per event."""
    drafts = DELTA * batch
    began = time.perf_counter()
    for _ in range(count // batch):
        await engine.append(task_id, drafts)
    return (time.perf_counter() - began) / count * 1e6


async def series(kind: str, events: int) -> int:
    """A long series against fresh ones, in turns, so that whatever else the machine does hits both."""
    async with opened(kind) as engine:
        long = await running(engine)
        await publish(engine, long, events, batch=100)
        late: list[float] = []
        early: list[float] = []
        for _ in range(12):
            fresh = await running(engine)
            early.append(await publish(engine, fresh, ROUND))
            late.append(await publish(engine, long, ROUND))
    ratio = statistics.median(late) / statistics.median(early)
    print(f"{kind}: first {statistics.median(early):.1f} µs, after {events}: {statistics.median(late):.1f} µs, "
          f"ratio {ratio:.2f} (at most {BOUND})")  # fmt: skip
    return ratio > BOUND


class SyncObserver:
    """Sees every commit."""

    def events_committed(self, task_id: str, events: list[Any]) -> None: ...


class AsyncObserver:
    """Sees every commit, later."""

    async def events_committed(self, task_id: str, events: list[Any]) -> None: ...


async def observers(kind: str, events: int) -> int:
    """The same commits with and without somebody who watches."""
    cases: dict[str, object] = {"nobody": None, "sync": SyncObserver(), "async": AsyncObserver()}
    costs: dict[str, list[float]] = {name: [] for name in cases}
    for _ in range(5):
        for name, hooks in cases.items():
            async with opened(kind, hooks) as engine:
                costs[name].append(await publish(engine, await running(engine), min(events, 5_000)))
    base = statistics.median(costs["nobody"])
    check = 1_000_000
    async with opened(kind) as engine:
        watching = engine.observers
        began = time.perf_counter()
        for _ in range(check):
            if watching.events_committed:
                raise AssertionError
        asked = (time.perf_counter() - began) / check * 1e6
    for name, measured in costs.items():
        print(
            f"{kind}: {name}: {statistics.median(measured):.1f} µs a commit ({statistics.median(measured) - base:+.1f})"
        )
    print(f"{kind}: asking whether somebody watches: {asked:.3f} µs")
    return 0


async def fanout(kind: str, events: int) -> int:
    """Batches of ten to a thousand readers of one task."""
    readers, batches = 1_000, max(10, events // 1_000)
    async with opened(kind) as engine:
        task_id = await running(engine)
        delivered = 0

        async def read() -> None:
            nonlocal delivered
            async for batch in engine.subscribe(task_id).batches():
                delivered += len(batch.deliveries)

        reading = [asyncio.create_task(read()) for _ in range(readers)]
        while delivered < readers:  # noqa: ASYNC110 - the readers arrive by themselves
            await asyncio.sleep(0.01)
        delivered = 0
        began = time.process_time()
        for _ in range(batches):
            await engine.append(task_id, DELTA * 10)
            await asyncio.sleep(0)
        await engine.transition_task(task_id, "completed")
        await asyncio.gather(*reading)
        cost = time.process_time() - began
    print(f"{kind}: {delivered} deliveries to {readers} readers, {cost / delivered * 1e6:.2f} µs of CPU each")
    return 0


async def profile(kind: str, events: int) -> int:
    """The dearest functions of publishing one by one."""
    async with opened(kind) as engine:
        task_id = await running(engine)
        profiler = cProfile.Profile()
        profiler.enable()
        await publish(engine, task_id, min(events, 20_000))
        profiler.disable()
    pstats.Stats(profiler).sort_stats("tottime").print_stats(22)
    return 0


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", nargs="?", choices=["series", "observers", "fanout", "profile"], default="series")
    parser.add_argument("--store", choices=["memory", "sqlite"], default="memory")
    parser.add_argument("--events", type=int, default=100_000)
    arguments = parser.parse_args()
    measure = {"series": series, "observers": observers, "fanout": fanout, "profile": profile}[arguments.what]
    return asyncio.run(measure(arguments.store, arguments.events))


if __name__ == "__main__":
    raise SystemExit(main())
