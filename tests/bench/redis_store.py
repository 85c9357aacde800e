"""How fast the Redis store is by itself: ``python tests/bench/redis_store.py [url]`` (else a Redis of its own)."""

from __future__ import annotations

import asyncio
import os
import sys
import time
from collections.abc import Awaitable, Callable
from contextlib import ExitStack

from taskcast_core.contracts import Change
from taskcast_core.models import EventDraft
from taskcast_core.testing.making import created
from taskcast_redis import RedisShortTermStore, create_redis_adapters
from tests.fixtures.servers import running_redis

CALLERS = 50
EVENT = EventDraft("log.line", "info", {"text": "x" * 150})  # about 200 bytes of JSON
DELTA = EventDraft("delta", "info", {"delta": "some more text "}, "answer", "accumulate")


async def timed(work: Callable[[], Awaitable[object]]) -> float:
    began = time.perf_counter()
    await work()
    return time.perf_counter() - began


async def publish(store: RedisShortTermStore, task_id: str, changes: int, draft: EventDraft, batch: int) -> None:
    change = Change((draft,) * batch)
    for _ in range(changes):
        await store.commit(task_id, change)


async def from_many(
    store: RedisShortTermStore, tasks: list[str], changes: int, batch: int, draft: EventDraft = EVENT
) -> float:
    async def work() -> None:
        await asyncio.gather(*(publish(store, tasks[n % len(tasks)], changes, draft, batch) for n in range(CALLERS)))

    return CALLERS * changes * batch / await timed(work)


async def replay(store: RedisShortTermStore, task_id: str) -> float:
    read = 0

    async def work() -> None:
        nonlocal read
        after = -1
        while (page := await store.read(task_id, after=after)).items:
            read += len(page.items)
            after = page.last

    seconds = await timed(work)
    return read / seconds


async def deltas(store: RedisShortTermStore, total: int) -> tuple[float, float, float]:
    """Milliseconds of the first and the last thousand commits, and of a fold at the end."""
    task_id = (await created(store)).task.id

    async def publish_some() -> None:
        await publish(store, task_id, 1_000, DELTA, 1)

    first = await timed(publish_some)
    await publish(store, task_id, (total - 2_000) // 100, DELTA, 100)
    last = await timed(publish_some)
    fold = await timed(lambda: store.fold(task_id, "answer", total - 1))
    return first * 1e3, last * 1e3, fold * 1e3


async def main(url: str) -> None:
    async with create_redis_adapters(url, prefix=f"bench{os.getpid()}") as adapters:
        store = adapters.short_term_store
        tasks = [(await created(store, lanes=("archive",))).task.id for _ in range(CALLERS)]
        one = await timed(lambda: publish(store, tasks[0], 1_000, EVENT, 1))
        print(f"one caller, one by one:    {1_000 / one:9,.0f} events/s")
        print(f"{CALLERS} callers, a task each:  {await from_many(store, tasks, 200, 1):9,.0f} events/s")
        print(f"{CALLERS} callers, one task:     {await from_many(store, tasks[:1], 200, 1):9,.0f} events/s")
        print(f"{CALLERS} callers, deltas:       {await from_many(store, tasks, 200, 1, DELTA):9,.0f} events/s")
        print(f"{CALLERS} callers, batches of 100: {await from_many(store, tasks, 20, 100):7,.0f} events/s")
        print(f"replay:                    {await replay(store, tasks[0]):9,.0f} entries/s")
        first, last, fold = await deltas(store, 100_000)
        print(f"deltas: first 1,000 in {first:.0f} ms, last of 100,000 in {last:.0f} ms ({last / first:.2f}×)")
        print(f"fold of 100,000 deltas: {fold:.1f} ms")


if __name__ == "__main__":
    with ExitStack() as stack:
        asyncio.run(main(sys.argv[1] if len(sys.argv) > 1 else stack.enter_context(running_redis()).url))
