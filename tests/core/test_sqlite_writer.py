"""The writer thread: groups that share a transaction, and operations that fail without taking others along."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from taskcast_core.builtin.sqlite.options import SqliteOptions
from taskcast_core.builtin.sqlite.session import Session
from taskcast_core.builtin.sqlite.store import SqliteShortTermStore
from taskcast_core.contracts import Change, Committed, Guard, Key, Record
from taskcast_core.errors import GuardFailed, NotHot, StoreUnavailable, TaskExists
from taskcast_core.testing.making import (
    a_key,
    a_task,
    created,
    current,
    delta,
    entries_of,
    latest,
    message,
    publish,
    replace,
    whole_log,
)

pytestmark = pytest.mark.anyio

BEYOND_SQLITE = 1 << 70
"""An integer that no column can hold, so that writing it fails after everything has been decided."""


@pytest.fixture
async def store(tmp_path: Path) -> AsyncIterator[SqliteShortTermStore]:
    async with SqliteShortTermStore(SqliteOptions(path=tmp_path / "tasks.db")) as store:
        yield store


@pytest.fixture
def commits(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Grows by one with every transaction that is committed."""
    seen: list[int] = []
    commit = Session.commit

    def counted(self: Session) -> Any:
        seen.append(1)
        return commit(self)

    monkeypatch.setattr(Session, "commit", counted)
    return seen


async def test_what_is_queued_travels_together(store: SqliteShortTermStore, commits: list[int]) -> None:
    tasks = [(await created(store)).task.id for _ in range(10)]
    commits.clear()
    await asyncio.gather(*(publish(store, tasks[n % 10], message(data=n)) for n in range(200)))
    assert len(commits) <= 20
    for task_id in tasks:
        assert (await current(store, task_id)).last_index == 19


async def test_order_is_that_of_the_calls(store: SqliteShortTermStore) -> None:
    task_id = (await created(store)).task.id
    await asyncio.gather(*(publish(store, task_id, message(data=n)) for n in range(700)))
    assert [e.data for e in entries_of(await whole_log(store, task_id))] == list(range(700))


async def test_more_callers_than_room(tmp_path: Path) -> None:
    """They wait in line, and nobody who comes later goes before them."""
    async with SqliteShortTermStore(SqliteOptions(path=tmp_path / "small.db", queue_size=3)) as store:
        task_id = (await created(store)).task.id
        calls: list[asyncio.Task[Committed]] = []
        while len(calls) < 500 or not calls[-1].done():
            assert store._writer._queue.qsize() <= 3
            if len(calls) < 500 and (len(calls) < 20 or calls[-20].done()):  # some always wait, and one more comes
                calls.append(asyncio.create_task(publish(store, task_id, message(data=len(calls)))))
            await asyncio.sleep(0)
        await asyncio.gather(*calls)
        assert [e.data for e in entries_of(await whole_log(store, task_id))] == list(range(500))


async def test_a_refusal_concerns_its_caller_only(store: SqliteShortTermStore, commits: list[int]) -> None:
    stored = await created(store)
    task_id = stored.task.id
    commits.clear()
    outcomes = await asyncio.gather(
        publish(store, task_id, message(data=1)),
        publish(store, task_id, message(), guard=Guard(frozenset({"paused"}))),
        store.create(Record(a_task(store.now_ms(), id=task_id))),
        publish(store, "nobody", message()),
        publish(store, task_id, message(data=2)),
        return_exceptions=True,
    )
    assert [type(one) for one in outcomes if isinstance(one, Exception)] == [GuardFailed, TaskExists, NotHot]
    assert [e.data for e in entries_of(await whole_log(store, task_id))] == [1, 2]
    assert len(commits) <= 2  # nothing had to be undone


async def test_a_poison_operation_fails_alone(store: SqliteShortTermStore) -> None:
    stored, other = await created(store, message(data="first")), await created(store)
    task_id, poison_key = stored.task.id, a_key()
    poisoned = Record(stored.task, {"ttl": BEYOND_SQLITE})
    change = Change((message(data="poison"),), poisoned, Guard(rev=stored.rev), poison_key)
    calls = [
        *(publish(store, task_id, message(data=n), delta("s", f"{n},"), latest("p", n)) for n in range(20)),
        store.commit(task_id, change),
        *(publish(store, other.task.id, message(data=n)) for n in range(20)),
    ]
    outcomes = await asyncio.gather(*calls, return_exceptions=True)
    assert [type(one) for one in outcomes if isinstance(one, BaseException)] == [OverflowError]
    entries = entries_of(await whole_log(store, task_id))
    assert [e.data for e in entries if e.type == "message"] == ["first", *range(20)]
    assert [e.data for e in entries if e.type == "progress"] == [19]
    last = max(e.index for e in entries if e.series_id == "s")
    assert (await store.fold(task_id, "s", last))["delta"] == "".join(f"{n}," for n in range(20))
    assert (await current(store, task_id)).rev == stored.rev
    assert (await current(store, other.task.id)).last_index == 19
    again = await publish(store, task_id, message(data="poison"), key=poison_key)
    assert not again.replayed


async def test_a_failed_creation_leaves_nothing(store: SqliteShortTermStore) -> None:
    record = Record(a_task(store.now_ms(), id="t", tags=("a",)), {"ttl": BEYOND_SQLITE}, ("archive",))
    with pytest.raises(OverflowError):
        await store.create(record, Key("k", "body", 1_000))
    assert await store.get("t") is None
    assert await store.claim_dirty("archive", "me", 10, 1) == []
    made = await store.create(Record(record.task), Key("k", "body", 1_000))
    assert not made.replayed and made.stored.epoch == 1


async def test_cancelled_callers_do_not_disturb_others(store: SqliteShortTermStore) -> None:
    task_id = (await created(store)).task.id
    for round_ in range(20):
        calls = [asyncio.create_task(publish(store, task_id, message(data=(round_, n)))) for n in range(30)]
        for _ in range(round_ % 4):
            await asyncio.sleep(0)
        for call in calls[::2]:
            call.cancel()
        outcomes = await asyncio.gather(*calls, return_exceptions=True)
        assert not any(isinstance(one, BaseException) for one in outcomes[1::2])
    entries = entries_of(await whole_log(store, task_id))
    assert [e.index for e in entries] == list(range(len(entries)))
    seen = [tuple(e.data) for e in entries]
    assert len(set(seen)) == len(seen)
    assert {(r, n) for r in range(20) for n in range(1, 30, 2)} <= set(seen)


# ── A full disk ───────────────────────────────────────────────────────────────────────────────────────────────────


async def _allow(store: SqliteShortTermStore, more_pages: int) -> None:
    """So many pages may the file grow by."""

    def work(session: Session) -> None:
        (pages,) = session.row("PRAGMA page_count") or (0,)
        session.row(f"PRAGMA max_page_count = {pages + more_pages}")

    await store._writer.run(work)


async def test_a_full_disk_is_survived(store: SqliteShortTermStore) -> None:
    stored = await created(store, lanes=("archive",))
    task_id, done = stored.task.id, 0
    await _allow(store, 40)
    full: StoreUnavailable | None = None
    while full is None and done < 1_000:
        try:
            await publish(store, task_id, message(data="x" * 2_000), latest("p", done))
            done += 1
        except StoreUnavailable as error:
            full = error
    assert full is not None
    assert (full.dependency, full.kind, full.retryable) == ("sqlite", "disk_full", True)
    assert done > 3
    assert (await current(store, task_id)).last_index == 2 * done - 1  # reads go on, and see what was acknowledged
    await _allow(store, 10_000)
    for _ in range(20):
        await publish(store, task_id, message(data="y" * 2_000), latest("p", done))
        done += 1
    entries = entries_of(await whole_log(store, task_id))
    assert [e.index for e in entries if e.type == "message"] == list(range(0, 2 * done, 2))
    assert [e.data for e in entries if e.type == "progress"] == [done - 1]


async def test_what_still_fits_is_written_beside_what_does_not(store: SqliteShortTermStore) -> None:
    stored = await created(store)
    await _allow(store, 30)
    large = publish(store, stored.task.id, message(data="x" * 400_000))
    small = [publish(store, stored.task.id, message(data=n)) for n in range(10)]
    outcome, *others = await asyncio.gather(large, *small, return_exceptions=True)
    assert isinstance(outcome, StoreUnavailable)
    assert not any(isinstance(one, BaseException) for one in others)
    assert [e.data for e in entries_of(await whole_log(store, stored.task.id))] == list(range(10))


async def test_records_read_without_io_are_those_that_were_committed(store: SqliteShortTermStore) -> None:
    stored = await created(store)
    await _allow(store, 2)
    with pytest.raises(StoreUnavailable):
        await replace(store, stored, params={"big": "x" * 100_000}, status="running")
    assert await current(store, stored.task.id) == stored
    await _allow(store, 1_000)
    changed = await replace(store, stored, status="running")
    assert (await current(store, stored.task.id)) == changed.stored
