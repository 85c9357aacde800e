"""A small real HTTP server that records what it gets and answers as it is told."""

import asyncio
import ssl
from collections.abc import Awaitable, Callable
from types import TracebackType
from typing import Self

from attrs import Factory, define, field


@define
class Got:
    """One request."""

    method: str
    path: str
    headers: dict[str, str]
    body: bytes
    connection: int


@define
class Reply:
    """One answer. ``body_parts`` are sent one by one with a pause in between; ``hang_up`` closes without answering."""

    status: int = 200
    headers: dict[str, str] = Factory(dict)
    body_parts: tuple[bytes, ...] = ()
    pause_s: float = 0.0
    hang_up: bool = False
    length: int | None = field(default=None)


Answer = Callable[[Got], Reply | Awaitable[Reply]]


class Receiver:
    """Serves on loopback while it is entered; ``answer`` may be replaced at any time."""

    def __init__(self, answer: Answer | None = None, *, tls: ssl.SSLContext | None = None) -> None:
        self.answer: Answer = answer or (lambda _: Reply())
        self.got: list[Got] = []
        self.connections = 0
        self.port = 0
        self._tls = tls
        self._server: asyncio.Server | None = None
        self._tasks: set[asyncio.Task[None]] = set()

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_server(self._accept, "127.0.0.1", 0, ssl=self._tls)
        self.port = self._server.sockets[0].getsockname()[1]
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        assert self._server is not None
        self._server.close()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def url(self, path: str = "/hook", host: str = "127.0.0.1") -> str:
        return f"{'https' if self._tls else 'http'}://{host}:{self.port}{path}"

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        self.connections += 1
        number = self.connections
        try:
            while await self._serve_one(reader, writer, number):
                pass
        except (ConnectionError, asyncio.IncompleteReadError, ssl.SSLError):
            pass  # the client has gone, as some of these tests want it
        except asyncio.CancelledError:
            pass  # this server is closing; the streams of asyncio report a cancelled callback as an error
        finally:
            self._tasks.discard(task)
            writer.close()

    async def _serve_one(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, number: int) -> bool:
        head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1")
        first, *lines = head.strip().split("\r\n")
        method, path, _ = first.split(" ")
        headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines)}
        body = await reader.readexactly(int(headers.get("content-length", "0")))
        got = Got(method, path, headers, body, number)
        self.got.append(got)
        answer = self.answer(got)
        reply = answer if isinstance(answer, Reply) else await answer
        if reply.hang_up:
            return False
        length = sum(map(len, reply.body_parts)) if reply.length is None else reply.length
        fields = {"Content-Length": str(length)} | reply.headers
        lines = [f"HTTP/1.1 {reply.status} Reason", *(f"{name}: {value}" for name, value in fields.items())]
        writer.write("\r\n".join([*lines, "", ""]).encode("latin-1"))
        for part in reply.body_parts:
            await writer.drain()
            await asyncio.sleep(reply.pause_s)
            writer.write(part)
        await writer.drain()
        return fields.get("Connection") != "close"
