"""What metrics cost: two servers side by side, one that counts and one that does not, given the same work in turns.

    python tests/bench/metrics_cost.py [ingest|fanout] [--rounds N] [--requests N] [--readers N]

``ingest``: events published one by one over keep-alive connections; CPU time of the server per event. ``fanout``: the
same events delivered to many readers; CPU time per delivery. Servers keep tasks in memory and log from ``warn`` on.
Rounds alternate, so that whatever else the machine does hits both; the ratio is the median over pairs of rounds. Exits
with 1 where metrics add more than 3 %. Needs Linux, for the CPU time of another process to the nanosecond.
"""

from __future__ import annotations

import argparse
import asyncio
import re
import statistics
import subprocess
import sys
import tempfile
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path

from attrs import frozen

TASKCAST = Path(sys.executable).with_name("taskcast")
EVENT = b'{"type":"llm.delta","level":"info","data":{"delta":"some text "}}'
MOST = 1.03
CONNECTIONS = 8


@frozen
class Server:
    """A running server."""

    pid: int
    port: int

    @property
    def cpu_s(self) -> float:
        """What its threads have burnt so far."""
        threads = Path(f"/proc/{self.pid}/task").iterdir()
        return sum(int((each / "schedstat").read_text().split()[0]) for each in threads) / 1e9

    async def ask(self, method: str, path: str, body: bytes = b"{}") -> bytes:
        """One request on a connection of its own; the reply's body."""
        line = await Line.open(self.port)
        try:
            return await line.ask(method, path, body)
        finally:
            line.writer.close()


@frozen
class Line:
    """A keep-alive connection."""

    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter

    @classmethod
    async def open(cls, port: int) -> Line:
        return cls(*await asyncio.open_connection("127.0.0.1", port))

    def send(self, method: str, path: str, body: bytes = b"") -> None:
        head = f"{method} {path} HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\n"
        self.writer.write(f"{head}content-length: {len(body)}\r\n\r\n".encode() + body)

    async def ask(self, method: str, path: str, body: bytes) -> bytes:
        self.send(method, path, body)
        head = await self.reader.readuntil(b"\r\n\r\n")
        assert head[9:10] == b"2", head
        found = re.search(rb"content-length: (\d+)", head)
        assert found is not None, head
        return await self.reader.readexactly(int(found[1]))


@asynccontextmanager
async def started(*, is_measured: bool) -> AsyncIterator[Server]:
    """A server in a process of its own."""
    with tempfile.TemporaryDirectory() as directory:
        config = Path(directory) / "config.yaml"
        config.write_text(f"storage: memory\nlogLevel: warn\nmetrics: {{enabled: {str(is_measured).lower()}}}\n")
        command = [TASKCAST, "start", "-c", config, "-p", "0"]
        process = await asyncio.create_subprocess_exec(*command, stdout=subprocess.PIPE, cwd=directory)
        assert process.stdout is not None
        try:
            while not (found := re.search(rb"started on http://localhost:(\d+)", await process.stdout.readline())):
                pass
            yield Server(process.pid, int(found[1]))
        finally:
            process.kill()
            await process.wait()


async def new_task(server: Server) -> str:
    reply = await server.ask("POST", "/tasks")
    found = re.search(rb'"id":"(\w+)"', reply)
    assert found is not None
    return found[1].decode()


async def publish(server: Server, task: str, count: int) -> None:
    async def some(line: Line) -> None:
        for _ in range(count // CONNECTIONS):
            await line.ask("POST", f"/tasks/{task}/events", EVENT)
        line.writer.close()

    await asyncio.gather(*[some(await Line.open(server.port)) for _ in range(CONNECTIONS)])


async def ingest(server: Server, requests: int, _readers: int) -> float:
    """Microseconds of CPU per event."""
    task = await new_task(server)
    began = server.cpu_s
    await publish(server, task, requests)
    return (server.cpu_s - began) / requests * 1e6


async def fanout(server: Server, requests: int, readers: int) -> float:
    """Microseconds of CPU per delivery: one event at a time, so that nothing travels together."""
    task = await new_task(server)
    events = max(10, requests * 10 // readers)
    arrived = asyncio.Semaphore(0)

    async def read(line: Line) -> None:
        line.send("GET", f"/tasks/{task}/events")
        await line.reader.readuntil(b": connected\n\n")
        arrived.release()
        for _ in range(events):
            await line.reader.readuntil(b"llm.delta")
            arrived.release()
        line.writer.close()

    lines = [await Line.open(server.port) for _ in range(readers)]
    reading = [asyncio.create_task(read(line)) for line in lines]
    publisher = await Line.open(server.port)
    await _all(arrived, readers)
    began = server.cpu_s
    for _ in range(events):
        await publisher.ask("POST", f"/tasks/{task}/events", EVENT)
        await _all(arrived, readers)
    spent = server.cpu_s - began
    await asyncio.gather(*reading)
    return spent / (events * readers) * 1e6


async def _all(arrived: asyncio.Semaphore, count: int) -> None:
    for _ in range(count):
        await arrived.acquire()


CASES: dict[str, Callable[[Server, int, int], Awaitable[float]]] = {"ingest": ingest, "fanout": fanout}


async def compare(name: str, rounds: int, requests: int, readers: int) -> float:
    """What metrics multiply the cost by."""
    costs: dict[bool, list[float]] = {True: [], False: []}
    async with AsyncExitStack() as stack:
        servers = {each: await stack.enter_async_context(started(is_measured=each)) for each in (True, False)}
        for at in range(rounds + 1):
            for is_measured in (True, False) if at % 2 else (False, True):
                cost = await CASES[name](servers[is_measured], requests, readers)
                if at:  # the first round warms up
                    costs[is_measured].append(cost)
    on, off = statistics.median(costs[True]), statistics.median(costs[False])
    ratio = statistics.median(a / b for a, b in zip(costs[True], costs[False], strict=True))
    print(f"{name}: {off:.2f} µs of CPU without metrics, {on:.2f} with them; by pairs of rounds {ratio - 1:+.1%}")
    return ratio


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("case", nargs="?", choices=tuple(CASES), help="both by default")
    parser.add_argument("--rounds", type=int, default=30)
    parser.add_argument("--requests", type=int, default=1500)
    parser.add_argument("--readers", type=int, default=200)
    given = parser.parse_args()
    names = [given.case] if given.case else list(CASES)
    ratios = [asyncio.run(compare(name, given.rounds, given.requests, given.readers)) for name in names]
    return int(max(ratios) > MOST)


if __name__ == "__main__":
    raise SystemExit(main())
