"""Frames, byte for byte."""

import pytest

from taskcast_core.deliveries import Batch, Delivery, Run, gap
from taskcast_core.entries import Entry, Origin
from taskcast_core.models import EventDraft
from taskcast_server.sse import done_frame, encode_batch, encode_delivery, farewell

ORIGIN = Origin('t"1', 1, 7)
DRAFT = EventDraft("llm.delta", "info", {"delta": "a\nb"}, "s", "accumulate", "delta")


def entry(given_id: str | None = None) -> Entry:
    return Entry(ORIGIN, 3, 1_700_000_000_000, DRAFT, given_id)


TAIL = (
    b'"taskId":"t\\"1","timestamp":1700000000000,"type":"llm.delta","level":"info","data":{"delta":"a\\nb"},'
    b'"seriesId":"s","seriesMode":"accumulate","seriesAccField":"delta"'
)


def test_a_wrapped_frame() -> None:
    one = entry()
    assert encode_delivery(Delivery(one, 2), wrap=True) == (
        b'event: taskcast.event\ndata: {"filteredIndex":2,"rawIndex":3,"eventId":"%b",%b}\nid: %b\n\n'
        % (one.id.encode(), TAIL, one.id.encode())
    )


def test_a_bare_frame_of_a_snapshot() -> None:
    one = entry()
    assert encode_delivery(Delivery(one, 2, is_snapshot=True), wrap=False) == (
        b'event: taskcast.event\ndata: {"id":"%b","index":3,%b,"seriesSnapshot":true}\nid: %b\n\n'
        % (one.id.encode(), TAIL, one.id.encode())
    )


def test_a_gap_has_no_id_line_and_an_empty_id() -> None:
    delivery = gap(ORIGIN, "epoch", next_index=5, next_position=4, epoch=1, timestamp=9)
    frame = encode_delivery(delivery, wrap=True)
    assert b"\nid:" not in frame
    assert b'"filteredIndex":3,"rawIndex":4,"eventId":""' in frame
    assert b'"data":{"reason":"epoch","nextIndex":5,"epoch":1}' in frame
    assert b'{"id":"","index":4,' in encode_delivery(delivery, wrap=False)


def test_an_imported_id_cannot_break_the_frame() -> None:
    for bad in ("a\nevent: x", "a\rb", "a\0b"):
        frame = encode_delivery(Delivery(entry(bad), 0), wrap=True)
        assert frame.count(b"\n") == 3
        assert b"\nid:" not in frame
        assert b"\r" not in frame
    good = encode_delivery(Delivery(entry("é"), 0), wrap=True)
    assert good.endswith("\nid: é\n\n".encode())


def test_readers_of_one_form_share_the_bytes() -> None:
    batch = Batch([Delivery(entry(), 0), Delivery(entry(), 1)], 1, 2)
    wrapped = encode_batch(batch, wrap=True)
    assert encode_batch(batch, wrap=True) is wrapped
    assert encode_batch(batch, wrap=False) != wrapped
    assert wrapped.count(b"event: taskcast.event\n") == 2


@pytest.mark.parametrize("wrap", [True, False])
@pytest.mark.parametrize("odd", ["", "imported", "epoch", "filtered"])
@pytest.mark.parametrize("of_one_time", [1, 7, 20])
def test_many_frames_at_once_are_those_of_each(wrap: bool, odd: str, of_one_time: int) -> None:
    entries = []
    for index in range(1000, 1060):
        origin = Origin('t"1', 2, 8) if odd == "epoch" and index > 1030 else ORIGIN
        data = {"n": index, "text": "é\n%d %b"}
        draft = EventDraft("x", "info", data) if index % 3 else EventDraft("llm.delta", "info", data, "s", "keep-all")
        given_id = "mine" if odd == "imported" and index == 1007 else None
        entries.append(Entry(origin, index, 1_700_000_000_000 + index // of_one_time * 99, draft, given_id))
    if odd == "filtered":
        del entries[5:50:4]
    run = Run(entries, 17)
    each = [encode_delivery(delivery, wrap=wrap) for delivery in run]
    assert encode_batch(Batch(run, 1059, 77), wrap=wrap) == b"".join(each)


def test_the_last_frames() -> None:
    assert done_frame("completed") == b'event: taskcast.done\ndata: {"reason":"completed"}\n\n'
    assert farewell(1234).endswith(b"\nretry: 1234\n\n")
