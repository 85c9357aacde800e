"""Everything that a reader can learn about a log, as one comparable value.

Two copies of one log (hot and durable, before a release and after the restore, original and import) have the same
portrait.
"""

from __future__ import annotations

from typing import Any

from attrs import frozen

from taskcast_core.contracts import LogReader
from taskcast_core.entries import Entry, Hole
from taskcast_core.filters import View
from taskcast_core.testing.making import entries_of, span, whole_log

VIEWS = (
    View(),
    View(include_status=False),
    View(types=["delta"]),
    View(types=["log.*", "progress"]),
    View(levels=["info"]),
    View(types=["*"], levels=["warn", "error"]),
    View(types=[]),
)


@frozen
class Portrait:
    """What a log looks like from outside.

    Attributes:
        lines: its items. series: states. folds: payload with total, per accumulate entry. counts: per view, at the
        start of every line and behind the last. positions: per view, the line in which each filtered position lies.
        times: what ``seek_time`` says around every timestamp. places: what ``locate`` says for every id.
    """

    lines: tuple[Any, ...]
    series: dict[str, Any]
    folds: dict[int, Any]
    counts: tuple[tuple[int, ...], ...]
    positions: tuple[tuple[int | None, ...], ...]
    times: dict[int, int]
    places: dict[str, int | None]


def line(item: Entry | Hole) -> tuple[Any, ...]:
    """A line of the log as plain values."""
    if isinstance(item, Entry):
        return item.index, item.id, item.timestamp, item.text, item.series_id, item.series_mode, item.run, item.end
    return (
        "hole", item.first, item.last, item.first_timestamp, item.last_timestamp, sorted(item.counts.items()),
        item.cut_series, item.lost_series,
    )  # fmt: skip


async def portrait(reader: LogReader, task_id: str, epoch: int | None = None) -> Portrait:
    """Look at a log with every verb there is."""
    items = await whole_log(reader, task_id, epoch=epoch)
    entries = entries_of(items)
    edges = [span(item)[0] for item in items] + ([span(items[-1])[1] + 1] if items else [0])
    counts = tuple([tuple([await reader.count(task_id, view, edge, epoch=epoch) for edge in edges]) for view in VIEWS])
    positions = tuple(
        [
            tuple([await _line_at(reader, task_id, view, n, items, epoch) for n in range(totals[-1] + 1)])
            for view, totals in zip(VIEWS, counts, strict=True)
        ]
    )
    stamps = {stamp + shift for stamp in (entry.timestamp for entry in entries) for shift in (-1, 0, 1)}
    return Portrait(
        lines=tuple(map(line, items)),
        series=dict((await reader.series(task_id, epoch=epoch)).states),
        folds={
            entry.index: await reader.fold(task_id, entry.series_id or "", entry.index, epoch=epoch)
            for entry in entries
            if entry.series_mode == "accumulate"
        },
        counts=counts,
        positions=positions,
        times={stamp: await reader.seek_time(task_id, stamp, epoch=epoch) for stamp in sorted(stamps)},
        places={entry.id: await reader.locate(task_id, entry.id, epoch=epoch) for entry in entries},
    )


async def _line_at(
    reader: LogReader, task_id: str, view: View, position: int, items: list[Entry | Hole], epoch: int | None
) -> int | None:
    """The first index of the line in which a filtered position lies: within a hole, stores may say any index of it."""
    index = await reader.seek(task_id, view, position, epoch=epoch)
    if index is None:
        return None
    return next(first for first, last in map(span, items) if first <= index <= last)


def visible(items: list[Entry | Hole], view: View, before: int) -> int:
    """What ``count`` has to say at the start of a line, by counting."""
    total = 0
    for item in items:
        if span(item)[0] >= before:
            break
        total += view.total({(item.type, item.level): 1} if isinstance(item, Entry) else item.counts)
    return total
