"""A proxy on loopback that passes so many bytes of each answer, and then cuts the connection."""

import asyncio
from collections.abc import Iterable, Iterator
from types import TracebackType
from typing import Self
from urllib.parse import urlsplit


class CuttingProxy:
    """Stands before a server; the n-th connection is cut after ``cuts[n]`` bytes of answer, later ones never.

    ``abruptly``: by a reset instead of an orderly end.
    """

    def __init__(self, url: str, cuts: Iterable[int] = (), *, abruptly: bool = False) -> None:
        parts = urlsplit(url)
        assert parts.hostname
        assert parts.port
        self._target = (parts.hostname, parts.port)
        self._cuts: Iterator[int] = iter(cuts)
        self._abruptly = abruptly
        self._server: asyncio.Server | None = None
        self._writers: set[asyncio.StreamWriter] = set()
        self.connections = 0

    def cut_next_after(self, count: int) -> None:
        """Cut the next connection after so many bytes of answer, and none behind it."""
        self._cuts = iter([count])

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
        left = next(self._cuts, None)
        up: asyncio.StreamWriter | None = None
        self._writers.add(writer)
        try:
            down, up = await asyncio.open_connection(*self._target)
            self._writers.add(up)
            request = asyncio.create_task(_copy(reader, up))
            try:
                while piece := await down.read(65536):
                    if left is not None and len(piece) >= left:
                        writer.write(piece[:left])
                        await writer.drain()
                        break
                    left = None if left is None else left - len(piece)
                    writer.write(piece)
                    await writer.drain()
            finally:
                request.cancel()
        except OSError:
            pass  # one side is gone: so is the connection
        finally:
            if self._abruptly:
                writer.transport.abort()
            for each in (writer, up):
                if each is not None:
                    each.close()
                    self._writers.discard(each)


async def _copy(source: asyncio.StreamReader, target: asyncio.StreamWriter) -> None:
    try:
        while piece := await source.read(65536):
            target.write(piece)
            await target.drain()
    except OSError:
        target.close()
