"""Large archives on their way in: taken apart as their text comes, their events kept on disk until all have come.

So an import needs memory for one event, and for what a store keeps of the task's series, however long the log is.
"""

from __future__ import annotations

import re
from array import array
from collections.abc import Callable, Iterator, Sequence
from enum import Enum, auto
from tempfile import TemporaryFile
from types import TracebackType
from typing import Any, Self, overload

from taskcast_core import wire
from taskcast_core.contracts.task_log import LogCopy, Record
from taskcast_core.entries import Entry, Origin
from taskcast_core.errors import InvalidArchive
from taskcast_core.models import Event, Task
from taskcast_core.transfer import SCHEMA, VERSION, Replay, parse_event, parse_head

LARGEST_PART = 16 << 20
"""Bytes of one event, or of everything before the events."""
_TOKEN = re.compile(rb'"[^"\\]*(?:\\.[^"\\]*)*"|["{}\[\]:]', re.DOTALL)
_PATH = [b'"archive"', b'"events"']


class _Place(Enum):
    HEAD = auto()
    EVENTS = auto()
    TAIL = auto()


class Splitter:
    """Takes ``{"archive": {…, "events": [{…}, …]}, …}`` apart: the events' texts, and the document without them."""

    def __init__(self) -> None:
        self._place = _Place.HEAD
        self._buffer, self._rest = bytearray(), bytearray()
        self._at = self._depth = self._head_ends = 0
        self._string = b""
        self._keys: dict[int, bytes] = {}
        self._has_events = False

    def feed(self, part: bytes) -> list[bytes]:
        """Take some more of the text: the events that it completes.

        Raises:
            InvalidArchive: it is no such document, or one of its parts is too large.
        """
        self._buffer += part
        if self._place is _Place.HEAD:
            self._find_events()
        events = self._take_events() if self._place is _Place.EVENTS else []
        if self._place is _Place.TAIL:
            self._rest += self._buffer
            self._buffer.clear()
        if len(self._buffer) > LARGEST_PART or len(self._rest) > LARGEST_PART:
            raise InvalidArchive(f"archive: an event, or what is not events, is larger than {LARGEST_PART} bytes")
        return events

    @property
    def head(self) -> Any:
        """What stood before the events, as a document; None until they begin.

        Raises:
            InvalidInput: it is no JSON.
        """
        return None if self._place is _Place.HEAD else wire.loads(bytes(self._rest[: self._head_ends]) + b"]}}")

    def document(self) -> Any:
        """All that came, with no events in it. Call it when there is no more.

        Raises:
            InvalidInput: it is no JSON. InvalidArchive: it ends within the events.
        """
        if self._place is not _Place.TAIL:
            raise InvalidArchive([("events", "expected a list")])
        return wire.loads(bytes(self._rest))

    def _find_events(self) -> None:
        while (token := _TOKEN.search(self._buffer, self._at)) is not None:
            text = token.group()
            if text == b'"':  # the rest of this string is still to come
                self._at = token.start()
                return
            self._at = token.end()
            if text == b":":
                self._keys[self._depth] = self._string
            elif text in b"{[":
                if text == b"[" and [self._keys.get(level) for level in range(1, self._depth + 1)] == _PATH:
                    self._begin_events()
                    return
                self._depth += 1
                self._keys.pop(self._depth, None)
            elif text in b"}]":
                self._depth -= 1
            else:
                self._string = text
        self._at = len(self._buffer)

    def _begin_events(self) -> None:
        self._rest += self._buffer[: self._at]
        del self._buffer[: self._at]
        self._head_ends = len(self._rest)
        self._place, self._at, self._depth = _Place.EVENTS, 0, 0

    def _take_events(self) -> list[bytes]:
        events: list[bytes] = []
        begun = 0  # where the event begins that is being read, or what stands between two
        while (token := _TOKEN.search(self._buffer, self._at)) is not None:
            text = token.group()
            if text == b'"':
                self._at = token.start()
                break
            self._at = token.end()
            if not self._depth:
                self._check_between(bytes(self._buffer[begun : token.start()]), text)
                begun = token.start()
                if text == b"]":
                    self._place = _Place.TAIL
                    break
            self._depth += (text in b"{[") - (text in b"}]")
            if not self._depth:
                events.append(bytes(self._buffer[begun : self._at]))
                begun = self._at
        else:
            self._at = len(self._buffer)
        del self._buffer[:begun]
        self._at -= begun
        return events

    def _check_between(self, gap: bytes, text: bytes) -> None:
        wanted = b"," if self._has_events and text == b"{" else b""
        if gap.strip() != wanted or text not in (b"{", b"]"):
            raise InvalidArchive([("events", "expected a list of events")])
        self._has_events = True


class SpooledEntries(Sequence[Entry]):
    """Entries in a file of their own."""

    def __init__(self, origin: Origin) -> None:
        self._origin = origin
        self._file = TemporaryFile()  # noqa: SIM115 - see close
        self._places = array("Q")

    def add(self, entry: Entry) -> None:
        """Put one behind the others; it has an id of its own."""
        self._places.append(self._file.tell())
        given_id = entry.id.encode("utf-8", "surrogatepass")
        run, end = (-1 if number is None else number for number in (entry.run, entry.end))
        self._file.write(b"%d %d %d %d %d\n" % (entry.timestamp, run, end, len(given_id), len(entry.text)))
        self._file.write(given_id)
        self._file.write(entry.text)

    def close(self) -> None:
        """Forget them."""
        self._file.close()

    def __len__(self) -> int:
        return len(self._places)

    def __iter__(self) -> Iterator[Entry]:
        # Others may read in between: every step finds its place.
        return map(self._read, range(len(self._places)))

    @overload
    def __getitem__(self, index: int) -> Entry: ...

    @overload
    def __getitem__(self, index: slice) -> Sequence[Entry]: ...

    def __getitem__(self, index: int | slice) -> Entry | Sequence[Entry]:
        places = range(len(self._places))[index]
        return self._read(places) if isinstance(places, int) else [self._read(at) for at in places]

    def _read(self, index: int) -> Entry:
        self._file.seek(self._places[index])
        timestamp, run, end, id_length, length = map(int, self._file.readline().split())
        given_id = self._file.read(id_length).decode("utf-8", "surrogatepass")
        entry = Entry.parse(self._origin, index, timestamp, self._file.read(length), given_id)
        entry.run, entry.end = (None if number < 0 else number for number in (run, end))
        return entry


class ArchiveSpool:
    """An import in the making; a context manager, whose file is gone with it.

    Args:
        begin: told the task before anything else of it is taken; gives the record that it begins with.
        check: told every event, and its place; raises what is wrong with it.
    """

    def __init__(self, begin: Callable[[Task], Record], check: Callable[[Event, int], None]) -> None:
        self._begin, self._check = begin, check
        self._splitter = Splitter()
        self._task: Task | None = None
        self._replay: Replay | None = None
        self._entries: SpooledEntries | None = None
        self._newest_id = ""
        self._odd_ids: set[str] = set()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._entries is not None:
            self._entries.close()

    def feed(self, part: bytes) -> None:
        """Take some more of the request's body.

        Raises:
            InvalidArchive, InvalidInput, and what the callbacks raise.
        """
        for text in self._splitter.feed(part):
            self._add(wire.loads(text))
        if self._task is None and self._splitter.head is not None:
            self._take_head()

    def _take_head(self) -> None:
        archive = self._splitter.head["archive"]
        if "task" not in archive:
            raise InvalidArchive([("task", "must come before the events in an archive of this size")])
        # What else has to be there may follow the events; it is looked at in the end.
        self._task, _ = parse_head({"schema": SCHEMA, "version": VERSION, "exportedAt": 0, **archive})

    def _add(self, value: Any) -> None:
        if self._task is None:
            self._take_head()
        assert self._task is not None
        at = len(self._entries) if self._entries is not None else 0
        event = parse_event(value, at, self._task.id)
        if event.index != at:
            raise InvalidArchive([("events", f"indexes must be contiguous from 0 and ascend; {at} is missing")])
        if self._replay is None or self._entries is None:
            self._replay = Replay(self._begin(self._task), event.timestamp)
            self._entries = SpooledEntries(self._replay.origin)
        self._check(event, at)
        if event.id > self._newest_id:
            self._newest_id = event.id
        else:
            self._odd_ids.add(event.id)  # may have been there before
        self._entries.add(self._replay.add(event))

    def finish(self) -> tuple[LogCopy, dict[str, Any]]:
        """The log, and the rest of the request. It may be read as long as the spool is open.

        Raises:
            InvalidArchive, InvalidInput.
        """
        request = self._splitter.document()
        task, _ = parse_head(request.get("archive"))
        if self._replay is None or self._entries is None:
            replay = Replay(self._begin(task), task.created_at)
            return replay.copy(()), request
        self._check_ids(self._entries)
        return self._replay.copy(self._entries), request

    def _check_ids(self, entries: SpooledEntries) -> None:
        found = [entry.id for entry in entries if entry.id in self._odd_ids] if self._odd_ids else []
        if len(found) > len(self._odd_ids):
            raise InvalidArchive([("events", "two events have one id")])
