"""Batches as Server-Sent Events, byte for byte as hand-written parsers expect them (wire spec, sse section 2). Pure."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from itertools import count, repeat

from taskcast_core.deliveries import Batch, Delivery, Run
from taskcast_core.entries import Entry
from taskcast_core.models import TaskStatus
from taskcast_core.stretch import columns_of
from taskcast_server.event_text import envelope_text, event_text
from taskcast_server.weaving import decimals, tail_columns, weave

HELLO = b": connected\n\n"
"""The first bytes of every stream, so that proxies and clients see it begin at once."""
HEARTBEAT = b": keep-alive\n\n"

_MANY = 4  # from so many frames on, columns are quicker
_START = b"event: taskcast.event\ndata: "
_WRAPPED = (
    b'event: taskcast.event\ndata: {"filteredIndex":%d,"rawIndex":%d,"eventId":"%b","taskId":%b,"timestamp":%d,%b\n'
    b"id: %b\n\n"
)
_BARE = b'event: taskcast.event\ndata: {"id":"%b","index":%d,"taskId":%b,"timestamp":%d,%b\nid: %b\n\n'
_UNFIT_FOR_A_LINE = re.compile(r"[\x00\r\n\ud800-\udfff]")


def encode_batch(batch: Batch, *, wrap: bool) -> bytes:
    """The frames of a batch; readers of one batch and one form share the very bytes."""
    chunk = batch.memo.get(wrap)
    if chunk is None:
        parts = _woven(batch.deliveries, wrap=wrap) or _frames(batch.deliveries, wrap=wrap)
        chunk = batch.memo[wrap] = b"".join(parts)
    return chunk


def _woven(deliveries: Sequence[Delivery], *, wrap: bool) -> list[bytes]:
    """The same as ``_frames``, in parts, where there are many and all are as they were published; else nothing."""
    if not isinstance(deliveries, Run):
        return []
    size = len(deliveries.entries)
    if size < _MANY or (columns := columns_of(deliveries.entries)) is None:
        return []
    indexes = decimals(columns.indexes)
    ids, tails = columns.ids(), tail_columns(columns, b'"' if wrap else b"")
    if not wrap:
        return weave(size, _START + b'{"id":"', *ids, b'","index":', indexes, *tails, b"\nid: ", *ids, b"\n\n")
    first, last = columns.indexes[0], columns.indexes[-1]
    is_same = deliveries.position == first and last - first == size - 1
    positions = indexes if is_same else decimals(range(deliveries.position, deliveries.position + size))
    return weave(
        size, _START + b'{"filteredIndex":', positions, b',"rawIndex":', indexes, b',"eventId":"', *ids, *tails,
        b"\nid: ", *ids, b"\n\n",
    )  # fmt: skip


def _frames(deliveries: Sequence[Delivery], *, wrap: bool) -> Iterator[bytes]:
    """`encode_delivery` of each, with nearly all of them made in one step."""
    places: Iterable[tuple[Entry, int, bool, bool]] = deliveries
    if isinstance(deliveries, Run):
        places = zip(deliveries.entries, count(deliveries.position), repeat(object=False), repeat(object=False))
    for entry, position, is_snapshot, is_gap in places:
        if is_snapshot or is_gap or entry.given_id is not None:
            yield encode_delivery(Delivery(entry, position, is_snapshot, is_gap), wrap=wrap)
            continue
        origin, at, index = entry.origin, entry.timestamp, entry.index
        own_id = origin.event_id(at, index).encode()
        if wrap:
            yield _WRAPPED % (position, index, own_id, origin.task_json, at, entry.text[1:], own_id)
        else:
            yield _BARE % (own_id, index, origin.task_json, at, entry.text[1:], own_id)


def encode_wrapped(batch: Batch) -> bytes:
    """`encode_batch` with envelopes."""
    return encode_batch(batch, wrap=True)


def encode_bare(batch: Batch) -> bytes:
    """`encode_batch` without."""
    return encode_batch(batch, wrap=False)


def encode_delivery(delivery: Delivery, *, wrap: bool) -> bytes:
    """One ``taskcast.event`` frame; a gap has no id that could become a reader's ``Last-Event-ID``."""
    entry, position, is_snapshot, is_gap = delivery
    if wrap:
        data = envelope_text(entry, position, is_snapshot=is_snapshot)
    else:
        data = event_text(entry, is_snapshot=is_snapshot)
    if is_gap or (entry.given_id is not None and _UNFIT_FOR_A_LINE.search(entry.given_id)):
        return b"event: taskcast.event\ndata: %b\n\n" % data
    return b"event: taskcast.event\ndata: %b\nid: %b\n\n" % (data, entry.id.encode())


def done_frame(status: TaskStatus) -> bytes:
    """The last frame of an ended task."""
    return b'event: taskcast.done\ndata: {"reason":"%b"}\n\n' % status.encode("ascii")


def farewell(retry_ms: int) -> bytes:
    """What a reader is told when the server goes away: come back after so long; everything can be resumed."""
    return b": the server is going away\nretry: %d\n\n" % retry_ms
