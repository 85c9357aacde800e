"""``trim``: cleanup rules, applied to the archive. It means what the memory store's verb means."""

from __future__ import annotations

from attrs import evolve

from taskcast_core import wire
from taskcast_core.contracts.task_log import TrimRule
from taskcast_core.entries import draft_of
from taskcast_core.errors import EpochChanged, NotHot
from taskcast_core.filters import matches_any_type
from taskcast_core.packing import pack
from taskcast_postgres.database import Session
from taskcast_postgres.digging import dig
from taskcast_postgres.rows import MODE_CODES, Kinds
from taskcast_postgres.stretch import hole_of_one

_DOOM = """
DELETE FROM taskcast.events d WHERE d.task = %s AND d.idx IN (
    SELECT e.idx FROM taskcast.events e
    WHERE e.task = %s AND e.kind = ANY(%s::integer[]) AND (e.mode IS NULL OR e.mode = ANY(%s::smallint[]))
        AND e.ts < %s AND NOT (%s AND EXISTS (
            SELECT 1 FROM taskcast.series s WHERE s.task = e.task AND s.id = e.series AND s.last_index = e.idx))
    ORDER BY e.idx LIMIT %s
) RETURNING d.idx, d.ts, d.kind, d.mode, d.series, d.text
"""
_LEFT = "SELECT DISTINCT series FROM taskcast.events WHERE task = %s AND series = ANY(%s::bytea[]) AND mode = ANY(%s)"
_KEEP_DATA = "UPDATE taskcast.series SET data = %s WHERE task = %s AND id = %s AND last_index = %s"
_TRACKED = (MODE_CODES["accumulate"], MODE_CODES["latest"])
_EVER = (1 << 63) - 1


async def trim(session: Session, task_id: str, epoch: int, rule: TrimRule, limit: int) -> int:
    """See LongTermStore.trim."""
    row = await session.row(
        "SELECT num, epoch, kinds FROM taskcast.tasks WHERE id = %s AND epoch > 0 FOR UPDATE", pack(task_id)
    )
    if row is None:
        raise NotHot(task_id)
    num, now, kinds = row[0], row[1], Kinds(row[2])
    if now != epoch:
        raise EpochChanged(task_id, now)
    wanted = [
        number
        for number, (type_, level) in enumerate(kinds.names)
        if matches_any_type(rule.types, type_) and (rule.levels is None or level in rule.levels)
    ]
    modes = [code for mode, code in MODE_CODES.items() if rule.series_modes is None or mode in rule.series_modes]
    doomed = sorted(
        await session.rows(
            _DOOM, num, num, wanted, [code for code in modes if code is not None],
            _EVER if rule.older_than is None else rule.older_than, rule.keep_series_ends, limit,
        )
    )  # fmt: skip
    losing = {series for *_, mode, series, _ in doomed if mode in _TRACKED}
    left = {series for (series,) in await session.rows(_LEFT, num, list(losing), list(_TRACKED))} if losing else set()
    lost = losing - left
    holes = [
        evolve(
            hole_of_one(index, timestamp, kinds.names[kind]),
            cut_series=mode == MODE_CODES["accumulate"],
            lost_series=series in lost,
        )
        for index, timestamp, kind, mode, series, _ in doomed
    ]
    await dig(session, {num: holes}, [(num, index) for index, *_ in doomed], {num: kinds})
    for index, _, _, mode, series, text in doomed:
        if mode in _TRACKED and series in left:
            await session.run(_KEEP_DATA, wire.dumps(draft_of(wire.loads(text)).data), num, series, index)
    if lost:
        for statement in (
            "DELETE FROM taskcast.series WHERE task = %s AND id = ANY(%s::bytea[])",
            "DELETE FROM taskcast.texts WHERE task = %s AND series = ANY(%s::bytea[])",
        ):
            await session.run(statement, num, list(lost))
    return len(doomed)
