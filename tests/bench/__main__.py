"""``make bench``: our server against its yardsticks, run by run in turns.

    python -m tests.bench [quick|full|scale] [--rounds N] [--only LOAD] [--json FILE] [--plot FILE]

``quick`` (under a minute) takes one short round of most loads; ``full`` five rounds of all of them, some ten minutes;
``scale`` shows what one operation costs as readers, tasks, logs, series and processes grow.
Servers run on one core, generators and Redis on another. CPU comes from the scheduler's own accounting, so other work
on the machine disturbs rates and latencies first, and ratios last.
"""

from __future__ import annotations

import argparse
import os
import platform
import sys
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import orjson
from attrs import evolve

from tests.bench import scale
from tests.bench.cases import LOADS, Load, Size
from tests.bench.load import LoadError, Row, generator
from tests.bench.report import as_json, drawing, lines_of, put_into, table
from tests.bench.targets import Target, redis_on_other_core, running

QUICK = Size(seconds=0.8, share=0.25)
FULL = Size(seconds=3.0, share=1.0)


def measure(loads: Sequence[Load], rounds: int, size: Size) -> dict[tuple[str, str], list[Row]]:
    """Every load on every target, in turns; in every round servers are started anew."""
    runs: dict[tuple[str, str], list[Row]] = {}
    names = list(dict.fromkeys(name for load in loads for name in load.targets))
    with ExitStack() as stack:
        redis_url = stack.enter_context(redis_on_other_core()) if "redis" in names else None
        for round_ in range(rounds):
            with _Servers(redis_url) as servers:
                for load in loads:
                    turns = load.turns if rounds > 1 else 1
                    part = evolve(size, seconds=size.seconds / turns)
                    for turn in range(round_, round_ + turns):
                        for name in load.targets if turn % 2 == 0 else load.targets[::-1]:
                            with servers.target(load, name) as target:
                                runs.setdefault((load.name, name), []).append(_run(load, target, part))
    return runs


class _Servers(ExitStack):
    """The servers of one round."""

    def __init__(self, redis_url: str | None) -> None:
        super().__init__()
        self._redis_url = redis_url
        self._kept: dict[str, Target] = {}

    @contextmanager
    def target(self, load: Load, name: str) -> Iterator[Target]:
        """A server for this load: one of its own if it needs that, else the round's."""
        redis_url = self._redis_url if name == "redis" else None
        if load.is_fresh:
            with running(name, redis_url) as target:
                yield target
        else:
            yield self._shared(name, redis_url, with_peer=load.has_peer and redis_url is not None)

    def _shared(self, name: str, redis_url: str | None, *, with_peer: bool) -> Target:
        if name not in self._kept:
            self._kept[name] = self.enter_context(running(name, redis_url))
        if with_peer and not self._kept[name].peer_port:
            peer = self.enter_context(running(name, redis_url))
            self._kept[name] = evolve(self._kept[name], peer_port=peer.port)
        return self._kept[name]


def _run(load: Load, target: Target, size: Size) -> Row:
    print(f"  {load.name} · {target.name}", file=sys.stderr)
    try:
        return load.run(target, size)
    except LoadError as error:
        raise LoadError(f"{load.name} on {target.name}: {error}") from error


def facts() -> dict[str, Any]:
    """The machine, as far as figures depend on it."""
    return {
        "cpus": os.cpu_count(),
        "load": os.getloadavg()[0],
        "python": platform.python_version(),
        "system": f"{platform.system()} {platform.release()} {platform.machine()}",
    }


def main() -> None:
    """Measure, print the table, write the files."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("mode", choices=("quick", "full", "scale"), nargs="?", default="quick")
    parser.add_argument("--rounds", type=int, help="how often everything is measured; 1 in quick mode, else 5")
    parser.add_argument("--only", action="append", choices=[load.name for load in LOADS], help="this load only")
    parser.add_argument("--json", type=Path, help="where all figures and runs go")
    parser.add_argument("--page", type=Path, help="a Markdown page whose table of figures is replaced")
    parser.add_argument("--plot", type=Path, help="where the drawing goes (SVG)")
    given = parser.parse_args()
    for name in ("sse_bench", "http_bench"):
        generator(name)
    if given.mode == "scale":
        print(scale.HEAD)
        for curve in scale.curves(given.rounds or 3):
            print(scale.row_of(curve), flush=True)
        return
    is_quick = given.mode == "quick"
    loads = [load for load in LOADS if (load.name in given.only if given.only else load.in_quick or not is_quick)]
    before = facts()
    runs = measure(loads, given.rounds or (1 if is_quick else 5), QUICK if is_quick else FULL)
    lines = lines_of(runs)
    print(table(lines))
    if given.json:
        given.json.write_bytes(orjson.dumps(as_json(lines, runs, before), option=orjson.OPT_INDENT_2))
    if given.page:
        page = given.page.read_text(encoding="utf-8")
        given.page.write_text(put_into(page, table(lines)), encoding="utf-8")
    if given.plot:
        given.plot.write_text(drawing(lines), encoding="utf-8")


if __name__ == "__main__":
    main()
