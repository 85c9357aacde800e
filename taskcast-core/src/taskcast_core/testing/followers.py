"""The cases of Followers: leases, cursors, dirty marks, dead letters; and what waits for a follower."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import ClassVar, Protocol

import pytest

from taskcast_core.contracts import DeadLetter, Dirty, FollowerKind, Followers, TaskLog, TrimRule
from taskcast_core.errors import NotHot, TaskDeleting, TicketRefused
from taskcast_core.testing.contract import LONG_MS, Contract, StoreTime
from taskcast_core.testing.making import (
    created,
    current,
    delta,
    entries_of,
    eventually,
    fresh_id,
    message,
    publish,
    race,
    replace,
    whole_log,
)

RACERS = 16
ALL = TrimRule(keep_series_ends=False)


class FollowedLog(TaskLog, Followers, Protocol):
    """A store with an outbox."""


async def claim(store: Followers, kind: FollowerKind = "archive", lease_ms: int = LONG_MS) -> Dirty:
    """The one lane of a kind that is dirty."""
    (dirty,) = await store.claim_dirty(kind, "somebody", 10, lease_ms)
    return dirty


async def pass_all(store: FollowedLog, task_id: str, lane: str = "archive") -> None:
    """Let a lane pass everything that its task has now."""
    stored = await current(store, task_id)
    dirty = next(d for d in await store.claim_dirty("archive", "somebody", 100, LONG_MS) if d.lane == lane)
    await store.ack(dirty, stored.last_index, stored.rev)


async def is_clean(store: Followers, kind: FollowerKind = "archive") -> bool:
    """Whether no lane of a kind can be claimed."""
    return not await store.claim_dirty(kind, "a look", 1, 1)


class MarkCases(Contract):
    """Dirty marks and cursors."""

    capability: ClassVar[str] = "Followers"
    promise: ClassVar[str] = "every commit marks its lanes, and a mark goes only when nothing newer is left"

    async def test_creation_and_commits_mark(self, store: FollowedLog) -> None:
        task_id = (await created(store, lanes=("archive",))).task.id
        first = await claim(store)
        assert (first.task_id, first.lane, first.cursor, first.rev, first.attempt) == (task_id, "archive", -1, 0, 0)
        assert not first.deleted
        await store.ack(first, -1, 1)
        assert await is_clean(store)
        after = (await publish(store, task_id, message(), message())).stored
        second = await claim(store)
        assert (second.cursor, second.rev, second.task_rev, second.epoch) == (-1, 1, after.rev, after.epoch)
        await store.ack(second, 1, after.rev)
        await replace(store, after, status="running")
        third = await claim(store)
        assert (third.cursor, third.rev, third.task_rev) == (1, after.rev, after.rev + 1)

    async def test_a_task_without_lanes_is_never_dirty(self, store: FollowedLog) -> None:
        await publish(store, (await created(store)).task.id, message())
        for kind in ("archive", "webhook", "settle"):
            assert await is_clean(store, kind)

    async def test_a_commit_behind_the_claim_keeps_the_mark(self, store: FollowedLog) -> None:
        task_id = (await created(store, message(), lanes=("archive",))).task.id
        dirty = await claim(store)
        await publish(store, task_id, message())
        await store.ack(dirty, 0, 1)
        again = await claim(store)
        assert (again.cursor, again.rev) == (0, 1)

    async def test_a_new_record_behind_the_claim_keeps_the_mark(self, store: FollowedLog) -> None:
        stored = await created(store, message(), lanes=("archive",))
        dirty = await claim(store)
        await replace(store, stored, status="running")
        await store.ack(dirty, 0, stored.rev)
        assert (await claim(store)).rev == stored.rev

    async def test_part_of_the_way(self, store: FollowedLog) -> None:
        await created(store, *[message()] * 5, lanes=("archive",))
        await store.ack(await claim(store), 2, 1)
        assert (await claim(store)).cursor == 2

    async def test_lanes_of_a_kind_are_apart(self, store: FollowedLog) -> None:
        task_id = (await created(store, message(), lanes=("webhook:0", "webhook:1", "settle"))).task.id
        hooks = await store.claim_dirty("webhook", "me", 10, LONG_MS)
        assert sorted(dirty.lane for dirty in hooks) == ["webhook:0", "webhook:1"]
        await store.ack(hooks[0], 0, 1)
        assert (await claim(store, "settle")).task_id == task_id
        assert await is_clean(store)

    async def test_the_mark_and_the_commit_are_one_step(self, peers: Sequence[FollowedLog]) -> None:
        """Whatever a follower misses in one look, it finds in the next: nothing is acknowledged unseen."""
        task_id = (await created(peers[0], lanes=("archive",))).task.id
        seen: list[int] = []
        done = asyncio.Event()

        async def write() -> None:
            for n in range(60):
                await publish(peers[0], task_id, message(data=n))
            done.set()

        async def follow() -> None:
            while True:
                is_last = done.is_set()
                for dirty in await peers[1].claim_dirty("archive", "me", 1, LONG_MS):
                    page = await peers[1].read(task_id, after=dirty.cursor, limit=7)
                    seen.extend(entry.index for entry in entries_of(page.items))
                    await peers[1].ack(dirty, page.last, 1)
                    is_last = False
                if is_last:
                    return
                await asyncio.sleep(0)

        await asyncio.gather(write(), follow())
        assert seen == list(range(60))

    async def test_all_have_passed(self, store: FollowedLog) -> None:
        task_id = (await created(store, message(), lanes=("archive", "settle"))).task.id
        assert not await store.has_passed(task_id)
        await store.ack(await claim(store), 0, 1)
        assert not await store.has_passed(task_id)
        await store.ack(await claim(store, "settle"), 0, 1)
        assert await store.has_passed(task_id)
        await publish(store, task_id, message())
        assert not await store.has_passed(task_id)

    async def test_nobody_has_to_pass_what_nobody_follows(self, store: FollowedLog) -> None:
        assert await store.has_passed((await created(store, message())).task.id)
        assert await store.has_passed(fresh_id())

    async def test_a_new_epoch_sends_lanes_back_to_its_floor(self, store: FollowedLog) -> None:
        stored = await created(store, *[message()] * 4, lanes=("archive",))
        await pass_all(store, stored.task.id)
        await store.found_epoch(stored.task.id, stored.epoch, 1)
        await publish(store, stored.task.id, message())
        dirty = await claim(store)
        assert dirty.cursor <= 1 and dirty.epoch > stored.epoch

    async def test_backlog(self, store: FollowedLog, time: StoreTime) -> None:
        await created(store, *[message()] * 3, lanes=("archive",))
        await created(store, message(), lanes=("archive", "settle"))
        await time.passes(20)

        async def is_right() -> bool:
            backlog = await store.backlog("archive")
            return (backlog.lanes, backlog.events) == (2, 4) and 20 <= backlog.oldest_ms < LONG_MS

        await eventually(is_right)
        for _ in range(2):
            dirty = (await store.claim_dirty("archive", "me", 1, LONG_MS))[0]
            await store.ack(dirty, (await current(store, dirty.task_id)).last_index, 1)

        async def is_empty() -> bool:
            backlog = await store.backlog("archive")
            return (backlog.lanes, backlog.events, backlog.oldest_ms) == (0, 0, 0)

        await eventually(is_empty)


class LeaseCases(Contract):
    """Claims, renewals, deferrals."""

    capability: ClassVar[str] = "Followers"
    promise: ClassVar[str] = "a lane has one owner at a time, and a stale one is refused"

    async def test_a_claimed_lane_is_left_out(self, store: FollowedLog) -> None:
        await created(store, message(), lanes=("archive",))
        await claim(store)
        assert await is_clean(store)

    async def test_one_of_many_racing_claimers_gets_each_lane(self, peers: Sequence[FollowedLog]) -> None:
        for _ in range(10):
            await created(peers[0], message(), lanes=("archive",))
        claims, lost = await race(RACERS, lambda n: peers[n % 2].claim_dirty("archive", f"owner-{n}", 3, LONG_MS))
        assert not lost and all(len(mine) <= 3 for mine in claims)
        tasks = [dirty.task_id for mine in claims for dirty in mine]
        assert len(tasks) == len(set(tasks)) == 10
        assert len({dirty.token for mine in claims for dirty in mine}) == 10

    async def test_the_longest_waiting_come_first(self, store: FollowedLog, time: StoreTime) -> None:
        tasks = []
        for _ in range(4):
            tasks.append((await created(store, message(), lanes=("archive",))).task.id)
            await time.passes(3)
        await publish(store, tasks[0], message())
        claimed = [d.task_id for _ in range(2) for d in await store.claim_dirty("archive", "me", 2, LONG_MS)]
        assert claimed == tasks

    async def test_an_ended_lease_goes_to_the_next(self, store: FollowedLog, time: StoreTime) -> None:
        await created(store, message(), lanes=("archive",))
        stale = await claim(store, lease_ms=time.brief_ms)
        await time.passes(time.brief_ms)
        fresh = await claim(store)
        assert fresh.token != stale.token and fresh.cursor == -1
        await store.ack(fresh, 0, 1)

    async def test_a_stale_owner_is_refused(self, store: FollowedLog, time: StoreTime) -> None:
        await created(store, *[message()] * 3, lanes=("archive",))
        stale = await claim(store, lease_ms=time.brief_ms)
        await time.passes(time.brief_ms)
        fresh = await claim(store)
        for call in (
            store.renew(stale, LONG_MS), store.ack(stale, 2, 1), store.defer(stale, 2, 5, store.now_ms() + LONG_MS),
        ):  # fmt: skip
            with pytest.raises(TicketRefused):
                await call
        await store.ack(fresh, 0, 1)
        again = await claim(store)
        assert (again.cursor, again.attempt) == (0, 0)

    async def test_an_ended_lease_is_refused_though_nobody_else_came(self, store: FollowedLog, time: StoreTime) -> None:
        await created(store, message(), lanes=("archive",))
        stale = await claim(store, lease_ms=time.brief_ms)
        await time.passes(time.brief_ms)
        with pytest.raises(TicketRefused):
            await store.ack(stale, 0, 1)
        assert (await claim(store)).cursor == -1

    async def test_a_lane_is_given_back_once(self, store: FollowedLog) -> None:
        await created(store, message(), lanes=("archive",))
        dirty = await claim(store)
        await store.ack(dirty, 0, 1)
        with pytest.raises(TicketRefused):
            await store.ack(dirty, 0, 1)

    async def test_a_renewed_lease_lasts(self, store: FollowedLog, time: StoreTime) -> None:
        await created(store, message(), lanes=("archive",))
        dirty = await claim(store, lease_ms=time.roomy_ms)
        await store.renew(dirty, LONG_MS)
        await time.passes(time.roomy_ms)
        assert await is_clean(store)
        await store.ack(dirty, 0, 1)

    async def test_a_deferred_lane_waits(self, store: FollowedLog, time: StoreTime) -> None:
        task_id = (await created(store, *[message()] * 3, lanes=("archive",))).task.id
        await store.defer(await claim(store), 0, 2, store.now_ms() + time.roomy_ms)
        assert await is_clean(store)
        await time.passes(time.roomy_ms)
        dirty = await claim(store)
        assert (dirty.task_id, dirty.cursor, dirty.attempt) == (task_id, 0, 2)
        await store.ack(dirty, 1, 1)
        assert (await claim(store)).attempt == 0

    async def test_a_deferred_lane_holds_up_no_other(self, store: FollowedLog) -> None:
        await created(store, message(), lanes=("webhook:0", "webhook:1"))
        first, second = await store.claim_dirty("webhook", "me", 10, LONG_MS)
        await store.defer(first, -1, 1, store.now_ms() + LONG_MS)
        await store.ack(second, 0, 1)
        task_id = first.task_id
        await publish(store, task_id, message())
        assert [d.lane for d in await store.claim_dirty("webhook", "me", 10, LONG_MS)] == [second.lane]


class WaitingCases(Contract):
    """What must not overtake a follower."""

    capability: ClassVar[str] = "Followers"
    promise: ClassVar[str] = "nothing that a follower has not passed is trimmed or purged"

    async def test_trimming_never_passes_the_slowest_lane(self, store: FollowedLog) -> None:
        stored = await created(store, *[message(data=n) for n in range(6)], lanes=("archive", "webhook:0"))
        task_id = stored.task.id
        assert await store.trim(task_id, stored.epoch, ALL) == 0
        await store.ack(await claim(store), 5, 1)
        assert await store.trim(task_id, stored.epoch, ALL) == 0
        await store.ack(await claim(store, "webhook"), 2, 1)
        assert await store.trim(task_id, stored.epoch, ALL) == 3
        assert [e.index for e in entries_of(await whole_log(store, task_id))] == [3, 4, 5]
        await store.ack(await claim(store, "webhook"), 5, 1)
        assert await store.trim(task_id, stored.epoch, ALL) == 3

    async def test_a_lane_added_later_holds_back_trimming(self, store: FollowedLog) -> None:
        stored = await created(store, message(), lanes=("archive",))
        await store.ack(await claim(store), 0, 1)
        await replace(store, stored, lanes=("archive", "webhook:0"))
        assert await store.trim(stored.task.id, stored.epoch, ALL) == 0

    async def test_a_series_is_not_lost_under_a_slow_lane(self, store: FollowedLog) -> None:
        stored = await created(store, delta("s", "a"), delta("s", "b"), lanes=("archive",))
        await store.ack(await claim(store), 0, 1)
        assert await store.trim(stored.task.id, stored.epoch, ALL) == 1
        assert await store.fold(stored.task.id, "s", 1) == {"delta": "ab"}

    async def test_a_deleted_task_waits_for_its_lanes(self, store: FollowedLog) -> None:
        stored = await created(store, message(), message(), lanes=("archive", "settle"))
        task_id = stored.task.id
        await store.delete(task_id, linger_ms=0)
        assert await store.purge(task_id, tombstone_ms=LONG_MS) is False
        with pytest.raises(TaskDeleting):
            await created(store, id=task_id)
        dirty = await claim(store)
        assert (dirty.task_id, dirty.deleted) == (task_id, True)
        assert len(entries_of((await store.read(task_id, epoch=dirty.epoch)).items)) == 2
        await store.ack(dirty, 1, stored.rev)
        assert await store.purge(task_id, tombstone_ms=LONG_MS) is False
        await store.ack(await claim(store, "settle"), 1, stored.rev)
        assert await store.purge(task_id, tombstone_ms=LONG_MS) is True
        with pytest.raises(NotHot):
            await store.read(task_id, epoch=stored.epoch)
        assert await is_clean(store) and await is_clean(store, "settle")

    async def test_the_lanes_of_an_id_made_anew_begin_anew(self, store: FollowedLog) -> None:
        stored = await created(store, *[message()] * 3, lanes=("archive",))
        task_id = stored.task.id
        await pass_all(store, task_id)
        await store.delete(task_id, linger_ms=0)
        for dirty in await store.claim_dirty("archive", "me", 10, LONG_MS):
            await store.ack(dirty, stored.last_index, stored.rev)
        assert await store.purge(task_id, tombstone_ms=LONG_MS) is True
        await created(store, message(), id=task_id, lanes=("archive",))
        dirty = await claim(store)
        assert (dirty.task_id, dirty.cursor, dirty.rev, dirty.deleted) == (task_id, -1, 0, False)


class DeadLetterCases(Contract):
    """Dead letters."""

    capability: ClassVar[str] = "Followers"
    promise: ClassVar[str] = "a dead letter is kept until it is taken, by one caller"

    def _letter(self, id_: str, task_id: str = "t") -> DeadLetter:
        return DeadLetter(id_, task_id, "webhook:0", 3, 1_700_000_000_000, {"status": 500, "body": "n\x00pe"})

    async def test_letters_are_listed_in_id_order(self, store: FollowedLog) -> None:
        ids = [f"letter-{n:02}" for n in range(7)]
        for id_ in reversed(ids):
            await store.add_dead_letter(self._letter(id_))
        assert [letter.id for letter in await store.dead_letters(100)] == ids
        assert [letter.id for letter in await store.dead_letters(3)] == ids[:3]
        assert [letter.id for letter in await store.dead_letters(3, after=ids[2])] == ids[3:6]
        assert (await store.dead_letters(1))[0] == self._letter(ids[0])

    async def test_the_same_letter_twice_is_one(self, store: FollowedLog) -> None:
        for _ in range(2):
            await store.add_dead_letter(self._letter("one"))
        assert len(await store.dead_letters(10)) == 1

    async def test_a_letter_is_taken_once(self, peers: Sequence[FollowedLog]) -> None:
        await peers[0].add_dead_letter(self._letter("one"))
        taken, lost = await race(RACERS, lambda n: peers[n % 2].take_dead_letter("one"))
        assert not lost and [letter for letter in taken if letter] == [self._letter("one")]
        assert list(await peers[0].dead_letters(10)) == []
        assert await peers[0].take_dead_letter("never") is None


class FollowersContract(MarkCases, LeaseCases, WaitingCases, DeadLetterCases):
    """Everything that ``taskcast_core.contracts.Followers`` promises. Override the fixture ``store``."""
