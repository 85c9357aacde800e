"""A copy of a task on its way in: written under a name of its own in portions, seen by nobody until it is opened."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import partial
from itertools import islice
from typing import Any

from attrs import define, field

from taskcast_core import wire
from taskcast_core.contracts.task_log import LogCopy, SeriesCopy
from taskcast_core.entries import Entry, Hole
from taskcast_core.machine import Kind
from taskcast_redis.codec import LETTERS, kind_text, msgpack, record_fields, segments_text
from taskcast_redis.connection import Argument, RedisConnection
from taskcast_redis.keys import pack

SPAN = 1_000
"""As in ``lua/positions.lua``."""

STAGED_FOR_MS = 3_600_000
"""A copy that is never opened goes by itself after this time."""

PORTION = 500
PORTION_BYTES = 1 << 20

Counts = dict[int, int]


@define
class _Text:
    """A series' runs as one string, and where each run's characters are in it."""

    starts: dict[int, int] = field(factory=dict)
    whole: bytes = b""
    texts: dict[int, str] = field(factory=dict)
    _reached: dict[int, tuple[int, int]] = field(factory=dict)

    @classmethod
    def of(cls, copy: SeriesCopy) -> _Text:
        """The runs up to the current one; that one no longer than the state says."""
        text, parts, size = cls(), list[bytes](), 0
        for run in sorted(copy.texts):
            if run > copy.state.run:
                break
            chars = copy.texts[run][: copy.state.length] if run == copy.state.run else copy.texts[run]
            text.starts[run], text.texts[run] = size, chars
            parts.append(pack(chars))
            size += len(parts[-1])
        text.whole = b"".join(parts)
        return text

    def bytes_to(self, run: int, end: int) -> int:
        """The byte behind a run's first ``end`` characters; cheap when asked for in ascending order."""
        char, byte = self._reached.get(run, (0, self.starts[run]))
        if end < char:
            char, byte = 0, self.starts[run]
        byte += len(pack(self.texts[run][char:end]))
        self._reached[run] = end, byte
        return byte


class Staging:
    """Writes a copy under the name of a generation."""

    def __init__(self, connection: RedisConnection, tag: str, generation: int, copy: LogCopy) -> None:
        self._connection, self._tag, self._generation, self._copy = connection, tag, generation, copy
        self._data = f"{tag}:{generation}"
        self._kinds: dict[Kind, int] = {}
        self._counts: Counts = {}
        self._texts = {one.series_id: _Text.of(one) for one in copy.series}
        self._left: dict[str, int] = {}  # tracked entries per series
        self._first: dict[str, int] = {}  # index of the first of them
        self._newest: dict[str, int] = {}  # … of the last
        self._size = 0

    async def write(self) -> None:
        """Write everything."""
        steps = self._steps()
        while portion := _portion(steps):
            await self._connection.guarded(partial(_send, portion))

    def _steps(self) -> Iterator[list[Argument]]:
        """The commands, in an order that needs no reply."""
        data, copy = self._data, self._copy
        for kind, n in copy.base_counts.items():
            self._count(kind, n)
        if copy.first_index:
            yield ["HSET", f"{data}:c", "base", _packed(self._counts)]
        yield from self._items()
        yield from self._series()
        for kind, number in self._kinds.items():
            yield ["HSET", f"{data}:k", kind_text(*kind), number]
        for number, n in self._counts.items():
            yield ["HSET", f"{data}:n", number, n]
        yield self._task()
        for suffix in ("l", "h", "d", "r", "k", "n", "c", "s", "i"):
            yield ["PEXPIRE", f"{data}:{suffix}", STAGED_FOR_MS]
        for number in range(len(copy.series)):
            yield ["PEXPIRE", f"{data}:x:{number}", STAGED_FOR_MS]
        yield ["PEXPIRE", f"{self._tag}:S:{self._generation}", STAGED_FOR_MS]

    def _number(self, kind: Kind) -> int:
        return self._kinds.setdefault(kind, len(self._kinds))

    def _count(self, kind: Kind, n: int) -> None:
        number = self._number(kind)
        self._counts[number] = self._counts.get(number, 0) + n

    def _items(self) -> Iterator[list[Argument]]:
        for item in self._copy.items:
            if isinstance(item, Entry):
                yield from self._checkpoint(item.index)
                yield from self._entry(item)
            else:
                yield from self._hole(item)

    def _checkpoint(self, index: int) -> Iterator[list[Argument]]:
        """What stands before an index, where that is to be kept."""
        if index % SPAN == 0 and index > self._copy.first_index:
            yield ["HSET", f"{self._data}:c", index, _packed(self._counts)]

    def _entry(self, entry: Entry) -> Iterator[list[Argument]]:
        kind = (entry.type, entry.level)
        self._count(kind, 1)
        self._size += len(entry.text)
        numbers = f"{entry.timestamp} {self._kinds[kind]}{self._place(entry)}"
        command: list[Argument] = ["XADD", f"{self._data}:l", f"{entry.index + 1}-0", "m", numbers, "x", entry.text]
        if entry.series_id is not None:
            command += ["s", pack(entry.series_id)]
        given_id = self._given_id(entry)
        if given_id is not None:
            command += ["g", pack(given_id)]
            yield ["HSET", f"{self._data}:i", pack(given_id), entry.index]
        yield command

    def _place(self, entry: Entry) -> str:
        if entry.series_id is None or entry.series_mode is None:
            return ""
        letter = LETTERS[entry.series_mode]
        if entry.series_mode == "keep-all":
            return f" {letter}"
        self._left[entry.series_id] = self._left.get(entry.series_id, 0) + 1
        self._first.setdefault(entry.series_id, entry.index)
        self._newest[entry.series_id] = entry.index
        if entry.series_mode == "latest":
            return f" {letter}"
        run, end = entry.run if entry.run is not None else -1, entry.end
        text = self._texts.get(entry.series_id)
        if end is None or text is None or run not in text.starts:
            return f" {letter} {run} -1 0 0"
        return f" {letter} {run} {end} {text.starts[run]} {text.bytes_to(run, end)}"

    def _given_id(self, entry: Entry) -> str | None:
        """The id that has to be kept, because the log's segments do not give it."""
        if entry.given_id is not None:
            return entry.given_id
        segments = self._copy.segments
        salt = next((one.salt for one in reversed(segments) if one.first <= entry.index), None)
        return None if salt == entry.origin.salt else entry.id

    def _hole(self, hole: Hole) -> Iterator[list[Argument]]:
        counts = {self._number(kind): n for kind, n in hole.counts.items()}
        for first, n, kind in _stretches(hole):
            yield from self._checkpoint(first)
            yield ["ZADD", f"{self._data}:r", first, f"{first} {n} {self._number(kind)}"]
            self._count(kind, n)
        yield ["ZADD", f"{self._data}:h", hole.last, hole.last]
        fields = [hole.first, hole.first_timestamp, hole.last_timestamp, int(hole.cut_series), int(hole.lost_series)]
        yield ["HSET", f"{self._data}:d", hole.last, msgpack([*fields, counts])]

    def _series(self) -> Iterator[list[Argument]]:
        for number, one in enumerate(self._copy.series):
            state, text = one.state, self._texts[one.series_id]
            if text.whole:
                yield ["SET", f"{self._data}:x:{number}", text.whole]
            top, start = len(text.whole), text.starts.get(state.run, len(text.whole))
            kinds = {self._number(kind): index for kind, index in state.last_by_kind.items()}
            packed = [
                number, LETTERS[state.mode], state.last_index, self._first.get(one.series_id, state.last_index),
                False if state.field is None else pack(state.field),
                False if state.default_field is None else pack(state.default_field),
                -1 if state.default_field is None else self._first.get(one.series_id, state.last_index),
                state.run, -1 if state.length is None else state.length, start, top,
                self._left.get(one.series_id, 0), self._kept(one), kinds, top,
            ]  # fmt: skip
            yield ["HSET", f"{self._data}:s", pack(one.series_id), msgpack(packed)]

    def _kept(self, one: SeriesCopy) -> bytes | bool:
        """The newest payload, where the entry that brought it does not come along."""
        here = self._newest.get(one.series_id, -1)
        return False if here == one.state.last_index else wire.dumps({"data": one.state.data})

    def _task(self) -> list[Argument]:
        copy = self._copy
        command: list[Argument] = ["HSET", f"{self._tag}:S:{self._generation}"]
        fields: dict[str, Any] = record_fields(copy.record) | {
            "st": "r", "gen": self._generation, "rev": copy.rev, "seg": segments_text(copy.segments),
            "ep": copy.segments[-1].epoch, "li": copy.last_index, "lt": copy.last_timestamp, "fi": copy.first_index,
            "sz": self._size, "dl": "", "sn": len(copy.series), "kn": 0,
        }  # fmt: skip
        for name, value in fields.items():
            if value is not None:
                command += [name, value]
        return command


def _stretches(hole: Hole) -> Iterator[tuple[int, int, Kind]]:
    """First index, length and kind of what fills a hole: a copy does not tell the order, so kind after kind."""
    first = hole.first
    for kind, n in hole.counts.items():
        end = min(first + n, hole.last + 1)
        while first < end:
            stop = min(end, first - first % SPAN + SPAN)
            yield first, stop - first, kind
            first = stop


def _portion(steps: Iterator[list[Argument]]) -> list[list[Argument]]:
    """The next commands that travel together."""
    some: list[list[Argument]] = []
    size = 0
    for step in islice(steps, PORTION):
        some.append(step)
        size += sum(len(each) for each in step if isinstance(each, bytes))
        if size >= PORTION_BYTES:
            break
    return some


async def _send(commands: Sequence[Sequence[Argument]], client: Any) -> None:
    pipeline = client.pipeline(transaction=False)
    for command in commands:
        pipeline.execute_command(*command)
    await pipeline.execute()


def _packed(counts: Counts) -> bytes:
    return msgpack(counts)
