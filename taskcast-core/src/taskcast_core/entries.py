"""One line of a task's log, in the form that every layer hands on: decoded, encoded and numbered at most once.

An ``Entry`` is what stores keep, bells carry, the hub's rings hold and encoders send. It is made from a draft (a
publish) or from its stored JSON text (a read), and makes the other form only when somebody asks for it.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from functools import lru_cache
from typing import Any, cast

import orjson

from taskcast_core import wire
from taskcast_core.ids import EventIdMaker
from taskcast_core.models import Event, EventDraft, Level, SeriesMode
from taskcast_core.values import frozen

STATUS_TYPE = "taskcast:status"
GAP_TYPE = "taskcast:gap"


class Origin:
    """Whose log an entry stands in: task and epoch. One object is shared by all entries of both.

    Attributes:
        event_id: gives the id of the entry with this timestamp (ms) and index.
    """

    __slots__ = ("_ids", "epoch", "event_id", "salt", "task_id", "task_json")

    def __init__(self, task_id: str, epoch: int, salt: int) -> None:
        self.task_id, self.epoch, self.salt = task_id, epoch, salt
        self.task_json = b"%b" % wire.dumps(task_id)  # a copy: see `draft_text`
        self._ids = EventIdMaker(salt)
        self.event_id = self._ids.one

    def event_ids(self, timestamp: int, first: int, count: int) -> list[str]:
        """The ids of consecutive entries of one commit."""
        return self._ids.run(timestamp, first, count)

    def id_stems(self, timestamps: Sequence[int], indexes: Sequence[int]) -> list[bytes]:
        """The ids of many entries, in the log's order, but for their `taskcast_core.ids.endings`."""
        return self._ids.stems(timestamps, indexes)


class Entry:
    """An event with its place in the log.

    Attributes:
        origin: task and epoch. index: 0, 1, 2 …, per task. timestamp: ms.
        series_id, series_mode: both set, or the event belongs to no series; what its publisher wrote is in the draft.
        given_id: the id that an imported event brought along; the others' ids are computed.
        run, end: of accumulate entries: which run of the series' text it belongs to, and how many characters that run
        has after it (None: it has no text). So a fold is a cut of the run's text. Set by the commit.
    """

    __slots__ = (
        "_draft", "_id", "_text", "end", "given_id", "index", "level", "origin", "run",
        "series_id", "series_mode", "timestamp", "type",
    )  # fmt: skip

    def __init__(
        self,
        origin: Origin,
        index: int,
        timestamp: int,
        draft: EventDraft,
        given_id: str | None = None,
        text: bytes | None = None,
    ) -> None:
        """``text``: the draft's, where it has been made."""
        self.origin, self.index, self.timestamp = origin, index, timestamp
        self.type, self.level = draft.type, draft.level
        self.series_id: str | None = None
        self.series_mode: SeriesMode | None = None
        if draft.series_id is not None and draft.series_mode is not None:
            self.series_id, self.series_mode = draft.series_id, draft.series_mode
        self._draft: EventDraft | None = draft
        self._text = text
        self.given_id = self._id = given_id
        self.run: int | None = None
        self.end: int | None = None

    @classmethod
    def stored(
        cls,
        origin: Origin,
        index: int,
        timestamp: int,
        text: bytes,
        *,
        type: str,
        level: Level,
        series_id: str | None = None,
        series_mode: SeriesMode | None = None,
        given_id: str | None = None,
        run: int | None = None,
        end: int | None = None,
    ) -> Entry:
        """An entry read back from ``text`` (see the property), with the fields that a store keeps beside it."""
        entry = cls.__new__(cls)
        entry.origin, entry.index, entry.timestamp = origin, index, timestamp
        entry.type, entry.level = type, level
        entry.series_id, entry.series_mode = series_id, series_mode
        entry._draft, entry._text = None, text
        entry.given_id = entry._id = given_id
        entry.run, entry.end = run, end
        return entry

    @classmethod
    def parse(cls, origin: Origin, index: int, timestamp: int, text: bytes, given_id: str | None = None) -> Entry:
        """An entry from its text alone; dearer than ``stored``, since the text has to be decoded."""
        return cls(origin, index, timestamp, draft_of(wire.loads(text)), given_id, text)

    @property
    def id(self) -> str:
        """The event's id; a function of origin, timestamp and index unless it was imported."""
        if self._id is None:
            self._id = self.origin.event_id(self.timestamp, self.index)
        return self._id

    @property
    def draft(self) -> EventDraft:
        """What the publisher wrote."""
        if self._draft is None:
            self._draft = draft_of(wire.loads(cast(bytes, self._text)))
        return self._draft

    @property
    def data(self) -> Any:
        """The event's payload."""
        return self.draft.data

    @property
    def text(self) -> bytes:
        """The draft as a JSON object: type, level, data, and the series fields that are set."""
        if self._text is None:
            self._text = draft_text(self.draft)
        return self._text

    @property
    def tail(self) -> bytes:
        """What all presentations of this event end with: ``"taskId":…,"timestamp":…,"type":…,…}``."""
        return b'"taskId":%b,"timestamp":%d,%b' % (self.origin.task_json, self.timestamp, self.text[1:])

    def event(self) -> Event:
        """This entry as the public model."""
        draft = self.draft
        return Event(
            self.id, self.origin.task_id, self.index, self.timestamp, draft.type, draft.level, draft.data,
            draft.series_id, draft.series_mode, draft.series_acc_field,
        )  # fmt: skip

    def with_data(self, data: Any) -> Entry:
        """The same place in the log with another payload; for presentation, never to be stored."""
        draft = self.draft
        shown = EventDraft(draft.type, draft.level, data, draft.series_id, draft.series_mode, draft.series_acc_field)
        return Entry(self.origin, self.index, self.timestamp, shown, self.id)

    def __repr__(self) -> str:
        return f"<Entry {self.origin.task_id}#{self.index} {self.type}>"


def condense(entries: Iterable[Entry | None]) -> None:
    """Keep the text alone of what can be made from it again: for stores whose entries stay in memory."""
    for entry in entries:
        if entry is not None:
            if entry._text is not None:
                entry._draft = None
            entry._id = entry.given_id


def texts_of(entries: Iterable[Entry]) -> list[bytes]:
    """The ``text`` of each."""
    return [entry._text or entry.text for entry in entries]


def draft_text(draft: EventDraft) -> bytes:
    """A draft as JSON text, its keys in the order of the wire.

    orjson's own bytes keep the room that they were written in, kilobytes each; what is joined here does not.
    """
    try:
        data = orjson.dumps(draft.data)
    except TypeError:
        data = wire.dumps(draft.data)
    head = _before_data(draft.type, draft.level)
    if draft.series_id is None and draft.series_mode is None and draft.series_acc_field is None:
        return head + data + b"}"
    return head + data + _behind_data(draft.series_id, draft.series_mode, draft.series_acc_field)


@lru_cache(4096)
def _before_data(type: str, level: str) -> bytes:
    """The first fields of a draft's text; the same ones come again and again."""
    return b'{"type":%b,"level":%b,"data":' % (wire.dumps(type), wire.dumps(level))


@lru_cache(4096)
def _behind_data(series_id: str | None, mode: str | None, acc_field: str | None) -> bytes:
    """The last fields."""
    fields = {"seriesId": series_id, "seriesMode": mode, "seriesAccField": acc_field}
    return b"".join(b',"%b":%b' % (name.encode(), wire.dumps(v)) for name, v in fields.items() if v is not None) + b"}"


def draft_of(value: dict[str, Any]) -> EventDraft:
    """A draft from its decoded JSON; trusts it (it was checked when it was published)."""
    return EventDraft(
        value["type"], value["level"], value["data"], value.get("seriesId"), value.get("seriesMode"),
        value.get("seriesAccField"),
    )  # fmt: skip


@frozen
class Hole:
    """A run of log entries that are no longer there: replaced in a ``latest`` series, or removed by cleanup.

    Attributes:
        first, last: indexes, inclusive. first_timestamp, last_timestamp: ms.
        counts: how many entries of each (type, level) stood there; they still count in filtered positions.
        cut_series: an accumulate entry was removed, so later deltas no longer add up for a reader before the hole.
        lost_series: a series was removed whole; a reader before the hole has missed something that nothing replaces.
    """

    first: int
    last: int
    first_timestamp: int
    last_timestamp: int
    counts: dict[tuple[str, Level], int]
    cut_series: bool = False
    lost_series: bool = False

    def merge(self, later: Hole) -> Hole:
        """This hole and the one that begins right after it, as one."""
        counts = dict(self.counts)
        for kind, n in later.counts.items():
            counts[kind] = counts.get(kind, 0) + n
        return Hole(
            self.first, later.last, self.first_timestamp, later.last_timestamp, counts,
            self.cut_series or later.cut_series, self.lost_series or later.lost_series,
        )  # fmt: skip


def has_holes(items: Sequence[Entry | Hole]) -> bool:
    """Whether not all of these are entries."""
    return Hole in set(map(type, items))


def is_contiguous(items: Sequence[Entry | Hole], first: int) -> bool:
    """Whether the items cover every index from ``first`` on, in order and without overlap."""
    expected = first
    for item in items:
        start, end = (item.index, item.index) if isinstance(item, Entry) else (item.first, item.last)
        if start != expected:
            return False
        expected = end + 1
    return True
