"""A crowd of readers that costs next to nothing itself: bare sockets that send prepared requests and collect bytes."""

from __future__ import annotations

import select
import socket
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Self

from attrs import define, field

_AT_ONCE = 1 << 16


@define
class StormReader:
    """One of them.

    Attributes:
        text: all that it was sent. has_come_s: when it had its marker, from the storm's beginning; −1 before.
    """

    line: socket.socket
    request: bytes
    marker: bytes
    text: bytes = b""
    has_come_s: float = -1.0
    is_closed: bool = False


@define
class Storm:
    """Readers that all come at once."""

    readers: dict[int, StormReader]
    _poll: select.epoll
    _awaited: int
    _began: float = field(factory=time.monotonic)

    @classmethod
    @contextmanager
    def of(cls, port: int, wanted: Sequence[tuple[bytes, bytes]]) -> Iterator[Self]:
        """A connection for each request and marker; all are being made when this returns."""
        storm = cls({}, select.epoll(), len(wanted))
        try:
            for request, marker in wanted:
                line = socket.socket()
                line.setblocking(False)
                storm.readers[line.fileno()] = StormReader(line, request, marker)
                line.connect_ex(("127.0.0.1", port))
                storm._poll.register(line, select.EPOLLOUT)
            yield storm
        finally:
            for reader in storm.readers.values():
                reader.line.close()
            storm._poll.close()

    def expect(self, marker: bytes) -> None:
        """Wait for something else from now on."""
        self._awaited = len(self.readers)
        for reader in self.readers.values():
            reader.marker, reader.has_come_s = marker, -1.0

    def run(self, within_s: float) -> None:
        """Send and read until all have their markers, or their connection's end."""
        until = time.monotonic() + within_s
        while self._awaited > 0 and time.monotonic() < until:
            for file, events in self._poll.poll(0.1):
                self._see_to(self.readers[file], events)

    def _see_to(self, reader: StormReader, events: int) -> None:
        try:
            if events & select.EPOLLOUT:
                reader.line.send(reader.request)
                self._poll.modify(reader.line, select.EPOLLIN)
                return
            part = reader.line.recv(_AT_ONCE)
        except OSError:
            part = b""
        reader.text += part
        if not part:
            reader.is_closed = True
            self._poll.unregister(reader.line)
        if reader.has_come_s < 0 and (reader.is_closed or reader.marker in reader.text):
            reader.has_come_s = time.monotonic() - self._began
            self._awaited -= 1
