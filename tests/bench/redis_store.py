"""How fast the Redis store is by itself: ``python -m tests.bench.redis_store [url]`` (else a Redis of its own)."""

from __future__ import annotations

import asyncio
import os
import sys
from contextlib import ExitStack

from taskcast_redis import create_redis_adapters
from tests.bench.store_loads import CALLERS, DELTA, fresh_tasks, from_many, publish, tell_reading, timed
from tests.fixtures.servers import running_redis


async def main(url: str) -> None:
    async with create_redis_adapters(url, prefix=f"bench{os.getpid()}") as adapters:
        store = adapters.short_term_store
        tasks = await fresh_tasks(store)
        one = await timed(lambda: publish(store, tasks[0], 1_000))
        print(f"one caller, one by one:    {1_000 / one:9,.0f} events/s")
        print(f"{CALLERS} callers, a task each:  {await from_many(store, tasks, 200):9,.0f} events/s")
        print(f"{CALLERS} callers, one task:     {await from_many(store, tasks[:1], 200):9,.0f} events/s")
        print(f"{CALLERS} callers, deltas:       {await from_many(store, tasks, 200, draft=DELTA):9,.0f} events/s")
        print(f"{CALLERS} callers, batches of 100: {await from_many(store, tasks, 20, 100):7,.0f} events/s")
        await tell_reading(store, tasks[0])


if __name__ == "__main__":
    with ExitStack() as stack:
        asyncio.run(main(sys.argv[1] if len(sys.argv) > 1 else stack.enter_context(running_redis()).url))
