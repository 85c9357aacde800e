"""What short-term stores are given to do, one by one, without a server."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Sequence

from taskcast_core.contracts import Change, TaskLog
from taskcast_core.models import EventDraft
from taskcast_core.testing.making import a_key, created

CALLERS = 50
EVENT = EventDraft("log.line", "info", {"text": "x" * 150})  # about 200 bytes of JSON
DELTA = EventDraft("delta", "info", {"delta": "some more text "}, "answer", "accumulate")


async def timed(work: Callable[[], Awaitable[object]]) -> float:
    """Seconds that it took."""
    began = time.perf_counter()
    await work()
    return time.perf_counter() - began


async def fresh_tasks(store: TaskLog) -> list[str]:
    """One for each caller."""
    return [(await created(store, lanes=("archive",))).task.id for _ in range(CALLERS)]


async def publish(
    store: TaskLog, task_id: str, changes: int, batch: int = 1, *, draft: EventDraft = EVENT, keyed: bool = False
) -> None:
    """So many commits of so many events, one after the other."""
    change = Change((draft,) * batch)
    for _ in range(changes):
        await store.commit(task_id, Change(change.events, key=a_key()) if keyed else change)


async def from_many(
    store: TaskLog,
    tasks: Sequence[str],
    changes: int,
    batch: int = 1,
    *,
    draft: EventDraft = EVENT,
    keyed: bool = False,
) -> float:
    """Events per second when all callers publish at once."""

    async def work() -> None:
        given = (tasks[n % len(tasks)] for n in range(CALLERS))
        await asyncio.gather(*(publish(store, each, changes, batch, draft=draft, keyed=keyed) for each in given))

    return CALLERS * changes * batch / await timed(work)


async def replay(store: TaskLog, task_id: str) -> float:
    """Entries per second that are read back."""
    read = 0

    async def work() -> None:
        nonlocal read
        after = -1
        while (page := await store.read(task_id, after=after)).items:
            read += len(page.items)
            after = page.last

    seconds = await timed(work)
    return read / seconds


async def deltas(store: TaskLog, total: int) -> tuple[float, float, float]:
    """Milliseconds of the first and the last thousand commits, and of a fold at the end."""
    task_id = (await created(store)).task.id

    async def publish_some() -> None:
        await publish(store, task_id, 1_000, draft=DELTA)

    first = await timed(publish_some)
    await publish(store, task_id, (total - 2_000) // 100, 100, draft=DELTA)
    last = await timed(publish_some)
    fold = await timed(lambda: store.fold(task_id, "answer", total - 1))
    return first * 1e3, last * 1e3, fold * 1e3


async def tell_reading(store: TaskLog, task_id: str) -> None:
    """Print the figures of reading back, and of a long series."""
    print(f"replay:                    {await replay(store, task_id):9,.0f} entries/s")
    first, last, fold = await deltas(store, 100_000)
    print(f"deltas: first 1,000 in {first:.0f} ms, last of 100,000 in {last:.0f} ms ({last / first:.2f}×)")
    print(f"fold of 100,000 deltas: {fold:.1f} ms")
