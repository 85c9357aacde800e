"""Of what kind removed entries were, in index order: so that they count where they stood."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from taskcast_core.entries import Hole
from taskcast_postgres.database import Row, Session
from taskcast_postgres.rows import SPAN, Kinds

_PROLONG = f"""
UPDATE taskcast.removed r SET n = r.n + more.n
FROM unnest(%s::bigint[], %s::bigint[], %s::bigint[], %s::integer[]) AS more (task, first, n, kind)
WHERE more.first %% {SPAN} > 0 AND r.task = more.task AND r.kind = more.kind
    AND r.first >= more.first - more.first %% {SPAN} AND r.first < more.first AND r.first + r.n = more.first
RETURNING more.task, more.first
"""  # noqa: S608 - put together from a constant
_KEEP = """
INSERT INTO taskcast.removed (task, first, n, kind)
SELECT * FROM unnest(%s::bigint[], %s::bigint[], %s::bigint[], %s::integer[])
"""


def rows_of(task: int, hole: Hole, kinds: Kinds) -> Iterator[Row]:
    """What fills a hole of which only the counts are known: kind after kind, no row across a multiple of the span."""
    first = hole.first
    for kind, n in kinds.numbered(hole.counts).items():
        end = min(first + n, hole.last + 1)
        while first < end:
            stop = min(end, first - first % SPAN + SPAN)
            yield task, first, stop - first, kind
            first = stop


async def keep(session: Session, rows: Iterable[Row]) -> None:
    """Note removed entries (task, first, n, kind); what goes on a row that is there becomes part of it."""
    joined = list(_joined(rows))
    if not joined:
        return
    known = {tuple(row) for row in await session.rows(_PROLONG, *([row[n] for row in joined] for n in range(4)))}
    await session.columns(_KEEP, [row for row in joined if row[:2] not in known])


def _joined(rows: Iterable[Row]) -> Iterator[Row]:
    """In index order, with neighbours of one kind and span as one."""
    last: Row | None = None
    for row in sorted(rows):
        task, first, n, kind = row
        if last is not None and (last[0], last[1] + last[2], last[3]) == (task, first, kind) and first % SPAN:
            last = (task, last[1], last[2] + n, kind)
            continue
        if last is not None:
            yield last
        last = row
    if last is not None:
        yield last
