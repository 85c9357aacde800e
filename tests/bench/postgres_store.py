"""How fast the PostgreSQL store is by itself: ``python -m tests.bench.postgres_store [URL] [ROWS]``.

Without a URL it starts the tests' server, whose ``fsync`` is off: compare figures of one kind only. ROWS (300,000): how
many events the big task gets before counting, seeking and reading in it are timed; 10,000,000 take minutes and 6 GB.
"""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Iterator
from contextlib import ExitStack

from taskcast_core.contracts import ArchiveBatch
from taskcast_core.contracts.task_log import Change, Record, Segment
from taskcast_core.entries import Entry, Origin
from taskcast_core.filters import View
from taskcast_core.machine import LogState, apply, new_state
from taskcast_core.models import EventDraft, Level, Task
from taskcast_postgres import PostgresLongTermStore, PostgresOptions
from tests.bench.store_loads import DELTA, timed
from tests.fixtures.servers import running_postgres

START_MS = 1_700_000_000_000
TEXT = "x" * 150  # about 200 bytes of JSON
LEVELS: tuple[Level, ...] = ("debug", "info")
LINES = [EventDraft(f"log.{n}", level, {"text": TEXT}) for n in range(3) for level in LEVELS]


def record(task_id: str) -> Record:
    return Record(Task(task_id, "running", START_MS, START_MS, type="bench"), {}, ("archive",))


class Source:
    """A task's log, in batches as the archiver would cut them."""

    def __init__(self, task_id: str) -> None:
        self.state: LogState = new_state(record(task_id), salt=7, now=START_MS)

    def next(self, drafts: tuple[EventDraft, ...]) -> ArchiveBatch:
        outcome = apply(self.state, Change(drafts), START_MS + self.state.stored.last_index)
        self.state.merge(outcome)
        for entry in outcome.entries:
            _ = entry.text
        stored = outcome.stored
        return ArchiveBatch(stored.task.id, stored.record, stored.rev, stored.segments, outcome.entries, ())


def plain(task_id: str, first: int, count: int) -> ArchiveBatch:
    """Lines without a series, made as cheaply as can be."""
    origin = Origin(task_id, 1, 7)
    entries = tuple(Entry(origin, n, START_MS + n, LINES[n % len(LINES)]) for n in range(first, first + count))
    for entry in entries:
        _ = entry.text
    return ArchiveBatch(task_id, record(task_id), 1, (Segment(0, 1, 7),), entries, ())


async def written(store: PostgresLongTermStore, *writers: Iterator[list[ArchiveBatch]]) -> float:
    """Events per second, of writers that work side by side."""
    prepared = [list(writes) for writes in writers]
    events = sum(len(batch.items) for writes in prepared for write in writes for batch in write)

    async def one(writes: list[list[ArchiveBatch]]) -> None:
        for write in writes:
            await store.write(write)

    async def work() -> None:
        await asyncio.gather(*map(one, prepared))

    return events / await timed(work)


def spread(tasks: int, per_task: int, rounds: int, name: str) -> Iterator[list[ArchiveBatch]]:
    for turn in range(rounds):
        yield [plain(f"{name}{n}", turn * per_task, per_task) for n in range(tasks)]


async def rates(store: PostgresLongTermStore) -> None:
    for tasks, per_task, rounds in (
        (1, 1, 300),
        (1, 10, 300),
        (32, 1, 100),
        (32, 10, 60),
        (32, 200, 12),
        (1, 1000, 60),
    ):
        rate = await written(store, spread(tasks, per_task, rounds, f"a{tasks}-{per_task}-"))
        print(f"{tasks:3} tasks × {per_task:4} events a write: {rate:9,.0f} events/s")
    rate = await written(store, *(spread(32, 200, 6, f"b{n}-") for n in range(2)))
    print(f" 32 tasks ×  200 events, two writers: {rate:8,.0f} events/s")
    print(f"deltas of one series:           {await deltas(store, 100_000)}")


async def deltas(store: PostgresLongTermStore, total: int) -> str:
    source = Source("deltas")
    batches = [source.next((DELTA,) * 200) for _ in range(total // 200)]
    before = await size(store)
    times = [await timed(lambda batch=batch: store.write([batch])) for batch in batches]  # type: ignore[misc]
    grown = (await size(store) - before) / total
    ten = len(times) // 10
    fold = await timed(lambda: store.fold("deltas", "answer", total - 1))
    return (
        f"{total / sum(times):9,.0f} events/s; first tenth {sum(times[:ten]):.2f} s, last {sum(times[-ten:]):.2f} s; "
        f"{grown:.0f} bytes each; fold of all {fold * 1e3:.0f} ms"
    )


async def size(store: PostgresLongTermStore) -> int:
    async with store.database.session() as session:
        row = await session.row(
            "SELECT sum(pg_total_relation_size(c.oid))::bigint FROM pg_class c JOIN pg_namespace n "
            "ON n.oid = c.relnamespace WHERE n.nspname = 'taskcast' AND c.relkind = 'r'"
        )
    return int(row[0]) if row else 0


async def big(store: PostgresLongTermStore, rows: int) -> None:
    seconds = 0.0
    for first in range(0, rows, 5_000):
        batch = plain("big", first, min(5_000, rows - first))
        seconds += await timed(lambda batch=batch: store.write([batch]))  # type: ignore[misc]
    print(f"a task of {rows:,} events: {rows / seconds:,.0f} events/s, {await size(store) / 1e6:,.0f} MB in all tables")
    view = View(types=["log.1"], levels=["info"])
    for name, work in {
        "count near the end": lambda: store.count("big", view, rows - 7),
        "seek near the end": lambda: store.seek("big", view, rows // len(LINES) - 2),
        "seek by time": lambda: store.seek_time("big", START_MS + rows - 9),
        "last page": lambda: store.read("big", after=rows - 1_001),
        "page in the middle": lambda: store.read("big", after=rows // 2),
        "copy of the last 1,000": lambda: store.copy("big", 1_000),
    }.items():
        print(f"  {name:24} {min([await timed(work) for _ in range(5)]) * 1e3:7.1f} ms")


async def main(url: str, rows: int) -> None:
    async with PostgresLongTermStore(PostgresOptions(url=url, auto_migrate=True, command_timeout_ms=600_000)) as store:
        await rates(store)
        await big(store, rows)


if __name__ == "__main__":
    with ExitStack() as stack:
        given = sys.argv[1] if len(sys.argv) > 1 else ""
        where = given or stack.enter_context(running_postgres()).create_database()
        asyncio.run(main(where, int(sys.argv[2]) if len(sys.argv) > 2 else 300_000))
