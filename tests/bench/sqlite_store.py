"""How fast the SQLite store is by itself: ``python -m tests.bench.sqlite_store [folder] [FULL|NORMAL|OFF]``."""

from __future__ import annotations

import asyncio
import sys
import tempfile
from pathlib import Path

from taskcast_core.builtin.sqlite.options import SqliteOptions
from taskcast_core.builtin.sqlite.store import SqliteShortTermStore
from taskcast_core.testing.making import created, replace
from tests.bench.store_loads import CALLERS, EVENT, fresh_tasks, from_many, tell_reading, timed


async def transitions(store: SqliteShortTermStore, rounds: int) -> float:
    """Tasks per second that are created, started and completed."""

    async def lives() -> None:
        for _ in range(rounds):
            stored = await created(store, lanes=("archive",), timers={"ttl": store.now_ms() + 60_000})
            stored = (await replace(store, stored, EVENT, status="running")).stored
            await replace(store, stored, EVENT, status="completed", timers={})

    async def work() -> None:
        await asyncio.gather(*(lives() for _ in range(CALLERS)))

    return CALLERS * rounds / await timed(work)


async def main(folder: Path, synchronous: str) -> None:
    options = SqliteOptions(path=folder / "bench.db", synchronous=synchronous)  # type: ignore[arg-type]
    async with SqliteShortTermStore(options) as store:
        tasks = await fresh_tasks(store)
        print(f"{CALLERS} callers, a task each:  {await from_many(store, tasks, 800):9,.0f} events/s")
        print(f"{CALLERS} callers, one task:     {await from_many(store, tasks[:1], 800):9,.0f} events/s")
        print(f"… with idempotency keys:   {await from_many(store, tasks[:1], 400, keyed=True):9,.0f} events/s")
        print(f"{CALLERS} callers, batches of 100: {await from_many(store, tasks, 40, 100):7,.0f} events/s")
        print(f"lives of tasks:            {await transitions(store, 20):9,.0f} tasks/s (3 commits each)")
        await tell_reading(store, tasks[0])


if __name__ == "__main__":
    with tempfile.TemporaryDirectory(dir=sys.argv[1] if len(sys.argv) > 1 else None) as name:
        asyncio.run(main(Path(name), sys.argv[2] if len(sys.argv) > 2 else "FULL"))
