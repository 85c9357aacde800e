"""Log entries as JSON text: each is a short prefix in front of the tail that all its presentations share. Pure."""

from __future__ import annotations

from collections.abc import Sequence

from taskcast_core import wire
from taskcast_core.entries import Entry, texts_of

_SNAPSHOT = b',"seriesSnapshot":true}'


def id_text(entry: Entry) -> bytes:
    """The event's id as a JSON string. Ids of our own making need no escapes."""
    return b'"%b"' % entry.id.encode("ascii") if entry.given_id is None else wire.dumps(entry.id)


def event_text(entry: Entry, *, is_snapshot: bool = False) -> bytes:
    """The bare event."""
    if is_snapshot or entry.given_id is not None:
        tail = _marked(entry.tail) if is_snapshot else entry.tail
        return b'{"id":%b,"index":%d,%b' % (id_text(entry), entry.index, tail)
    origin, index, timestamp = entry.origin, entry.index, entry.timestamp
    own_id = origin.event_id(timestamp, index).encode()
    parts = own_id, index, origin.task_json, timestamp, entry.text[1:]
    return b'{"id":"%b","index":%d,"taskId":%b,"timestamp":%d,%b' % parts


def event_texts(entries: Sequence[Entry]) -> list[bytes]:
    """Bare events, quicker for those of one commit: consecutive, of one time, with ids of our own making."""
    if len(entries) == 1:
        return [event_text(entries[0])]
    if not entries:
        return []
    first, last = entries[0], entries[-1]
    is_one_commit = first.timestamp == last.timestamp and last.index - first.index == len(entries) - 1
    if not is_one_commit or first.given_id is not None or last.given_id is not None:
        return [event_text(entry) for entry in entries]
    shared = b',"taskId":%b,"timestamp":%d,' % (first.origin.task_json, first.timestamp)
    ids = first.origin.event_ids(first.timestamp, first.index, len(entries))
    return [
        b'{"id":"%b","index":%d%b%b' % (each.encode(), index, shared, text[1:])
        for index, (each, text) in enumerate(zip(ids, texts_of(entries), strict=True), first.index)
    ]


def envelope_text(entry: Entry, position: int, *, is_snapshot: bool = False) -> bytes:
    """The event in the envelope of streams. ``position``: its filtered index."""
    tail = _marked(entry.tail) if is_snapshot else entry.tail
    return b'{"filteredIndex":%d,"rawIndex":%d,"eventId":%b,%b' % (position, entry.index, id_text(entry), tail)


def _marked(tail: bytes) -> bytes:
    return tail[:-1] + _SNAPSHOT
