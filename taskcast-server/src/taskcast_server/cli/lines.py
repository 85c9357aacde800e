"""A program's output → lines of text. Pure."""

from __future__ import annotations

import codecs
from collections.abc import Iterator

from taskcast_core.values import frozen

MAX_LINE_CHARS = 16_384


@frozen
class Line:
    """One line without its end; ``continues`` where a very long one was cut and the rest follows."""

    text: str
    continues: bool = False


class LineSplitter:
    """Takes output in pieces cut anywhere; bytes that are no UTF-8 become U+FFFD."""

    def __init__(self, max_chars: int = MAX_LINE_CHARS) -> None:
        self._max = max_chars
        self._decoder = codecs.getincrementaldecoder("utf-8")("replace")
        self._pending = ""

    def feed(self, piece: bytes) -> Iterator[Line]:
        """The lines that are complete with this piece, and the beginnings of a line that is too long."""
        return self._lines(self._decoder.decode(piece))

    def end(self) -> Iterator[Line]:
        """What is left: a last line without an end."""
        yield from self._lines(self._decoder.decode(b"", final=True))
        if self._pending:
            yield Line(self._pending)
            self._pending = ""

    def _lines(self, text: str) -> Iterator[Line]:
        *whole, rest = (self._pending + text).split("\n")
        for line in whole:
            *heads, tail = self._cut(line.removesuffix("\r"))
            yield from (Line(head, continues=True) for head in heads)
            yield Line(tail)
        *heads, self._pending = self._cut(rest)
        yield from (Line(head, continues=True) for head in heads)

    def _cut(self, line: str) -> list[str]:
        return [line[at : at + self._max] for at in range(0, len(line), self._max)] or [""]
