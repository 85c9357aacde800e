"""``write``: many batches in one transaction, with the watermarks that they advance.

The tasks' rows are locked in one order, so that writers of the same tasks take turns; what a batch adds is then worked
out (``stretch``), and lands in bulk: new entries by COPY, the rest by statements that do not wait for each other.
"""

# ruff: noqa: S608 - statements are put together from constants; all values are bound

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from taskcast_core.contracts.long_term import ArchiveBatch, Watermark
from taskcast_core.entries import Hole
from taskcast_core.errors import StorageIntegrityError, StoreUnavailable
from taskcast_core.packing import pack, pack_counts, unpack
from taskcast_core.series import SeriesState
from taskcast_postgres.counting import counts_before
from taskcast_postgres.database import Row, Session
from taskcast_postgres.digging import columns, dig
from taskcast_postgres.events import insert_events
from taskcast_postgres.failures import BUSY
from taskcast_postgres.health import DEPENDENCY
from taskcast_postgres.keeping import replace_timers
from taskcast_postgres.rows import (
    RECORD_COLUMNS,
    SERIES_COLUMNS,
    SERIES_READ,
    Kinds,
    Origins,
    record_row,
    series_of,
    series_row,
    unpack_segments,
)
from taskcast_postgres.stretch import Known, Stretch, hole_of_one

_BEGINNINGS = 5
"""A task's row may be deleted between our seeing that it is there and our locking it: at most so often in one write."""

_LOCK = """
SELECT t.id, t.num, t.epoch, t.rev, t.last_index, t.last_timestamp, t.segments, t.kinds, t.state, d.epoch
FROM taskcast.tasks t LEFT JOIN taskcast.tombstones d ON d.id = t.id
WHERE t.id = ANY(%s) ORDER BY t.id FOR UPDATE OF t
"""
# A row without an epoch yet. Two writers, or a writer and a deletion, of one new id wait for each other here.
_BEGIN = f"""
INSERT INTO taskcast.tasks (id, last_index, last_timestamp, kinds, {RECORD_COLUMNS})
VALUES (%s, -1, 0, '[]', 0, 0, '[]', '', '', NULL, 0, '', '{{}}') ON CONFLICT (id) DO NOTHING
"""
_ADVANCE = """
UPDATE taskcast.tasks t SET last_index = n.last_index, last_timestamp = n.last_timestamp,
    kinds = coalesce(n.kinds, t.kinds)
FROM unnest(%s::bigint[], %s::bigint[], %s::bigint[], %s::text[]) AS n (num, last_index, last_timestamp, kinds)
WHERE t.num = n.num
"""
_REPLACE = (
    f"UPDATE taskcast.tasks SET ({RECORD_COLUMNS}) = ROW (%s, %s, %s, %s, %s, %s, %s, %s, %s::bytea[]) WHERE num = %s"
)
_SERIES_KNOWN = f"""
SELECT s.task, {SERIES_READ} FROM unnest(%s::bigint[], %s::bytea[]) AS asked (task, id)
JOIN taskcast.series s ON s.task = asked.task AND s.id = asked.id
LEFT JOIN taskcast.events e ON e.task = s.task AND e.idx = s.last_index
"""
_SERIES = f"""
INSERT INTO taskcast.series (task, {SERIES_COLUMNS}) SELECT * FROM unnest(
    %s::bigint[], %s::bytea[], %s::smallint[], %s::bigint[], %s::bytea[], %s::bytea[], %s::bigint[], %s::bigint[],
    %s::text[], %s::bytea[])
ON CONFLICT (task, id) DO UPDATE SET (mode, last_index, field, default_field, run, length, last_by_kind, data) =
    (excluded.mode, excluded.last_index, excluded.field, excluded.default_field, excluded.run, excluded.length,
     excluded.last_by_kind, excluded.data)
"""
_TEXTS = """
INSERT INTO taskcast.texts (task, series, run, starts_at, text)
SELECT * FROM unnest(%s::bigint[], %s::bytea[], %s::bigint[], %s::bigint[], %s::bytea[])
"""
_REMOVE = """
DELETE FROM taskcast.events e USING unnest(%s::bigint[], %s::bigint[]) AS gone (task, idx)
WHERE e.task = gone.task AND e.idx = gone.idx RETURNING e.task, e.idx, e.ts, e.kind
"""
_CHECKPOINTS = """
INSERT INTO taskcast.checkpoints (task, idx, ts, counts)
SELECT * FROM unnest(%s::bigint[], %s::bigint[], %s::bigint[], %s::text[])
"""


async def write(session: Session, batches: Sequence[ArchiveBatch], *, carefully: bool = False) -> list[Watermark]:
    """See LongTermStore.write. ``carefully``: entries that PostgreSQL refuses are looked for, and set aside."""
    marks: list[Watermark] = []
    for group in _groups(batches):
        marks += await _Writing(session, group, carefully=carefully).run()
    return marks


def _groups(batches: Sequence[ArchiveBatch]) -> Iterator[list[ArchiveBatch]]:
    """Parts of the list in which no task comes twice: what is said later of a task builds on what was said before."""
    group: dict[str, ArchiveBatch] = {}
    for batch in batches:
        if batch.task_id in group:
            yield list(group.values())
            group = {}
        group[batch.task_id] = batch
    if group:
        yield list(group.values())


class _Writing:
    """One group of batches, each of another task."""

    def __init__(self, session: Session, batches: Sequence[ArchiveBatch], *, carefully: bool) -> None:
        self._session, self._batches, self._carefully = session, batches, carefully
        self._stretches: list[Stretch] = []

    async def run(self) -> list[Watermark]:
        known, deleted = await self._lock()
        out: dict[str, Watermark] = {}
        for batch in self._batches:
            epoch = batch.segments[-1].epoch
            if epoch <= deleted.get(batch.task_id, 0):
                out[batch.task_id] = Watermark(epoch, -1, 0)
            else:
                self._stretches.append(Stretch(batch, known[batch.task_id]))
        for stretch in self._stretches:
            await self._compare(stretch)
        await self._work_out()
        await insert_events(self._session, self._stretches, carefully=self._carefully)
        await self._dig()
        await self._advance()
        out |= {stretch.batch.task_id: stretch.watermark for stretch in self._stretches}
        return [out[batch.task_id] for batch in self._batches]

    # ── What is here ──────────────────────────────────────────────────────────────────────────────────────────────

    async def _lock(self) -> tuple[dict[str, Known], dict[str, int]]:
        """The tasks' rows, and the tombstones of those that have one."""
        ids = sorted(pack(batch.task_id) for batch in self._batches)
        rows = await self._session.rows(_LOCK, ids)
        for _ in range(_BEGINNINGS):
            missing = sorted(set(ids) - {row[0] for row in rows})
            if not missing:
                break
            await self._session.many(_BEGIN, [(task_id,) for task_id in missing])
            rows += await self._session.rows(_LOCK, missing)
        else:
            raise StoreUnavailable(DEPENDENCY, BUSY)
        deleted = {unpack(row[0]): row[9] for row in rows if row[9] is not None}
        known = {unpack(task_id): _known(row) for task_id, *row in rows}
        if unwanted := [one.num for task_id, one in known.items() if not one.epoch and self._is_dead(task_id, deleted)]:
            await self._session.run("DELETE FROM taskcast.tasks WHERE num = ANY(%s)", unwanted)
        return known, deleted

    def _is_dead(self, task_id: str, deleted: dict[str, int]) -> bool:
        epoch = next(batch.segments[-1].epoch for batch in self._batches if batch.task_id == task_id)
        return epoch <= deleted.get(task_id, 0)

    async def _compare(self, stretch: Stretch) -> None:
        """See that what is said again is what was said before."""
        task, num = stretch.batch.task_id, stretch.known.num
        if overlap := stretch.overlap:
            rows = await self._session.rows(
                "SELECT idx, ts, given_id, text FROM taskcast.events WHERE task = %s AND idx BETWEEN %s AND %s",
                num, overlap[0].index, overlap[-1].index,
            )  # fmt: skip
            origins = Origins(task, stretch.known.segments)
            here = {index: (origins.id_of(index, at, given), text) for index, at, given, text in rows}
            for entry in overlap:
                if entry.index in here and here[entry.index] != (entry.id, entry.text.decode()):
                    raise StorageIntegrityError(f"{task}: another event stands at index {entry.index}")
        if (hole := stretch.straddling) is not None:
            before = await counts_before(self._session, num, hole.first)
            until = await counts_before(self._session, num, stretch.known.last_index + 1)
            here_now = {kind: n - before.get(kind, 0) for kind, n in until.items()}
            stretch.cut_front(stretch.kinds.named(here_now))

    async def _work_out(self) -> None:
        asked = [(one.known.num, pack(series_id)) for one in self._stretches for series_id in one.series_ids]
        found: dict[int, dict[str, SeriesState]] = {}
        if asked:
            kinds = {one.known.num: one.kinds for one in self._stretches}
            for task, *row in await self._session.rows(_SERIES_KNOWN, *columns(asked, 2)):
                series_id, state = series_of(tuple(row), kinds[task])
                found.setdefault(task, {})[series_id] = state
        for one in self._stretches:
            one.work_out(found.get(one.known.num, {}))

    # ── Holes and checkpoints ─────────────────────────────────────────────────────────────────────────────────────

    async def _dig(self) -> None:
        """Put holes where entries have been, merged with their neighbours, and keep the checkpoints true."""
        removed = [(one.known.num, index) for one in self._stretches for index in one.replaced]
        holes: dict[int, list[Hole]] = {one.known.num: list(one.holes) for one in self._stretches}
        kinds = {one.known.num: one.kinds for one in self._stretches}
        if removed:
            for task, index, timestamp, kind in await self._session.rows(_REMOVE, *columns(removed, 2)):
                holes[task].append(hole_of_one(index, timestamp, kinds[task].names[kind]))
        edges = removed + [(one.known.num, one.known.last_index + 1) for one in self._stretches if one.holes]
        await self._add_checkpoints(await dig(self._session, holes, edges, kinds))

    async def _add_checkpoints(self, holes: dict[int, list[Hole]]) -> None:
        rows: list[Row] = []
        for one in self._stretches:
            if one.needs_checkpoint:
                task, behind = one.known.num, one.known.last_index + 1
                across = next((hole.first for hole in holes.get(task, ()) if hole.first < behind <= hole.last), behind)
                counts = await counts_before(self._session, task, across)
                rows += [
                    (task, each.index, each.timestamp, pack_counts(each.counts))
                    for each in one.checkpoints(counts, holes.get(task, ()))
                ]
        await self._session.columns(_CHECKPOINTS, rows)

    # ── Advancing ─────────────────────────────────────────────────────────────────────────────────────────────────

    async def _advance(self) -> None:
        series: list[Row] = []
        texts: list[Row] = []
        records: list[Row] = []
        heads: list[Row] = []
        for one in self._stretches:
            num = one.known.num
            for series_id in sorted(one.touched):
                state = one.series[series_id]
                has_row = state.last_index in one.rows
                series.append((num, *series_row(series_id, state, one.kinds, has_row=has_row)))
            texts += [
                (num, pack(series_id), run, start, pack("".join(pieces)))
                for (series_id, run), (start, pieces) in one.texts.items()
            ]
            if one.has_newer_record:
                records.append((*record_row(one.batch.record, one.batch.segments, one.batch.rev), num))
            if one.fresh:
                heads.append((num, one.last_index, one.last_timestamp, one.kinds.text() if one.has_new_kinds else None))
        async with self._session.together():
            await self._session.columns(_TEXTS, texts)
            await self._session.columns(_SERIES, series)
            await self._session.many(_REPLACE, records)
            await self._session.columns(_ADVANCE, heads)
        for one in self._stretches:
            if one.has_newer_record and one.known.state == "cold":
                await replace_timers(self._session, one.known.num, one.batch.record)


def _known(row: Sequence[Any]) -> Known:
    num, epoch, rev, last_index, last_timestamp, segments, kinds, state, _ = row
    return Known(num, epoch, rev, last_index, last_timestamp, unpack_segments(segments), Kinds(kinds), state)
