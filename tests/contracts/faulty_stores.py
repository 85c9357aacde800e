"""Memory stores that break one promise each, and the cases that have to notice.

Not collected by itself: ``test_kit_catches_faults`` runs it and looks at what failed.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from typing import Any, ClassVar, Self

import pytest
from attrs import evolve

from taskcast_core.builtin.memory_broadcast import MemoryBroadcastProvider
from taskcast_core.builtin.memory_store import MemoryShortTermStore
from taskcast_core.contracts import (
    ALL_TASKS,
    Assignment,
    Bell,
    Change,
    Committed,
    Dirty,
    Due,
    Guard,
    Key,
    Listener,
    ListPage,
    ListQuery,
    LogCopy,
    Page,
    Record,
    RestoreTicket,
    Stored,
    TimerKind,
    TrimRule,
)
from taskcast_core.entries import Entry, Hole
from taskcast_core.errors import TicketRefused
from taskcast_core.filters import View
from taskcast_core.ids import parse_event_id
from taskcast_core.testing import BroadcastContract, DeadlinesContract, ListingContract, ManualClock
from taskcast_core.testing.cold import ReleaseCases, RestoreCases
from taskcast_core.testing.commits import CommitCases, CreateCases, GuardCases, LimitCases
from taskcast_core.testing.contract import Contract
from taskcast_core.testing.deletion import DeletionCases
from taskcast_core.testing.epochs import EpochCases
from taskcast_core.testing.followers import LeaseCases, MarkCases, WaitingCases
from taskcast_core.testing.keys import KeyCases
from taskcast_core.testing.making import holes_of
from taskcast_core.testing.model import ModelCases
from taskcast_core.testing.payloads import PayloadCases
from taskcast_core.testing.reading import PositionCases, ReadCases
from taskcast_core.testing.removed import RemovedCases
from taskcast_core.testing.series import HoleCases, SeriesCases
from taskcast_core.testing.trimming import TrimCases
from taskcast_core.testing.workers import SlotCases


class _OfMemory(Contract):
    """Runs its cases against ``make``."""

    make: ClassVar[type[MemoryShortTermStore]] = MemoryShortTermStore

    @pytest.fixture
    def clock(self) -> ManualClock:
        return ManualClock()

    @pytest.fixture
    async def store(self, clock: ManualClock) -> AsyncIterator[MemoryShortTermStore]:
        async with self.make(clock=clock) as store:
            yield store


class TestFlawless(
    _OfMemory, CreateCases, CommitCases, GuardCases, KeyCases, HoleCases, RemovedCases, TrimCases, RestoreCases
):
    pass


class TornBatch(MemoryShortTermStore):
    async def commit(self, task_id: str, change: Change) -> Committed:
        if len(change.events) < 2 or change.record or change.key:
            return await super().commit(task_id, change)
        parts = []
        for event in change.events:
            parts.append(await super().commit(task_id, evolve(change, events=(event,))))
            await asyncio.sleep(0)
        return Committed(parts[-1].stored, tuple(entry for part in parts for entry in part.entries))


class TestTornBatch(_OfMemory, CommitCases):
    make = TornBatch


class TestTornBatchAtLimits(_OfMemory, LimitCases):
    make = TornBatch


class LateRecord(MemoryShortTermStore):
    """Keeps records apart from logs, and hears of a commit a little later than readers of the log."""

    async def __aenter__(self) -> Self:
        self._before: dict[str, Stored | None] = {}
        return await super().__aenter__()

    async def get(self, task_id: str) -> Stored | None:
        return self._before[task_id] if task_id in self._before else await super().get(task_id)

    async def commit(self, task_id: str, change: Change) -> Committed:
        self._before[task_id] = await super().get(task_id)
        done = await super().commit(task_id, change)
        await asyncio.sleep(0.001)
        del self._before[task_id]
        return done


class TestLateRecord(_OfMemory, CommitCases):
    make = LateRecord


class IgnoredGuard(MemoryShortTermStore):
    async def commit(self, task_id: str, change: Change) -> Committed:
        return await super().commit(task_id, evolve(change, guard=Guard()))


class TestIgnoredGuard(_OfMemory, GuardCases):
    make = IgnoredGuard


class ForgottenKey(MemoryShortTermStore):
    async def commit(self, task_id: str, change: Change) -> Committed:
        return await super().commit(task_id, evolve(change, key=None))


class TestForgottenKey(_OfMemory, KeyCases):
    make = ForgottenKey


class UnreadBody(MemoryShortTermStore):
    async def reserve(self, key: Key, task_id: str) -> str:
        return await super().reserve(evolve(key, body_hash="any"), task_id)


class TestUnreadBody(_OfMemory, KeyCases):
    make = UnreadBody


class UncountedHole(MemoryShortTermStore):
    async def count(self, task_id: str, view: View, before: int, *, epoch: int | None = None) -> int:
        page = await super().read(task_id, epoch=epoch, before=before, limit=10**6)
        return sum(view.matches(item.type, item.level) for item in page.items if isinstance(item, Entry))


class TestUncountedHole(_OfMemory, PositionCases):
    make = UncountedHole


class TestUncountedHoleInModel(_OfMemory, ModelCases):
    make = UncountedHole


class MovedInHole(MemoryShortTermStore):
    """Counts what was removed at the end of its hole: right at every edge, until a hole grows around a reader."""

    async def count(self, task_id: str, view: View, before: int, *, epoch: int | None = None) -> int:
        page = await super().read(task_id, epoch=epoch, limit=10**6)
        around = (hole for hole in holes_of(page.items) if hole.first < before <= hole.last)
        return await super().count(task_id, view, next((hole.first for hole in around), before), epoch=epoch)

    async def read(self, task_id: str, **where: Any) -> Page:
        page = await super().read(task_id, **where)
        whole = {hole.last: hole.counts for hole in holes_of((await super().read(task_id, limit=10**6)).items)}
        moved = [
            evolve(each, counts=whole.get(each.last, {})) if isinstance(each, Hole) else each for each in page.items
        ]
        return evolve(page, items=tuple(moved))


class TestMovedInHole(_OfMemory, RemovedCases):
    make = MovedInHole


class HiddenHole(MemoryShortTermStore):
    async def read(self, task_id: str, **where: Any) -> Page:
        page = await super().read(task_id, **where)
        return evolve(page, items=tuple(item for item in page.items if isinstance(item, Entry)))


class TestHiddenHole(_OfMemory, HoleCases):
    make = HiddenHole


class BelievedId(MemoryShortTermStore):
    async def locate(self, task_id: str, event_id: str, *, epoch: int | None = None) -> int | None:
        position = parse_event_id(event_id)
        head = (await super().read(task_id, epoch=epoch, limit=1)).log_last
        return position.index if position and position.index <= head else None


class TestBelievedId(_OfMemory, PositionCases):
    make = BelievedId


class EndlessTotal(MemoryShortTermStore):
    """Adds up every delta, also over a restart."""

    async def fold(self, task_id: str, series_id: str, index: int, *, epoch: int | None = None) -> Any:
        folded = await super().fold(task_id, series_id, index, epoch=epoch)
        page = await super().read(task_id, before=index + 1, limit=10**6)
        mine = [i.data for i in page.items if isinstance(i, Entry) and i.series_id == series_id]
        texts = [data.get("delta") for data in mine if isinstance(data, dict)]
        if not isinstance(folded, dict) or "delta" not in folded:
            return folded
        return {**folded, "delta": "".join(text for text in texts if isinstance(text, str))}


class TestEndlessTotal(_OfMemory, SeriesCases):
    make = EndlessTotal


class SortedKeys(MemoryShortTermStore):
    async def commit(self, task_id: str, change: Change) -> Committed:
        events = tuple(evolve(e, data=json.loads(json.dumps(e.data, sort_keys=True))) for e in change.events)
        return await super().commit(task_id, evolve(change, events=events))


class TestSortedKeys(_OfMemory, PayloadCases):
    make = SortedKeys


class GreedyTrim(MemoryShortTermStore):
    """Passes the lanes that are in its way."""

    async def trim(self, task_id: str, epoch: int, rule: TrimRule, limit: int = 10_000) -> int:
        stored = await super().get(task_id)
        assert stored is not None
        for kind in ("archive", "webhook", "settle"):
            for dirty in await super().claim_dirty(kind, "trim", 100, 1000):
                await super().ack(dirty, stored.last_index, stored.rev)
        return await super().trim(task_id, epoch, rule, limit)


class TestGreedyTrim(_OfMemory, WaitingCases):
    make = GreedyTrim


class CarelessTrim(MemoryShortTermStore):
    """Removes the ends of series, too."""

    async def trim(self, task_id: str, epoch: int, rule: TrimRule, limit: int = 10_000) -> int:
        return await super().trim(task_id, epoch, evolve(rule, keep_series_ends=False), limit)


class TestCarelessTrim(_OfMemory, TrimCases):
    make = CarelessTrim


class UncomparedEpoch(MemoryShortTermStore):
    async def found_epoch(self, task_id: str, seen_epoch: int, floor: int) -> Stored | None:
        stored = await super().get(task_id)
        return await super().found_epoch(task_id, stored.epoch if stored else seen_epoch, floor)


class TestUncomparedEpoch(_OfMemory, EpochCases):
    make = UncomparedEpoch


class NoTombstone(MemoryShortTermStore):
    async def purge(self, task_id: str, *, tombstone_ms: int) -> bool:
        return await super().purge(task_id, tombstone_ms=0)


class TestNoTombstone(_OfMemory, DeletionCases):
    make = NoTombstone


class TestNoTombstoneForRestores(_OfMemory, RestoreCases):
    make = NoTombstone


class RashRelease(MemoryShortTermStore):
    async def release(self, task_id: str, epoch: int, last_index: int, rev: int) -> bool:
        stored = await super().get(task_id)
        return stored is not None and await super().release(task_id, epoch, stored.last_index, stored.rev)


class TestRashRelease(_OfMemory, ReleaseCases):
    make = RashRelease


class StaleRestorer(MemoryShortTermStore):
    """Knows restorers by their task only."""

    def __init__(self, clock: Any = None) -> None:
        super().__init__(clock)
        self._newest: dict[str, RestoreTicket] = {}

    async def begin_restore(self, task_id: str, lease_ms: int) -> RestoreTicket:
        self._newest[task_id] = await super().begin_restore(task_id, lease_ms)
        return self._newest[task_id]

    async def restore(self, ticket: RestoreTicket, copy: LogCopy) -> None:
        await super().restore(self._newest[ticket.task_id], copy)

    async def open(self, ticket: RestoreTicket) -> Stored:
        return await super().open(self._newest[ticket.task_id])


class TestStaleRestorer(_OfMemory, RestoreCases):
    make = StaleRestorer


class ForgetfulAck(MemoryShortTermStore):
    """Clears the mark although something newer came behind the claim."""

    async def ack(self, dirty: Dirty, last_index: int, rev: int) -> None:
        stored = await super().get(dirty.task_id)
        await super().ack(dirty, stored.last_index if stored else last_index, stored.rev if stored else rev)


class TestForgetfulAck(_OfMemory, MarkCases):
    make = ForgetfulAck


class BelievedOwner(MemoryShortTermStore):
    """Takes an acknowledgement from whoever held the lane once."""

    async def ack(self, dirty: Dirty, last_index: int, rev: int) -> None:
        try:
            await super().ack(dirty, last_index, rev)
        except TicketRefused:
            return


class TestBelievedOwner(_OfMemory, LeaseCases):
    make = BelievedOwner


class UnleasedTimer(MemoryShortTermStore):
    async def due(self, kind: TimerKind, limit: int, lease_ms: int) -> Sequence[Due]:
        return await super().due(kind, limit, 0)


class TestUnleasedTimer(_OfMemory, DeadlinesContract):
    make = UnleasedTimer


class StickyTimers(MemoryShortTermStore):
    """Merges a new record's timers with the old ones."""

    async def commit(self, task_id: str, change: Change) -> Committed:
        before = await super().get(task_id)
        if change.record and before:
            record = evolve(change.record, timers={**before.record.timers, **change.record.timers})
            change = evolve(change, record=record)
        return await super().commit(task_id, change)


class TestStickyTimers(_OfMemory, DeadlinesContract):
    make = StickyTimers


class OffsetPages(MemoryShortTermStore):
    async def list(self, query: ListQuery) -> ListPage:
        offset = int(query.cursor or 0)
        found = (await super().list(evolve(query, cursor=None, limit=10**6))).tasks
        end = offset + query.limit
        return ListPage(found[offset:end], str(end) if end < len(found) else None)


class TestOffsetPages(_OfMemory, ListingContract):
    make = OffsetPages


class Overbooking(MemoryShortTermStore):
    async def reserve_slot(self, assignment: Assignment) -> bool:
        return await super().reserve_slot(evolve(assignment, cost=0))


class TestOverbooking(_OfMemory, SlotCases):
    make = Overbooking


class EndsTwice(MemoryShortTermStore):
    def __init__(self, clock: Any = None) -> None:
        super().__init__(clock)
        self._ended: dict[str, Assignment] = {}

    async def release_slot(self, assignment_id: str) -> Assignment | None:
        if ended := await super().release_slot(assignment_id):
            self._ended[assignment_id] = ended
        return self._ended.get(assignment_id)


class TestEndsTwice(_OfMemory, SlotCases):
    make = EndsTwice


class NoEpochCheck(MemoryShortTermStore):
    async def read(self, task_id: str, **where: Any) -> Page:
        return await super().read(task_id, **where | {"epoch": None})


class TestNoEpochCheck(_OfMemory, ReadCases):
    make = NoEpochCheck


class Hanging(MemoryShortTermStore):
    async def get(self, task_id: str) -> Stored | None:
        await asyncio.sleep(3600)
        return None


class TestHanging(_OfMemory, CreateCases):
    make = Hanging
    case_deadline_s = 0.1


class Littering(MemoryShortTermStore):
    """Leaves a task behind with every keyed creation."""

    async def create(self, record: Record, key: Key | None = None) -> Committed:
        if key:
            self.litter = asyncio.create_task(asyncio.sleep(3600))
        return await super().create(record, key)


class TestLittering(_OfMemory, CreateCases):
    make = Littering


class LostCase(_OfMemory, CreateCases):
    """Not a faulty store but a faulty author."""


class TestRemovedCase(LostCase):
    test_an_id_is_taken_once = None  # type: ignore[assignment]


class TestEmptiedCase(LostCase):
    async def test_an_id_is_taken_once(self) -> None:  # type: ignore[override]
        return


class NoisyBroadcast(MemoryBroadcastProvider):
    """Lets every listener hear everything."""

    @asynccontextmanager
    async def listen(self, on_bell: Callable[[Bell], None], on_absence: Callable[[], None]) -> AsyncIterator[Listener]:
        async with super().listen(on_bell, on_absence) as listener:
            await listener.follow([ALL_TASKS])
            yield listener


class TestNoisyBroadcast(BroadcastContract):
    @pytest.fixture
    def broadcast(self) -> NoisyBroadcast:
        return NoisyBroadcast()
