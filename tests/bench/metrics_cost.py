"""What metrics cost: two servers side by side, one that counts and one that does not, given the same work in turns.

    python -m tests.bench.metrics_cost [ingest|fanout] [--processes N] [--turns N] [--readers N] [--instructions]

``ingest``: events published one by one over keep-alive connections. ``fanout``: events that many readers follow, one at
a time, so that nothing travels together. Both servers stand in one process (see `two_servers`), so that memory layout,
hash seeds and whatever else the machine does hit both. Work goes to them in short slices, back and forth, forth and
back, and what counts is the CPU time that the process takes for a slice. The result is the median of the turns' ratios,
and an interval of 95 %; both are drawn from several processes with hash seeds of their own, in which now the one server
starts first and now the other.

On a machine that does other things too, CPU time itself is noisy: ``--instructions`` counts what the process executes
(valgrind's callgrind; the kernel's part is left out), for which two processes with a few turns do. ``--twins`` compares
two servers neither of which counts: how far the measurement can be trusted. Exits with 1 where all of an interval is
above 3 %.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import re
import shutil
import socket
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from attrs import frozen

from taskcast_core.meters import PENDING

ROOT = Path(__file__).resolve().parents[2]
EVENT = b'{"type":"llm.delta","level":"info","data":{"delta":"some text "}}'
MOST = 0.03
CONNECTIONS = 8
FANOUT_EVENTS = 24
"""Events per slice of ``fanout``."""
PATIENCE_S = 60.0
RESAMPLES = 2000
CALLGRIND = ("valgrind", "--tool=callgrind", "-q", "--instr-atstart=no")
WARM_UP = 2
"""Turns that do not count."""


class Line:
    """A keep-alive connection."""

    def __init__(self, port: int) -> None:
        self.socket = socket.create_connection(("127.0.0.1", port), PATIENCE_S)
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    def send(self, method: str, path: str, body: bytes = b"") -> None:
        head = f"{method} {path} HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\n"
        self.socket.sendall(f"{head}content-length: {len(body)}\r\n\r\n".encode() + body)

    def reply(self) -> bytes:
        """The body of the next reply."""
        got = self.until(rb"\r\n\r\n")
        head, _, body = got.partition(b"\r\n\r\n")
        assert head[9:10] == b"2", got
        length = re.search(rb"content-length: (\d+)", head)
        while length is not None and len(body) < int(length[1]):
            body += self.until(rb".", re.DOTALL)
        return body

    def until(self, pattern: bytes, flags: int = 0) -> bytes:
        """What comes, until the pattern is in it."""
        got = b""
        while not re.search(pattern, got, flags):
            part = self.socket.recv(65_536)
            assert part, "the server has closed the connection"
            got += part
        return got

    def close(self) -> None:
        self.socket.close()

    def ask(self, method: str, path: str, body: bytes = b"{}") -> bytes:
        self.send(method, path, body)
        return self.reply()


@frozen
class Child:
    """The process with the two servers.

    Attributes:
        instructions: where callgrind writes to, if that is what counts.
    """

    pid: int
    ports: dict[str, int]
    control: Line
    instructions: Path | None = None

    def cost(self, work: Callable[[], None]) -> float:
        """What a piece of work takes of this process: nanoseconds of CPU, or instructions."""
        if self.instructions is None:
            before = self._cpu_ns()
            work()
            return self._cpu_ns() - before
        self._cpu_ns()  # answered when all that came before is done
        self._callgrind("--instr=on", "--zero")
        work()
        self._cpu_ns()
        self._callgrind("--dump")
        (written,) = self.instructions.glob("*.*")  # one without a number is for what is left at the end
        found = re.search(r"^summary: (\d+)", written.read_text(), re.MULTILINE)
        assert found is not None
        written.unlink()
        return int(found[1])

    def _cpu_ns(self) -> int:
        self.control.socket.sendall(b"?")
        return int(self.control.until(rb"\n"))

    def _callgrind(self, *orders: str) -> None:
        for order in orders:
            subprocess.run(["callgrind_control", order, str(self.pid)], check=True, capture_output=True)


class Ingest:
    """Events published one by one; as many as are counted in one go, so that every slice pays for that once."""

    def __init__(self, port: int, _readers: int) -> None:
        self.lines = [Line(port) for _ in range(CONNECTIONS)]
        self._path = ""

    def prepare(self) -> None:
        """Every slice has a task of its own."""
        if self._path:
            self.lines[0].ask("DELETE", self._path)
        self._path = new_task(self.lines[0])

    def work(self) -> None:
        """One slice."""
        for _ in range(PENDING // CONNECTIONS):
            for line in self.lines:
                line.send("POST", f"{self._path}/events", EVENT)
            for line in self.lines:
                line.reply()


class Fanout:
    """Events that many readers follow; the next one is published when all have the last."""

    def __init__(self, port: int, readers: int) -> None:
        self._publisher = Line(port)
        self._path = new_task(self._publisher)
        self._readers = [Line(port) for _ in range(readers)]
        self.lines = [self._publisher, *self._readers]
        for reader in self._readers:
            reader.send("GET", f"{self._path}/events")
            reader.until(rb": connected\n\n")

    def prepare(self) -> None:
        """Nothing."""

    def work(self) -> None:
        """One slice."""
        for _ in range(FANOUT_EVENTS):
            self._publisher.ask("POST", f"{self._path}/events", EVENT)
            for reader in self._readers:
                reader.until(rb"llm\.delta(?s:.*)\n\n\r\n$")


CASES: dict[str, type[Ingest | Fanout]] = {"ingest": Ingest, "fanout": Fanout}


def new_task(line: Line) -> str:
    """A task's path."""
    return f"/tasks/{json.loads(line.ask('POST', '/tasks'))['id']}"


@contextmanager
def child(order: Sequence[str], seed: int, *, in_instructions: bool) -> Iterator[Child]:
    """Start the two servers."""
    command = [sys.executable, "-m", "tests.bench.two_servers", *order]
    with tempfile.TemporaryDirectory() as directory:
        if in_instructions:
            command[:0] = [
                "valgrind",
                "--tool=callgrind",
                "-q",
                "--instr-atstart=no",
                f"--callgrind-out-file={directory}/%p",
            ]
        environment = {**os.environ, "PYTHONHASHSEED": str(seed)}
        with subprocess.Popen(command, stdout=subprocess.PIPE, env=environment, cwd=ROOT) as process:
            assert process.stdout is not None
            try:
                ports = json.loads(process.stdout.readline())
                folder = Path(directory) if in_instructions else None
                control = Line(ports["control"])
                yield Child(process.pid, ports, control, folder)
                control.close()
            finally:
                process.kill()


def turns(case: str, names: Sequence[str], process: Child, count: int, readers: int) -> list[float]:
    """By how much the first costs more than the second, of each turn; what is done first warms up."""
    first, second = (CASES[case](process.ports[name], readers) for name in names)

    def cost(one: Ingest | Fanout) -> float:
        one.prepare()
        return process.cost(one.work)

    found = []
    for at in range(count + WARM_UP):
        costs = [cost(each) for each in (first, second, second, first)]
        if at >= WARM_UP:
            found.append((costs[0] + costs[3]) / (costs[1] + costs[2]) - 1)
    for line in (*first.lines, *second.lines):
        line.close()
    return found


def interval(samples: Sequence[Sequence[float]]) -> tuple[float, float]:
    """Where the median of all lies, with 95 %: by drawing processes, and turns of each, again and again."""
    draw = random.Random(0)
    medians = []
    for _ in range(RESAMPLES):
        drawn = [draw.choices(each, k=len(each)) for each in draw.choices(samples, k=len(samples))]
        medians.append(statistics.median(value for each in drawn for value in each))
    medians.sort()
    return medians[RESAMPLES // 40], medians[-RESAMPLES // 40]


def compare(case: str, given: argparse.Namespace) -> float:
    """Measure, and tell; the lower end of the interval."""
    names = ("plain", "twin") if given.twins else ("counting", "plain")
    samples = []
    for seed in range(1, given.processes + 1):
        order = names if seed % 2 else names[::-1]
        with child(order, seed, in_instructions=given.instructions) as process:
            samples.append(turns(case, names, process, given.turns, given.readers))
        print(f"{case}: process {seed} of {given.processes}: {statistics.median(samples[-1]):+.2%}", flush=True)
    low, high = interval(samples)
    middle = statistics.median(value for each in samples for value in each)
    what = "a twin takes" if given.twins else "metrics take"
    unit = "instructions" if given.instructions else "CPU time"
    print(f"{case}: {what} {middle:+.2%} more {unit} (95 %: {low:+.2%} to {high:+.2%})", flush=True)
    return low


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("case", nargs="?", choices=tuple(CASES), help="both by default")
    parser.add_argument("--processes", type=int, default=6)
    parser.add_argument("--turns", type=int, default=100, help="of four slices each, per process")
    parser.add_argument("--readers", type=int, default=50)
    parser.add_argument("--twins", action="store_true")
    parser.add_argument("--instructions", action="store_true")
    given = parser.parse_args()
    if given.instructions and shutil.which("callgrind_control") is None:
        parser.error("--instructions needs valgrind")
    cases = [given.case] if given.case else list(CASES)
    return int(max([compare(case, given) for case in cases]) > MOST)


if __name__ == "__main__":
    raise SystemExit(main())
