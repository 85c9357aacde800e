"""A program's output as lines."""

from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from taskcast_server.cli.lines import Line, LineSplitter


def lines_of(*pieces: bytes, max_chars: int = 10) -> list[Line]:
    splitter = LineSplitter(max_chars)
    found = [line for piece in pieces for line in splitter.feed(piece)]
    return [*found, *splitter.end()]


def test_lines_end_at_newlines_and_the_last_one_at_the_end() -> None:
    assert lines_of(b"one\n\ntwo\r\nthr", b"ee") == [Line("one"), Line(""), Line("two"), Line("three")]
    assert lines_of(b"") == []


def test_a_carriage_return_inside_a_line_stays() -> None:
    assert lines_of(b"10%\r20%\n") == [Line("10%\r20%")]


def test_a_character_cut_in_two_is_put_together_and_a_broken_one_replaced() -> None:
    assert lines_of(b"\xc3", b"\xa4\n\xff\n\xe2\x82") == [Line("ä"), Line("\ufffd"), Line("\ufffd")]


def test_a_long_line_is_cut_and_marked() -> None:
    assert lines_of(b"x" * 25 + b"\n" + b"y" * 10 + b"\n") == [
        Line("x" * 10, continues=True),
        Line("x" * 10, continues=True),
        Line("x" * 5),
        Line("y" * 10),
    ]


def test_a_line_without_end_is_handed_on_before_it_ends() -> None:
    splitter = LineSplitter(10)
    assert list(splitter.feed(b"x" * 25)) == [Line("x" * 10, continues=True)] * 2


@given(st.text(st.sampled_from("ab\r\nä€😀"), max_size=60), st.lists(st.integers(0, 200), max_size=6))
def test_lines_do_not_depend_on_the_cuts(text: str, cuts: list[int]) -> None:
    content = text.encode()
    bounds = [0, *sorted(min(cut, len(content)) for cut in cuts), len(content)]
    cut_up = lines_of(*(content[start:end] for start, end in pairwise(bounds)))
    assert _joined(cut_up) == _joined(lines_of(content))
    assert all(len(line.text) <= 10 for line in cut_up)


def _joined(lines: list[Line]) -> list[str]:
    whole, text = [], ""
    for line in lines:
        text += line.text
        if not line.continues:
            whole.append(text)
            text = ""
    return [*whole, text] if text else whole
