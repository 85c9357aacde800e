"""What the SQLite store promises beyond the contracts: its file, its lock, its bounds."""

# ruff: noqa: ASYNC220, ASYNC240 - the loop has nothing else to do

from __future__ import annotations

import asyncio
import os
import shutil
import sqlite3
import subprocess
import sys
import threading
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest

from taskcast_core.builtin.sqlite.lock import StoreFileError
from taskcast_core.builtin.sqlite.options import SqliteOptions
from taskcast_core.builtin.sqlite.schema import MIGRATIONS, check
from taskcast_core.builtin.sqlite.store import SqliteShortTermStore
from taskcast_core.builtin.sqlite.wal import CEILING
from taskcast_core.builtin.sqlite.writer import Writer
from taskcast_core.contracts import Assignment, Change, DeadLetter, Held, TrimRule
from taskcast_core.errors import IdempotencyConflict, StoreUnavailable, TaskDeleting
from taskcast_core.filters import View
from taskcast_core.models import EventDraft, MatchRule, Worker
from taskcast_core.testing import ManualClock
from taskcast_core.testing.making import (
    RICH_HISTORY,
    a_key,
    copy_of,
    created,
    current,
    delta,
    entries_of,
    eventually,
    holes_of,
    kept,
    latest,
    message,
    publish,
    replace,
    span,
    whole_log,
)
from taskcast_core.testing.portrait import line, portrait
from tests.fixtures.scale import Scale

pytestmark = pytest.mark.anyio

Open = Callable[..., SqliteShortTermStore]


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "tasks.db"


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock()


@pytest.fixture
def opened(path: Path, clock: ManualClock) -> Open:
    def make(**options: object) -> SqliteShortTermStore:
        return SqliteShortTermStore(SqliteOptions(path=path, **options), clock)  # type: ignore[arg-type]

    return make


@pytest.fixture
async def store(opened: Open) -> AsyncIterator[SqliteShortTermStore]:
    async with opened() as store:
        yield store


# ── The file ──────────────────────────────────────────────────────────────────────────────────────────────────────


async def test_all_that_was_there_is_there_again(opened: Open) -> None:
    async with opened() as store:
        stored = await created(store, *RICH_HISTORY, lanes=("archive", "webhook:0"), tags=("a", "b"), type="chat")
        before = await portrait(store, stored.task.id)
    async with opened() as store:
        assert await current(store, stored.task.id) == stored
        assert await portrait(store, stored.task.id) == before
        done = await publish(store, stored.task.id, delta("answer", "more"), latest("progress", 101))
        assert [e.index for e in done.entries] == [stored.last_index + 1, stored.last_index + 2]


async def test_a_text_goes_on_where_it_was(opened: Open) -> None:
    pieces = [f"{n}é\ud83d" for n in range(600)]  # more than are joined at once
    async with opened() as store:
        task_id = (await created(store)).task.id
    for start in range(0, 600, 150):
        async with opened() as store:
            for piece in pieces[start : start + 150]:
                await publish(store, task_id, delta("s", piece))
            assert await store.fold(task_id, "s", start) == {"delta": "".join(pieces[: start + 1])}
    async with opened() as store:
        for index in (0, 254, 255, 256, 257, 511, 599):
            assert await store.fold(task_id, "s", index) == {"delta": "".join(pieces[: index + 1])}


async def test_lanes_timers_keys_and_letters_outlive_the_process(opened: Open, clock: ManualClock) -> None:
    async with opened() as store:
        now = store.now_ms()
        stored = await created(store, message(), lanes=("archive", "settle"), timers={"ttl": now + 1_000})
        key, creation = a_key(), a_key()
        first = await publish(store, stored.task.id, message("once"), key=key)
        await store.reserve(creation, "promised")
        (dirty,) = await store.claim_dirty("archive", "me", 1, 60_000)
        await store.add_dead_letter(DeadLetter("l1", stored.task.id, "webhook:0", 0, now, {"why": "\ud800"}))
    async with opened() as store:
        assert await store.claim_dirty("archive", "you", 1, 1) == []  # still leased
        assert [one.lane for one in await store.claim_dirty("settle", "you", 1, 1)] == ["settle"]
        await store.ack(dirty, 1, 1)
        assert await store.claim_dirty("archive", "you", 1, 1) == []
        again = await publish(store, stored.task.id, message("once"), key=key)
        assert again.replayed and [e.id for e in again.entries] == [e.id for e in first.entries]
        assert await store.reserve(creation, "other") == "promised"
        with pytest.raises(IdempotencyConflict):
            await store.reserve(a_key(creation.name, "another body"), "other")
        assert await store.due("ttl", 10, 1) == []
        clock.advance(1_000)
        assert [one.task_id for one in await store.due("ttl", 10, 60_000)] == [stored.task.id]
        assert [one.detail for one in await store.dead_letters(10)] == [{"why": "\ud800"}]


async def test_replies_tickets_and_assignments_outlive_the_process(opened: Open) -> None:
    async with opened() as store:
        now, key = store.now_ms(), a_key()
        stored = await created(store)
        changed = await replace(store, stored, message("begun"), key=key, status="running")
        await replace(store, changed.stored, status="completed")
        copy = await copy_of(store, (await created(store, *RICH_HISTORY)).task.id)
        await store.release(copy.record.task.id, copy.segments[-1].epoch, copy.last_index, copy.rev)
        ticket = await store.begin_restore(copy.record.task.id, 60_000)
        await store.restore(ticket, copy)
        gone = await created(store)
        await store.delete(gone.task.id, linger_ms=60_000)
        await store.put_worker(Worker("w", "idle", MatchRule(), 2, 0, 1.0, "pull", now, now))
        assert await store.reserve_slot(Assignment("a", stored.task.id, "w", 1, 0, 60_000, confirmed=False))
    async with opened() as store:
        again = await store.commit(stored.task.id, Change(key=key))
        assert again.replayed and again.stored.task.status == "running"
        assert await store.get(copy.record.task.id) is None
        restored = await store.open(ticket)
        assert [e.id for e in entries_of(await whole_log(store, restored.task.id))] == \
            [e.id for e in entries_of(copy.items)]  # fmt: skip
        with pytest.raises(TaskDeleting):
            await created(store, id=gone.task.id)
        worker = await store.get_worker("w")
        assert worker is not None and worker.used_slots == 1


async def test_a_newer_layout_is_refused(opened: Open, path: Path) -> None:
    async with opened():
        pass
    with sqlite3.connect(path) as connection:
        connection.execute(f"PRAGMA user_version = {len(MIGRATIONS) + 1}")
    connection.close()
    with pytest.raises(StoreFileError, match=rf"tasks\.db.*layout {len(MIGRATIONS) + 1}"):
        await opened().__aenter__()


async def test_a_file_of_the_first_layout_is_brought_up_to_date(opened: Open, path: Path) -> None:
    """It knew only how many entries of each kind a hole holds, and counted them all at its end."""
    kinds = ["a"] * 1_700 + ["b"] * 900
    view = View(types=["b"])
    async with opened() as store:
        stored = await created(store)
        task_id = stored.task.id
        await publish(store, task_id, *[message(kind) for kind in kinds])
        await store.trim(task_id, stored.epoch, TrimRule(types=("b",)))
        await store.trim(task_id, stored.epoch, TrimRule(types=("a",)))
        await publish(store, task_id, *[message("b")] * 10)
        before = list(map(line, await whole_log(store, task_id)))
    with sqlite3.connect(path) as connection:
        connection.execute("DROP TABLE removed")
        connection.execute("UPDATE checkpoints SET counts = '[]' WHERE idx IN (1000, 2000)")
        connection.execute("PRAGMA user_version = 1")
    connection.close()
    async with opened() as store:
        assert list(map(line, await whole_log(store, task_id))) == before
        for index in (0, 999, 1_000, 1_001, 1_699, 1_700, 1_701, 2_000, 2_321, 2_600, 2_601, 2_610):
            assert await store.count(task_id, view, index) == max(index - 1_700, 0)
        assert [await store.seek(task_id, view, n) for n in (0, 299, 300, 899, 900)] == [
            1_700,
            1_999,
            2_000,
            2_599,
            2_600,
        ]
        await store.trim(task_id, stored.epoch, TrimRule(), limit=1)
        assert await store.count(task_id, view, 2_601) == 901
    assert _rows(path, "removed") == 4  # two of each kind: none reaches across a checkpoint


@pytest.mark.parametrize("kind", ["text", "foreign", "folder"])
async def test_what_is_no_store_is_refused(opened: Open, path: Path, kind: str) -> None:
    if kind == "text":
        path.write_text("this is not a database" * 100)
    elif kind == "folder":
        path.mkdir()
    else:
        with sqlite3.connect(path) as connection:
            connection.execute("CREATE TABLE theirs (x)")
        connection.close()
    before = path.read_bytes() if path.is_file() else b""
    with pytest.raises(StoreFileError, match=r"tasks\.db"):
        await opened().__aenter__()
    assert before == (path.read_bytes() if path.is_file() else b"")


async def test_a_missing_folder_is_named(path: Path) -> None:
    with pytest.raises(StoreFileError, match="nowhere"):
        await SqliteShortTermStore(SqliteOptions(path=path.parent / "nowhere" / "tasks.db")).__aenter__()


# ── Reads beside the writer ───────────────────────────────────────────────────────────────────────────────────────────


async def test_a_task_is_never_older_than_a_page_of_its_log(
    store: SqliteShortTermStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The writer's thread may be held up when it has committed, before it tells the event loop of it."""
    task_id = (await created(store)).task.id
    may_tell = threading.Event()
    tell = Writer._tell

    def tell_late(writer: Writer, *told: Any) -> None:
        may_tell.wait(20)
        tell(writer, *told)

    monkeypatch.setattr(Writer, "_tell", tell_late)
    publishing = asyncio.ensure_future(publish(store, task_id, message()))
    try:
        await eventually(lambda: is_read(store, task_id, 0))
        assert (await current(store, task_id)).last_index == 0
    finally:
        may_tell.set()
    await publishing
    assert (await current(store, task_id)).last_index == 0


async def is_read(store: SqliteShortTermStore, task_id: str, index: int) -> bool:
    return (await store.read(task_id)).log_last == index


# ── The lock ──────────────────────────────────────────────────────────────────────────────────────────────────────


async def test_two_stores_in_one_process_are_refused(store: SqliteShortTermStore, opened: Open, path: Path) -> None:
    with pytest.raises(StoreFileError, match=r"tasks\.db.*in use by this process"):
        await opened().__aenter__()
    await created(store)  # and the first one is none the worse for it


async def test_another_process_is_refused_until_the_first_has_ended(path: Path, opened: Open) -> None:
    program = (
        "import asyncio, sys; from pathlib import Path\n"
        "from taskcast_core.builtin.sqlite.options import SqliteOptions\n"
        "from taskcast_core.builtin.sqlite.store import SqliteShortTermStore\n"
        "async def main():\n"
        "    async with SqliteShortTermStore(SqliteOptions(path=Path(sys.argv[1]))):\n"
        "        print('open', flush=True)\n"
        "        await asyncio.sleep(60)\n"
        "asyncio.run(main())\n"
    )
    child = subprocess.Popen([sys.executable, "-c", program, str(path)], stdout=subprocess.PIPE)
    try:
        assert child.stdout is not None and child.stdout.readline() == b"open\n"
        with pytest.raises(StoreFileError, match=rf"tasks\.db.*in use by the process {child.pid}"):
            await opened().__aenter__()
    finally:
        child.kill()
        child.communicate(timeout=10)
    async with opened() as store:
        await created(store)


async def test_a_failed_opening_leaves_no_lock(opened: Open, path: Path) -> None:
    path.write_text("this is not a database" * 100)
    with pytest.raises(StoreFileError):
        await opened().__aenter__()
    path.unlink()
    async with opened() as store:
        await created(store)


# ── Backups ───────────────────────────────────────────────────────────────────────────────────────────────────────


async def test_a_backup_is_one_committed_state(store: SqliteShortTermStore, path: Path, clock: ManualClock) -> None:
    stored = await created(store, *RICH_HISTORY)
    before = await portrait(store, stored.task.id)
    target = path.with_name("backup.db")

    async def go_on() -> None:
        for n in range(50):
            await publish(store, stored.task.id, message(data=n))

    going_on = asyncio.create_task(go_on())
    await store.backup(target)
    await going_on
    check(target)
    assert not target.with_name("backup.db-wal").exists()
    async with SqliteShortTermStore(SqliteOptions(path=target), clock) as copy:
        added = [e for e in entries_of(await whole_log(copy, stored.task.id)) if e.index > stored.last_index]
        assert [e.data for e in added] == list(range(len(added)))
        first = await portrait(copy, stored.task.id)
        assert first.lines[: len(before.lines)] == before.lines
    with pytest.raises(StoreFileError, match="onto itself"):
        await store.backup(path)


async def test_check_finds_damage(opened: Open, path: Path) -> None:
    async with opened() as store:
        task_id = (await created(store)).task.id
        for _ in range(50):
            await publish(store, task_id, *[message(data="x" * 400)] * 10)
    check(path)
    damaged = path.with_name("damaged.db")
    shutil.copy(path, damaged)
    size = damaged.stat().st_size
    with damaged.open("r+b") as file:
        file.seek(size // 2 // 4096 * 4096)
        file.write(os.urandom(4096))
    with pytest.raises(StoreFileError, match="damaged"):
        check(damaged)
    with pytest.raises(StoreFileError, match="no such file"):
        check(path.with_name("missing.db"))


# ── Bounds ────────────────────────────────────────────────────────────────────────────────────────────────────────


async def test_a_large_page_says_what_single_reads_do(store: SqliteShortTermStore, clock: ManualClock) -> None:
    stored = await created(store)
    task_id, length = stored.task.id, 0

    async def grow(*odd: EventDraft) -> None:
        nonlocal length
        for n in range(3):
            clock.advance(7)
            plain = [message("a" if n % 2 else "b", n, "warn") for n in range(40)]
            await publish(store, task_id, *plain[:20], *odd, *plain[20:])
            length += len(plain) + len(odd)

    async def compare() -> None:
        for after in (-1, 30, length - 70):
            page = await store.read(task_id, after=after, limit=500)
            singles = [
                (await store.read(task_id, after=index - 1, limit=1)).items[0] for index in range(after + 1, length)
            ]
            assert [one.event() for one in entries_of(page.items)] == [one.event() for one in entries_of(singles)]
            assert (len(page.items), page.last, page.log_last) == (length - after - 1, length - 1, length - 1)
            assert [(e.type, e.level, e.series_id, e.text) for e in entries_of(page.items)] == [
                (e.type, e.level, e.series_id, e.text) for e in entries_of(singles)
            ]

    await grow()
    await compare()
    await grow(kept("steps", 1))  # a series without a state
    await compare()
    await store.found_epoch(task_id, stored.epoch, length - 1)
    await grow()
    await compare()
    await grow(delta("answer", "Hi"))
    await compare()
    assert await store.trim(task_id, (await current(store, task_id)).epoch, TrimRule(types=("a",)))
    page = await store.read(task_id, limit=10_000)
    assert span(page.items[-1])[1] == length - 1 and {one.type for one in entries_of(page.items)} == {
        "b",
        "step",
        "delta",
    }


async def test_counting_and_seeking_do_not_read_the_log(store: SqliteShortTermStore) -> None:
    task_id = (await created(store)).task.id
    for n in range(120):
        await publish(store, task_id, *[message("a" if i % 3 else "b", n) for i in range(100)])
    view = View(types=["b"])
    whole = await whole_log(store, task_id)
    below = 0
    for index in range(12_000):
        if index in (0, 1, 999, 1_000, 1_001, 5_432, 11_999):
            seen = store.meter.entries
            assert await store.count(task_id, view, index) == below
            assert store.meter.entries - seen <= 1_000
        if (entry := whole[index]).type == "b":  # type: ignore[union-attr]
            if below % 500 == 7:
                seen = store.meter.entries
                assert await store.seek(task_id, view, below) == entry.index  # type: ignore[union-attr]
                assert store.meter.entries - seen <= 2_000  # one span to know that it exists, one to find it
            below += 1


async def test_a_late_delta_costs_what_an_early_one_does(store: SqliteShortTermStore, scale: Scale) -> None:
    task_id = (await created(store)).task.id

    async def changed_by(deltas: int) -> int:
        """How many rows are written for so many deltas; pieces that are joined count again."""
        before = await store._writer.run(lambda session: session.connection.total_changes)
        for _ in range(deltas // 4):
            await asyncio.gather(*(publish(store, task_id, delta("s", "some text ")) for _ in range(4)))
        return await store._writer.run(lambda session: session.connection.total_changes) - before

    first = await changed_by(1_000)
    for _ in range(scale(180, 980)):
        await publish(store, task_id, *[delta("s", "some text ")] * 100)
    last = await changed_by(1_000)
    assert last <= 1.2 * first
    index = (await current(store, task_id)).last_index
    assert len((await store.fold(task_id, "s", index))["delta"]) == 10 * (index + 1)


async def test_positions_stand_when_holes_swallow_checkpoints(store: SqliteShortTermStore) -> None:
    stored = await created(store)
    task_id = stored.task.id
    for n in range(45):
        await publish(store, task_id, *[latest("p", n), message("keep")] if n % 9 == 0 else [latest("p", n)] * 100)
    last = (await current(store, task_id)).last_index
    views = [View(types=["progress"]), View(types=["keep"]), View()]
    assert [await store.count(task_id, view, last + 1) for view in views] == [last + 1 - 5, 5, last + 1]
    items = await whole_log(store, task_id)
    for hole in holes_of(items):
        assert sum(hole.counts.values()) == hole.last - hole.first + 1
        assert await store.count(task_id, views[0], hole.last + 1) - await store.count(task_id, views[0], hole.first) \
            == hole.counts["progress", "info"]  # fmt: skip
    for n, entry in enumerate([e for e in entries_of(items) if e.type == "keep"]):
        assert await store.seek(task_id, views[1], n) == entry.index
        assert await store.count(task_id, views[1], entry.index) == n
    await store.trim(task_id, stored.epoch, TrimRule(types=("keep",)))
    assert [await store.count(task_id, view, last + 1) for view in views] == [last + 1 - 5, 5, last + 1]
    assert len(await whole_log(store, task_id)) == 2  # one hole, and the newest value


async def test_removed_entries_leave_the_file(store: SqliteShortTermStore, path: Path) -> None:
    stored = await created(store, *[message(data=n) for n in range(3_000)])
    assert _rows(path, "entries") == 3_000
    assert await store.trim(stored.task.id, stored.epoch, TrimRule(keep_series_ends=False)) == 3_000
    assert (_rows(path, "entries"), _rows(path, "holes"), _rows(path, "removed")) == (0, 1, 3)
    for value in range(50):
        await publish(store, stored.task.id, latest("p", value))
    assert (_rows(path, "entries"), _rows(path, "holes")) == (1, 1)


async def test_a_purged_task_is_swept_away(store: SqliteShortTermStore, path: Path) -> None:
    stored = await created(store, *[delta("s", "x") for n in range(2_500)], tags=("t",), lanes=())
    await store.delete(stored.task.id, linger_ms=0)
    assert await store.purge(stored.task.id, tombstone_ms=1_000)
    tables = ("tasks", "heads", "entries", "kinds", "series", "texts", "checkpoints", "tags", "timers", "leftovers")
    await eventually(lambda: not any(_rows(path, table) for table in tables))
    again = await created(store, message(), id=stored.task.id)
    assert again.epoch == stored.epoch + 1


async def test_keys_of_a_task_are_bounded(store: SqliteShortTermStore, path: Path) -> None:
    task_id = (await created(store)).task.id
    first = a_key()
    await publish(store, task_id, message("first"), key=first)
    await asyncio.gather(*(publish(store, task_id, message(), key=a_key()) for _ in range(1_300)))
    assert _rows(path, "keys") < 1_000 + 200
    again = await publish(store, task_id, message("first"), key=first)
    assert not again.replayed  # as in the memory store: only the newest thousand are remembered


async def test_the_write_ahead_log_is_bounded_under_load(opened: Open, path: Path) -> None:
    limit, largest = 1 << 20, 0
    async with opened(wal_bytes=limit, synchronous="OFF") as store:
        tasks = [(await created(store)).task.id for _ in range(8)]

        async def work(task_id: str) -> None:
            nonlocal largest
            for n in range(250):
                await publish(store, task_id, *[message(data="x" * 500)] * 10)
                if n % 10 == 0:
                    await store.read(task_id, limit=200)
                    largest = max(largest, path.with_name("tasks.db-wal").stat().st_size)

        await asyncio.gather(*map(work, tasks))
        assert path.stat().st_size > 8 * limit  # much more went through it
        assert largest <= (CEILING + 2) * limit
    assert not path.with_name("tasks.db-wal").exists()


async def test_states_of_many_tasks_do_not_stay_in_memory(opened: Open) -> None:
    async with opened(log_cache_bytes=50_000, record_cache_bytes=20_000) as store:
        tasks = [(await created(store, delta("s", "a"), latest("p", 1))).task.id for _ in range(200)]
        for round_ in range(2):
            for task_id in tasks:
                await publish(store, task_id, delta("s", "b"), latest("p", round_))
        assert len(store._session._logs._logs) <= 30 and len(store._known) <= 20
        for task_id in tasks:
            assert (await current(store, task_id)).last_index == 5
            assert await store.fold(task_id, "s", 4) == {"delta": "abb"}


# ── Closing ───────────────────────────────────────────────────────────────────────────────────────────────────────


async def test_closing_finishes_what_was_handed_over(opened: Open) -> None:
    async with opened() as store:
        task_id = (await created(store)).task.id
        waiting = [asyncio.create_task(publish(store, task_id, message(data=n))) for n in range(300)]
        await asyncio.sleep(0)
    done = await asyncio.gather(*waiting)
    async with opened() as store:
        assert (await current(store, task_id)).last_index == len(done) - 1


async def test_a_closed_store_says_so(opened: Open) -> None:
    async with opened() as store:
        task_id = (await created(store)).task.id
    for call in (store.read(task_id), publish(store, task_id, message()), store.heads([Held(task_id, 0)])):
        with pytest.raises(StoreUnavailable, match="closed"):
            await call


def _rows(path: Path, table: str) -> int:
    connection = sqlite3.connect(path)
    try:
        return int(connection.execute(f"SELECT count(*) FROM {table}").fetchone()[0])
    finally:
        connection.close()
