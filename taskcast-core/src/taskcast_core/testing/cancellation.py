"""TaskLog: a caller that is cancelled in the middle of a call leaves a usable store behind."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Coroutine
from typing import Any, ClassVar

from taskcast_core.contracts import Change, TaskLog, TrimRule
from taskcast_core.testing.contract import Contract
from taskcast_core.testing.making import (
    a_key,
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

STEPS = 12
"""A call is cancelled after 0, 1, 2 … turns of the event loop."""


async def _cancelled_after(turns: int, call: Coroutine[Any, Any, Any]) -> None:
    task = asyncio.ensure_future(call)
    for _ in range(turns):
        await asyncio.sleep(0)
    task.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await task


class CancellationCases(Contract):
    """Cancelling any verb at any moment."""

    capability: ClassVar[str] = "TaskLog"
    promise: ClassVar[str] = "after a cancelled call the state is that before or after it, and the store is usable"

    async def test_commits(self, store: TaskLog) -> None:
        task_id = (await created(store)).task.id
        for turns in range(STEPS):
            await _cancelled_after(turns, publish(store, task_id, message(data=[turns, 0]), message(data=[turns, 1])))
        await publish(store, task_id, message(data=[STEPS, 0]), message(data=[STEPS, 1]))
        data = [tuple(e.data) for e in entries_of(await whole_log(store, task_id))]
        assert data[-2:] == [(STEPS, 0), (STEPS, 1)]
        assert sorted(set(data)) == sorted(data), "a cancelled commit was made twice"
        assert all(later == (first[0], 1) for first, later in zip(data[::2], data[1::2], strict=True)), "a torn batch"

    async def test_a_cancelled_commit_may_be_repeated_with_its_key(self, store: TaskLog) -> None:
        task_id = (await created(store)).task.id
        for turns in range(STEPS):
            key = a_key()
            await _cancelled_after(turns, publish(store, task_id, delta("s", f"{turns},"), key=key))
            await publish(store, task_id, delta("s", f"{turns},"), key=key)
        total = await store.fold(task_id, "s", STEPS - 1)
        assert total == {"delta": "".join(f"{turns}," for turns in range(STEPS))}
        assert (await current(store, task_id)).last_index == STEPS - 1

    async def test_record_changes(self, store: TaskLog) -> None:
        task_id = (await created(store, params={"n": -1})).task.id
        for turns in range(STEPS):
            before = await current(store, task_id)
            await _cancelled_after(turns, replace(store, before, message(), params={"n": turns}))
            after = await eventually_settled(store, task_id)
            assert after.rev - before.rev == after.last_index - before.last_index
            assert after.task.params == ({"n": turns} if after.rev > before.rev else before.task.params)

    async def test_every_other_verb(self, store: TaskLog) -> None:
        for turns in range(6):
            stored = await created(store, delta("s", "a"), latest("l", 1), latest("l", 2), message())
            task_id, epoch = stored.task.id, stored.epoch
            for call in (
                store.get(task_id), store.read(task_id), store.series(task_id), store.fold(task_id, "s", 0),
                store.trim(task_id, epoch, TrimRule()), store.found_epoch(task_id, epoch, 3),
                store.reserve(a_key(), task_id), store.commit(task_id, Change()), created(store),
            ):  # fmt: skip
                await _cancelled_after(turns, call)
            await eventually_settled(store, task_id)
            done = await publish(store, task_id, delta("s", "b"))
            assert done.entries[0].index == 4
            assert await store.fold(task_id, "s", 4) == {"delta": "ab"}

    async def test_deletion(self, store: TaskLog) -> None:
        for turns in range(STEPS):
            task_id = (await created(store, message())).task.id
            await _cancelled_after(turns, store.delete(task_id, linger_ms=0))
            await store.delete(task_id, linger_ms=0)
            assert await store.get(task_id) is None
            assert await store.purge(task_id, tombstone_ms=1000) is True
            assert (await created(store, id=task_id)).last_index == -1


async def eventually_settled(store: TaskLog, task_id: str) -> Any:
    """The task once a cancelled call has taken effect or not: a write that follows it comes after it."""
    await store.commit(task_id, Change())
    return await current(store, task_id)
