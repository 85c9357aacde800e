"""Putting holes where entries have been, merged with their neighbours."""

# ruff: noqa: S608 - statements are put together from constants; all values are bound

from __future__ import annotations

from collections.abc import Mapping, Sequence

from taskcast_core.entries import Hole
from taskcast_postgres.database import Row, Session
from taskcast_postgres.removed import keep, rows_of
from taskcast_postgres.rows import HOLE_COLUMNS, Kinds, hole_of, hole_row, merged

_TAKE_NEIGHBOURS = f"""
DELETE FROM taskcast.holes WHERE (task, last) IN (
    SELECT h.task, h.last FROM unnest(%s::bigint[], %s::bigint[]) AS edge (task, idx)
    JOIN taskcast.holes h ON h.task = edge.task AND h.last = edge.idx - 1
    UNION SELECT h.task, h.last FROM unnest(%s::bigint[], %s::bigint[]) AS edge (task, idx)
    JOIN taskcast.holes h ON h.task = edge.task AND h.first = edge.idx + 1
) RETURNING task, {HOLE_COLUMNS}
"""
_HOLES = f"""
INSERT INTO taskcast.holes (task, {HOLE_COLUMNS}) SELECT * FROM unnest(
    %s::bigint[], %s::bigint[], %s::bigint[], %s::bigint[], %s::bigint[], %s::text[], %s::boolean[], %s::boolean[])
"""


async def dig(
    session: Session, holes: Mapping[int, Sequence[Hole]], edges: Sequence[tuple[int, int]], kinds: Mapping[int, Kinds]
) -> dict[int, list[Hole]]:
    """Put new holes into the logs of tasks; the runs that they have become.

    ``edges``: (task, index) wherever a hole that is there already may touch one of them.
    """
    new = [row for task, some in holes.items() for hole in some for row in rows_of(task, hole, kinds[task])]
    await keep(session, new)
    found = {task: list(some) for task, some in holes.items()}
    if edges:
        tasks, indexes = columns(edges, 2)
        for task, *row in await session.rows(_TAKE_NEIGHBOURS, tasks, indexes, tasks, indexes):
            found[task].append(hole_of(tuple(row), kinds[task]))
    runs = {task: merged(some) for task, some in found.items() if some}
    await session.columns(
        _HOLES, [(task, *hole_row(hole, kinds[task])) for task, some in runs.items() for hole in some]
    )
    return runs


def columns(rows: Sequence[Row], width: int) -> list[list[object]]:
    """Rows as the columns that ``unnest`` takes."""
    return [[row[n] for row in rows] for n in range(width)]
