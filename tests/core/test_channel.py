"""A channel beside the head of its log: where both stand at one place, and where they only seem to."""

from typing import Any

import pytest
from attrs import evolve

from taskcast_core.builtin.memory_store import MemoryShortTermStore
from taskcast_core.channel import Channel
from taskcast_core.contracts import Held, TrimRule
from taskcast_core.contracts.task_log import Head
from taskcast_core.ring import Ring
from taskcast_core.testing.making import created, current, message, publish

pytestmark = pytest.mark.anyio


async def followed(store: MemoryShortTermStore) -> Channel:
    """A channel that has all three entries of a task."""
    stored = await created(store)
    channel = Channel(stored.task.id, stored.segments, -1, stored.task.status, Ring(0, 100, 1 << 20))
    done = await publish(store, stored.task.id, message(), message(), message())
    channel.extend(done.entries, 2)
    return channel


async def head_of(store: MemoryShortTermStore, channel: Channel) -> Head:
    (head,) = await store.heads([Held(channel.task_id, channel.head)])
    assert head is not None
    return head


async def test_a_head_is_the_same_until_something_changes() -> None:
    async with MemoryShortTermStore() as store:
        channel = await followed(store)
        first = await head_of(store, channel)
        assert first is await head_of(store, channel)
        await publish(store, channel.task_id, message())
        assert (await head_of(store, channel)).last_index == 3
        (newest,) = await store.heads([Held(channel.task_id, 3)])
        (older,) = await store.heads([Held(channel.task_id, 1)])
        assert newest is not None and older is not None
        assert (newest.last_index, older.last_index) == (3, 3)
        assert len({newest.id_at, older.id_at, first.id_at}) == 3
        stored = await current(store, channel.task_id)
        assert await store.trim(channel.task_id, stored.epoch, TrimRule()) == 4
        (trimmed,) = await store.heads([Held(channel.task_id, 3)])
        assert trimmed is not None and trimmed.id_at is None


@pytest.mark.parametrize(
    "other", [{"last_index": 3}, {"status": "running"}, {"epoch": 2}, {"id_at": "01J0000000000000000000AAAA"}]
)
@pytest.mark.parametrize("has_agreed", [False, True])
async def test_any_difference_is_seen(other: dict[str, Any], *, has_agreed: bool) -> None:
    async with MemoryShortTermStore() as store:
        channel = await followed(store)
        head = await head_of(store, channel)
        if has_agreed:
            assert channel.is_at(head) and channel.is_at(head)
        assert not channel.is_at(evolve(head, **other))
        assert channel.is_at(head)


async def test_a_head_that_agreed_says_nothing_of_another_epoch() -> None:
    async with MemoryShortTermStore() as store:
        channel = await followed(store)
        head = await head_of(store, channel)
        assert channel.is_at(head)
        renewed = await store.found_epoch(channel.task_id, channel.epoch, 2)
        assert renewed is not None and renewed.last_index == 2
        channel.renew(renewed)
        assert not channel.is_at(head)
        assert channel.is_at(await head_of(store, channel))
