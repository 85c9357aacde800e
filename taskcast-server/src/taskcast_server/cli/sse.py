"""Server-Sent Events: bytes → frames, as the HTML standard says; ``retry:`` is left aside. Pure."""

from __future__ import annotations

import codecs
import re
from collections.abc import Iterator

from taskcast_core.values import frozen

_LINE_END = re.compile(r"\r\n|\n|\r")
MAX_FRAME_CHARS = 64 << 20


@frozen
class Frame:
    """One event of a stream.

    Attributes:
        event: its name, ``message`` by default. data: its data lines, joined.
        last_id: the newest ``id:`` so far on this connection; None before the first.
    """

    event: str
    data: str
    last_id: str | None


class FrameTooLong(ValueError):
    """A frame beyond `MAX_FRAME_CHARS`; nobody speaks this protocol so."""


class SseParser:
    """Takes a stream in pieces cut anywhere, gives its frames.

    Attributes:
        last_id: the newest ``id:``.
    """

    def __init__(self) -> None:
        self.last_id: str | None = None
        self._decoder = codecs.getincrementaldecoder("utf-8")("replace")
        self._pending: list[str] = []
        self._pending_chars = 0
        self._is_start = True
        self._ended_with_cr = False
        self._event = ""
        self._data: list[str] = []
        self._data_chars = 0

    def feed(self, piece: bytes) -> Iterator[Frame]:
        """The frames that are complete with this piece.

        Raises:
            FrameTooLong: somebody sends without end.
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
            whole = "".join([*self._pending, line])
            self._pending.clear()
            self._pending_chars = 0
            if (frame := self._take(whole)) is not None:
                yield frame
        if rest:
            self._pending.append(rest)
            self._pending_chars += len(rest)
        if self._pending_chars + self._data_chars > MAX_FRAME_CHARS:
            raise FrameTooLong(f"a frame is longer than {MAX_FRAME_CHARS} characters")

    def _take(self, line: str) -> Frame | None:
        if not line:
            return self._dispatch()
        name, _, value = line.partition(":")
        value = value.removeprefix(" ")
        if name == "data":
            self._data.append(value)
            self._data_chars += len(value)
        elif name == "event":
            self._event = value
        elif name == "id" and "\0" not in value:
            self.last_id = value
        return None

    def _dispatch(self) -> Frame | None:
        event, data = self._event or "message", self._data
        self._event, self._data, self._data_chars = "", [], 0
        return Frame(event, "\n".join(data), self.last_id) if data else None
