"""The cases of Cold: release and restore."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

import pytest
from attrs import evolve

from taskcast_core.contracts import Change, Guard, Held, ListQuery, LogCopy, RestoreTicket, Stored
from taskcast_core.errors import NotHot, NotRetained, TaskDeleting, TaskExists, TicketRefused
from taskcast_core.filters import View
from taskcast_core.testing.contract import LONG_MS, Contract, HotStore, StoreTime
from taskcast_core.testing.followers import claim, pass_all
from taskcast_core.testing.listing import listed
from taskcast_core.testing.making import (
    RICH_HISTORY,
    a_key,
    copy_of,
    created,
    current,
    delta,
    entries_of,
    fresh_id,
    latest,
    message,
    publish,
    race,
    replace,
    whole_log,
)
from taskcast_core.testing.portrait import portrait
from taskcast_core.testing.shedding import ReplaceCases, ShedCases

RACERS = 16


async def released(store: HotStore, stored: Stored, keep_last: int | None = None) -> LogCopy:
    """Move a task out; the copy to bring back."""
    copy = await copy_of(store, stored.task.id, keep_last)
    assert await store.release(stored.task.id, stored.epoch, stored.last_index, stored.rev) is True
    return copy


async def restored(store: HotStore, copy: LogCopy) -> Stored:
    """Bring a copy back."""
    ticket = await store.begin_restore(copy.record.task.id, LONG_MS)
    await store.restore(ticket, copy)
    return await store.open(ticket)


class ReleaseCases(Contract):
    """``release``."""

    capability: ClassVar[str] = "Cold"
    promise: ClassVar[str] = "a hot copy is dropped only if it is exactly as far as the caller thinks"

    async def test_a_released_task_is_not_hot(self, store: HotStore) -> None:
        stored = await created(store, *RICH_HISTORY, timers={"cleanup": store.now_ms() - 1})
        task_id = stored.task.id
        await released(store, stored)
        assert await store.get(task_id) is None
        for call in (publish(store, task_id, message()), store.read(task_id), store.read(task_id, epoch=stored.epoch)):
            with pytest.raises(NotHot):
                await call
        assert list(await store.heads([Held(task_id, 0)])) == [None]
        assert await store.found_epoch(task_id, stored.epoch, 0) is None
        assert await listed(store, ListQuery()) == [] and sum((await store.tally()).values()) == 0
        assert list(await store.due("cleanup", 10, LONG_MS)) == []

    async def test_only_when_it_matches_exactly(self, store: HotStore) -> None:
        stored = await created(store, message(), message())
        task_id, at = stored.task.id, (stored.epoch, stored.last_index, stored.rev)
        for step in ((1, 0, 0), (0, 1, 0), (0, -1, 0), (0, 0, 1), (0, 0, -1)):
            epoch, last_index, rev = (known + off for known, off in zip(at, step, strict=True))
            assert await store.release(task_id, epoch, last_index, rev) is False
        assert await current(store, task_id) == stored
        assert await store.release(task_id, *at) is True
        assert await store.release(task_id, *at) is False
        assert await store.release(fresh_id(), 1, 0, 1) is False

    async def test_only_when_every_lane_has_passed(self, store: HotStore) -> None:
        stored = await created(store, message(), lanes=("archive", "settle"))
        task_id, at = stored.task.id, (stored.epoch, stored.last_index, stored.rev)
        assert await store.release(task_id, *at) is False
        await store.ack(await claim(store), 0, stored.rev)
        assert await store.release(task_id, *at) is False
        await store.ack(await claim(store, "settle"), 0, stored.rev)
        assert await store.release(task_id, *at) is True

    async def test_not_while_a_lane_lacks_the_record(self, store: HotStore) -> None:
        stored = await created(store, message(), lanes=("archive",))
        await pass_all(store, stored.task.id)
        after = (await replace(store, stored, status="completed")).stored
        assert await store.release(after.task.id, after.epoch, after.last_index, after.rev) is False
        await pass_all(store, stored.task.id)
        assert await store.release(after.task.id, after.epoch, after.last_index, after.rev) is True

    async def test_a_release_raced_by_publishers_loses_nothing(self, peers: Sequence[HotStore]) -> None:
        for _ in range(5):
            stored = await created(peers[0], message())
            task_id = stored.task.id

            async def release_or_write(n: int, stored: Stored = stored) -> None:
                if n % 4 == 1:
                    await peers[n % 2].release(stored.task.id, stored.epoch, stored.last_index, stored.rev)
                else:
                    await publish(peers[n % 2], stored.task.id, message())

            _, lost = await race(RACERS, release_or_write)
            there = await peers[0].get(task_id)
            assert all(isinstance(error, NotHot) for error in lost)
            if lost:
                assert there is None, "a publisher was refused although the task is hot"
            else:
                assert there is not None and there.last_index == 12


class RestoreCases(Contract):
    """``begin_restore``, ``restore``, ``open``."""

    capability: ClassVar[str] = "Cold"
    promise: ClassVar[str] = "a restored task is what it was, and a stale restorer is refused"

    async def test_a_restored_task_looks_as_before(self, store: HotStore) -> None:
        stored = await created(store, *RICH_HISTORY, type="x", tags=("y",))
        before = await portrait(store, stored.task.id)
        after = await restored(store, await released(store, stored))
        assert after == stored == await current(store, stored.task.id)
        assert await portrait(store, stored.task.id) == before
        assert await listed(store, ListQuery()) == [stored.task.id]

    async def test_a_restored_task_goes_on_as_if_nothing_had_been(self, store: HotStore) -> None:
        moved, stayed = await created(store, *RICH_HISTORY), await created(store, *RICH_HISTORY)
        await restored(store, await released(store, moved))
        portraits = []
        for stored in (moved, stayed):
            await publish(
                store, stored.task.id, delta("answer", "!", "other"), latest("progress", 101), message("more")
            )
            await publish(store, stored.task.id, delta("thought", "?", "text"), delta("answer", "new"))
            portraits.append(await portrait(store, stored.task.id))
        assert portraits[0].series == portraits[1].series
        assert portraits[0].folds == portraits[1].folds
        assert (portraits[0].counts, portraits[0].positions) == (portraits[1].counts, portraits[1].positions)

    async def test_an_empty_log(self, store: HotStore) -> None:
        stored = await created(store)
        after = await restored(store, await released(store, stored))
        assert after == stored
        assert (await publish(store, stored.task.id, message())).entries[0].index == 0

    async def test_guards_and_revisions_stand(self, store: HotStore) -> None:
        stored = (await replace(store, await created(store, message()), status="running")).stored
        await restored(store, await released(store, stored))
        change = Change((message(),), evolve(stored.record, timers={"ttl": 5}), Guard(rev=stored.rev))
        done = await store.commit(stored.task.id, change)
        assert (done.stored.rev, done.stored.last_index) == (stored.rev + 1, 1)

    async def test_timers_and_lanes_come_back(self, store: HotStore) -> None:
        at = store.now_ms() - 5
        stored = await created(store, message(), timers={"cleanup": at}, lanes=("archive",))
        await pass_all(store, stored.task.id)
        await restored(store, await released(store, stored))
        assert [due.due_at for due in await store.due("cleanup", 10, LONG_MS)] == [at]
        assert await store.has_passed(stored.task.id), "what was passed before is passed"
        await publish(store, stored.task.id, message())
        dirty = await claim(store)
        assert (dirty.cursor, dirty.rev) == (0, stored.rev)

    async def test_a_part_of_the_log(self, store: HotStore) -> None:
        stored = await created(store, *RICH_HISTORY)
        task_id = stored.task.id
        before = await portrait(store, task_id)
        copy = await released(store, stored, keep_last=5)
        assert copy.first_index > 0
        after = await restored(store, copy)
        assert after.first_index == copy.first_index and after.last_index == stored.last_index
        with pytest.raises(NotRetained):
            await store.read(task_id)
        kept = await whole_log(store, task_id, after=copy.first_index - 1)
        assert [e.id for e in entries_of(kept)] == [e.id for e in entries_of(copy.items)]
        for entry in entries_of(kept):
            assert await store.locate(task_id, entry.id) == entry.index
            if entry.series_mode == "accumulate":
                assert await store.fold(task_id, entry.series_id or "", entry.index) == before.folds[entry.index]
        everything, deltas = View(), View(types=["delta"])
        assert await store.count(task_id, everything, stored.last_index + 1) == stored.last_index + 1
        assert await store.count(task_id, deltas, stored.last_index + 1) == before.counts[2][-1]
        assert (await store.series(task_id)).states == before.series
        done = await publish(store, task_id, delta("answer", "!", "other"))
        assert await store.fold(task_id, "answer", done.entries[0].index) == {"other": "stop!"}

    async def test_an_unopened_copy_is_invisible(self, store: HotStore) -> None:
        stored = await created(store, message(), lanes=("archive",), timers={"cleanup": store.now_ms() - 1})
        task_id = stored.task.id
        await pass_all(store, task_id)
        copy = await released(store, stored)
        ticket = await store.begin_restore(task_id, LONG_MS)
        await store.restore(ticket, copy)
        assert await store.get(task_id) is None
        for call in (publish(store, task_id, message()), store.read(task_id), store.read(task_id, epoch=stored.epoch)):
            with pytest.raises(NotHot):
                await call
        assert list(await store.heads([Held(task_id, 0)])) == [None]
        assert await listed(store, ListQuery()) == []
        assert list(await store.due("cleanup", 10, LONG_MS)) == []
        assert await store.release(task_id, stored.epoch, stored.last_index, stored.rev) is False
        assert await store.open(ticket) == stored

    async def test_a_hot_task_has_no_ticket(self, store: HotStore) -> None:
        stored = await created(store, message())
        with pytest.raises(TaskExists):
            await store.begin_restore(stored.task.id, LONG_MS)

    async def test_a_second_restorer_waits_for_the_lease(self, store: HotStore, time: StoreTime) -> None:
        copy = await released(store, await created(store, message()))
        task_id = copy.record.task.id
        await store.begin_restore(task_id, time.roomy_ms)
        with pytest.raises(TicketRefused):
            await store.begin_restore(task_id, time.roomy_ms)
        await time.passes(time.roomy_ms)
        ticket = await store.begin_restore(task_id, LONG_MS)
        await store.restore(ticket, copy)
        assert (await store.open(ticket)).last_index == 0

    async def test_a_stale_restorer_is_refused(self, store: HotStore, time: StoreTime) -> None:
        copy = await released(store, await created(store, message("right")))
        task_id = copy.record.task.id
        stale = await store.begin_restore(task_id, time.brief_ms)
        await time.passes(time.brief_ms)
        fresh = await store.begin_restore(task_id, LONG_MS)
        with pytest.raises(TicketRefused):
            await store.restore(stale, evolve(copy, items=(), last_index=-1))
        await store.restore(fresh, copy)
        with pytest.raises(TicketRefused):
            await store.open(stale)
        assert (await store.open(fresh)).last_index == 0
        with pytest.raises(TicketRefused):
            await store.restore(stale, copy)
        with pytest.raises(TicketRefused):
            await store.open(stale)
        assert [e.type for e in entries_of(await whole_log(store, task_id))] == ["right"]

    async def test_an_ended_lease_is_refused_though_nobody_else_came(self, store: HotStore, time: StoreTime) -> None:
        copy = await released(store, await created(store, message()))
        ticket = await store.begin_restore(copy.record.task.id, time.roomy_ms)
        await store.restore(ticket, copy)
        await time.passes(time.roomy_ms)
        with pytest.raises(TicketRefused):
            await store.open(ticket)
        assert await store.get(copy.record.task.id) is None
        assert (await restored(store, copy)).last_index == 0

    async def test_made_up_and_used_tickets_are_refused(self, store: HotStore) -> None:
        copy = await released(store, await created(store, message()))
        task_id = copy.record.task.id
        with pytest.raises(TicketRefused):
            await store.restore(RestoreTicket(task_id, "made up"), copy)
        ticket = await store.begin_restore(task_id, LONG_MS)
        with pytest.raises(TicketRefused):
            await store.open(RestoreTicket(task_id, "made up"))
        with pytest.raises(TicketRefused):
            await store.open(ticket)
        await store.restore(ticket, copy)
        await store.open(ticket)
        with pytest.raises(TicketRefused):
            await store.open(ticket)

    async def test_one_of_many_racing_restorers_wins(self, peers: Sequence[HotStore]) -> None:
        copy = await released(peers[0], await created(peers[0], *RICH_HISTORY))

        async def restore(n: int) -> Stored:
            ticket = await peers[n % 2].begin_restore(copy.record.task.id, LONG_MS)
            await peers[n % 2].restore(ticket, copy)
            return await peers[n % 2].open(ticket)

        won, lost = await race(RACERS, restore)
        assert len(won) == 1 and all(isinstance(error, TicketRefused | TaskExists) for error in lost)

    async def test_nothing_is_created_while_a_restore_runs(self, store: HotStore) -> None:
        copy = await released(store, await created(store, message()))
        ticket = await store.begin_restore(copy.record.task.id, LONG_MS)
        with pytest.raises((TaskExists, TaskDeleting)):
            await created(store, id=copy.record.task.id)
        await store.restore(ticket, copy)
        with pytest.raises((TaskExists, TaskDeleting)):
            await created(store, id=copy.record.task.id)
        await store.open(ticket)

    async def test_a_deleted_epoch_is_not_restored(self, store: HotStore, time: StoreTime) -> None:
        stored = await created(store, message())
        task_id = stored.task.id
        copy = await copy_of(store, task_id)
        await store.delete(task_id, linger_ms=0)
        with pytest.raises(TaskDeleting):
            await store.begin_restore(task_id, LONG_MS)
        assert await store.purge(task_id, tombstone_ms=LONG_MS) is True
        with pytest.raises((TaskDeleting, TicketRefused)):
            await restored(store, copy)
        assert await store.get(task_id) is None

    async def test_a_tombstone_ends(self, store: HotStore, time: StoreTime) -> None:
        stored = await created(store, message())
        copy = await copy_of(store, stored.task.id)
        await store.delete(stored.task.id, linger_ms=0)
        assert await store.purge(stored.task.id, tombstone_ms=time.brief_ms) is True
        await time.passes(time.brief_ms)
        assert (await restored(store, copy)).last_index == 0

    async def test_a_transitions_key_outlives_release_and_restore(self, store: HotStore) -> None:
        key, before = a_key(), await created(store)
        first = await replace(store, before, message(), key=key, status="running")
        await restored(store, await released(store, first.stored))
        again = await replace(store, before, message(), key=key, status="running")
        assert again.replayed and again.stored.record == first.stored.record
        assert (await current(store, before.task.id)).last_index == 0

    async def test_there_and_back_three_times(self, store: HotStore) -> None:
        stored = await created(store, *RICH_HISTORY)
        for n in range(3):
            stored = await restored(store, await released(store, stored))
            stored = (
                await publish(store, stored.task.id, delta("thought", str(n), "text"), latest("progress", n))
            ).stored
        before = await portrait(store, stored.task.id)
        assert before.folds[stored.last_index - 1] == {"text": "hm012"}
        await restored(store, await released(store, stored))
        assert await portrait(store, stored.task.id) == before


class ColdContract(ReleaseCases, RestoreCases, ShedCases, ReplaceCases):
    """Everything that ``taskcast_core.contracts.Cold`` promises (needs the other hot contracts). Override ``store``."""
