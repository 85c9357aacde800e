"""What ``write`` makes of batches, compared with the model store on random histories, and its edges."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable

import psycopg
import pytest
from attrs import evolve

from taskcast_core.builtin.memory_long_term import MemoryLongTermStore
from taskcast_core.builtin.memory_store import MemoryShortTermStore
from taskcast_core.contracts import ArchiveBatch, SeriesCopy, TrimRule
from taskcast_core.entries import Entry, Hole
from taskcast_core.errors import NotRetained, StorageIntegrityError
from taskcast_core.filters import View
from taskcast_core.models import EventDraft, Level
from taskcast_core.testing.making import created, current, delta, entries_of, kept, latest, message, piece, publish
from taskcast_core.testing.making import whole_log as read_all
from taskcast_core.testing.portrait import portrait
from taskcast_postgres import PostgresLongTermStore, PostgresOptions, counting, reader, stretch
from taskcast_postgres.database import Session
from taskcast_postgres.keeping import OF_A_TASK
from tests.fixtures.scale import Scale

pytestmark = pytest.mark.anyio


async def batch_of(hot: MemoryShortTermStore, task_id: str, after: int = -1, upto: int | None = None) -> ArchiveBatch:
    """What the archiver would write now."""
    stored = await current(hot, task_id)
    items = [item for item in await read_all(hot, task_id, after=after) if upto is None or _last(item) <= upto]
    last = _last(items[-1]) if items else after
    states = (await hot.series(task_id)).states
    series = tuple(SeriesCopy(name, state) for name, state in states.items() if state.last_index <= last)
    return ArchiveBatch(task_id, stored.record, stored.rev, stored.segments, tuple(items), series)


def _last(item: Entry | Hole) -> int:
    return item.index if isinstance(item, Entry) else item.last


LEVELS: tuple[Level, ...] = ("debug", "info", "warn", "error")


def any_draft(dice: random.Random) -> EventDraft:
    text = dice.choice(["", "a", "bc", "wörld", "\ud83d", "\ude00", "\0"])
    drafts: list[EventDraft] = [
        message(f"log.{dice.randrange(3)}", text, LEVELS[dice.randrange(4)]),
        delta("s", text),
        delta("t", text, "text"),
        piece("s", {"delta": 7}),
        delta("s", text, "other"),
        latest("p", text),
        latest("q", dice.random()),
        latest("s", {"delta": text}),
        kept("k", text),
    ]
    return dice.choice(drafts)


@pytest.fixture
def narrow(monkeypatch: pytest.MonkeyPatch) -> None:
    """Checkpoints stand close, so that short logs have many."""
    for module in (counting, stretch):
        monkeypatch.setattr(module, "SPAN", 3)


@pytest.mark.usefixtures("narrow")
async def test_random_histories_read_as_in_the_model(
    store: PostgresLongTermStore, hot: MemoryShortTermStore, scale: Scale
) -> None:
    for seed in range(scale(12, 400)):
        dice, model = random.Random(seed), MemoryLongTermStore()
        task_id, after = (await created(hot)).task.id, -1
        for _ in range(dice.randrange(2, 7)):
            await publish(hot, task_id, *[any_draft(dice) for _ in range(dice.randrange(1, 9))])
            if dice.random() < 0.3:
                rule = TrimRule(types=("log.*",) if dice.random() < 0.5 else None, levels=("info", "debug"))
                await hot.trim(task_id, (await current(hot, task_id)).epoch, rule, limit=dice.randrange(1, 5))
            if dice.random() < 0.2:
                continue  # the archiver comes later
            last = (await current(hot, task_id)).last_index
            batch = await batch_of(hot, task_id, after, dice.choice([None, None, (after + last) // 2]))
            assert await model.write([batch]) == await store.write([batch]), f"seed {seed}"
            assert await store.write([batch]) == await model.write([batch]), f"seed {seed}"
            mark = await store.watermark(task_id)
            after = mark.last_index if mark else -1
        assert await store.get(task_id) == await model.get(task_id), f"seed {seed}"
        assert await portrait(store, task_id) == await portrait(model, task_id), f"seed {seed}"


async def test_a_hole_across_the_watermark(store: PostgresLongTermStore, hot: MemoryShortTermStore) -> None:
    task_id = (await created(hot)).task.id
    await publish(hot, task_id, *[message(f"t{n % 2}", n) for n in range(4)])
    await store.write([await batch_of(hot, task_id)])
    await publish(hot, task_id, *[message(f"t{n % 2}", n) for n in range(4, 8)])
    await hot.trim(task_id, 1, TrimRule(), limit=7)  # what is archived, and three entries more
    (mark,) = await store.write([await batch_of(hot, task_id)])
    assert mark.last_index == 7
    items = await read_all(store, task_id)
    assert [(type(item).__name__, _last(item)) for item in items] == [
        ("Entry", 0), ("Entry", 1), ("Entry", 2), ("Entry", 3), ("Hole", 6), ("Entry", 7),
    ]  # fmt: skip
    assert await store.count(task_id, View(types=["t1"]), 8) == 4


async def test_an_epoch_that_is_over_adds_nothing(store: PostgresLongTermStore, hot: MemoryShortTermStore) -> None:
    stored = await created(hot, message(data=0))
    task_id = stored.task.id
    stale = await batch_of(hot, task_id)
    await store.write([stale])
    await hot.found_epoch(task_id, stored.epoch, 0)
    await store.write([await batch_of(hot, task_id, after=0)])
    entry = Entry(entries_of(stale.items)[0].origin, 1, 99, message(data="from a node that was cut off"))
    (mark,) = await store.write([evolve(stale, items=(*stale.items, entry))])
    assert (mark.epoch, mark.last_index) == (2, 0)
    assert len(await read_all(store, task_id)) == 1


async def test_a_later_epoch_that_begins_below_the_watermark(
    store: PostgresLongTermStore, hot: MemoryShortTermStore
) -> None:
    stored = await created(hot, *[message(data=n) for n in range(4)])
    task_id = stored.task.id
    await store.write([await batch_of(hot, task_id)])
    await hot.found_epoch(task_id, stored.epoch, 1)
    await publish(hot, task_id, message(data="new"))
    with pytest.raises(StorageIntegrityError, match="epoch 2 begins at 2"):
        await store.write([await batch_of(hot, task_id, after=1)])


async def test_a_gap_is_refused(store: PostgresLongTermStore, hot: MemoryShortTermStore) -> None:
    task_id = (await created(hot, message(), message(), message())).task.id
    with pytest.raises(StorageIntegrityError, match="index 0 is missing"):
        await store.write([await batch_of(hot, task_id, after=0)])
    whole = await batch_of(hot, task_id)
    with pytest.raises(StorageIntegrityError, match="gap"):
        await store.write([evolve(whole, items=(whole.items[0], whole.items[2]))])
    assert await store.get(task_id) is None


async def test_one_task_twice_in_a_write(store: PostgresLongTermStore, hot: MemoryShortTermStore) -> None:
    task_id = (await created(hot, message(), delta("s", "a"))).task.id
    first = await batch_of(hot, task_id)
    await publish(hot, task_id, delta("s", "b"))
    marks = await store.write([first, await batch_of(hot, task_id, after=1)])
    assert [mark.last_index for mark in marks] == [1, 2]
    assert await store.fold(task_id, "s", 2) == {"delta": "ab"}


async def test_many_writers_of_the_same_new_tasks(store: PostgresLongTermStore, hot: MemoryShortTermStore) -> None:
    tasks = [(await created(hot, message(), latest("l", 1), latest("l", 2))).task.id for _ in range(12)]
    batches = [await batch_of(hot, task_id) for task_id in tasks]
    dice = random.Random(5)
    async with asyncio.TaskGroup() as writers:
        for _ in range(12):
            writers.create_task(store.write(dice.sample(batches, len(batches))))
    for task_id in tasks:
        assert await portrait(store, task_id) == await portrait(hot, task_id)


# ── Poison ────────────────────────────────────────────────────────────────────────────────────────────────────────────


async def test_an_event_that_postgres_refuses_is_set_aside(
    store: PostgresLongTermStore, hot: MemoryShortTermStore, postgres_url: str
) -> None:
    """An index over the payload as jsonb, which somebody made for their reports, does not take NUL."""
    with psycopg.connect(postgres_url) as connection:
        connection.execute("CREATE INDEX ON taskcast.events ((text::jsonb -> 'data'))")
    drafts = [message(f"t{n % 3}", {"n": n, "odd": "\0" if n in (3, 4, 17) else ""}) for n in range(40)]
    poisoned = (await created(hot, *drafts[:20], delta("s", "a"), delta("s", "\0"), delta("s", "b"))).task.id
    sound = (await created(hot, message(), message())).task.id
    marks = await store.write([await batch_of(hot, poisoned), await batch_of(hot, sound)])
    assert [mark.last_index for mark in marks] == [22, 1]
    items = await read_all(store, poisoned)
    holes = [(item.first, item.last, item.cut_series) for item in items if isinstance(item, Hole)]
    assert holes == [(3, 4, False), (17, 17, False), (21, 21, True)]
    assert await store.count(poisoned, View(types=["t0"]), 23) == 7, "they count where they have been"
    assert await store.fold(poisoned, "s", 22) == {"delta": "a\0b"}
    with pytest.raises(NotRetained):
        await store.fold(poisoned, "s", 21)
    with psycopg.connect(postgres_url) as connection:
        dead = connection.execute("SELECT idx, reason, text FROM taskcast.dead_rows ORDER BY idx").fetchall()
    assert [index for index, *_ in dead] == [3, 4, 17, 21]
    assert all("u0000" in reason and b"\\u0000" in text for _, reason, text in dead)
    assert [each.index for each in marks[0].refused] == [3, 4, 17, 21]
    assert {each.reason for each in marks[0].refused} == {"UntranslatableCharacter (22P05)"}
    assert marks[1].refused == ()
    again = await store.write([await batch_of(hot, poisoned)])
    assert (again[0], again[0].refused) == (marks[0], ())
    await publish(hot, poisoned, message("after"))
    assert (await store.write([await batch_of(hot, poisoned, after=22)]))[0].last_index == 23


# ── Costs ─────────────────────────────────────────────────────────────────────────────────────────────────────────────


async def table_bytes(store: PostgresLongTermStore) -> int:
    async with store.database.session() as session:
        row = await session.row(
            "SELECT sum(pg_total_relation_size(c.oid))::bigint FROM pg_class c "
            "JOIN pg_namespace n ON n.oid = c.relnamespace WHERE n.nspname = 'taskcast' AND c.relkind = 'r'"
        )
    return int(row[0]) if row else 0


async def written_bytes(store: PostgresLongTermStore) -> int:
    async with store.database.session() as session:
        row = await session.row("SELECT pg_current_wal_insert_lsn() - '0/0'")
    return int(row[0]) if row else 0


async def test_a_series_of_many_deltas_costs_the_same_for_each(
    store: PostgresLongTermStore, hot: MemoryShortTermStore, scale: Scale
) -> None:
    total, page = scale(20_000, 100_000), 200
    task_id, after = (await created(hot)).task.id, -1
    costs: list[int] = []
    for _ in range(total // page):
        await publish(hot, task_id, *[delta("answer", "some more text ") for _ in range(page)])
        batch = await batch_of(hot, task_id, after)
        before = await written_bytes(store)
        after = (await store.write([batch]))[0].last_index
        costs.append(await written_bytes(store) - before)
    tenth = len(costs) // 10
    assert sum(costs[-tenth:]) < 1.5 * sum(costs[tenth : 2 * tenth]), "what is written does not grow with the log"
    assert await table_bytes(store) < total * 400
    text = "some more text " * total
    assert await store.fold(task_id, "answer", total - 1) == {"delta": text}
    half = total // 2
    assert await store.fold(task_id, "answer", half) == {"delta": text[: 15 * (half + 1)]}


async def test_positions_do_not_read_the_log(store: PostgresLongTermStore, hot: MemoryShortTermStore) -> None:
    """By the server's own count of the rows that were looked at."""
    task_id = (await created(hot)).task.id
    for start in range(0, 12_000, 1_000):
        await publish(hot, task_id, *[message(f"t{n % 3}", n) for n in range(start, start + 1_000)])
    await store.write([await batch_of(hot, task_id)])
    view = View(types=["t1"])
    timestamp = entries_of((await store.read(task_id, after=11_400, limit=1)).items)[0].timestamp
    verbs: dict[str, Callable[[Session], Awaitable[int | None]]] = {
        "count": lambda session: reader.count(session, task_id, view, 11_500, None),
        "seek": lambda session: reader.seek(session, task_id, view, 3_800, None),
        "seek_time": lambda session: reader.seek_time(session, task_id, timestamp, None),
    }
    found = {}
    for name, verb in verbs.items():
        async with store.database.snapshot() as session:
            before = await session.row(_LOOKED_AT)
            found[name] = await verb(session)
            after = await session.row(_LOOKED_AT)
        assert before is not None and after is not None
        assert after[0] - before[0] <= 6 * counting.SPAN, name
    assert found["count"] == 3_833 and found["seek"] == 11_401
    assert found["seek_time"] == await hot.seek_time(task_id, timestamp)
    assert await store.count(task_id, view, 12_000) == 4_000
    assert await store.seek(task_id, view, 3_999) == 11_998


_LOOKED_AT = (
    "SELECT pg_stat_get_xact_tuples_fetched(c) + pg_stat_get_xact_tuples_returned(c) "
    "FROM (SELECT 'taskcast.events'::regclass::oid) AS of (c)"
)


# ── Deleting ──────────────────────────────────────────────────────────────────────────────────────────────────────────


async def test_a_deleted_task_leaves_no_rows(
    store: PostgresLongTermStore, hot: MemoryShortTermStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("taskcast_postgres.keeping._CHUNK", 7)
    stored = await created(hot, *[delta("s", "x") for _ in range(30)], latest("l", 1), latest("l", 2))
    other = (await created(hot, message(), delta("s", "y"))).task.id
    await store.write([await batch_of(hot, stored.task.id), await batch_of(hot, other)])
    await store.delete(stored.task.id, stored.epoch)
    async with store.database.session() as session:
        for table in ("events", *OF_A_TASK, "leftovers"):
            rows = await session.rows(f"SELECT * FROM taskcast.{table}")
            assert len(rows) == {"events": 2, "texts": 1, "series": 1}.get(table, 0), table


async def test_a_deletion_races_with_the_first_write(store: PostgresLongTermStore, hot: MemoryShortTermStore) -> None:
    for _ in range(10):
        stored = await created(hot, message())
        batch = await batch_of(hot, stored.task.id)
        await asyncio.gather(store.write([batch]), store.delete(stored.task.id, stored.epoch), store.write([batch]))
        assert await store.get(stored.task.id) is None


# ── Partitions ────────────────────────────────────────────────────────────────────────────────────────────────────────


async def test_the_table_of_events_may_be_partitioned(postgres_url: str, hot: MemoryShortTermStore) -> None:
    """As the README says."""
    options = PostgresOptions(url=postgres_url, auto_migrate=True)
    async with PostgresLongTermStore(options) as store:
        early = (await created(hot, message(), delta("s", "a"), latest("l", 1), latest("l", 2))).task.id
        await store.write([await batch_of(hot, early)])
    partitions = "".join(
        f"CREATE TABLE taskcast.events_{n} PARTITION OF taskcast.events FOR VALUES WITH (MODULUS 4, REMAINDER {n});"
        for n in range(4)
    )
    with psycopg.connect(postgres_url) as connection:
        connection.execute(
            "ALTER TABLE taskcast.events RENAME TO events_before;"
            "CREATE TABLE taskcast.events (LIKE taskcast.events_before INCLUDING ALL) PARTITION BY HASH (task);"
            + partitions
            + "INSERT INTO taskcast.events SELECT * FROM taskcast.events_before; DROP TABLE taskcast.events_before"
        )
    async with PostgresLongTermStore(options) as store:
        assert await portrait(store, early) == await portrait(hot, early)
        tasks = [(await created(hot, message(), delta("s", "a"), latest("l", 1))).task.id for _ in range(8)]
        await store.write([await batch_of(hot, task_id) for task_id in tasks])
        for task_id in tasks:
            await publish(hot, task_id, latest("l", 2), delta("s", "b"))
        await store.write([await batch_of(hot, task_id, after=2) for task_id in tasks])
        for task_id in tasks:
            assert await portrait(store, task_id) == await portrait(hot, task_id)
