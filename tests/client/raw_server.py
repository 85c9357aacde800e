"""An HTTP server that answers what it is told to: for answers that no real server gives on demand."""

import asyncio
from collections.abc import Mapping, Sequence
from types import TracebackType
from typing import Self

from attrs import frozen

Answer = tuple[int, Mapping[str, str], bytes] | None
"""Status, headers, body; None closes the connection without an answer."""


@frozen
class Request:
    method: str
    target: str
    headers: Mapping[str, str]
    body: bytes


class RawServer:
    """Gives these answers, one per request, in order; the last one again and again."""

    def __init__(self, answers: Sequence[Answer]) -> None:
        self._answers = list(answers)
        self.requests: list[Request] = []
        self._server: asyncio.Server | None = None

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

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").split("\r\n")
            method, target, _ = head[0].split(" ")
            headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in head[1:])}
            body = await reader.readexactly(int(headers.get("content-length", "0")))
            self.requests.append(Request(method, target, headers, body))
            answer = self._answers.pop(0) if len(self._answers) > 1 else self._answers[0]
            if answer is not None:
                status, more, content = answer
                lines = {"Content-Length": str(len(content)), "Connection": "close", **more}
                fields = "".join(f"{name}: {value}\r\n" for name, value in lines.items())
                writer.write(f"HTTP/1.1 {status} x\r\n{fields}\r\n".encode() + content)
                await writer.drain()
        except (OSError, asyncio.IncompleteReadError):
            pass
        finally:
            writer.close()
