"""Finding tasks with SQL; what a query means is said in ``taskcast_core.listing``."""

# ruff: noqa: S608 - statements are put together from constants; all values are bound

from __future__ import annotations

import sqlite3
from collections.abc import Iterable, Sequence
from typing import Any

from taskcast_core import wire
from taskcast_core.builtin.sqlite.rows import OPEN, task_of
from taskcast_core.contracts.listing import ListPage, ListQuery
from taskcast_core.listing import decode_cursor, encode_cursor
from taskcast_core.models import TagMatch, TaskStatus
from taskcast_core.packing import pack, unpack_or_none, within


class _Where:
    """A growing condition and its values."""

    def __init__(self) -> None:
        self.parts = ["state = ?"]
        self.values: list[Any] = [OPEN]

    def add(self, sql: str, *values: Any) -> None:
        """All of it must hold."""
        self.parts.append(sql)
        self.values += values

    def among(self, column: str, values: Iterable[Any]) -> None:
        """The column has one of these values."""
        wanted = list(values)
        self.add(f"{column} IN ({','.join('?' * len(wanted))})", *wanted)


def tasks(connection: sqlite3.Connection, query: ListQuery) -> ListPage:
    """See Listing.list."""
    where = _condition(query)
    rows = connection.execute(
        f"SELECT record FROM tasks WHERE {' AND '.join(where.parts)} ORDER BY created_at DESC, id DESC LIMIT ?",
        (*where.values, query.limit + 1),
    ).fetchall()
    found = tuple(task_of(record) for (record,) in rows[: query.limit])
    return ListPage(found, encode_cursor(found[-1]) if len(rows) > query.limit else None)


def _condition(query: ListQuery) -> _Where:
    where = _Where()
    if query.statuses is not None:
        where.among("status", query.statuses)
    if query.types is not None:
        _add_types(where, query.types)
    if query.tags is not None:
        _add_tags(where, query.tags)
    if query.assign_modes is not None:
        where.among("assign_mode", query.assign_modes)
    if query.task_ids is not None:
        # There may be more of them than a statement can have values.
        where.add("id IN (SELECT CAST(value AS BLOB) FROM json_each(?))", wire.dumps(list(query.task_ids)).decode())
    if query.created_after is not None:
        where.add("created_at > ?", within(query.created_after))
    if query.created_before is not None:
        where.add("created_at < ?", within(query.created_before))
    if query.cursor is not None:
        created_at, task_id = decode_cursor(query.cursor)
        where.add("(created_at, id) < (?, ?)", within(created_at), pack(task_id))
    return where


def _add_types(where: _Where, patterns: Sequence[str]) -> None:
    """As ``matches_any_type``: a pattern ``a.*`` is all texts from ``a.`` up to the next possible prefix."""
    if "*" in patterns:
        where.add("type IS NOT NULL")
        return
    parts = ["0"]
    values: list[bytes] = []
    for pattern in patterns:
        parts.append("type = ?")
        values.append(pack(pattern))
        if pattern.endswith(".*"):
            parts.append("(type >= ? AND type < ?)")
            prefix = pack(pattern[:-2])
            values += [prefix + b".", prefix + b"/"]
    where.add(f"({' OR '.join(parts)})", *values)


def _add_tags(where: _Where, match: TagMatch) -> None:
    for tag in match.all or ():
        where.add("num IN (SELECT task_num FROM tags WHERE tag = ?)", pack(tag))
    for tags, how in ((match.any, "IN"), (match.none, "NOT IN")):
        if tags:
            marks = ",".join("?" * len(tags))
            where.add(f"num {how} (SELECT task_num FROM tags WHERE tag IN ({marks}))", *map(pack, tags))


def tally(connection: sqlite3.Connection) -> dict[tuple[str | None, TaskStatus], int]:
    """See Listing.tally."""
    rows = connection.execute("SELECT type, status, count(*) FROM tasks WHERE state = ? GROUP BY 1, 2", (OPEN,))
    return {(unpack_or_none(type_), status): n for type_, status, n in rows}
