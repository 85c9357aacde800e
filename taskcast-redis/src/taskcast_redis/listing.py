"""Listing: a bounded merge over the shards' orders."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from typing import cast

from taskcast_core import listing
from taskcast_core.contracts.listing import ListPage, ListQuery
from taskcast_core.models import Task, TaskStatus
from taskcast_redis.codec import pairs, task_of
from taskcast_redis.connection import Argument, RedisConnection
from taskcast_redis.keys import given, pack, unpack

LOOK_AT_ONCE = 2_000
"""Tasks that one call looks at: Redis does nothing else meanwhile."""

Position = tuple[int, str]


class TaskList:
    """Tasks by status, type, tags and time."""

    def __init__(self, connection: RedisConnection) -> None:
        self._connection = connection

    async def list(self, query: ListQuery) -> ListPage:
        """See Listing."""
        position = None if query.cursor is None else listing.decode_cursor(query.cursor)
        wanted = query.limit + 1
        tasks: list[Task] = []
        while len(tasks) < wanted:
            found, position = await self._stretch(query, position, wanted - len(tasks))
            tasks += found
            if position is None:
                break
        if len(tasks) <= query.limit:
            return ListPage(tuple(tasks), None)
        page = tasks[: query.limit]
        # A page without room (limit 0) goes on where it began.
        return ListPage(tuple(page), listing.encode_cursor(page[-1]) if page else query.cursor)

    async def _stretch(
        self, query: ListQuery, position: Position | None, wanted: int
    ) -> tuple[Sequence[Task], Position | None]:
        """Matching tasks behind a position, in order; and where to go on, None at the end."""
        groups = self._connection.groups
        arguments = _arguments(query, position, wanted)
        replies = await asyncio.gather(*(self._connection.run("list", tags, arguments) for tags in groups))
        tasks: list[Task] = []
        ends: list[Position] = []
        for is_last, last_at, last_id, records in replies:
            tasks += map(task_of, records)
            if not is_last:
                ends.append((last_at, unpack(last_id)))
        # Beyond the nearest end, a shard that stopped there may have something in between.
        end = max(ends, default=None)
        if end is not None:
            tasks = [task for task in tasks if listing.sort_key(task) >= end]
        tasks = sorted((task for task in tasks if listing.matches(query, task)), key=listing.sort_key, reverse=True)
        if len(tasks) > wanted:
            tasks = tasks[:wanted]
        return tasks, end

    async def tally(self) -> Mapping[tuple[str | None, TaskStatus], int]:
        """See Listing."""
        groups = self._connection.groups
        replies = await asyncio.gather(*(self._connection.run("tally", tags) for tags in groups))
        total: dict[tuple[str | None, TaskStatus], int] = {}
        for flat in (one for reply in replies for one in reply):
            for name, n in pairs(flat).items():
                status, space, type_ = name.partition(b" ")
                kind = unpack(type_) if space else None, cast(TaskStatus, status.decode())
                total[kind] = total.get(kind, 0) + int(n)
        return total


def _arguments(query: ListQuery, position: Position | None, wanted: int) -> list[Argument]:
    at, task_id = position or (None, "")
    statuses = None if query.statuses is None else f" {' '.join(query.statuses)} "
    modes = None if query.assign_modes is None else f" {' '.join(query.assign_modes)} "
    ids: list[Argument] = [-1] if query.task_ids is None else [len(query.task_ids), *map(pack, query.task_ids)]
    return [
        wanted, LOOK_AT_ONCE, given(at), pack(task_id), given(query.created_after), given(query.created_before),
        given(statuses), given(modes), *ids,
    ]  # fmt: skip
