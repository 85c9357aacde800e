"""What is measured, against what, and what it is meant to be."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Callable
from typing import Any, Literal

from attrs import frozen

from tests.bench.load import Row, cores, readers, requests
from tests.bench.targets import Target, running

BATCH = 100
EVENT = b'{"type":"bench.event","level":"info","data":{"n":1,"p":"%b"}}' % (b"x" * 120)
EVENTS = b"[%b]" % b",".join([EVENT] * BATCH)
NDJSON_LINES = 20_000
NDJSON = (EVENT + b"\n") * NDJSON_LINES

Storage = Literal["memory", "sqlite", "redis"]


@frozen
class Size:
    """How much of everything; quick runs take little."""

    seconds: float
    share: float

    def of(self, count: int, multiple: int = 1) -> int:
        """This part of a count, a multiple of something."""
        return max(1, round(count * self.share / multiple)) * multiple


@frozen
class Load:
    """One way to load a server.

    Attributes:
        in_quick: part of the quick mode. is_fresh: the server must not have done anything before.
        turns: in so many parts, one server after the other, the time of a round is given to each.
        has_peer: a second node stands beside ours.
    """

    name: str
    targets: tuple[str, ...]
    run: Callable[[Target, Size], Row]
    in_quick: bool = True
    is_fresh: bool = False
    turns: int = 1
    has_peer: bool = False


@frozen
class Figure:
    """One line of the table.

    Attributes:
        metric: of the load's row. against: the target that it is compared with, of the load ``other`` or this one.
        ratio, bound: what may be at most (``lower`` is better) or must be at least (``higher``); None: no target.
    """

    title: str
    load: str
    metric: str
    unit: str
    better: Literal["lower", "higher"]
    against: str | None = None
    other: str | None = None
    ratio: dict[str, float] | None = None
    bound: dict[str, float] | None = None

    @property
    def is_timed(self) -> bool:
        """Whether a clock was looked at: turns in which others took processors away say little about that."""
        return self.unit == "/s" or self.metric in ("p50_us", "p99_us", "first_frame_ms")


def _event_by_event(target: Target, size: Size) -> Row:
    return readers(target.port, target.pid, subs=1000, events=size.of(200), closed=True)


def _bursts(target: Target, size: Size) -> Row:
    return readers(target.port, target.pid, subs=1000, events=size.of(4000, 50), batch=50)


def _many_tasks(target: Target, size: Size) -> Row:
    return readers(target.port, target.pid, subs=5000, tasks=500, events=size.of(10_000), closed=True)


def _singles(target: Target, size: Size) -> Row:
    path = "/" if target.name == "asgi" else f"/tasks/{target.new_task()}/events"
    return requests(target.port, target.pid, path, EVENT, seconds=size.seconds)


def _batches(target: Target, size: Size) -> Row:
    path = "/echo" if target.name == "asgi" else f"/tasks/{target.new_task()}/events"
    row = requests(target.port, target.pid, path, EVENTS, seconds=size.seconds)
    return _per_event(row, BATCH)


def _ndjson(target: Target, size: Size) -> Row:
    path = f"/tasks/{target.new_task()}/events"
    row = requests(
        target.port, target.pid, path, NDJSON, conns=1, seconds=60, warm_up=0, most=size.of(6),
        type="application/x-ndjson",
    )  # fmt: skip # not for some seconds, because what is half done when they are over would be a large part
    return _per_event(row, NDJSON_LINES)


def _per_event(row: Row, count: int) -> Row:
    return {
        **row,
        "events_per_s": row["requests_per_s"] * count,
        "cpu_us_per_event": row["cpu_us_per_request"] / count,
    }


def _replay(target: Target, size: Size) -> Row:
    return readers(target.port, target.pid, subs=1, events=size.of(100_000, BATCH), batch=BATCH, replay=True)


def _two_nodes(target: Target, size: Size) -> Row:
    """The yardstick has nothing between its nodes: it is one, and shows what the machine takes to wake up."""
    return readers(
        target.port, target.pid, subs=1, events=size.of(200), rate=100, publish_port=target.peer_port or target.port
    )


def _starts(target: Target, _: Size) -> Row:
    with running(target.name) as fresh:
        started_ms = fresh.start_s * 1000
    bare_ms = _run_ms("pass")
    return {
        "start_ms": started_ms,
        "import_ms": _run_ms("import taskcast_core") - bare_ms,
        "engine_ms": _run_ms("from taskcast_core import TaskEngine") - bare_ms,
    }


def _run_ms(statement: str) -> float:
    """How long a fresh interpreter takes for a statement."""
    began = time.monotonic()
    subprocess.run([*cores()[0], sys.executable, "-c", statement], check=True)
    return (time.monotonic() - began) * 1000


OURS = ("memory", "sqlite", "redis")

LOADS = (
    Load("event by event", ("raw", "memory"), _event_by_event),
    Load("bursts", ("raw", "memory"), _bursts),
    Load("many tasks", ("raw", "memory"), _many_tasks, in_quick=False, is_fresh=True),
    Load("singles", ("asgi", *OURS), _singles, turns=3),
    Load("batches", ("asgi", *OURS), _batches, turns=3),
    Load("ndjson", ("memory",), _ndjson, turns=3),
    Load("replay", OURS, _replay),
    Load("two nodes", ("raw", "redis"), _two_nodes, in_quick=False, turns=8, has_peer=True),
    Load("start", ("memory",), _starts),
)

FIGURES = (
    Figure(
        "Fan-out, 1 task, 1,000 readers, event by event: CPU per delivery", "event by event", "cpu_us_per_delivery",
        "µs", "lower", "raw", ratio={"memory": 2.3},
    ),
    Figure("The same: p99", "event by event", "p99_us", "µs", "lower", "raw", ratio={"memory": 2.5}),
    Figure("Accepting a reader, 1,000 at once: CPU", "event by event", "cpu_us_per_accept", "µs", "lower", "raw",
           bound={"memory": 250}),
    Figure("Fan-out, bursts of 50: CPU per delivery", "bursts", "cpu_us_per_delivery", "µs", "lower", "raw",
           bound={"memory": 0.6}),
    Figure("5,000 readers on 500 tasks, event by event: CPU per delivery", "many tasks", "cpu_us_per_delivery", "µs",
           "lower", "raw", ratio={"memory": 3.0}),
    Figure("Memory of an idle reader, of 5,000", "many tasks", "rss_kib_per_conn", "KiB", "lower", "raw",
           bound={"memory": 10}),
    Figure("Single publishes, 64 connections", "singles", "requests_per_s", "/s", "higher", "asgi",
           ratio={"memory": 0.60, "sqlite": 0.40, "redis": 0.40}),
    Figure("The same: CPU per request", "singles", "cpu_us_per_request", "µs", "lower", "asgi",
           ratio={"memory": 1.67, "sqlite": 2.5, "redis": 2.5}),
    Figure("Batches of 100: events", "batches", "events_per_s", "/s", "higher", "asgi",
           ratio={"memory": 0.6, "sqlite": 0.25, "redis": 0.25}),
    Figure("The same: CPU per event", "batches", "cpu_us_per_event", "µs", "lower", "asgi",
           ratio={"memory": 1.67, "sqlite": 4.0, "redis": 4.0}),
    Figure("NDJSON stream: events", "ndjson", "events_per_s", "/s", "higher", "memory", other="batches",
           ratio={"memory": 1.0}),
    Figure("Replay to one reader: events", "replay", "deliveries_per_s", "/s", "higher",
           bound={"memory": 500_000, "sqlite": 200_000, "redis": 100_000}),
    Figure("Replay: first byte", "replay", "first_frame_ms", "ms", "lower",
           bound=dict.fromkeys(OURS, 20.0)),
    Figure("Publish on one node, delivery on another, over Redis: p50", "two nodes", "p50_us", "µs", "lower", "raw",
           bound={"redis": 2000}),
    Figure("The same: p99", "two nodes", "p99_us", "µs", "lower", "raw", bound={"redis": 6000}),
    Figure("Import of taskcast_core", "start", "import_ms", "ms", "lower", bound={"memory": 120}),
    Figure("The same, with its engine", "start", "engine_ms", "ms", "lower"),
    Figure("Start of the server to its first reply", "start", "start_ms", "ms", "lower", bound={"memory": 600}),
)  # fmt: skip


def met(figure: Figure, target: str, value: float, ratio: float | None) -> bool | None:
    """Whether a figure is what it is meant to be; None where it is meant to be nothing."""
    limit: Any = None
    if figure.ratio and target in figure.ratio and ratio is not None:
        limit, value = figure.ratio[target], ratio
    elif figure.bound and target in figure.bound:
        limit = figure.bound[target]
    if limit is None:
        return None
    return bool(value <= limit if figure.better == "lower" else value >= limit)
