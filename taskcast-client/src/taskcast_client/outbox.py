"""What a producer has not sent yet: events in order, deltas of one series merged. Pure: no I/O, no clock."""

from __future__ import annotations

from collections import deque
from typing import Any

from attrs import define

from taskcast_client.models import EventInput
from taskcast_client.texts import DEFAULT_FIELD
from taskcast_client.wire import dumps, to_wire

MAX_EVENTS = 1000
"""Events of one request at most; well below what a server takes."""
MAX_SIZE = 1 << 20
"""Bytes of one request, about; a larger single event goes alone."""
_OVERHEAD = 150  # of an event whose text is counted alone

_Series = tuple[str | None, str | None, str, str, str | None]


@define
class _Waiting:
    """One event, as its JSON; or a delta that may be continued, as its template and pieces."""

    series: _Series
    size: int
    count: int = 1
    encoded: bytes = b""
    template: EventInput | None = None
    field: str = ""
    pieces: list[str] | None = None

    def finished(self) -> bytes:
        """The JSON to send."""
        if self.template is None or self.pieces is None:
            return self.encoded
        return dumps({**to_wire(self.template), "data": {self.field: "".join(self.pieces)}})


class Outbox:
    """Events on their way out. Neighbouring deltas of one series become one event; of neighbouring values of a latest
    series only the last is sent.

    Attributes:
        size: bytes that wait, about.
    """

    def __init__(self) -> None:
        self._waiting: deque[_Waiting] = deque()
        self.size = 0

    def __len__(self) -> int:
        return len(self._waiting)

    def add(self, event: EventInput) -> None:
        """Append an event; later changes of its data do not show.

        Raises:
            ValueError, TypeError: its data has no JSON form.
        """
        last = self._waiting[-1] if self._waiting else None
        series = (event.series_id, event.series_mode, event.type, event.level, event.series_acc_field)
        field = _delta_field(event)
        is_continued = last is not None and event.series_id is not None and last.series == series
        if field is not None:
            piece: str = event.data[field]
            size = len(piece)
            has_room = last is not None and last.field == field and last.size + size <= MAX_SIZE
            if last is not None and is_continued and has_room and last.pieces is not None:
                last.pieces.append(piece)
                last.size += size
                last.count += 1
                self.size += size
                return
            entry = _Waiting(series, size + _OVERHEAD, template=event, field=field, pieces=[piece])
        else:
            encoded = dumps(to_wire(event))
            entry = _Waiting(series, len(encoded), encoded=encoded)
            if last is not None and is_continued and event.series_mode == "latest":
                self._waiting.pop()
                self.size -= last.size
                entry.count += last.count
        self._waiting.append(entry)
        self.size += entry.size

    def take(self) -> tuple[list[bytes], int]:
        """The next request's events as JSON, oldest first; and how many were added to make them."""
        taken: list[bytes] = []
        size = count = 0
        while self._waiting and len(taken) < MAX_EVENTS:
            size += self._waiting[0].size
            if taken and size > MAX_SIZE:
                break
            entry = self._waiting.popleft()
            self.size -= entry.size
            count += entry.count
            taken.append(entry.finished())
        return taken, count


def _delta_field(event: EventInput) -> str | None:
    """The field of a delta that says nothing but its text; None for all other events."""
    field = event.series_acc_field or DEFAULT_FIELD
    data: Any = event.data
    if event.series_mode != "accumulate" or not event.series_id or not isinstance(data, dict):
        return None
    return field if len(data) == 1 and isinstance(data.get(field), str) else None
