"""The engine in your own program, without a server: one task, two readers, SQLite.

    python embed_engine.py [FILE]

The second reader comes late, and resumes after an event that it remembers.
"""

import asyncio
import sys
from pathlib import Path

from taskcast_core import (
    Cursor,
    MemoryBroadcastProvider,
    SqliteOptions,
    SqliteShortTermStore,
    SubscribeFilter,
    TaskEngine,
)

ROWS = 1_000


async def import_rows(engine: TaskEngine, task_id: str) -> None:
    await engine.transition_task(task_id, "running")
    for done in range(100, ROWS + 1, 100):
        await engine.publish_event(
            task_id, type="progress", data={"done": done, "of": ROWS}, series_id="bar", series_mode="latest"
        )
        await engine.publish_event(task_id, type="log", data={"message": f"{done} rows"}, level="debug")
    await engine.transition_task(task_id, "completed", result={"rows": ROWS})


async def watch(engine: TaskEngine, task_id: str, since: str | None = None) -> list[str]:
    """The ids of what one reader has seen."""
    wanted = SubscribeFilter(types=("log", "taskcast:status"), since=Cursor(id=since) if since else None)
    return [event.id async for event in engine.subscribe(task_id, wanted)]


async def main(path: Path) -> None:
    async with (
        SqliteShortTermStore(SqliteOptions(path=path)) as store,
        TaskEngine(broadcast=MemoryBroadcastProvider(), short_term_store=store) as engine,
    ):
        task = await engine.create_task(type="import")
        reader = asyncio.create_task(watch(engine, task.id))
        await import_rows(engine, task.id)
        seen = await reader
        rest = await watch(engine, task.id, since=seen[4])
        print(len(seen), "events; resumed after the fifth:", rest == seen[5:])
        if ended := await engine.get_task(task.id):
            print(ended.status, ended.result)


if __name__ == "__main__":
    asyncio.run(main(Path(sys.argv[1] if len(sys.argv) > 1 else "embedded.db")))
