"""How fast the SQLite store is by itself: ``python tests/bench/sqlite_store.py [folder] [FULL|NORMAL|OFF]``."""

from __future__ import annotations

import asyncio
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable
from pathlib import Path

from taskcast_core.builtin.sqlite.options import SqliteOptions
from taskcast_core.builtin.sqlite.store import SqliteShortTermStore
from taskcast_core.contracts import Change
from taskcast_core.models import EventDraft
from taskcast_core.testing.making import a_key, created, replace

CALLERS = 50
EVENT = EventDraft("log.line", "info", {"text": "x" * 150})  # about 200 bytes of JSON


async def timed(work: Callable[[], Awaitable[object]]) -> float:
    began = time.perf_counter()
    await work()
    return time.perf_counter() - began


async def publish(store: SqliteShortTermStore, task_id: str, changes: int, batch: int, *, keyed: bool) -> None:
    events = (EVENT,) * batch
    for _ in range(changes):
        key = a_key() if keyed else None
        await store.commit(task_id, Change(events, key=key))


async def from_many(
    store: SqliteShortTermStore, tasks: list[str], changes: int, batch: int, *, keyed: bool = False
) -> float:
    async def work() -> None:
        await asyncio.gather(
            *(publish(store, tasks[n % len(tasks)], changes, batch, keyed=keyed) for n in range(CALLERS))
        )

    return CALLERS * changes * batch / await timed(work)


async def replay(store: SqliteShortTermStore, task_id: str) -> float:
    read = 0

    async def work() -> None:
        nonlocal read
        after = -1
        while (page := await store.read(task_id, after=after)).items:
            read += len(page.items)
            after = page.last

    seconds = await timed(work)
    return read / seconds


async def deltas(store: SqliteShortTermStore, total: int) -> tuple[float, float, float]:
    """Milliseconds of the first and the last thousand commits, and of a fold at the end."""
    task_id = (await created(store)).task.id
    draft = EventDraft("delta", "info", {"delta": "some more text "}, "answer", "accumulate")
    thousand = Change((draft,))

    async def publish_some() -> None:
        for _ in range(1_000):
            await store.commit(task_id, thousand)

    first = await timed(publish_some)
    for _ in range((total - 2_000) // 100):
        await store.commit(task_id, Change((draft,) * 100))
    last = await timed(publish_some)
    fold = await timed(lambda: store.fold(task_id, "answer", total - 1))
    return first * 1e3, last * 1e3, fold * 1e3


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
        tasks = [(await created(store, lanes=("archive",))).task.id for _ in range(CALLERS)]
        print(f"{CALLERS} callers, a task each:  {await from_many(store, tasks, 800, 1):9,.0f} events/s")
        print(f"{CALLERS} callers, one task:     {await from_many(store, tasks[:1], 800, 1):9,.0f} events/s")
        print(f"… with idempotency keys:   {await from_many(store, tasks[:1], 400, 1, keyed=True):9,.0f} events/s")
        print(f"{CALLERS} callers, batches of 100: {await from_many(store, tasks, 40, 100):7,.0f} events/s")
        print(f"replay:                    {await replay(store, tasks[0]):9,.0f} entries/s")
        print(f"lives of tasks:            {await transitions(store, 20):9,.0f} tasks/s (3 commits each)")
        first, last, fold = await deltas(store, 100_000)
        print(f"deltas: first 1,000 in {first:.0f} ms, last of 100,000 in {last:.0f} ms ({last / first:.2f}×)")
        print(f"fold of 100,000 deltas: {fold:.1f} ms")


if __name__ == "__main__":
    with tempfile.TemporaryDirectory(dir=sys.argv[1] if len(sys.argv) > 1 else None) as name:
        asyncio.run(main(Path(name), sys.argv[2] if len(sys.argv) > 2 else "FULL"))
