"""What one operation costs while something else grows: CPU of the server, per event or per delivery.

A curve that stays flat is the point; where the machine itself gets dearer (more sockets than its caches hold), the
yardstick's curve beside it shows by how much.
"""

from __future__ import annotations

import statistics
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack

from attrs import frozen

from tests.bench.cases import BATCH, EVENTS
from tests.bench.load import Row, readers, requests
from tests.bench.targets import Target, redis_on_other_core, running

DELTA = b'{"type":"llm.delta","level":"info","data":{"delta":"some text "},"seriesId":"s","seriesMode":"accumulate"}'
DELTAS = b"[%b]" % b",".join([DELTA] * BATCH)
WINDOW = 5_000
"""Events over which the cost at one length of a log is taken."""


@frozen
class Curve:
    """Costs by size, of our server and, where it has the same work to do, of the yardstick."""

    title: str
    unit: str
    costs: Mapping[int, float]
    yardstick: Mapping[int, float]


def curves(rounds: int, largest: int = 10_000) -> Iterator[Curve]:
    """All curves, medians of so many rounds. ``largest``: readers and tasks; logs grow to a hundred times that."""
    counts = [size for size in (100, 1000, 10_000) if size <= largest]
    yield _grown("Length of a log", EVENTS, [1, largest, 100 * largest], rounds)
    yield _grown("Length of a series", DELTAS, [1, largest, 10 * largest], rounds)
    yield _nodes(rounds)
    yield _curve("Readers of one task", "µs CPU per delivery", counts, rounds, _one_task, ("raw", "memory"))
    yield _curve("Tasks, one reader each", "µs CPU per event", counts, rounds, _one_reader_each, ("raw", "memory"))


HEAD = "| what grows | cost | at … | growth | yardstick's |\n|---|---|---|---:|---:|"


def row_of(curve: Curve) -> str:
    """A curve as a row of a Markdown table."""
    costs = " · ".join(f"{size:,}: {cost:.1f}" for size, cost in sorted(curve.costs.items()))
    theirs = f"{_growth(curve.yardstick):.2f} ×" if curve.yardstick else ""
    return f"| {curve.title} | {curve.unit} | {costs} | {_growth(curve.costs):.2f} × | {theirs} |"


def _growth(costs: Mapping[int, float]) -> float:
    """How many times the cost of the smallest the cost of the largest is."""
    return costs[max(costs)] / costs[min(costs)]


def _curve(
    title: str,
    unit: str,
    sizes: Sequence[int],
    rounds: int,
    run: Callable[[Target, int], float],
    names: tuple[str, str],
) -> Curve:
    costs: dict[tuple[str, int], list[float]] = {}
    for _ in range(rounds):
        for size in sizes:
            for name in names:
                with running(name) as target:
                    costs.setdefault((name, size), []).append(run(target, size))
    yardstick, ours = ({size: statistics.median(costs[name, size]) for size in sizes} for name in names)
    return Curve(title, unit, ours, yardstick)


def _one_task(target: Target, size: int) -> float:
    row = readers(target.port, target.pid, subs=size, events=max(10, 50_000 // size), closed=True)
    return float(row["cpu_us_per_delivery"])


def _one_reader_each(target: Target, size: int) -> float:
    # What a task's first event makes, it makes once, however many tasks there are.
    events = size + max(size, 2000)
    row = readers(target.port, target.pid, subs=size, tasks=size, events=events, warm_up=size, closed=True)
    return float(row["cpu_us_per_delivery"])


def _grown(title: str, body: bytes, sizes: Sequence[int], rounds: int) -> Curve:
    """Publish in batches to one task, and look at what a window costs at these lengths."""
    costs: dict[int, list[float]] = {size: [] for size in sizes}
    for _ in range(rounds):
        with running("memory") as target:
            path, length = f"/tasks/{target.new_task()}/events", 0
            for size in sizes:
                if size - length > BATCH:
                    _publish(target, path, body, size - length)
                row = _publish(target, path, body, WINDOW)
                length = max(size, length) + WINDOW
                costs[size].append(row["cpu_us_per_request"] / BATCH)
    return Curve(title, "µs CPU per event", {size: statistics.median(found) for size, found in costs.items()}, {})


def _publish(target: Target, path: str, body: bytes, count: int) -> Row:
    return requests(target.port, target.pid, path, body, conns=4, seconds=240, warm_up=0, most=max(1, count // BATCH))


def _nodes(rounds: int) -> Curve:
    """As many nodes on one Redis, each with a task and readers of its own, under load at the same time.

    The yardstick are as many nodes that share nothing but the core: each has a Redis to itself.
    """
    costs: dict[tuple[bool, int], list[float]] = {}
    for _ in range(rounds):
        for count in (1, 2, 4):
            for is_shared in (True, False):
                costs.setdefault((is_shared, count), []).append(_side_by_side(count, is_shared=is_shared))
    ours, alone = (
        {count: statistics.median(found) for (is_shared, count), found in costs.items() if is_shared == wanted}
        for wanted in (True, False)
    )
    return Curve("Processes on one Redis", "µs CPU per delivery", ours, alone)


def _side_by_side(count: int, *, is_shared: bool) -> float:
    with ExitStack() as stack:
        urls = [stack.enter_context(redis_on_other_core()) for _ in range(1 if is_shared else count)]
        nodes = [stack.enter_context(running("redis", urls[at % len(urls)])) for at in range(count)]
        with ThreadPoolExecutor(count) as pool:
            rows = pool.map(lambda node: readers(node.port, node.pid, subs=50, events=400, closed=True), nodes)
            return statistics.mean([row["cpu_us_per_delivery"] for row in rows])
