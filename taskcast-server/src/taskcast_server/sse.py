"""Batches as Server-Sent Events, byte for byte as hand-written parsers expect them (wire spec, sse section 2). Pure."""

from __future__ import annotations

import re

from taskcast_core.deliveries import Batch, Delivery
from taskcast_core.models import TaskStatus
from taskcast_server.event_text import envelope_text, event_text

HELLO = b": connected\n\n"
"""The first bytes of every stream, so that proxies and clients see it begin at once."""
HEARTBEAT = b": keep-alive\n\n"

_UNFIT_FOR_A_LINE = re.compile(r"[\x00\r\n\ud800-\udfff]")


def encode_batch(batch: Batch, *, wrap: bool) -> bytes:
    """The frames of a batch; readers of one batch and one form share the very bytes."""
    chunk = batch.memo.get(wrap)
    if chunk is None:
        chunk = batch.memo[wrap] = b"".join([encode_delivery(delivery, wrap=wrap) for delivery in batch.deliveries])
    return chunk


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
