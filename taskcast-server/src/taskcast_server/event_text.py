"""Log entries as JSON text: each is a short prefix in front of the tail that all its presentations share. Pure."""

from __future__ import annotations

from collections.abc import Sequence

from taskcast_core import wire
from taskcast_core.entries import Entry

_SNAPSHOT = b',"seriesSnapshot":true}'


def id_text(entry: Entry) -> bytes:
    """The event's id as a JSON string. Ids of our own making need no escapes."""
    return b'"%b"' % entry.id.encode("ascii") if entry.given_id is None else wire.dumps(entry.id)


def event_text(entry: Entry, *, is_snapshot: bool = False) -> bytes:
    """The bare event."""
    tail = _marked(entry.tail) if is_snapshot else entry.tail
    return b'{"id":%b,"index":%d,%b' % (id_text(entry), entry.index, tail)


def event_texts(entries: Sequence[Entry]) -> list[bytes]:
    """The bare events of one commit, which have task and timestamp in common."""
    if not entries:
        return []
    first = entries[0]
    shared = b',"taskId":%b,"timestamp":%d,' % (first.origin.task_json, first.timestamp)
    return [b'{"id":%b,"index":%d%b%b' % (id_text(entry), entry.index, shared, entry.text[1:]) for entry in entries]


def envelope_text(entry: Entry, position: int, *, is_snapshot: bool = False) -> bytes:
    """The event in the envelope of streams. ``position``: its filtered index."""
    tail = _marked(entry.tail) if is_snapshot else entry.tail
    return b'{"filteredIndex":%d,"rawIndex":%d,"eventId":%b,%b' % (position, entry.index, id_text(entry), tail)


def _marked(tail: bytes) -> bytes:
    return tail[:-1] + _SNAPSHOT
