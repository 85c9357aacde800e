"""The bench of what metrics cost: both servers do the work, and one of them counts."""

import json
import sys
from contextlib import closing

import pytest

from tests.bench import metrics_cost
from tests.bench.metrics_cost import WARM_UP, Line, child, interval, turns

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="it is measured on Linux")


def test_both_are_given_the_same_work_and_one_counts_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(metrics_cost, "PENDING", 16)
    monkeypatch.setattr(metrics_cost, "FANOUT_EVENTS", 4)
    with child(("counting", "plain"), 1, in_instructions=False) as process:
        for case in ("ingest", "fanout"):
            ratios = turns(case, ("counting", "plain"), process, 2, 3)
            assert len(ratios) == 2
            assert all(ratio > -1 for ratio in ratios)
        with closing(Line(process.ports["counting"])) as line:
            figures = json.loads(line.ask("GET", "/metrics.json"))
        with closing(Line(process.ports["plain"])) as line:
            line.send("GET", "/metrics.json")
            assert line.until(rb"\r\n\r\n").startswith(b"HTTP/1.1 404 ")
    slices = 2 * (2 + WARM_UP)
    cancelled = slices - 1  # what a slice was about is deleted before the next one
    counted = figures["taskcast_events"]["samples"][0]["value"]
    assert counted == slices * (16 + 4) + cancelled


def test_an_interval_holds_the_middle_and_grows_with_what_processes_disagree_on() -> None:
    agreed = interval([[0.01, 0.02, 0.03]] * 4)
    apart = interval([[0.01], [0.02], [0.05]])
    assert agreed[0] <= 0.02 <= agreed[1]
    assert (apart[0], apart[1]) == (0.01, 0.05)
    assert interval([[0.02] * 5]) == (0.02, 0.02)
