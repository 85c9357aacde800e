"""The cases of Broadcast: bells that are heard by whoever follows their channel."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AbstractAsyncContextManager
from functools import partial
from typing import Any, ClassVar

import pytest

from taskcast_core.contracts import ALL_TASKS, Bell, Broadcast
from taskcast_core.entries import Entry, Origin
from taskcast_core.ids import new_salt
from taskcast_core.models import EventDraft
from taskcast_core.testing.contract import Contract
from taskcast_core.testing.making import eventually, fresh_id, message
from taskcast_core.testing.payloads import ODD

CREATED_AT = 1_700_000_000_000
QUIET_S = 0.15
"""How long a bell that must not be heard is waited for, after one that must has been."""


def a_bell(channel: str, *drafts: EventDraft, first_index: int = 0, task_id: str | None = None) -> Bell:
    """News of a task."""
    origin = Origin(task_id or channel, 3, new_salt())
    entries = tuple(Entry(origin, first_index + n, CREATED_AT + n, draft) for n, draft in enumerate(drafts))
    last = first_index + len(entries) - 1 if entries else first_index
    return Bell(channel, task_id or channel, 3, first_index, last, "running", CREATED_AT, entries)


def _has_heard(ear: Ear, channel: str, first_indexes: list[int]) -> bool:
    return sorted(ear.heard(channel)) == first_indexes


class Ear:
    """What one listener has heard."""

    def __init__(self) -> None:
        self.bells: list[Bell] = []
        self.absences = 0

    def on_bell(self, bell: Bell) -> None:
        """Note a bell."""
        self.bells.append(bell)

    def on_absence(self) -> None:
        """Note that some may have been missed."""
        self.absences += 1

    def heard(self, channel: str) -> list[int]:
        """First indexes of the bells of a channel, without repeats."""
        return list(dict.fromkeys(bell.first_index for bell in self.bells if bell.channel == channel))


class BroadcastContract(Contract):
    """Everything that ``taskcast_core.contracts.Broadcast`` promises. Override the fixture ``broadcast``."""

    capability: ClassVar[str] = "Broadcast"
    promise: ClassVar[str] = "a bell is heard by everybody who follows its channel, and by nobody else"
    subject: ClassVar[str] = "broadcast"

    @pytest.fixture
    def broadcast(self) -> Any:
        """The object under test, connected."""
        raise NotImplementedError("override the fixture `broadcast`")

    @pytest.fixture
    def open_again(self) -> Callable[[], AbstractAsyncContextManager[Any]] | None:
        """Opens a second provider on the same backend, as another process would; None where there is no other."""
        return None

    @pytest.fixture
    async def peers(
        self, broadcast: Any, open_again: Callable[[], AbstractAsyncContextManager[Any]] | None
    ) -> AsyncIterator[Sequence[Any]]:
        """Two providers on one backend (where there can be but one: that one, twice)."""
        if open_again is None:
            yield (broadcast, broadcast)
            return
        async with open_again() as other:
            yield (broadcast, other)

    async def test_a_followed_channel_is_heard(self, peers: Sequence[Broadcast]) -> None:
        ear, channel = Ear(), fresh_id()
        async with peers[0].listen(ear.on_bell, ear.on_absence) as listener:
            await listener.follow([channel])
            for n, peer in enumerate(peers):
                peer.publish(a_bell(channel, first_index=n))
            await eventually(lambda: sorted(ear.heard(channel)) == [0, 1])

    async def test_nobody_who_follows_is_overlooked(self, peers: Sequence[Broadcast]) -> None:
        """``is_heard``, for those who have it, may say no only where no bell would be heard."""
        channel, other = fresh_id(), fresh_id()
        for followed, heard in ((channel, channel), (ALL_TASKS, other)):
            ear = Ear()
            async with peers[0].listen(ear.on_bell, ear.on_absence) as listener:
                await listener.follow([followed])
                for n, peer in enumerate(peers):
                    is_heard: Callable[[str], bool] | None = getattr(peer, "is_heard", None)
                    assert is_heard is None or is_heard(heard)
                    peer.publish(a_bell(heard, first_index=n))
                await eventually(partial(_has_heard, ear, heard, [0, 1]))

    async def test_a_bell_arrives_whole(self, peers: Sequence[Broadcast]) -> None:
        ear, channel = Ear(), fresh_id()
        sent = a_bell(
            channel, message("a", {"x": 1}), EventDraft("b", "warn", None, "s", "accumulate", "text"), first_index=7
        )
        async with peers[0].listen(ear.on_bell, ear.on_absence) as listener:
            await listener.follow([channel])
            peers[1].publish(sent)
            await eventually(lambda: bool(ear.bells))
        got = ear.bells[0]
        assert (got.channel, got.task_id, got.epoch, got.status, got.created_at) == (
            channel,
            channel,
            3,
            "running",
            CREATED_AT,
        )
        assert (got.first_index, got.last_index) == (7, 8)
        assert [_line(e) for e in got.entries] == [_line(e) for e in sent.entries]

    async def test_odd_payloads_arrive_whole_or_not_at_all(self, peers: Sequence[Broadcast]) -> None:
        ear, channel = Ear(), fresh_id()
        drafts = [message(name, ODD[name]) for name in ODD]
        async with peers[0].listen(ear.on_bell, ear.on_absence) as listener:
            await listener.follow([channel])
            for n, draft in enumerate(drafts):
                peers[1].publish(a_bell(channel, draft, first_index=n))
            await eventually(lambda: len(ear.heard(channel)) == len(drafts))
        for bell in ear.bells:
            for entry in bell.entries:
                assert entry.data == drafts[bell.first_index].data

    async def test_a_large_bell_is_heard_if_only_barely(self, peers: Sequence[Broadcast]) -> None:
        ear, channel = Ear(), fresh_id()
        async with peers[0].listen(ear.on_bell, ear.on_absence) as listener:
            await listener.follow([channel])
            peers[1].publish(a_bell(channel, message("big", "x" * (1 << 20))))
            await eventually(lambda: bool(ear.bells))
        assert (ear.bells[0].first_index, ear.bells[0].last_index) == (0, 0)
        assert [len(entry.data) for entry in ear.bells[0].entries] in ([], [1 << 20])

    async def test_other_channels_are_not_heard(self, peers: Sequence[Broadcast]) -> None:
        ear, mine, other = Ear(), fresh_id(), fresh_id()
        async with peers[0].listen(ear.on_bell, ear.on_absence) as listener:
            await listener.follow([mine])
            peers[1].publish(a_bell(other))
            peers[1].publish(a_bell(mine))
            await eventually(lambda: bool(ear.heard(mine)))
            await asyncio.sleep(QUIET_S)
        assert ear.heard(other) == []

    async def test_an_unfollowed_channel_falls_silent(self, peers: Sequence[Broadcast]) -> None:
        ear, gone, stays = Ear(), fresh_id(), fresh_id()
        async with peers[0].listen(ear.on_bell, ear.on_absence) as listener:
            await listener.follow([gone, stays])
            await listener.unfollow([gone, fresh_id()])
            peers[1].publish(a_bell(gone))
            peers[1].publish(a_bell(stays))
            await eventually(lambda: bool(ear.heard(stays)))
            await asyncio.sleep(QUIET_S)
            assert ear.heard(gone) == []
            await listener.follow([gone])
            peers[1].publish(a_bell(gone, first_index=1))
            await eventually(lambda: ear.heard(gone) == [1])

    async def test_following_twice_is_following_once(self, peers: Sequence[Broadcast]) -> None:
        ear, channel, stays = Ear(), fresh_id(), fresh_id()
        async with peers[0].listen(ear.on_bell, ear.on_absence) as listener:
            await listener.follow([channel, channel, stays])
            await listener.follow([channel])
            await listener.unfollow([channel])
            peers[1].publish(a_bell(channel))
            peers[1].publish(a_bell(stays))
            await eventually(lambda: bool(ear.heard(stays)))
            await asyncio.sleep(QUIET_S)
        assert ear.heard(channel) == []

    async def test_listeners_are_apart(self, peers: Sequence[Broadcast]) -> None:
        one, two, channel = Ear(), Ear(), fresh_id()
        async with peers[0].listen(one.on_bell, one.on_absence) as first:
            await first.follow([channel])
            async with peers[0].listen(two.on_bell, two.on_absence) as second:
                await second.follow([channel])
                peers[1].publish(a_bell(channel))
                await eventually(lambda: one.heard(channel) == two.heard(channel) == [0])
            peers[1].publish(a_bell(channel, first_index=1))
            await eventually(lambda: one.heard(channel) == [0, 1])
        assert two.heard(channel) == [0], "a listener that has left heard a bell"

    async def test_all_tasks(self, peers: Sequence[Broadcast]) -> None:
        ear, one, two = Ear(), fresh_id(), fresh_id()
        async with peers[0].listen(ear.on_bell, ear.on_absence) as listener:
            await listener.follow([ALL_TASKS])
            peers[1].publish(a_bell(one))
            peers[1].publish(a_bell(two))
            await eventually(lambda: {one, two} <= {bell.task_id for bell in ear.bells})
            await listener.unfollow([ALL_TASKS])
            await listener.follow([one])
            peers[1].publish(a_bell(two, first_index=5))
            peers[1].publish(a_bell(one, first_index=5))
            await eventually(lambda: any((b.task_id, b.first_index) == (one, 5) for b in ear.bells))
            await asyncio.sleep(QUIET_S)
        assert not any((bell.task_id, bell.first_index) == (two, 5) for bell in ear.bells)

    async def test_a_channel_that_is_no_task(self, peers: Sequence[Broadcast]) -> None:
        ear, channel, task_id = Ear(), fresh_id("queue"), fresh_id()
        async with peers[0].listen(ear.on_bell, ear.on_absence) as listener:
            await listener.follow([channel])
            peers[1].publish(a_bell(channel, task_id=task_id))
            await eventually(lambda: bool(ear.bells))
        assert (ear.bells[0].channel, ear.bells[0].task_id) == (channel, task_id)

    async def test_publishing_neither_waits_nor_raises(self, broadcast: Broadcast) -> None:
        loop = asyncio.get_running_loop()
        channel, took = fresh_id(), []
        for _ in range(5):
            start = loop.time()
            for n in range(1_000):
                broadcast.publish(a_bell(channel, first_index=n))
            took.append(loop.time() - start)
        assert min(took) < 1, "a machine may stand still once, but not every time"

    async def test_many_channels(self, peers: Sequence[Broadcast]) -> None:
        ear, channels = Ear(), [fresh_id() for _ in range(300)]
        async with peers[0].listen(ear.on_bell, ear.on_absence) as listener:
            await listener.follow(channels)
            for start in range(0, 300, 50):
                for channel in channels[start : start + 50]:
                    peers[1].publish(a_bell(channel))
                await asyncio.sleep(0.01)
            await eventually(lambda: {bell.channel for bell in ear.bells} == set(channels))


def _line(entry: Entry) -> tuple[Any, ...]:
    return entry.id, entry.index, entry.timestamp, entry.text, entry.origin.task_id, entry.origin.epoch
