"""Filtered positions without reading the log: from the nearest checkpoint, at most one span of rows is looked at.

A removed entry counts at the last index of its hole: where exactly it stood there is not kept.
"""

# ruff: noqa: S608 - statements are put together from constants; all values are bound

from __future__ import annotations

from collections.abc import Callable

from taskcast_postgres.database import Row, Session
from taskcast_postgres.rows import Counts, add_counts, unpack_counts

SPAN = 1_000
"""A checkpoint is written with the first line that begins in each stretch of so many indexes."""

_COUNTS = """
WITH start AS (
    SELECT idx, counts FROM taskcast.checkpoints WHERE task = %s AND idx <= %s ORDER BY idx DESC LIMIT 1
)
SELECT NULL::integer, NULL::bigint, counts FROM start
UNION ALL SELECT NULL, NULL, counts FROM taskcast.holes
    WHERE task = %s AND last >= coalesce((SELECT idx FROM start), 0) AND last < %s
UNION ALL SELECT kind, count(*), NULL FROM taskcast.events
    WHERE task = %s AND idx >= coalesce((SELECT idx FROM start), 0) AND idx < %s GROUP BY kind
"""

_NEWEST_CHECKPOINT = (
    "SELECT idx, counts FROM taskcast.checkpoints WHERE task = %s AND idx BETWEEN %s AND %s ORDER BY idx DESC LIMIT 1"
)

_LINES = f"""
(SELECT idx, kind, NULL FROM taskcast.events WHERE task = %s AND idx >= %s ORDER BY idx LIMIT {2 * SPAN})
UNION ALL (SELECT last, NULL, counts FROM taskcast.holes WHERE task = %s AND last >= %s ORDER BY last LIMIT {2 * SPAN})
ORDER BY 1 LIMIT {2 * SPAN}
"""


async def counts_before(session: Session, task: int, before: int) -> Counts:
    """How many entries of each kind stand below an index."""
    counts: Counts = {}
    if before > 0:
        for kind, n, packed in await session.rows(_COUNTS, *(task, before) * 3):
            add_counts(counts, {kind: n} if packed is None else unpack_counts(packed))
    return counts


async def seek(session: Session, task: int, last: int, total: Callable[[Counts], int], wanted: int) -> int:
    """The index at which the total first passes ``wanted``; the caller knows that it does so by ``last``.

    ``total`` says how many of so many entries of each kind are visible.
    """
    start, seen = await _checkpoint_before(session, task, last, total, wanted)
    while lines := await session.rows(_LINES, *(task, start) * 2):  # one turn, unless checkpoints are far apart
        for index, kind, packed in lines:
            seen += total({kind: 1} if packed is None else unpack_counts(packed))
            if seen > wanted:
                return int(index)
        start = lines[-1][0] + 1
    return last


async def _checkpoint_before(
    session: Session, task: int, last: int, total: Callable[[Counts], int], wanted: int
) -> tuple[int, int]:
    """The newest checkpoint (index, total) at which the total has not passed ``wanted`` yet."""
    low, high = 0, last + 1
    best = (0, 0)
    while low <= high:
        middle = (low + high) // 2
        row: Row | None = await session.row(_NEWEST_CHECKPOINT, task, low, middle)
        if row is None:
            low = middle + 1
            continue
        index, seen = row[0], total(unpack_counts(row[1]))
        if seen <= wanted:
            best = (index, seen)
            low = middle + 1
        else:
            high = index - 1
    return best
