"""Records, logs and series as the scripts take and give them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import Any, cast

from attrs import frozen

from taskcast_core import wire
from taskcast_core.contracts.task_log import Record, Segment, Stored, TimerKind
from taskcast_core.entries import Entry, Hole, Origin, draft_of
from taskcast_core.filters import View
from taskcast_core.machine import Kind
from taskcast_core.models import Level, Priority, SeriesMode, Task
from taskcast_core.series import SeriesState
from taskcast_core.stretch import Columns, Stretch
from taskcast_redis.connection import Argument
from taskcast_redis.keys import given, pack, unpack

Reply = list[Any]

PRIORITIES: dict[Priority, int] = {"critical": 0, "high": 1, "normal": 2, "low": 3}
MODES: dict[str, SeriesMode] = {"a": "accumulate", "l": "latest", "k": "keep-all"}
_OPTIONAL = ("type", "aid")
LETTERS: dict[SeriesMode, str] = {mode: letter for letter, mode in MODES.items()}


# ── Records ───────────────────────────────────────────────────────────────────────────────────────────────────────


def pack_record(record: Record) -> bytes:
    """A record as JSON."""
    fields = {"task": wire.to_wire(record.task), "timers": dict(record.timers), "lanes": list(record.lanes)}
    return wire.dumps(fields | ({} if record.cleaned is None else {"cleaned": record.cleaned}))


def unpack_record(text: bytes) -> Record:
    """``pack_record`` read back."""
    value = wire.loads(text)
    timers = cast(dict[TimerKind, int], value["timers"])
    return Record(wire.from_wire(value["task"], Task), timers, tuple(value["lanes"]), value.get("cleaned"))


def task_of(record: bytes) -> Task:
    """Only the task of a record."""
    return wire.from_wire(wire.loads(record)["task"], Task)


def record_fields(record: Record) -> dict[str, Argument | None]:
    """A record and what it is found by; None where there is nothing."""
    task = record.task
    return {
        "rec": pack_record(record),
        "status": task.status,
        "type": None if task.type is None else pack(task.type),
        "cr": task.created_at,
        "aid": None if task.assignment_id is None else pack(task.assignment_id),
        "mode": task.assign_mode or "external",
        "pri": PRIORITIES[task.priority or "normal"],
        "lanes": " ".join(record.lanes),
        "timers": " ".join(f"{kind} {at}" for kind, at in sorted(record.timers.items())),
    }


def record_arguments(record: Record) -> list[Argument]:
    """What ``take_record`` takes."""
    arguments: list[Argument] = []
    for name, value in record_fields(record).items():
        if name in _OPTIONAL:
            arguments.append(given(value))
        else:
            assert value is not None, name
            arguments.append(value)
    return arguments


def segments_of(text: bytes) -> tuple[Segment, ...]:
    """Segments from their numbers."""
    numbers = [int(word) for word in text.split()]
    return tuple(Segment(*numbers[at : at + 3]) for at in range(0, len(numbers), 3))


def segments_text(segments: Sequence[Segment]) -> str:
    """``segments_of`` read back."""
    return " ".join(f"{one.first} {one.epoch} {one.salt}" for one in segments)


def stored_of(reply: Reply, record: Record | None = None) -> Stored:
    """A task from what ``stored`` gives; ``record``: where the reply has none."""
    if reply[0] is not None:
        record = unpack_record(reply[0])
    assert record is not None, "neither the reply nor the caller has the record"
    return Stored(record, segments_of(reply[1]), reply[2], reply[3], reply[4], reply[5])


# ── Log ───────────────────────────────────────────────────────────────────────────────────────────────────────────


def pairs(flat: Sequence[Any]) -> dict[Any, Any]:
    """A flat list of keys and values as a mapping."""
    return dict(zip(flat[::2], flat[1::2], strict=True))


@lru_cache(4096)
def kind_text(type_: str, level: str) -> bytes:
    """A kind as the scripts have it."""
    return b"%b %b" % (level.encode(), pack(type_))


def kinds_of(flat: Sequence[bytes]) -> dict[int, Kind]:
    """Numbers of kinds, from the flat D:k."""
    found: dict[int, Kind] = {}
    for text, number in pairs(flat).items():
        level, _, type_ = text.partition(b" ")
        found[int(number)] = (unpack(type_), cast(Level, level.decode()))
    return found


def spread(runs: Sequence[Any]) -> list[Any]:
    """A column from runs of equal values: each value, and how many there are."""
    column: list[Any] = []
    for value, count in zip(runs[::2], runs[1::2], strict=True):
        column += [value] * count
    return column


@frozen
class _Numbers:
    """What the numbers of an entry say, all but its index."""

    timestamp: int
    type: str
    level: Level
    mode: SeriesMode | None
    run: int | None
    end: int | None


class LogNames:
    """What the numbers in one log's entries mean, and to whom they belong."""

    def __init__(self, task_id: str, segments: Sequence[Segment], kinds: Mapping[int, Kind]) -> None:
        self.kinds = kinds
        self._origins = [(one.first, Origin(task_id, one.epoch, one.salt)) for one in reversed(segments)]

    def origin(self, index: int) -> Origin:
        """Of the entry at an index."""
        for first, origin in self._origins:
            if first <= index:
                return origin
        return self._origins[-1][1]

    def entry(self, raw: Reply) -> Entry:
        """An entry from a line of the stream."""
        fields = pairs(raw[1])
        index = int(raw[0][:-2]) - 1  # behind it stands "-0"
        given_ids = {1: fields[b"g"]} if b"g" in fields else {}
        return self.entries([index], [fields[b"m"]], [fields.get(b"s", b"")], [fields[b"x"]], given_ids)[0]

    def entries(
        self,
        indexes: Sequence[int],
        numbers: Sequence[bytes],
        series: Sequence[bytes],
        texts: Sequence[bytes],
        given_ids: Mapping[int, bytes],
    ) -> list[Entry]:
        """Entries from columns: numbers, series' ids or nothing, texts. ``given_ids``: by places in them, from 1 on."""
        found: list[Entry] = []
        only = self._origins[0][1] if len(self._origins) == 1 else None
        known = {raw: self._read(raw) for raw in set(numbers)}  # those of one commit are often the same
        for at, (index, raw, of, text) in enumerate(zip(indexes, numbers, series, texts, strict=True), 1):
            one = known[raw]
            given_id = given_ids.get(at) if given_ids else None
            found.append(
                Entry.stored(
                    only or self.origin(index), index, one.timestamp, text, type=one.type, level=one.level,
                    series_id=unpack(of) if of or one.mode else None, series_mode=one.mode,
                    given_id=None if given_id is None else unpack(given_id), run=one.run, end=one.end,
                )
            )  # fmt: skip
        return found

    def stretch(self, first: int, numbers: Sequence[Any], texts: Sequence[bytes]) -> Stretch | None:
        """Consecutive entries of no series, from runs of their numbers; None if some are of one, or of other epochs."""
        timestamps: list[int] = []
        kinds: list[int] = []
        for raw, count in zip(numbers[::2], numbers[1::2], strict=True):
            timestamp, kind, *rest = raw.split()
            if rest:
                return None
            timestamps += [int(timestamp)] * count
            kinds += [int(kind)] * count
        indexes = range(first, first + len(texts))
        origin = self.origin(first)
        if self.origin(indexes[-1]) is not origin:
            return None
        return Stretch(Columns(origin, indexes, timestamps, texts), kinds, self.kinds)

    def _read(self, numbers: bytes) -> _Numbers:
        timestamp, kind, *rest = numbers.split()
        type_, level = self.kinds[int(kind)]
        run = end = mode = None
        if rest:
            mode = MODES[rest[0].decode()]
            if len(rest) > 1:
                run, end = int(rest[1]), int(rest[2])
        return _Numbers(int(timestamp), type_, level, mode, run, None if end == -1 else end)

    def hole(self, raw: Reply) -> Hole:
        """A hole from its numbers."""
        first, last, first_timestamp, last_timestamp, cut, lost, counts = raw
        named = {self.kinds[int(kind)]: int(n) for kind, n in pairs(counts).items()}
        return Hole(first, last, first_timestamp, last_timestamp, named, bool(cut), bool(lost))


def part_of(hole: Hole, start: int, stop: int) -> Hole:
    """The part of a hole within [start, stop), the counts being those of the part."""
    first, last = max(hole.first, start), min(hole.last, stop - 1)
    if (first, last) == (hole.first, hole.last):
        return hole
    return Hole(
        first, last,
        hole.first_timestamp if first < hole.last else hole.last_timestamp,
        hole.last_timestamp if last == hole.last else hole.first_timestamp,
        hole.counts, hole.cut_series, hole.lost_series,
    )  # fmt: skip


def series_of(raw: Reply, kinds: Mapping[int, Kind]) -> tuple[str, SeriesState]:
    """A series' id and state, from a line of ``series_all``."""
    series_id, mode, last, field, default, run, length, text, by_kind = raw
    return unpack(series_id), SeriesState(
        MODES[mode.decode()],
        last,
        None if field is None else unpack(field),
        None if default is None else unpack(default),
        run,
        None if length < 0 else length,
        draft_data(text),
        {kinds[int(kind)]: index for kind, index in pairs(by_kind).items()},
    )


def draft_data(text: bytes) -> Any:
    """The payload in an entry's text."""
    value = wire.loads(text)
    return draft_of(value).data if "type" in value else value["data"]


def view_arguments(view: View) -> list[Argument]:
    """What ``take_view`` takes."""
    levels: list[Argument] = [-1] if view.levels is None else [len(view.levels), *view.levels]
    types: list[Argument] = [-1] if view.types is None else [len(view.types), *map(pack, view.types)]
    return ["1" if view.include_status else "0", *levels, *types]


def msgpack(value: Any) -> bytes:
    """A value as ``cmsgpack.unpack`` reads it: numbers, False, bytes, text, lists, and mappings of numbers."""
    if value is False:
        return b"\xc2"
    if isinstance(value, int):
        return b"\xd3" + value.to_bytes(8, "big", signed=True)
    if isinstance(value, str):
        value = pack(value)
    if isinstance(value, bytes):
        return b"\xdb" + len(value).to_bytes(4, "big") + value
    if isinstance(value, dict):
        parts = [msgpack(each) for item in value.items() for each in item]
        return b"\xdf" + len(value).to_bytes(4, "big") + b"".join(parts)
    return b"\xdd" + len(value).to_bytes(4, "big") + b"".join(map(msgpack, value))
