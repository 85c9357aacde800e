"""A proxy on loopback that passes some of each answer, and then cuts the connection."""

import asyncio
import re
from collections.abc import Iterable, Iterator
from types import TracebackType
from typing import Self
from urllib.parse import urlsplit

from attrs import frozen

_HEAD = re.compile(rb"\r\n\r\n")
_EVENT_FRAME = re.compile(rb"event:.*?\n\n", re.DOTALL)


@frozen
class AfterBytes:
    """Cut after so many bytes of an answer, its head included."""

    count: int

    def position(self, answer: bytes) -> int | None:
        """Where to cut; None while that cannot be said from what has come so far."""
        return self.count


@frozen
class AfterFrames:
    """Cut right after the n-th event frame of an answer (0: after its head), or so many bytes later or earlier."""

    frames: int
    more: int = 0

    def position(self, answer: bytes) -> int | None:
        """As of `AfterBytes`."""
        ends = [found.end() for found in (_HEAD.search(answer), *_EVENT_FRAME.finditer(answer)) if found]
        return ends[self.frames] + self.more if len(ends) > self.frames else None


Cut = AfterBytes | AfterFrames


class CuttingProxy:
    """Stands before a server; the n-th connection is cut as ``cuts[n]`` says, later ones never.

    Attributes:
        abruptly: by a reset instead of an orderly end. connections, cuts_made: so far.
    """

    def __init__(self, url: str, cuts: Iterable[Cut] = (), *, abruptly: bool = False) -> None:
        parts = urlsplit(url)
        assert parts.hostname
        assert parts.port
        self._target = (parts.hostname, parts.port)
        self._cuts: Iterator[Cut] = iter(cuts)
        self.abruptly = abruptly
        self._server: asyncio.Server | None = None
        self._writers: set[asyncio.StreamWriter] = set()
        self.connections = self.cuts_made = 0

    def cut_next(self, cut: Cut) -> None:
        """Cut the next connection, and none behind it."""
        self._cuts = iter([cut])

    @property
    def url(self) -> str:
        assert self._server is not None
        host, port = self._server.sockets[0].getsockname()[:2]
        return f"http://{host}:{port}"

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        assert self._server is not None
        self._server.close()
        for writer in list(self._writers):
            writer.transport.abort()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        cut = next(self._cuts, None)
        up: asyncio.StreamWriter | None = None
        self._writers.add(writer)
        try:
            down, up = await asyncio.open_connection(*self._target)
            self._writers.add(up)
            request = asyncio.create_task(_copy(reader, up))
            try:
                await self._answer(down, writer, cut)
            finally:
                request.cancel()
        except OSError:
            pass  # one side is gone: so is the connection
        finally:
            if self.abruptly:
                writer.transport.abort()
            for each in (writer, up):
                if each is not None:
                    each.close()
                    self._writers.discard(each)

    async def _answer(self, down: asyncio.StreamReader, writer: asyncio.StreamWriter, cut: Cut | None) -> None:
        if cut is None:
            await _copy(down, writer)
            return
        answer = b""
        while piece := await down.read(65536):
            passed = len(answer)
            answer += piece
            at = cut.position(answer)
            writer.write(answer[passed:at])
            await writer.drain()
            if at is not None and at <= len(answer):
                self.cuts_made += 1
                return


async def _copy(source: asyncio.StreamReader, target: asyncio.StreamWriter) -> None:
    try:
        while piece := await source.read(65536):
            target.write(piece)
            await target.drain()
    except OSError:
        target.close()
