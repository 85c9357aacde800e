"""Past events in one reply: after a cursor, filtered, limited, collapsed if wanted (wire spec, events 5 and 6).

The order is the reference's: the limit is applied to the entries as they are stored, before filtering and before
collapsing, so that pages of ``limit`` entries walk through a log without a gap.
"""

from __future__ import annotations

from collections.abc import Sequence

from taskcast_core.contracts.log_reader import LogReader
from taskcast_core.contracts.task_log import Stored
from taskcast_core.cursors import GapReason, resolve
from taskcast_core.deliveries import Delivery
from taskcast_core.entries import Entry
from taskcast_core.filters import View
from taskcast_core.models import Cursor
from taskcast_core.presentation import accumulates
from taskcast_core.series import SeriesState
from taskcast_core.values import frozen

PAGE = 1000


@frozen
class History:
    """A stretch of history.

    Attributes:
        gap: why the cursor could not be honoured (the stretch then begins at the start).
        scanned: entries it was made from, before filtering. last_index: of the last of them, −1 if there is none.
    """

    deliveries: tuple[Delivery, ...]
    gap: GapReason | None = None
    scanned: int = 0
    last_index: int = -1


async def read_history(
    reader: LogReader,
    stored: Stored,
    *,
    since: Cursor | None,
    view: View,
    limit: int | None,
    collapse: bool,
) -> History:
    """The events of a task after a cursor; ``since.index`` is the log's own index here.

    Of several cursors the most exact one counts: id before index before timestamp (wire spec, events 4).
    """
    task_id, epoch = stored.task.id, stored.epoch
    start = await resolve(reader, task_id, since and _most_exact(since), View(), epoch=epoch)
    entries = await _entries(reader, task_id, epoch, start.after, limit)
    visible = [entry for entry in entries if view.matches(entry.type, entry.level)]
    last_index = entries[-1].index if entries else -1
    if collapse:
        deliveries = tuple(await _collapse(reader, task_id, epoch, visible))
    else:
        deliveries = tuple(Delivery(entry, entry.index) for entry in visible)
    return History(deliveries, start.gap, len(entries), last_index)


def _most_exact(since: Cursor) -> Cursor:
    if since.id:
        return Cursor(id=since.id)
    return since if since.index is None else Cursor(index=since.index)


async def _entries(reader: LogReader, task_id: str, epoch: int, after: int, limit: int | None) -> Sequence[Entry]:
    entries: list[Entry] = []
    while limit is None or len(entries) < limit:
        page = await reader.read(task_id, epoch=epoch, after=after, limit=PAGE)
        if not page.items:
            break
        entries += [item for item in page.items if isinstance(item, Entry)]
        after = page.last
    return entries[:limit]


async def _collapse(reader: LogReader, task_id: str, epoch: int, entries: Sequence[Entry]) -> list[Delivery]:
    """Each accumulate series as one snapshot of its present total, where it first occurs."""
    states = (await reader.series(task_id, epoch=epoch)).states
    seen: set[str] = set()
    shown: list[Delivery] = []
    for entry in entries:
        if not accumulates(entry) or entry.series_id is None:
            shown.append(Delivery(entry, entry.index))
        elif entry.series_id not in seen:
            seen.add(entry.series_id)
            last = await _newest(reader, task_id, epoch, states.get(entry.series_id)) or _last_of(
                entries, entry.series_id
            )
            total = await reader.fold(task_id, entry.series_id, last.index, epoch=epoch)
            shown.append(Delivery(last.with_data(total), last.index, is_snapshot=True))
    return shown


async def _newest(reader: LogReader, task_id: str, epoch: int, state: SeriesState | None) -> Entry | None:
    """The newest accumulate entry of a series; None where cleanup has removed it, or the series as such."""
    if state is None:
        return None
    return await entry_at(reader, task_id, epoch, max(state.last_by_kind.values()))


async def entry_at(reader: LogReader, task_id: str, epoch: int, index: int) -> Entry | None:
    """The entry at an index; None where one was removed."""
    page = await reader.read(task_id, epoch=epoch, after=index - 1, before=index + 1, limit=1)
    item = page.items[0] if page.items else None
    return item if isinstance(item, Entry) else None


def _last_of(entries: Sequence[Entry], series_id: str) -> Entry:
    return next(entry for entry in reversed(entries) if accumulates(entry) and entry.series_id == series_id)
