"""Filtered positions without reading the log: from the nearest checkpoint, at most one span of rows is looked at.

A removed entry counts at the last index of its hole: where exactly it stood there is not kept.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from heapq import merge
from operator import itemgetter

from taskcast_core.builtin.sqlite.rows import MAX_INDEX, Counts, add_counts, position, unpack_counts

SPAN = 1_000
"""A checkpoint is written at every index that is a multiple of this."""

Looked = Callable[[int], None]
"""Told how many entries' rows have been looked at."""


def ignore(_: int) -> None:
    """For callers that do not measure."""


def counts_before(connection: sqlite3.Connection, num: int, before: int, looked: Looked = ignore) -> Counts:
    """How many entries of each kind stand below an index (at least the log's first one)."""
    row = connection.execute(
        "SELECT idx, counts FROM checkpoints WHERE task_num = ? AND idx <= ? ORDER BY idx DESC LIMIT 1", (num, before)
    ).fetchone()
    start, counts = (row[0], unpack_counts(row[1])) if row else (0, Counts())
    found = connection.execute(
        "SELECT kind, count(*) FROM entries WHERE pos >= ? AND pos < ? GROUP BY kind",
        (position(num, start), position(num, before)),
    ).fetchall()
    add_counts(counts, dict(found))
    looked(sum(n for _, n in found))
    for (removed,) in connection.execute(
        "SELECT counts FROM holes WHERE task_num = ? AND last >= ? AND last < ?", (num, start, before)
    ):
        add_counts(counts, unpack_counts(removed))
    return counts


def seek(
    connection: sqlite3.Connection, num: int, last: int, total: Callable[[Counts], int], wanted: int, looked: Looked
) -> int:
    """The index at which the total first passes ``wanted``; the caller knows that it does so by ``last``.

    ``total`` says how many of so many entries of each kind are visible.
    """
    start, seen = _checkpoint_before(connection, num, last, total, wanted)
    entries = connection.execute(
        "SELECT pos, pos, kind, NULL FROM entries WHERE pos >= ? AND pos <= ? ORDER BY pos",
        (position(num, start), position(num, last)),
    )
    holes = connection.execute(
        "SELECT (task_num << 32) + last, (task_num << 32) + first, NULL, counts FROM holes "
        "WHERE task_num = ? AND last >= ? ORDER BY last",
        (num, start),
    )
    read, found = 0, last
    for pos, first, kind, counts in merge(entries, holes, key=itemgetter(0)):
        read += counts is None
        more = total({kind: 1} if counts is None else unpack_counts(counts))
        if seen + more > wanted:
            # Within a hole: as far in as it can be at least, so that what follows is not taken for seen.
            is_last = wanted == seen + more - 1
            found = (pos if is_last else first + wanted - seen) & MAX_INDEX
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
