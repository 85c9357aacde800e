"""Whether the archiver keeps up with what one process takes in: ``python -m tests.bench.archiver [SECONDS]``.

One engine on Redis and PostgreSQL, publishers and archiver on one event loop, without HTTP before it: that is more than
a server process takes in. Told are the rates with and without the archiver, how far it is behind when the publishers
stop, and how fast it is then. The tests' PostgreSQL does not wait for the disk.
"""

from __future__ import annotations

import asyncio
import sys
import time
from contextlib import ExitStack
from pathlib import Path
from tempfile import TemporaryDirectory

from attrs import evolve

from taskcast_core import TaskEngine
from taskcast_core.models import EventDraft
from taskcast_core.settings import EngineSettings
from taskcast_postgres import PostgresLongTermStore
from tests.fixtures.servers import running_postgres, running_redis
from tests.postgres.tiers import open_tiers

WRITERS = 50
LINE = EventDraft("log", "info", {"text": "x" * 150})
DELTA = EventDraft("delta", "info", {"delta": "some more text "}, "answer", "accumulate")


async def ingest(engine: TaskEngine, seconds: float, batch: int) -> int:
    """Publish as fast as it goes, from many callers, each to a task of its own: how many events that were."""
    ends = time.perf_counter() + seconds
    drafts = tuple((LINE, DELTA)[n % 2] for n in range(batch))

    async def one() -> int:
        task = await engine.create_task(type="bench")
        await engine.transition_task(task.id, "running")
        sent = 0
        while time.perf_counter() < ends:
            await engine.append(task.id, drafts)
            sent += batch
        return sent

    return sum(await asyncio.gather(*(one() for _ in range(WRITERS))))


async def archived(store: PostgresLongTermStore) -> int:
    """Events that PostgreSQL has."""
    async with store.database.session() as session:
        row = await session.row("SELECT coalesce(sum(last_index + 1), 0)::bigint FROM taskcast.tasks")
    return int(row[0]) if row else 0


async def drained(engine: TaskEngine) -> float:
    """Seconds until the archive has everything."""
    began = time.perf_counter()
    while (lag := await engine.archive_lag()) and lag.lanes:  # noqa: ASYNC110 - a benchmark looks on
        await asyncio.sleep(0.01)
    return time.perf_counter() - began


async def main(redis_url: str, postgres_url: str, seconds: float) -> None:
    with TemporaryDirectory() as folder:
        for batch in (1, 10, 100):
            quiet = EngineSettings(background=False)
            async with open_tiers(redis_url, Path(folder), postgres_url, quiet) as tiers:
                alone = await ingest(tiers.engine, seconds, batch) / seconds
            async with open_tiers(redis_url, Path(folder), postgres_url, evolve(quiet, background=True)) as tiers:
                before = await archived(tiers.cold)
                events = await ingest(tiers.engine, seconds, batch)
                done = await archived(tiers.cold) - before
                rest = await drained(tiers.engine)
                behind = max(events - done, 0)
            print(
                f"{batch:4} events a call: taken in {alone:8,.0f}/s alone, {events / seconds:8,.0f}/s while archiving "
                f"{done / seconds:8,.0f}/s; {behind:,} behind at the end, these at {behind / rest:,.0f}/s"
            )


if __name__ == "__main__":
    with ExitStack() as stack:
        redis = stack.enter_context(running_redis())
        postgres = stack.enter_context(running_postgres())
        asyncio.run(main(redis.url, postgres.create_database(), float(sys.argv[1]) if len(sys.argv) > 1 else 10.0))
