"""Filtered positions without reading the log: from the nearest checkpoint, at most one span of rows is looked at.

An entry counts where it stands, and goes on doing so when it is removed: the table ``removed`` keeps of what kind it
was. So a number, once told, stays right whatever is removed later, and agrees with pages of other transactions.
"""

# ruff: noqa: S608 - statements are put together from constants; all values are bound

from __future__ import annotations

from collections.abc import Callable

from taskcast_core.packing import Counts, add_counts, unpack_counts
from taskcast_postgres.database import Row, Session
from taskcast_postgres.rows import SPAN

_COUNTS = f"""
WITH start AS (
    SELECT idx, counts FROM taskcast.checkpoints WHERE task = %s AND idx <= %s ORDER BY idx DESC LIMIT 1
), place AS (SELECT coalesce((SELECT idx FROM start), 0) AS begun, %s::bigint AS ended)
SELECT NULL::integer, NULL::bigint, counts FROM start
UNION ALL SELECT kind, sum(least(first + n, ended) - greatest(first, begun))::bigint, NULL
    FROM taskcast.removed, place
    WHERE task = %s AND first >= begun - begun %% {SPAN} AND first < ended AND first + n > begun GROUP BY kind
UNION ALL SELECT kind, count(*), NULL FROM taskcast.events, place
    WHERE task = %s AND idx >= begun AND idx < ended GROUP BY kind
"""

_NEWEST_CHECKPOINT = (
    "SELECT idx, counts FROM taskcast.checkpoints WHERE task = %s AND idx BETWEEN %s AND %s ORDER BY idx DESC LIMIT 1"
)

_LINES = f"""
(SELECT idx, kind, 1::bigint FROM taskcast.events WHERE task = %s AND idx >= %s ORDER BY idx LIMIT {2 * SPAN})
UNION ALL (
    SELECT greatest(first, start), kind, first + n - greatest(first, start)
    FROM taskcast.removed, (SELECT %s::bigint AS start) AS place
    WHERE task = %s AND first >= start - start %% {SPAN} AND first + n > start ORDER BY first LIMIT {2 * SPAN}
)
ORDER BY 1 LIMIT {2 * SPAN}
"""


async def counts_before(session: Session, task: int, before: int) -> Counts:
    """How many entries of each kind stand, or stood, below an index."""
    counts: Counts = {}
    if before > 0:
        for kind, n, packed in await session.rows(_COUNTS, task, before, before, task, task):
            add_counts(counts, {kind: n} if packed is None else unpack_counts(packed))
    return counts


async def counts_between(session: Session, task: int, start: int, stop: int) -> Counts:
    """How many entries of each kind stand, or stood, in [start, stop)."""
    below = await counts_before(session, task, start)
    through = await counts_before(session, task, stop)
    return {kind: more for kind, n in through.items() if (more := n - below.get(kind, 0))}


async def seek(session: Session, task: int, last: int, total: Callable[[Counts], int], wanted: int) -> int:
    """The index at which the total first passes ``wanted``; the caller knows that it does so by ``last``.

    ``total`` says how many of so many entries of each kind are visible.
    """
    start, seen = await _checkpoint_before(session, task, last, total, wanted)
    while lines := await session.rows(_LINES, task, start, start, task):  # one turn, unless checkpoints are far apart
        for index, kind, n in lines:
            more = total({kind: n})
            if seen + more > wanted:
                return int(index + wanted - seen)
            seen += more
            start = index + n
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
