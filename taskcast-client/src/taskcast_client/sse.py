"""Server-Sent Events: bytes → frames, as the HTML standard says. Pure: no I/O, no clock."""

from __future__ import annotations

import codecs
import re
from collections.abc import Iterator

from attrs import frozen

MAX_FRAME_CHARS = 64 << 20
"""A frame longer than this is refused, so that a broken peer cannot fill the memory."""

_LINE_END = re.compile(r"\r\n|\n|\r")


@frozen
class Frame:
    """One event of a stream.

    Attributes:
        event: its name, ``message`` by default. data: its data lines, joined by a line feed.
        id: the newest ``id:`` of this connection so far; None before the first.
    """

    event: str
    data: str
    id: str | None


class FrameTooLong(ValueError):
    """A frame is longer than `MAX_FRAME_CHARS`."""


class SseParser:
    """Takes a stream in pieces that are cut anywhere, gives its complete frames; what is incomplete is never given.

    Attributes:
        last_id: the newest ``id:``. retry_ms: the newest ``retry:``, how long to wait before connecting again.
    """

    def __init__(self, *, max_frame_chars: int = MAX_FRAME_CHARS) -> None:
        self.last_id: str | None = None
        self.retry_ms: int | None = None
        self._max_frame_chars = max_frame_chars
        self._decoder = codecs.getincrementaldecoder("utf-8")("replace")
        self._is_start = True
        self._ended_with_cr = False
        self._rest: list[str] = []  # the pieces of a line whose end has not come yet
        self._event = ""
        self._data: list[str] = []
        self._chars = 0  # of this frame, the unfinished line included

    def feed(self, piece: bytes) -> Iterator[Frame]:
        """The frames that are complete with this piece.

        Raises:
            FrameTooLong: the peer sends a frame without end.
        """
        text = self._decoder.decode(piece)
        if self._is_start and text:
            text, self._is_start = text.removeprefix("\ufeff"), False
        if self._ended_with_cr and text:
            text, self._ended_with_cr = text.removeprefix("\n"), False
        if not text:
            return
        self._ended_with_cr = text.endswith("\r")
        *lines, rest = _LINE_END.split(text)
        for line in lines:
            frame = self._line("".join([*self._rest, line]))
            self._rest.clear()
            if frame is not None:
                yield frame
        if rest:
            self._rest.append(rest)
            self._count(len(rest))

    def _line(self, line: str) -> Frame | None:
        if not line:
            return self._dispatch()
        name, _, value = line.partition(":")
        value = value.removeprefix(" ")
        if name == "data":
            self._count(len(value))
            self._data.append(value)
        elif name == "event":
            self._event = value
        elif name == "id" and "\0" not in value:
            self.last_id = value
        elif name == "retry" and value.isascii() and value.isdigit():
            self.retry_ms = int(value)
        return None

    def _dispatch(self) -> Frame | None:
        event, data = self._event or "message", self._data
        self._event, self._data, self._chars = "", [], 0
        return Frame(event, "\n".join(data), self.last_id) if data else None

    def _count(self, chars: int) -> None:
        self._chars += chars
        if self._chars > self._max_frame_chars:
            raise FrameTooLong(f"a frame is longer than {self._max_frame_chars} characters")
