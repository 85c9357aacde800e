"""The parser against the HTML standard, however the bytes are cut."""

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from taskcast_client.sse import Frame, FrameTooLong, SseParser

STREAM = (
    "\ufeff: connected\n\n"
    "event: taskcast.event\ndata: {\"a\":\"é\U0001f600\"}\nid: 01A\n\n"
    "data: first\r\ndata:second\r\rid\ndata\n\n"
    "event: nothing to say\n\n"
    "retry: 1500\nretry: 12x\nunknown: x\ndata:  two blanks\nid: with\0nul\n\n"
    "event: taskcast.done\ndata: {\"reason\":\"completed\"}\n\n"
    "data: never finished"
).encode()  # fmt: skip
FRAMES = [
    Frame("taskcast.event", '{"a":"é\U0001f600"}', "01A"),
    Frame("message", "first\nsecond", "01A"),
    Frame("message", "", ""),
    Frame("message", " two blanks", ""),
    Frame("taskcast.done", '{"reason":"completed"}', ""),
]


def parse(*pieces: bytes) -> list[Frame]:
    parser = SseParser()
    return [frame for piece in pieces for frame in parser.feed(piece)]


def test_a_whole_stream() -> None:
    assert parse(STREAM) == FRAMES


def test_cut_once_at_every_byte() -> None:
    for at in range(len(STREAM) + 1):
        assert parse(STREAM[:at], STREAM[at:]) == FRAMES, at


def test_byte_by_byte() -> None:
    assert parse(*[bytes([each]) for each in STREAM]) == FRAMES


@given(st.lists(st.integers(0, len(STREAM)), max_size=12))
def test_cut_anywhere_any_number_of_times(cuts: list[int]) -> None:
    edges = [0, *sorted(cuts), len(STREAM)]
    assert parse(*[STREAM[a:b] for a, b in pairwise(edges)]) == FRAMES


def test_what_the_server_asks_for_is_kept() -> None:
    parser = SseParser()
    assert list(parser.feed(STREAM))
    assert (parser.retry_ms, parser.last_id) == (1500, "")


@pytest.mark.parametrize("endless", [b"data: " + b"x" * 30, b"data: xxxxxxxxxx\n" * 3, b"x" * 30])
def test_a_frame_without_end_is_refused(endless: bytes) -> None:
    parser = SseParser(max_frame_chars=20)
    with pytest.raises(FrameTooLong):
        list(parser.feed(endless))


def test_frames_up_to_the_bound_are_counted_one_by_one() -> None:
    parser = SseParser(max_frame_chars=20)
    assert len(list(parser.feed(b"data: xxxxxxxxxx\n\n" * 5))) == 5
