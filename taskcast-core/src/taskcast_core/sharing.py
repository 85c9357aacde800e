"""What several readers of one channel want at the same time is made only once."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Hashable
from typing import Any, TypeVar

from taskcast_core.channel import Channel
from taskcast_core.contracts.log_reader import LogReader
from taskcast_core.entries import Entry

T = TypeVar("T")

_FOLDS = 32  # folded payloads remembered per channel


async def once(channel: Channel, key: object, make: Callable[[], Coroutine[Any, Any, T]]) -> T:
    """Make something, or wait for it while another reader's wish for it is being granted."""
    future = channel.making.get(key)
    if future is None:
        future = channel.making[key] = asyncio.get_running_loop().create_task(make())
        future.add_done_callback(lambda done: _made(channel, key, done))
    result: T = await asyncio.shield(future)
    return result


async def remembered(channel: Channel, key: Hashable, make: Callable[[], Coroutine[Any, Any, T]]) -> T:
    """`once`, and kept for later readers until there is news."""
    if key in channel.steps:
        found: T = channel.steps[key]
        return found
    made = await once(channel, key, make)
    channel.remember(key, made)
    return made


async def fold(channel: Channel, reader: LogReader, entry: Entry) -> Entry:
    """An accumulate entry with its series' total as payload; asked of the store once per entry and process."""
    future = channel.folds.get(entry.index)
    if future is None:
        assert entry.series_id is not None
        folding = reader.fold(channel.task_id, entry.series_id, entry.index, epoch=channel.epoch)
        future = channel.folds[entry.index] = asyncio.ensure_future(folding)
        while len(channel.folds) > _FOLDS:
            del channel.folds[next(iter(channel.folds))]
        future.add_done_callback(lambda done: _forget_failure(channel, entry.index, done))
    return entry.with_data(await asyncio.shield(future))


def has_failed(future: asyncio.Future[Any]) -> bool:
    """Whether it failed; an exception that all who waited have turned away from is not reported as forgotten."""
    return future.cancelled() or future.exception() is not None


def _made(channel: Channel, key: object, future: asyncio.Future[Any]) -> None:
    if channel.making.get(key) is future:
        del channel.making[key]
    has_failed(future)


def _forget_failure(channel: Channel, index: int, future: asyncio.Future[Any]) -> None:
    if has_failed(future):
        channel.folds.pop(index, None)
