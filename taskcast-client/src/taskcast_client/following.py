"""Following a task's stream through every cut: what to ask for next, and which events are new. Pure.

The reader's position is the id of the last event that it was given. After a cut it asks for what comes after that,
with ``resume=snapshot``: the first later event of each accumulate series then carries the whole text, so that a reader
that was cut in the middle of a replay is right again. Whatever a server sends twice is dropped by its index.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator
from typing import Any

from attrs import frozen

from taskcast_client.calls.call import since_query
from taskcast_client.errors import InvalidReply
from taskcast_client.models import Cursor, Envelope, Level, SeriesFormat
from taskcast_client.sse import Frame, FrameTooLong, SseParser
from taskcast_client.wire import loads

EVENT_FRAME = "taskcast.event"
DONE_FRAME = "taskcast.done"
_RECENT = 4096


@frozen
class StreamFilter:
    """What a reader wants to see, and how.

    Attributes:
        types: patterns, ``*``, ``a.*`` or exact; None is all. levels: likewise, by name.
        include_status: False hides events of type ``taskcast:status``.
        since: start after this event id or cursor; None replays from the start, series collapsed to snapshots.
        series_format: ``accumulated`` gives running totals in place of deltas.
        limit: without a cursor, replay only the last N events.
    """

    types: tuple[str, ...] | None = None
    levels: tuple[Level, ...] | None = None
    include_status: bool = True
    since: Cursor | str | None = None
    series_format: SeriesFormat = "delta"
    limit: int | None = None


class Position:
    """Where one reader stands, from its first connection to the end of the task.

    Attributes:
        last_event_id: an exact cursor; None before the first event.
        done: how the task ended, once the server has said so. retry_ms: the server's wish for the next connection.
    """

    def __init__(self, wanted: StreamFilter) -> None:
        self.last_event_id: str | None = None
        self.done: str | None = None
        self.retry_ms: int | None = None
        self._wanted = wanted
        self._parser = SseParser()
        self._floor = -1  # what has been given on earlier connections, and before a gap
        self._highest = -1
        self._here: set[int] = set()  # what this connection gave; bounded by _order
        self._order: deque[int] = deque()

    def connect(self) -> dict[str, str]:
        """Begin a connection: the query to open it with."""
        self._parser = SseParser()
        self.retry_ms = None
        self._floor = max(self._floor, self._highest)
        self._here.clear()
        self._order.clear()
        wanted = self._wanted
        since = wanted.since if self.last_event_id is None else self.last_event_id
        query: dict[str, Any] = {
            "types": _joined(wanted.types),
            "levels": _joined(wanted.levels),
            "includeStatus": None if wanted.include_status else "false",
            **since_query(since),
            "resume": None if since is None else "snapshot",
            "seriesFormat": None if wanted.series_format == "delta" else wanted.series_format,
            "limit": wanted.limit if since is None else None,
        }
        return {name: str(value) for name, value in query.items() if value is not None}

    def feed(self, piece: bytes) -> Iterator[Envelope]:
        """The new events of some bytes; sets ``done``.

        Raises:
            InvalidReply: this is no stream of Taskcast.
        """
        try:
            for frame in self._parser.feed(piece):
                if (event := self._read(frame)) is not None and self._is_new(event):
                    yield event
        except FrameTooLong as error:
            raise InvalidReply(str(error)) from error
        self.retry_ms = self._parser.retry_ms

    def _read(self, frame: Frame) -> Envelope | None:
        if frame.event == EVENT_FRAME:
            return read_envelope(loads(frame.data))
        if frame.event == DONE_FRAME:
            reason = loads(frame.data)
            self.done = str(reason.get("reason")) if isinstance(reason, dict) else "completed"
        return None  # other names are for newer clients

    def _is_new(self, event: Envelope) -> bool:
        if event.is_gap:
            self._floor = self._highest = event.raw_index
            self._here.clear()
            self._order.clear()
            self.last_event_id = None
            self._wanted = _from_the_start(self._wanted)
            return True
        index = event.raw_index
        if index <= self._floor or index in self._here:
            return False
        self._here.add(index)
        self._order.append(index)
        if len(self._order) > _RECENT:
            self._here.discard(self._order.popleft())
        self._highest = max(self._highest, index)
        self.last_event_id = event.event_id or self.last_event_id
        return True


def _from_the_start(wanted: StreamFilter) -> StreamFilter:
    """The reader's own cursor was not honoured, and the server began anew: it must not be asked for again."""
    return StreamFilter(wanted.types, wanted.levels, wanted.include_status, None, wanted.series_format, wanted.limit)


def read_envelope(value: Any) -> Envelope:
    """An envelope from its JSON, by hand: this is the hot path of a reader.

    Raises:
        InvalidReply: it is none.
    """
    try:
        get = value.get
        return Envelope(
            int(value["filteredIndex"]),
            int(value["rawIndex"]),
            value["eventId"],
            value["taskId"],
            value["type"],
            int(value["timestamp"]),
            get("level", "info"),
            get("data"),
            get("seriesId"),
            get("seriesMode"),
            get("seriesAccField"),
            get("seriesSnapshot") is True,
        )
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise InvalidReply(f"not an event of a stream: {error!r}") from error


def _joined(values: Iterable[str] | None) -> str | None:
    return None if values is None else ",".join(values)
