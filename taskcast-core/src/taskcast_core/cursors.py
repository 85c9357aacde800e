"""Where a reader begins: a cursor becomes a log index and a filtered position, or the reason why it cannot."""

from __future__ import annotations

from typing import Literal, Protocol

from taskcast_core.filters import View
from taskcast_core.ids import parse_event_id
from taskcast_core.models import Cursor
from taskcast_core.values import frozen

GapReason = Literal["epoch", "unknown_id", "ahead", "removed"]
"""``epoch``: the id is of a log that was lost or deleted, or of another task's. ``unknown_id``: no log has such ids.
``ahead``: an index beyond the newest. ``removed``: cleanup took away something that nothing later makes up for.
"""


@frozen
class Start:
    """Where to go on reading.

    Attributes:
        after: log index up to which everything has been seen. position: filtered index of what comes next.
        is_resumed: a cursor was given and honoured. gap: a cursor was given and cannot be honoured.
    """

    after: int = -1
    position: int = 0
    is_resumed: bool = False
    gap: GapReason | None = None


class Places(Protocol):
    """Finds places in a log, as LogReader does (which see)."""

    async def locate(self, task_id: str, event_id: str, *, epoch: int) -> int | None:
        """The index of an event."""

    async def seek(self, task_id: str, view: View, position: int, *, epoch: int) -> int | None:
        """The index at a filtered position."""

    async def seek_time(self, task_id: str, timestamp: int, *, epoch: int) -> int:
        """The newest index that is not younger."""

    async def count(self, task_id: str, view: View, before: int, *, epoch: int) -> int:
        """How many entries below an index are visible."""


def is_given(cursor: Cursor | None) -> bool:
    """Whether a cursor says anything; an empty id and a timestamp of 0 do not (wire spec, sse section 4)."""
    return cursor is not None and (bool(cursor.id) or cursor.index is not None or bool(cursor.timestamp))


async def resolve(places: Places, task_id: str, cursor: Cursor | None, view: View, *, epoch: int) -> Start:
    """Find the place of a cursor in the log of ``epoch``.

    ``id`` goes before ``timestamp``; ``index`` is one of the view and applies in addition to either. An index inside
    the log cannot prove its epoch. Where a hub's channel does not know a place, the log has to be asked: a channel may
    not have heard of the newest entries that another process has served.
    """
    if cursor is None or not is_given(cursor):
        return Start()
    after = -1
    if cursor.id:
        located = await places.locate(task_id, cursor.id, epoch=epoch)
        if located is None:
            return Start(gap="unknown_id" if parse_event_id(cursor.id) is None else "epoch")
        after = located
    elif cursor.timestamp:
        after = await places.seek_time(task_id, cursor.timestamp, epoch=epoch)
    if cursor.index is not None and cursor.index >= 0:
        index = await places.seek(task_id, view, cursor.index, epoch=epoch)
        if index is None:
            return Start(gap="ahead")
        after = max(after, index)
    return Start(after, await places.count(task_id, view, after + 1, epoch=epoch), is_resumed=True)
