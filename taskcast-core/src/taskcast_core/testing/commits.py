"""TaskLog: what a commit promises: atomicity, order, guards, limits, races."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import ClassVar

import pytest

from taskcast_core.contracts import Change, Committed, Guard, Held, LogLimits, Record, Stored, TaskLog
from taskcast_core.errors import GuardFailed, LimitExceeded, NotHot, TaskExists
from taskcast_core.models import EventDraft
from taskcast_core.testing.contract import Contract, StoreTime
from taskcast_core.testing.making import (
    a_key,
    a_task,
    created,
    current,
    delta,
    entries_of,
    fresh_id,
    kept,
    latest,
    message,
    publish,
    race,
    replace,
    status,
    whole_log,
)

RACERS = 16
PUBLISHERS = 50


class CreateCases(Contract):
    """``create`` and ``get``."""

    capability: ClassVar[str] = "TaskLog"
    promise: ClassVar[str] = "a task is made once, and kept as it was given"

    async def test_a_created_task_is_there_with_an_empty_log(self, store: TaskLog) -> None:
        record = Record(
            a_task(store.now_ms(), type="llm.chat", params={"a": [1]}, tags=("x",)), {"ttl": 5}, ("settle",)
        )
        made = await store.create(record)
        stored = await current(store, record.task.id)
        assert made.stored == stored and made.entries == () and not made.replayed
        assert stored.record == record
        assert (stored.rev, stored.last_index, stored.first_index) == (1, -1, 0)
        assert [segment.first for segment in stored.segments] == [0]

    async def test_an_unknown_task_is_none(self, store: TaskLog) -> None:
        assert await store.get(fresh_id()) is None

    async def test_an_id_is_taken_once(self, store: TaskLog) -> None:
        stored = await created(store, params={"n": 1})
        with pytest.raises(TaskExists):
            await created(store, id=stored.task.id, params={"n": 2})
        assert await current(store, stored.task.id) == stored

    async def test_one_of_many_racing_creators_wins(self, peers: Sequence[TaskLog]) -> None:
        task_id = fresh_id()
        won, lost = await race(RACERS, lambda n: created(peers[n % 2], id=task_id, params={"n": n}))
        assert len(won) == 1 and all(isinstance(error, TaskExists) for error in lost)
        assert (await current(peers[1], task_id)).record == won[0].record

    async def test_a_keyed_creation_is_repeated_with_its_first_record(self, store: TaskLog) -> None:
        key = a_key()
        record = Record(a_task(store.now_ms(), params={"n": 1}))
        await store.create(record, key)
        await replace(store, await current(store, record.task.id), params={"n": 2})
        again = await store.create(record, key)
        assert again.replayed and again.stored.record == record
        assert (await current(store, record.task.id)).task.params == {"n": 2}

    async def test_tasks_do_not_see_each_other(self, store: TaskLog) -> None:
        one, two = await created(store, message("a")), await created(store, message("b"))
        assert [e.type for e in entries_of(await whole_log(store, one.task.id))] == ["a"]
        assert [e.type for e in entries_of(await whole_log(store, two.task.id))] == ["b"]
        assert one.segments[-1].salt != two.segments[-1].salt


class CommitCases(Contract):
    """``commit``: all of it or none of it, in order."""

    capability: ClassVar[str] = "TaskLog"
    promise: ClassVar[str] = "a commit is made whole or not at all, and indexes and timestamps only grow"

    async def test_a_commit_without_a_hot_copy_is_refused(self, store: TaskLog) -> None:
        with pytest.raises(NotHot):
            await publish(store, fresh_id(), message())

    async def test_events_get_consecutive_indexes(self, store: TaskLog) -> None:
        task_id = (await created(store)).task.id
        first = await publish(store, task_id, message(), message())
        second = await publish(store, task_id, message())
        assert [e.index for e in first.entries + second.entries] == [0, 1, 2]
        assert second.stored.last_index == 2 and await current(store, task_id) == second.stored

    async def test_the_reply_is_what_is_read(self, store: TaskLog) -> None:
        task_id = (await created(store)).task.id
        done = await publish(store, task_id, message("a", {"x": 1}), delta("s", "hi"), delta("t", "yo", "text"))
        read = entries_of(await whole_log(store, task_id))
        assert [(e.id, e.timestamp, e.text) for e in done.entries] == [(e.id, e.timestamp, e.text) for e in read]
        assert [(e.run, e.end) for e in done.entries] == [(e.run, e.end) for e in read]
        assert all(e.origin.task_id == task_id for e in read)

    async def test_what_a_read_has_shown_is_not_taken_back(self, store: TaskLog) -> None:
        task_id = (await created(store)).task.id

        async def publish_on() -> None:
            for _ in range(PUBLISHERS):
                await publish(store, task_id, message())

        publishing = asyncio.ensure_future(publish_on())
        while not publishing.done():
            shown = (await store.read(task_id, after=-1)).log_last
            stored = await current(store, task_id)
            assert stored.last_index >= shown, "a task that is older than a page of its log"
            (head,) = await store.heads([Held(task_id, 0)])
            assert head is not None and head.last_index >= stored.last_index
            await asyncio.sleep(0)
        await publishing

    async def test_publishing_leaves_the_record_and_its_revision(self, store: TaskLog) -> None:
        before = await created(store, timers={"ttl": 99}, lanes=("archive",))
        after = (await publish(store, before.task.id, message())).stored
        assert (after.record, after.rev) == (before.record, before.rev)

    async def test_a_record_and_its_events_arrive_together(self, store: TaskLog) -> None:
        before = await created(store)
        done = await replace(store, before, status("running"), message(), status="running", timers={"ttl": 7})
        after = await current(store, before.task.id)
        assert after == done.stored
        assert (after.rev, after.last_index, after.task.status) == (2, 1, "running")
        assert dict(after.record.timers) == {"ttl": 7}

    async def test_a_change_of_the_record_alone_appends_nothing(self, store: TaskLog) -> None:
        before = await created(store, message())
        done = await replace(store, before, status="paused")
        assert done.entries == () and (done.stored.rev, done.stored.last_index) == (before.rev + 1, 0)

    async def test_an_empty_change_changes_nothing(self, store: TaskLog) -> None:
        before = await created(store, message())
        done = await store.commit(before.task.id, Change())
        assert done.entries == () and await current(store, before.task.id) == before

    async def test_timestamps_are_the_stores_and_never_decrease(self, store: TaskLog, time: StoreTime) -> None:
        task_id = (await created(store)).task.id
        for _ in range(3):
            await publish(store, task_id, message(), message())
            await time.passes(3)
        stamps = [e.timestamp for e in entries_of(await whole_log(store, task_id))]
        assert stamps == sorted(stamps) and len(set(stamps)) == 3
        assert (await current(store, task_id)).last_timestamp == stamps[-1]

    async def test_timestamps_do_not_follow_a_clock_that_steps_back(self, store: TaskLog, time: StoreTime) -> None:
        task_id = (await created(store, message())).task.id
        time.steps(-3_600_000)
        await publish(store, task_id, message())
        first, second = entries_of(await whole_log(store, task_id))
        assert second.timestamp >= first.timestamp
        assert second.id > first.id

    async def test_many_publishers_share_one_gapless_log(self, peers: Sequence[TaskLog]) -> None:
        task_id = (await created(peers[0])).task.id

        async def publisher(n: int) -> list[tuple[int, int]]:
            seen = []
            for i in range(4):
                done = await publish(peers[n % 2], task_id, message(data=[n, i, 0]), message(data=[n, i, 1]))
                seen.append((done.entries[0].index, done.entries[1].index))
            return seen

        pairs, lost = await race(PUBLISHERS, publisher)
        assert not lost
        assert all(second == first + 1 for mine in pairs for first, second in mine), "a batch was torn"
        assert all(mine == sorted(mine) for mine in pairs), "one caller's commits were reordered"
        entries = entries_of(await whole_log(peers[1], task_id))
        assert [e.index for e in entries] == list(range(PUBLISHERS * 8))
        assert len({e.id for e in entries}) == len(entries)
        assert [e.timestamp for e in entries] == sorted(e.timestamp for e in entries)
        assert len({tuple(e.data) for e in entries}) == PUBLISHERS * 8

    async def test_both_handles_see_each_others_commits_at_once(self, peers: Sequence[TaskLog]) -> None:
        task_id = (await created(peers[0])).task.id
        for n in range(6):
            await publish(peers[n % 2], task_id, delta("s", str(n)))
            assert (await current(peers[(n + 1) % 2], task_id)).last_index == n
        assert await peers[0].fold(task_id, "s", 5) == {"delta": "012345"}

    async def test_a_reader_never_sees_half_a_commit(self, peers: Sequence[TaskLog]) -> None:
        task_id = (await created(peers[0])).task.id
        batch = tuple(message(data=n) for n in range(10))
        done = asyncio.Event()

        async def write() -> None:
            for _ in range(20):
                await publish(peers[0], task_id, *batch)
            done.set()

        async def watch() -> None:
            while not done.is_set():
                page = await peers[1].read(task_id)
                assert (page.log_last + 1) % 10 == 0 and len(page.items) == page.log_last + 1
                await asyncio.sleep(0)

        await asyncio.gather(write(), watch())


class GuardCases(Contract):
    """Guards, and the races that they decide."""

    capability: ClassVar[str] = "TaskLog"
    promise: ClassVar[str] = "a change whose guard fails changes nothing; of racing changes exactly one is made"

    async def _refuses(self, store: TaskLog, task_id: str, change: Change, reason: str) -> None:
        before = await current(store, task_id)
        with pytest.raises(GuardFailed) as failed:
            await store.commit(task_id, change)
        assert failed.value.reason == reason and failed.value.stored == before
        assert await current(store, task_id) == before
        assert len(await whole_log(store, task_id)) == before.last_index + 1

    async def test_status_guard(self, store: TaskLog) -> None:
        task_id = (await created(store, status="running")).task.id
        wanted = frozenset({"running", "paused"})
        await publish(store, task_id, message(), guard=Guard(statuses=wanted))  # type: ignore[arg-type]
        await self._refuses(
            store, task_id, Change((message(), delta("s", "x")), guard=Guard(statuses=frozenset({"pending"}))), "status"
        )

    async def test_revision_guard(self, store: TaskLog) -> None:
        first = await created(store)
        await replace(store, first, status="running")
        await self._refuses(
            store, first.task.id, Change((status("failed"),), first.record, Guard(rev=first.rev)), "rev"
        )

    async def test_assignment_guard(self, store: TaskLog) -> None:
        task_id = (await created(store, assignment_id="mine")).task.id
        await publish(store, task_id, message(), guard=Guard(assignment_id="mine"))
        await self._refuses(store, task_id, Change((message(),), guard=Guard(assignment_id="stale")), "assignment")
        free = (await created(store)).task.id
        await self._refuses(store, free, Change((message(),), guard=Guard(assignment_id="mine")), "assignment")

    async def test_every_part_of_a_guard_must_hold(self, store: TaskLog) -> None:
        stored = await created(store, status="running", assignment_id="mine")
        both = Guard(frozenset({"running"}), stored.rev, "mine")
        await publish(store, stored.task.id, message(), guard=both)
        with pytest.raises(GuardFailed):
            await publish(store, stored.task.id, message(), guard=Guard(frozenset({"paused"}), stored.rev, "mine"))
        with pytest.raises(GuardFailed):
            await publish(store, stored.task.id, message(), guard=Guard(frozenset({"running"}), stored.rev + 1, "mine"))

    async def test_one_of_many_racing_record_changes_wins(self, peers: Sequence[TaskLog]) -> None:
        for _ in range(5):
            before = await created(peers[0], status="running")

            async def finish(n: int, before: Stored = before) -> Committed:
                return await replace(peers[n % 2], before, status("completed"), status="completed", result={"n": n})

            won, lost = await race(RACERS, finish)
            assert len(won) == 1 and all(isinstance(error, GuardFailed) for error in lost)
            after = await current(peers[0], before.task.id)
            assert after.task.result == won[0].stored.task.result
            assert (after.rev, after.last_index) == (before.rev + 1, 0)

    async def test_nothing_is_published_after_the_end(self, peers: Sequence[TaskLog]) -> None:
        before = await created(peers[0], status="running")
        alive = Guard(statuses=frozenset({"running"}))

        async def publish_or_finish(n: int) -> None:
            if n != 15:
                await publish(peers[n % 2], before.task.id, message(), guard=alive)
                return
            await replace(peers[0], await current(peers[0], before.task.id), status("completed"), status="completed")

        await race(31, publish_or_finish)
        entries = entries_of(await whole_log(peers[0], before.task.id))
        assert [e.type for e in entries].index("taskcast:status") == len(entries) - 1


class LimitCases(Contract):
    """``Change.limits``."""

    capability: ClassVar[str] = "TaskLog"
    promise: ClassVar[str] = "a change that would pass a limit changes nothing"

    @pytest.mark.parametrize(
        ("limits", "fits", "too_much"),
        [
            (LogLimits(max_events=3), (message(), message()), (message(), message())),
            (LogLimits(max_bytes=400), (message(data="x" * 100),), (message(data="x" * 300),)),
            (LogLimits(max_series=1), (delta("one", "a"), delta("one", "b")), (delta("two", "a"),)),
            (LogLimits(max_series=1), (latest("one", 1),), (latest("one", 2), latest("two", 1))),
            (LogLimits(max_types=2), (message("a"), message("b")), (message("a"), message("c"))),
        ],
        ids=["events", "bytes", "series", "latest-series", "types"],
    )
    async def test_limit(
        self,
        store: TaskLog,
        limits: LogLimits,
        fits: tuple[EventDraft, ...],
        too_much: tuple[EventDraft, ...],
    ) -> None:
        task_id = (await created(store)).task.id
        before = (await publish(store, task_id, *fits, limits=limits)).stored
        with pytest.raises(LimitExceeded):
            await publish(store, task_id, *too_much, limits=limits)
        assert await current(store, task_id) == before
        assert len(entries_of(await whole_log(store, task_id))) == len(fits)
        await publish(store, task_id, *too_much)

    async def test_a_log_may_be_filled_to_its_limit(self, store: TaskLog) -> None:
        task_id = (await created(store)).task.id
        limits = LogLimits(max_events=4)
        await publish(store, task_id, *[message()] * 4, limits=limits)
        with pytest.raises(LimitExceeded):
            await publish(store, task_id, message(), limits=limits)

    async def test_a_record_may_change_in_a_full_log(self, store: TaskLog) -> None:
        before = await created(store, message(), message())
        full = LogLimits(max_events=2)
        change = Change((), before.record, Guard(rev=before.rev), limits=full)
        assert (await store.commit(before.task.id, change)).stored.rev == before.rev + 1

    async def test_keep_all_series_cost_no_state(self, store: TaskLog) -> None:
        task_id = (await created(store)).task.id
        limits = LogLimits(max_series=1)
        await publish(store, task_id, *[kept(f"s{n}", n) for n in range(5)], limits=limits)
        assert (await store.series(task_id)).states == {}
