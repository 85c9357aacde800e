"""The frames of a stream, however it is cut."""

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from taskcast_server.cli import sse
from taskcast_server.cli.sse import Frame, FrameTooLong, SseParser

STREAM = (
    "\ufeff: a comment\nevent: taskcast.event\ndata: {\"line\":\"ä\u20ac\U0001f600\"}\nid: one\n\n"
    "data: first\r\ndata:second\rid: two\r\n\r\n"
    "id: nul\0is ignored\nretry: 10\n\n"
    "event: taskcast.done\ndata\n\n"
    "data: never finished"
)  # fmt: skip
FRAMES = [
    Frame("taskcast.event", '{"line":"ä\u20ac\U0001f600"}', "one"),
    Frame("message", "first\nsecond", "two"),
    Frame("taskcast.done", "", "two"),
]


def frames_of(*pieces: bytes) -> list[Frame]:
    parser = SseParser()
    return [frame for piece in pieces for frame in parser.feed(piece)]


def test_a_stream_in_one_piece() -> None:
    assert frames_of(STREAM.encode()) == FRAMES


def test_a_stream_in_single_bytes() -> None:
    assert frames_of(*(bytes([byte]) for byte in STREAM.encode())) == FRAMES


@given(st.lists(st.integers(0, len(STREAM.encode())), max_size=8))
def test_a_stream_cut_anywhere(cuts: list[int]) -> None:
    content = STREAM.encode()
    bounds = [0, *sorted(cuts), len(content)]
    assert frames_of(*(content[start:end] for start, end in pairwise(bounds))) == FRAMES


@pytest.mark.parametrize("piece", [b"data: x" + b"y" * 100, b"data: more\n"])
def test_a_frame_without_end_is_refused(monkeypatch: pytest.MonkeyPatch, piece: bytes) -> None:
    monkeypatch.setattr(sse, "MAX_FRAME_CHARS", 1000)
    with pytest.raises(FrameTooLong):
        frames_of(*[piece] * 1000)
