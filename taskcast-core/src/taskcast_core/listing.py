"""The meaning of a list query, and its cursors; shared by every store that lists. Pure."""

from __future__ import annotations

import base64
import binascii

from taskcast_core import wire
from taskcast_core.contracts.listing import ListQuery
from taskcast_core.errors import InvalidInput
from taskcast_core.filters import matches_any_type
from taskcast_core.models import TagMatch, Task

SortKey = tuple[int, str]
"""``(createdAt, id)``; lists run from the greatest to the least."""


def sort_key(task: Task) -> SortKey:
    """Where a task stands in a list."""
    return task.created_at, task.id


def matches_tags(match: TagMatch | None, tags: tuple[str, ...] | None) -> bool:
    """Whether a task's tags satisfy a condition (wire spec, workers section 2); missing tags are none."""
    if match is None:
        return True
    have = set(tags or ())
    return (
        have.issuperset(match.all or ())
        and (not match.any or not have.isdisjoint(match.any))
        and have.isdisjoint(match.none or ())
    )


def matches(query: ListQuery, task: Task) -> bool:
    """Whether a task belongs into a list, its position aside."""
    return (
        (query.statuses is None or task.status in query.statuses)
        and matches_any_type(query.types, task.type)
        and matches_tags(query.tags, task.tags)
        and (query.assign_modes is None or (task.assign_mode or "external") in query.assign_modes)
        and (query.task_ids is None or task.id in query.task_ids)
        and (query.created_after is None or task.created_at > query.created_after)
        and (query.created_before is None or task.created_at < query.created_before)
    )


def encode_cursor(task: Task) -> str:
    """The cursor that continues behind a task."""
    return base64.urlsafe_b64encode(wire.dumps([task.created_at, task.id])).decode().rstrip("=")


def decode_cursor(cursor: str) -> SortKey:
    """Read a cursor back.

    Raises:
        InvalidInput: it is not one of ours.
    """
    try:
        created_at, task_id = wire.loads(base64.urlsafe_b64decode(cursor + "=" * (-len(cursor) % 4)))
        if isinstance(created_at, int) and isinstance(task_id, str):
            return created_at, task_id
    except (binascii.Error, ValueError, TypeError, InvalidInput):
        pass
    raise InvalidInput([("cursor", "expected the nextCursor of an earlier page")])
