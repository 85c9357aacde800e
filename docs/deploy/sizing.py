"""Writes the table of `docs/how-to/deploy-sizing.md` from what the benchmarks found.

    make bench MODE=full BENCH="--json figures.json"
    python docs/deploy/sizing.py figures.json

Only figures that do not depend on how busy the machine was are taken over: CPU time and memory per piece of work.
"""

import json
import re
import statistics
import sys
from pathlib import Path

PAGE = Path(__file__).parents[1] / "how-to" / "deploy-sizing.md"
PLACE = re.compile(r"(?<=<!-- figures: begin -->\n).*?(?=<!-- figures: end -->)", re.DOTALL)

# What the work is, the load that measures it, the metric, its unit.
LINES = (
    ("Delivery of an event that comes alone", "event by event", "cpu_us_per_delivery", "µs CPU"),
    ("Delivery of an event of a burst", "bursts", "cpu_us_per_delivery", "µs CPU"),
    ("New reader", "event by event", "cpu_us_per_accept", "µs CPU"),
    ("Publish of one event", "singles", "cpu_us_per_request", "µs CPU"),
    ("Each event of a large publish", "batches", "cpu_us_per_event", "µs CPU"),
    ("Reader that is connected", "many tasks", "rss_kib_per_conn", "KiB"),
)
STORAGES = ("memory", "sqlite", "redis")


def table(found: dict) -> str:
    """The figures as Markdown: one column per storage, medians over the rounds."""
    rows = {(run["load"], run["server"]): run["rows"] for run in found["runs"]}
    lines = ["| work | memory | SQLite | Redis |", "|---|---:|---:|---:|"]
    for title, load, metric, unit in LINES:
        values = [[row[metric] for row in rows.get((load, storage), []) if metric in row] for storage in STORAGES]
        cells = [f"{statistics.median(each):.3g} {unit}" if each else "" for each in values]
        lines.append(f"| {title} | {' | '.join(cells)} |")
    machine = found["machine"]
    system = f"{machine['system']}, Python {machine['python']}, load {machine['load']:.1f}"
    lines += [
        "",
        f"Measured on {machine['cpus']} cores ({system}).",
        "Readers cost the same with every storage: they read from the same ring.",
    ]
    return "\n".join(["", *lines, "", ""])


def main() -> None:
    """Write the table into the page."""
    (figures,) = sys.argv[1:]
    text, count = PLACE.subn(lambda _: table(json.loads(Path(figures).read_text())), PAGE.read_text())
    if count != 1:
        raise SystemExit(f"{PAGE} has no place for the figures")
    PAGE.write_text(text)


if __name__ == "__main__":
    main()
