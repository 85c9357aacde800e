"""Finding archived tasks; what a query means is said in ``taskcast_core.listing``."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from taskcast_core.contracts.listing import ListPage, ListQuery
from taskcast_core.listing import decode_cursor, encode_cursor
from taskcast_core.models import TagMatch
from taskcast_core.packing import pack, within
from taskcast_postgres.database import Session
from taskcast_postgres.rows import task_of


class _Where:
    """A growing condition and its values."""

    def __init__(self) -> None:
        self.parts = ["epoch > 0"]
        self.values: list[Any] = []

    def add(self, sql: str, *values: Any) -> None:
        """All of it must hold."""
        self.parts.append(sql)
        self.values += values


async def tasks(session: Session, query: ListQuery) -> ListPage:
    """See LongTermStore.list."""
    where = _condition(query)
    rows = await session.rows(
        f"SELECT record FROM taskcast.tasks WHERE {' AND '.join(where.parts)} "  # noqa: S608 - values are bound
        "ORDER BY created_at DESC, id DESC LIMIT %s",
        *where.values, query.limit + 1,
    )  # fmt: skip
    found = tuple(task_of(record) for (record,) in rows[: query.limit])
    return ListPage(found, encode_cursor(found[-1]) if len(rows) > query.limit else None)


def _condition(query: ListQuery) -> _Where:
    where = _Where()
    if query.cursor is not None:
        created_at, task_id = decode_cursor(query.cursor)
        where.add("(created_at, id) < (%s, %s)", within(created_at), pack(task_id))
    if query.statuses is not None:
        where.add("status = ANY(%s)", sorted(query.statuses))
    if query.types is not None:
        _add_types(where, query.types)
    if query.tags is not None:
        _add_tags(where, query.tags)
    if query.assign_modes is not None:
        where.add("assign_mode = ANY(%s)", sorted(query.assign_modes))
    if query.task_ids is not None:
        where.add("id = ANY(%s::bytea[])", [pack(task_id) for task_id in query.task_ids])
    if query.created_after is not None:
        where.add("created_at > %s", within(query.created_after))
    if query.created_before is not None:
        where.add("created_at < %s", within(query.created_before))
    return where


def _add_types(where: _Where, patterns: Sequence[str]) -> None:
    """As ``matches_any_type``: a pattern ``a.*`` is all texts from ``a.`` up to the next possible prefix."""
    if "*" in patterns:
        where.add("type IS NOT NULL")
        return
    parts = ["type = ANY(%s::bytea[])"]
    values: list[Any] = [[pack(pattern) for pattern in patterns]]
    for pattern in patterns:
        if pattern.endswith(".*"):
            parts.append("(type >= %s AND type < %s)")
            prefix = pack(pattern[:-2])
            values += [prefix + b".", prefix + b"/"]
    where.add(f"({' OR '.join(parts)})", *values)


def _add_tags(where: _Where, match: TagMatch) -> None:
    for tags, condition in (
        (match.all, "tags @> %s::bytea[]"),
        (match.any, "tags && %s::bytea[]"),
        (match.none, "NOT tags && %s::bytea[]"),
    ):
        if tags:
            where.add(condition, [pack(tag) for tag in tags])
