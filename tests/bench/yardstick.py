"""Servers that do the least that could be done, as the measure for ours.

    python tests/bench/yardstick.py raw --port 3800     # asyncio protocol on uvloop
    python tests/bench/yardstick.py asgi --port 3801    # no-op endpoint under uvicorn

``raw`` speaks just enough of the wire for the load generators: a publish is decoded and framed once, and the ready-made
bytes are pushed into the transport of every subscriber, with no log, no cursor, no replay and no bound.

``asgi`` answers with 201 and a short JSON body; below ``/echo`` it decodes a batch of events, looks at every field that
a server has to check, and sends the events back as a server that has numbered them would.
"""

from __future__ import annotations

import argparse
import asyncio
import re
import time
from collections.abc import Awaitable, Callable
from typing import Any, cast

import orjson
import uvicorn
import uvloop

Send = Callable[[Any], Awaitable[None]]

LEVELS = frozenset({"debug", "info", "warn", "error"})
_LENGTH = re.compile(rb"content-length: *(\d+)", re.IGNORECASE)
_OPEN_STREAM = (
    b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ncache-control: no-cache\r\n"
    b"transfer-encoding: chunked\r\n\r\n0d\r\n: connected\n\n\r\n"
)


class Raw(asyncio.Protocol):
    """One connection. ``tasks`` maps a task to the transports of its subscribers."""

    def __init__(self, tasks: dict[str, set[asyncio.Transport]]) -> None:
        self._tasks = tasks
        self._received = b""
        self._task = ""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)

    def connection_lost(self, _: Exception | None) -> None:
        if self._task:
            self._tasks[self._task].discard(self._transport)

    def data_received(self, data: bytes) -> None:
        self._received += data
        while (end := self._received.find(b"\r\n\r\n")) >= 0:
            head = self._received[:end]
            found = _LENGTH.search(head)
            length = int(found[1]) if found else 0
            if len(self._received) < end + 4 + length:
                return
            body = self._received[end + 4 : end + 4 + length]
            self._received = self._received[end + 4 + length :]
            method, path, _ = head.split(b" ", 2)
            self._answer(method.decode(), path.decode().partition("?")[0], body)

    def _answer(self, method: str, path: str, body: bytes) -> None:
        if method == "GET" and path.endswith("/events"):
            self._task = path.split("/")[2]
            self._tasks.setdefault(self._task, set()).add(self._transport)
            self._transport.write(_OPEN_STREAM)
        elif method == "POST" and path.endswith("/events"):
            self._push(path.split("/")[2], orjson.loads(body))
            self._reply(b"{}")
        elif method == "POST":
            task = f"t{len(self._tasks)}"
            self._tasks[task] = set()
            self._reply(b'{"id":"%b"}' % task.encode())
        else:
            self._reply(b"{}")

    def _push(self, task: str, events: Any) -> None:
        frames = b"".join(
            b'event: taskcast.event\ndata: {"filteredIndex":1,"rawIndex":1,"eventId":"01J00000000000000000000000",'
            b'"taskId":"01J00000000000000000000000","timestamp":1700000000000,%b\nid: 01J00000000000000000000000\n\n'
            % orjson.dumps(event)[1:]
            for event in (events if isinstance(events, list) else [events])
        )
        chunk = b"%x\r\n%b\r\n" % (len(frames), frames)
        for transport in self._tasks[task]:
            transport.write(chunk)

    def _reply(self, body: bytes) -> None:
        self._transport.write(
            b"HTTP/1.1 201 Created\r\ncontent-type: application/json\r\ncontent-length: %d\r\n\r\n%b"
            % (len(body), body)
        )


async def asgi(scope: dict[str, Any], receive: Callable[[], Awaitable[Any]], send: Send) -> None:
    """The application."""
    if scope["type"] != "http":
        return
    body = b"{}"
    if scope["path"] == "/echo":
        body = orjson.dumps(_echo(orjson.loads(await _whole_body(receive))))
    else:
        await receive()
    headers = [(b"content-type", b"application/json"), (b"content-length", b"%d" % len(body))]
    await send({"type": "http.response.start", "status": 201, "headers": headers})
    await send({"type": "http.response.body", "body": body})


async def _whole_body(receive: Callable[[], Awaitable[Any]]) -> bytes:
    body = b""
    while True:
        message = await receive()
        part: bytes = message["body"]
        body += part
        if not message["more_body"]:
            return body


def _echo(events: list[dict[str, Any]]) -> list[dict[str, Any]]:
    now = int(time.time() * 1000)
    return [
        {"id": f"01J0000000000000000000{at:04d}", "index": at, "taskId": "t", "timestamp": now, **_checked(event)}
        for at, event in enumerate(events)
    ]


def _checked(event: dict[str, Any]) -> dict[str, Any]:
    kind, data = event["type"], event.get("data")
    is_fit = (
        type(kind) is str
        and 0 < len(kind) <= 200
        and kind.isascii()
        and event["level"] in LEVELS
        and event.get("seriesId") is None
        and event.get("seriesMode") is None
        and not (type(data) is dict and any(type(each) in (dict, list) for each in data.values()))
    )
    if not is_fit:
        raise ValueError("not an event")
    return event


async def _serve_raw(port: int) -> None:
    tasks: dict[str, set[asyncio.Transport]] = {}
    server = await asyncio.get_running_loop().create_server(lambda: Raw(tasks), "127.0.0.1", port, backlog=4096)
    await server.serve_forever()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("kind", choices=("raw", "asgi"))
    parser.add_argument("--port", type=int, required=True)
    given = parser.parse_args()
    if given.kind == "raw":
        uvloop.run(_serve_raw(given.port))
    else:
        uvicorn.run(
            asgi, host="127.0.0.1", port=given.port, loop="uvloop", http="httptools", lifespan="off",
            access_log=False, log_level="warning", server_header=False,
        )  # fmt: skip


if __name__ == "__main__":
    main()
