"""Finding tasks."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol

from taskcast_core.models import AssignMode, TagMatch, Task, TaskStatus
from taskcast_core.values import frozen


@frozen
class ListQuery:
    """Which tasks, newest first (by ``createdAt``, then id, both descending). None does not restrict.

    Attributes:
        types: patterns as in subscriptions. task_ids: only these (what a token may see).
        created_after, created_before: exclusive, ms. cursor: ``next_cursor`` of the page before.
    """

    statuses: frozenset[TaskStatus] | None = None
    types: tuple[str, ...] | None = None
    tags: TagMatch | None = None
    assign_modes: frozenset[AssignMode] | None = None
    task_ids: frozenset[str] | None = None
    created_after: int | None = None
    created_before: int | None = None
    limit: int = 100
    cursor: str | None = None


@frozen
class ListPage:
    """A page of tasks; ``next_cursor`` is None on the last one."""

    tasks: tuple[Task, ...]
    next_cursor: str | None


class Listing(Protocol):
    """Tasks by status, type, tags and time. Deleted and cold tasks are not listed."""

    async def list(self, query: ListQuery) -> ListPage:
        """One page. A task that exists throughout a walk over the pages is returned exactly once.

        Raises:
            InvalidInput: the cursor is not one of ours.
        """

    async def tally(self) -> Mapping[tuple[str | None, TaskStatus], int]:
        """How many tasks there are of each (type, status)."""
