"""A connection that breaks at any statement of a call: the call has been made or it has not, and may be repeated."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from itertools import count
from typing import Any

import pytest

from taskcast_core.builtin.memory_store import MemoryShortTermStore
from taskcast_core.contracts import ArchiveBatch, SeriesCopy, Watermark
from taskcast_core.errors import StoreUnavailable
from taskcast_core.filters import View
from taskcast_core.testing.making import created, current, delta, latest, message, publish
from taskcast_core.testing.making import whole_log as read_all
from taskcast_core.testing.portrait import portrait
from taskcast_postgres import PostgresLongTermStore
from taskcast_postgres.database import Session, _sever
from taskcast_postgres.keeping import OF_A_TASK
from tests.fixtures.eventually import eventually

pytestmark = pytest.mark.anyio

STATEMENTS = ("rows", "row", "run", "script", "copy")


class Breaking:
    """Cuts the connection before, or after, the n-th statement from now on; once."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.left = 0
        self.is_after = False
        for name in STATEMENTS:
            monkeypatch.setattr(Session, name, self._breaking(getattr(Session, name)))

    def at(self, n: int, *, after: bool) -> None:
        self.left, self.is_after = n, after

    @property
    def has_happened(self) -> bool:
        return self.left <= 0

    def _breaking(self, real: Callable[..., Awaitable[Any]]) -> Callable[..., Awaitable[Any]]:
        async def statement(session: Session, *arguments: Any) -> Any:
            self.left -= 1
            is_now = self.left == 0
            if is_now and not self.is_after:
                _sever(session._cursor.connection.pgconn.socket)
            found = await real(session, *arguments)
            if is_now and self.is_after:
                _sever(session._cursor.connection.pgconn.socket)
            return found

        return statement


@pytest.fixture
def breaking(monkeypatch: pytest.MonkeyPatch) -> Breaking:
    return Breaking(monkeypatch)


async def batch_of(hot: MemoryShortTermStore, task_id: str, after: int = -1) -> ArchiveBatch:
    stored = await current(hot, task_id)
    states = (await hot.series(task_id)).states
    return ArchiveBatch(
        task_id, stored.record, stored.rev, stored.segments, tuple(await read_all(hot, task_id, after=after)),
        tuple(SeriesCopy(name, state) for name, state in states.items()),
    )  # fmt: skip


async def breaks(call: Callable[[], Awaitable[Any]], store: PostgresLongTermStore) -> bool:
    """Whether the call was cut off; waits until the store answers again."""

    async def answers() -> bool:
        try:
            await store.check()
        except StoreUnavailable:
            return False
        return True

    try:
        await call()
    except StoreUnavailable:
        await eventually(answers, within_s=10)
        return True
    return False


@pytest.mark.parametrize("after", [False, True], ids=["before", "after"])
async def test_write(
    store: PostgresLongTermStore, hot: MemoryShortTermStore, breaking: Breaking, *, after: bool
) -> None:
    broken = 0
    for n in count(1):
        task_id = (await created(hot, message(), latest("l", 1), delta("s", "a"))).task.id
        await store.write([await batch_of(hot, task_id)])
        old = await store.watermark(task_id)
        await publish(hot, task_id, latest("l", 2), delta("s", "b"), *[message() for _ in range(1_000)])
        batch = await batch_of(hot, task_id, after=2)
        breaking.at(n, after=after)
        broken += await breaks(lambda batch=batch: store.write([batch]), store)  # type: ignore[misc]
        if not breaking.has_happened:
            break
        mark = await store.watermark(task_id)
        assert mark in (old, Watermark(1, 1_004, 1))
        assert (await store.read(task_id, limit=1)).log_last == (mark.last_index if mark else None)
        assert list(await store.write([batch])) == [Watermark(1, 1_004, 1)]
        assert (await store.series(task_id)).states == (await hot.series(task_id)).states
        assert await store.fold(task_id, "s", 4) == {"delta": "ab"}
        assert await store.count(task_id, View(), 1_005) == 1_005
    assert broken >= 8


@pytest.mark.parametrize("after", [False, True], ids=["before", "after"])
async def test_a_tasks_first_write(
    store: PostgresLongTermStore, hot: MemoryShortTermStore, breaking: Breaking, *, after: bool
) -> None:
    for n in count(1):
        task_id = (await created(hot, message(), latest("l", 1), latest("l", 2), delta("s", "a"))).task.id
        batch = await batch_of(hot, task_id)
        breaking.at(n, after=after)
        await breaks(lambda batch=batch: store.write([batch]), store)  # type: ignore[misc]
        if not breaking.has_happened:
            break
        assert await store.watermark(task_id) in (None, Watermark(1, 3, 1))
        await store.write([batch])
        assert await portrait(store, task_id) == await portrait(hot, task_id)


@pytest.mark.parametrize("after", [False, True], ids=["before", "after"])
async def test_set_state(
    store: PostgresLongTermStore, hot: MemoryShortTermStore, breaking: Breaking, *, after: bool
) -> None:
    for n in count(1):
        task_id = (await created(hot, message(), timers={"ttl": 1})).task.id
        (mark,) = await store.write([await batch_of(hot, task_id)])
        breaking.at(n, after=after)
        await breaks(lambda task_id=task_id, mark=mark: store.set_state(task_id, mark, "cold"), store)  # type: ignore[misc]
        if not breaking.has_happened:
            break
        now = await store.watermark(task_id)
        assert now is not None
        is_due = task_id in [one.task_id for one in await store.due("ttl", 1_000)]
        assert is_due == (now.state == "cold"), "state and timers go together"


@pytest.mark.parametrize("after", [False, True], ids=["before", "after"])
async def test_delete(
    store: PostgresLongTermStore, hot: MemoryShortTermStore, breaking: Breaking, *, after: bool
) -> None:
    for n in count(1):
        task_id = (await created(hot, message(), latest("l", 1), latest("l", 2), delta("s", "a"))).task.id
        batch = await batch_of(hot, task_id)
        await store.write([batch])
        breaking.at(n, after=after)
        await breaks(lambda task_id=task_id: store.delete(task_id, 1), store)  # type: ignore[misc]
        if not breaking.has_happened:
            break
        before = await portrait(hot, task_id)
        if await store.get(task_id) is not None:
            assert await portrait(store, task_id) == before, "all of it is there, or nothing"
        await store.delete(task_id, 1)
        await store.write([batch])
        assert await store.get(task_id) is None
    breaking.at(0, after=after)
    async with store.database.session() as session:
        for table in ("tasks", "events", *OF_A_TASK, "leftovers"):
            assert await session.rows(f"SELECT * FROM taskcast.{table}") == [], table
