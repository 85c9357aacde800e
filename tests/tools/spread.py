"""Starts one command several times and spreads HTTP requests over the processes, at random.

    python tests/tools/spread.py --port 3721 --servers 3 -- taskcast start -c FILE -p {own_port}

Every request goes to any of them, over a connection of its own (also a stream, or a WebSocket). Requests with an
equal `Same-Server` header go to the same one. The port opens once every process answers `GET /health`; when one
of them ends, all do.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import random
import re
import signal
import socket
import sys
import zlib
from collections.abc import Coroutine, Sequence
from typing import Any

HOST = "127.0.0.1"
HEAD_BYTES = 256 * 1024
CHUNK_BYTES = 64 * 1024
START_S = 60.0
POLL_S = 0.05
CONNECTION = re.compile(rb"\r\nconnection:[^\r]*", re.IGNORECASE)
UPGRADE = re.compile(rb"\r\nupgrade:", re.IGNORECASE)
SAME = re.compile(rb"\r\nsame-server:[ \t]*([^\r]*)", re.IGNORECASE)


class Spread:
    """The way in: one listening port, several behind it."""

    def __init__(self, ports: Sequence[int]) -> None:
        self._ports = ports

    async def accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Pass on one request, and what is said afterwards."""
        try:
            head = await reader.readuntil(b"\r\n\r\n")
            behind_reader, behind_writer = await asyncio.open_connection(HOST, self._choose(head))
        except (OSError, asyncio.IncompleteReadError, asyncio.LimitOverrunError):
            writer.transport.abort()
            return
        try:
            behind_writer.write(head if UPGRADE.search(head) else _for_one_request(head))
            await _first_of(_pump(reader, behind_writer), _pump(behind_reader, writer))
            with contextlib.suppress(OSError):
                await writer.drain()
        finally:
            behind_writer.close()
            writer.close()

    def _choose(self, head: bytes) -> int:
        if same := SAME.search(head):
            return self._ports[zlib.crc32(same[1]) % len(self._ports)]
        return random.choice(self._ports)


def _for_one_request(head: bytes) -> bytes:
    """The head, asking for the end of the connection with the end of the reply."""
    return CONNECTION.sub(b"", head)[:-2] + b"Connection: close\r\n\r\n"


async def _pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    with contextlib.suppress(OSError):
        while chunk := await reader.read(CHUNK_BYTES):
            writer.write(chunk)
            await writer.drain()


async def _first_of(*pumps: Coroutine[Any, Any, None]) -> None:
    """Either side's end is the end: no client of ours closes its half before it has read the reply."""
    tasks = [asyncio.create_task(pump) for pump in pumps]
    try:
        await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


def _free_ports(count: int) -> list[int]:
    with contextlib.ExitStack() as stack:
        probes = [stack.enter_context(socket.socket()) for _ in range(count)]
        for probe in probes:
            probe.bind((HOST, 0))
        return [probe.getsockname()[1] for probe in probes]


async def _until_healthy(port: int) -> None:
    while True:
        with contextlib.suppress(OSError):
            reader, writer = await asyncio.open_connection(HOST, port)
            writer.write(b"GET /health HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
            reply = await reader.read()
            writer.close()
            if reply.partition(b"\r\n")[0].split()[1:2] == [b"200"]:
                return
        await asyncio.sleep(POLL_S)


async def main(public_port: int, count: int, command: Sequence[str]) -> int:
    """Run until told to stop, or one of the processes ends; return its status."""
    ports = _free_ports(count)
    processes = [
        await asyncio.create_subprocess_exec(*(word.replace("{own_port}", str(port)) for word in command))
        for port in ports
    ]
    asked = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, asked.set)
    ends = [asyncio.create_task(process.wait()) for process in processes]
    stop = asyncio.create_task(asked.wait())
    serving = asyncio.create_task(_serve(public_port, ports))
    try:
        await asyncio.wait([stop, serving, *ends], return_when=asyncio.FIRST_COMPLETED)
        if serving.done():
            serving.result()
        return next((end.result() for end in ends if end.done()), 0)
    finally:
        for task in (stop, serving):
            task.cancel()
        for process in processes:
            with contextlib.suppress(ProcessLookupError):
                process.terminate()
        await asyncio.gather(*ends)


async def _serve(public_port: int, ports: Sequence[int]) -> None:
    async with asyncio.timeout(START_S):
        await asyncio.gather(*map(_until_healthy, ports))
    server = await asyncio.start_server(Spread(ports).accept, HOST, public_port, limit=HEAD_BYTES)
    async with server:
        await server.serve_forever()


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--servers", type=int, default=3)
    parser.add_argument("command", nargs="+")
    given = parser.parse_args()
    sys.exit(asyncio.run(main(given.port, given.servers, given.command)))
