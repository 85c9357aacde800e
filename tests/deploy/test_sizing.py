"""The table of the page about sizes is written from what the benchmarks print."""

from __future__ import annotations

import json
import runpy
import shutil
import subprocess
import sys
from pathlib import Path

from tests.bench.cases import FIGURES
from tests.bench.report import as_json, lines_of
from tests.tools.version import ROOT

SCRIPT = ROOT / "docs" / "deploy" / "sizing.py"
PAGE = ROOT / "docs" / "how-to" / "deploy-sizing.md"


def test_every_line_is_something_that_is_measured() -> None:
    lines = runpy.run_path(str(SCRIPT))["LINES"]
    assert {(load, metric) for _, load, metric, _ in lines} <= {(each.load, each.metric) for each in FIGURES}


def test_the_page_is_written_anew(tmp_path: Path) -> None:
    """In a copy, from two rounds of which it takes the median."""
    for source in (SCRIPT, PAGE):
        target = tmp_path / source.relative_to(ROOT)
        target.parent.mkdir(parents=True)
        shutil.copy(source, target)
    rows = [{"requests_per_s": 9.0, "cpu_us_per_request": each, "stolen": 0.0} for each in (40.0, 42.0)]
    runs = {("singles", "sqlite"): rows}
    machine = {"cpus": 2, "load": 0.25, "python": "3.13.1", "system": "Linux"}
    found = as_json(lines_of(runs), runs, machine)
    (tmp_path / "figures.json").write_text(json.dumps(found))
    script = tmp_path / SCRIPT.relative_to(ROOT)
    subprocess.run([sys.executable, script, tmp_path / "figures.json"], check=True, timeout=60)
    before, after = PAGE.read_text(), (tmp_path / PAGE.relative_to(ROOT)).read_text()
    assert "| Publish of one event |  | 41 µs CPU |  |" in after
    assert "2 cores (Linux, Python 3.13.1, load 0.2)" in after
    assert before.partition("<!-- figures: end -->")[2] == after.partition("<!-- figures: end -->")[2]
