"""The cases of Listing."""

from __future__ import annotations

import random
from collections.abc import AsyncIterator, Sequence
from typing import Any, ClassVar, Protocol

import pytest
from attrs import evolve

from taskcast_core.contracts import Listing, ListPage, ListQuery, TaskLog
from taskcast_core.errors import InvalidInput
from taskcast_core.models import TagMatch, Task
from taskcast_core.testing.contract import LONG_MS, Contract
from taskcast_core.testing.making import created, message, publish, replace

BASE_MS = 1_700_000_000_000


class ListedLog(TaskLog, Listing, Protocol):
    """A store that lists."""


class Lists(Protocol):
    """Anything with ``list``: a short-term store, a long-term store."""

    async def list(self, query: ListQuery) -> ListPage:
        """A page."""


async def walk(store: Lists, query: ListQuery) -> AsyncIterator[ListPage]:
    """Page after page; fails where it does not end."""
    for _ in range(1000):
        page = await store.list(query)
        yield page
        if page.next_cursor is None:
            return
        assert len(page.tasks) > 0, "an empty page has no next one"
        query = evolve(query, cursor=page.next_cursor)
    raise AssertionError("the pages have no end")


async def listed(store: Lists, query: ListQuery) -> list[str]:
    """The ids on all pages."""
    return [task.id async for page in walk(store, query) for task in page.tasks]


CAST: dict[str, dict[str, Any]] = {
    "a": {"created_at": BASE_MS + 10, "type": "llm.chat", "tags": ("gpu", "eu"), "assign_mode": "pull"},
    "b": {"created_at": BASE_MS + 20, "type": "llm", "status": "running", "tags": ("gpu",)},
    "c": {"created_at": BASE_MS + 20, "type": "llm.chat.deep", "status": "completed", "assign_mode": "ws-race"},
    "d": {"created_at": BASE_MS + 30, "status": "running", "tags": ("eu", "cpu")},
    "e": {"created_at": BASE_MS + 40, "type": "render", "tags": (), "assign_mode": "external"},
}
"""Five tasks, by id."""

QUERIES: dict[str, tuple[ListQuery, str]] = {
    "all": (ListQuery(), "edcba"),
    "statuses": (ListQuery(statuses=frozenset({"running", "completed"})), "dcb"),
    "no-status": (ListQuery(statuses=frozenset()), ""),
    "type": (ListQuery(types=("llm",)), "b"),
    "type-pattern": (ListQuery(types=("llm.*",)), "ca"),
    "types": (ListQuery(types=("llm.*", "render")), "eca"),
    "any-type": (ListQuery(types=("*",)), "ecba"),
    "tags-all": (ListQuery(tags=TagMatch(all=("gpu", "eu"))), "a"),
    "tags-any": (ListQuery(tags=TagMatch(any=("cpu", "gpu"))), "dba"),
    "tags-none": (ListQuery(tags=TagMatch(none=("gpu",))), "edc"),
    "tags-mixed": (ListQuery(tags=TagMatch(any=("eu",), none=("cpu",))), "a"),
    "tags-vacuous": (ListQuery(tags=TagMatch(all=(), any=(), none=())), "edcba"),
    "modes": (ListQuery(assign_modes=frozenset({"pull", "ws-race"})), "ca"),
    "external": (ListQuery(assign_modes=frozenset({"external"})), "edb"),
    "ids": (ListQuery(task_ids=frozenset({"a", "d", "nobody"})), "da"),
    "no-id": (ListQuery(task_ids=frozenset()), ""),
    "after": (ListQuery(created_after=BASE_MS + 20), "ed"),
    "before": (ListQuery(created_before=BASE_MS + 20), "a"),
    "between": (ListQuery(created_after=BASE_MS + 10, created_before=BASE_MS + 40), "dcb"),
    "combined": (ListQuery(statuses=frozenset({"running"}), tags=TagMatch(any=("eu",)), created_after=BASE_MS), "d"),
}


class ListingContract(Contract):
    """Everything that ``taskcast_core.contracts.Listing`` promises. Override the fixture ``store``."""

    capability: ClassVar[str] = "Listing"
    promise: ClassVar[str] = "a walk over the pages finds every matching task exactly once, newest first"

    @pytest.mark.parametrize("name", QUERIES)
    async def test_query(self, store: ListedLog, name: str) -> None:
        for id_, fields in CAST.items():
            await created(store, **{"id": id_} | fields)
        query, wanted = QUERIES[name]
        for limit in (1, 2, 100):
            assert "".join(await listed(store, evolve(query, limit=limit))) == wanted

    async def test_a_page_has_whole_tasks(self, store: ListedLog) -> None:
        stored = await created(store, message(), params={"odd": "\x00"}, tags=("x",))
        assert (await store.list(ListQuery())).tasks == (stored.task,)

    async def test_pages(self, store: ListedLog) -> None:
        for n in range(5):
            await created(store, id=f"t{n}", created_at=BASE_MS + n)
        pages = [page async for page in walk(store, ListQuery(limit=2))]
        assert [[task.id for task in page.tasks] for page in pages] == [["t4", "t3"], ["t2", "t1"], ["t0"]]
        assert [page.next_cursor is None for page in pages] == [False, False, True]

    async def test_an_exact_fit_is_the_last_page(self, store: ListedLog) -> None:
        for n in range(4):
            await created(store, created_at=BASE_MS + n)
        pages = [page async for page in walk(store, ListQuery(limit=4))]
        assert len(pages) == 1 and pages[0].next_cursor is None

    async def test_ties_are_broken_by_id(self, store: ListedLog) -> None:
        ids = [f"t{n:02}" for n in range(12)]
        for id_ in random.Random(1).sample(ids, len(ids)):
            await created(store, id=id_, created_at=BASE_MS)
        assert await listed(store, ListQuery(limit=5)) == ids[::-1]

    async def test_a_walk_is_stable_under_inserts_and_deletions(self, store: ListedLog) -> None:
        stay = [(await created(store, created_at=BASE_MS + 2 * n)).task.id for n in range(20)]
        go = [(await created(store, created_at=BASE_MS + 2 * n + 1)).task.id for n in range(20)]
        seen: list[str] = []
        async for page in walk(store, ListQuery(limit=7)):
            seen += [task.id for task in page.tasks]
            await created(store, created_at=BASE_MS + 10_000)
            await created(store, created_at=BASE_MS - 10)
            await store.delete(go.pop(), linger_ms=LONG_MS)
        assert len(seen) == len(set(seen))
        assert [id_ for id_ in seen if id_ in stay] == stay[::-1]

    async def test_a_cursor_survives_its_task(self, store: ListedLog) -> None:
        for n in range(4):
            await created(store, id=f"t{n}", created_at=BASE_MS + n)
        first = await store.list(ListQuery(limit=2))
        await store.delete(first.tasks[-1].id, linger_ms=LONG_MS)
        assert [t.id for t in (await store.list(ListQuery(limit=2, cursor=first.next_cursor))).tasks] == ["t1", "t0"]

    @pytest.mark.parametrize("cursor", ["", "rubbish", "💥", "bnVsbA", "WzEsMl0", "a" * 5000])
    async def test_a_foreign_cursor_is_refused(self, store: ListedLog, cursor: str) -> None:
        await created(store)
        with pytest.raises(InvalidInput):
            await store.list(ListQuery(cursor=cursor))

    async def test_a_record_change_moves_the_task(self, store: ListedLog) -> None:
        stored = await created(store, type="a", tags=("x",))
        await replace(store, stored, status="running", tags=("y",), type="b")
        assert await listed(store, ListQuery(statuses=frozenset({"pending"}))) == []
        assert await listed(store, ListQuery(tags=TagMatch(all=("x",)))) == []
        assert await listed(store, ListQuery(types=("a",))) == []
        assert await listed(store, ListQuery(statuses=frozenset({"running"}), types=("b",))) == [stored.task.id]

    async def test_what_is_committed_is_listed_at_once(self, peers: Sequence[ListedLog]) -> None:
        for n in range(6):
            stored = await created(peers[n % 2])
            await replace(peers[n % 2], stored, status="running")
            running = await listed(peers[(n + 1) % 2], ListQuery(statuses=frozenset({"running"})))
            assert stored.task.id in running and len(running) == n + 1

    async def test_deleted_tasks_are_not_listed(self, store: ListedLog) -> None:
        gone, stays = (await created(store)).task.id, (await created(store)).task.id
        await store.delete(gone, linger_ms=LONG_MS)
        assert await listed(store, ListQuery()) == [stays]
        assert sum((await store.tally()).values()) == 1

    async def test_an_empty_store(self, store: ListedLog) -> None:
        assert await store.list(ListQuery()) == ListPage((), None)
        assert dict(await store.tally()) == {}

    async def test_tally(self, store: ListedLog) -> None:
        for fields in CAST.values():
            await created(store, **fields)
        stored = await created(store, type="llm")
        await publish(store, stored.task.id, message())
        await replace(store, stored, status="running")
        tally = {kind: n for kind, n in (await store.tally()).items() if n}
        assert tally == {
            ("llm.chat", "pending"): 1, ("llm", "running"): 2, ("llm.chat.deep", "completed"): 1,
            (None, "running"): 1, ("render", "pending"): 1,
        }  # fmt: skip

    async def test_a_newest_task_is_first(self, store: ListedLog) -> None:
        tasks: list[Task] = [(await created(store, created_at=BASE_MS + n)).task for n in (5, 1, 9, 3)]
        page = await store.list(ListQuery(limit=1))
        assert page.tasks == (tasks[2],)
