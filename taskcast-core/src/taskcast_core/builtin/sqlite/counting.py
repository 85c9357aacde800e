"""Filtered positions without reading the log: from the nearest checkpoint, at most one span of rows is looked at.

An entry counts where it stands, and goes on doing so when it is removed: the table ``removed`` keeps of what kind it
was. So a number, once told, stays right whatever is removed later, and agrees with pages of other transactions.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable

from taskcast_core.builtin.sqlite.rows import MAX_INDEX, position
from taskcast_core.packing import Counts, add_counts, unpack_counts

SPAN = 1_000
"""A checkpoint is written at every index that is a multiple of this; no run of removed entries reaches across one."""

Looked = Callable[[int], None]
"""Told how many rows have been looked at."""


def ignore(_: int) -> None:
    """For callers that do not measure."""


def counts_before(connection: sqlite3.Connection, num: int, before: int, looked: Looked = ignore) -> Counts:
    """How many entries of each kind stand, or stood, below an index (at least the log's first one)."""
    row = connection.execute(
        "SELECT idx, counts FROM checkpoints WHERE task_num = ? AND idx <= ? ORDER BY idx DESC LIMIT 1", (num, before)
    ).fetchone()
    start, counts = (row[0], unpack_counts(row[1])) if row else (0, Counts())
    found = connection.execute(
        "SELECT kind, count(*), count(*) FROM entries WHERE pos >= :start AND pos < :end GROUP BY kind UNION ALL "
        "SELECT kind, sum(min(n, :end - pos)), count(*) FROM removed WHERE pos >= :start AND pos < :end GROUP BY kind",
        {"start": position(num, start), "end": position(num, before)},
    ).fetchall()
    for kind, n, _ in found:
        add_counts(counts, {kind: n})
    looked(sum(rows for *_, rows in found))
    return counts


def counts_between(connection: sqlite3.Connection, num: int, start: int, stop: int) -> Counts:
    """How many entries of each kind stand, or stood, in [start, stop)."""
    below = counts_before(connection, num, start)
    through = counts_before(connection, num, stop)
    return {kind: more for kind, n in through.items() if (more := n - below.get(kind, 0))}


def seek(
    connection: sqlite3.Connection, num: int, last: int, total: Callable[[Counts], int], wanted: int, looked: Looked
) -> int:
    """The index at which the total first passes ``wanted``; the caller knows that it does so by ``last``.

    ``total`` says how many of so many entries of each kind are visible.
    """
    start, seen = _checkpoint_before(connection, num, last, total, wanted)
    lines = connection.execute(
        "SELECT pos, kind, 1 FROM entries WHERE pos BETWEEN :start AND :end UNION ALL "
        "SELECT pos, kind, n FROM removed WHERE pos BETWEEN :start AND :end ORDER BY pos",
        {"start": position(num, start), "end": position(num, last)},
    )
    read, found = 0, last
    for pos, kind, n in lines:
        read += 1
        more = total({kind: n})
        if seen + more > wanted:
            found = (pos + wanted - seen) & MAX_INDEX
            break
        seen += more
    looked(read)
    return found


def _checkpoint_before(
    connection: sqlite3.Connection, num: int, last: int, total: Callable[[Counts], int], wanted: int
) -> tuple[int, int]:
    """The newest checkpoint (index, total) at which the total has not passed ``wanted`` yet."""
    low, high = 0, last + 1
    best = (0, 0)
    while low <= high:
        row = connection.execute(
            "SELECT idx, counts FROM checkpoints WHERE task_num = ? AND idx BETWEEN ? AND ? ORDER BY idx DESC LIMIT 1",
            (num, low, (low + high) // 2),
        ).fetchone()
        if row is None:
            low = (low + high) // 2 + 1
            continue
        index, seen = row[0], total(unpack_counts(row[1]))
        if seen <= wanted:
            best = (index, seen)
            low = (low + high) // 2 + 1
        else:
            high = index - 1
    return best
