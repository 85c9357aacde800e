"""The bench itself: its servers and generators work together, and its table says what was measured."""

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from tests.bench import cases, load, report
from tests.bench.cases import EVENT, EVENTS, FIGURES, LOADS
from tests.bench.targets import Target, running

ROOT = Path(__file__).resolve().parents[2]

pytestmark = pytest.mark.skipif(
    not any(map(shutil.which, ("cc", "gcc", "clang"))), reason="the load generators need a C compiler"
)


@pytest.fixture(scope="module")
def servers() -> Iterator[dict[str, Target]]:
    with ExitStack() as stack:
        yield {name: stack.enter_context(running(name)) for name in ("raw", "asgi", "memory")}


@pytest.mark.parametrize("name", ["raw", "memory"])
def test_every_reader_gets_every_event(servers: dict[str, Target], name: str) -> None:
    target = servers[name]
    row = load.readers(target.port, target.pid, subs=6, tasks=3, events=12, closed=True)
    assert row["delivered"] == row["expected"] == 24
    assert row["cpu_us_per_delivery"] > 0
    assert 0 < row["p50_us"] <= row["p99_us"]


def test_a_replay_begins_with_the_first_event(servers: dict[str, Target]) -> None:
    target = servers["memory"]
    row = load.readers(target.port, target.pid, subs=1, events=40, batch=20, replay=True)
    assert row["delivered"] == 40
    assert row["first_frame_ms"] > 0


@pytest.mark.parametrize(("name", "body"), [("asgi", EVENT), ("asgi", EVENTS), ("memory", EVENT), ("memory", EVENTS)])
def test_requests_are_answered_and_counted(servers: dict[str, Target], name: str, body: bytes) -> None:
    target = servers[name]
    path = "/echo" if name == "asgi" and body == EVENTS else "/"
    if name == "memory":
        path = f"/tasks/{target.new_task()}/events"
    row = load.requests(target.port, target.pid, path, body, conns=2, seconds=10, warm_up=0, most=8)
    assert row["requests"] >= 8
    assert row["bad_replies"] == row["errors"] == 0


def test_refusals_are_an_error(servers: dict[str, Target]) -> None:
    target = servers["memory"]
    with pytest.raises(load.LoadError, match="bad_replies"):
        load.requests(target.port, target.pid, "/tasks/none/events", EVENT, conns=1, seconds=10, warm_up=0, most=2)


def test_the_table_compares_with_the_yardstick() -> None:
    runs = {
        ("singles", "asgi"): [{"requests_per_s": 1000.0, "cpu_us_per_request": 30.0, "stolen": 0.0}] * 3,
        ("singles", "memory"): [
            {"requests_per_s": rate, "cpu_us_per_request": 50.0, "stolen": 0.0} for rate in (500.0, 700.0, 650.0)
        ],
        ("singles", "sqlite"): [{"requests_per_s": 390.0, "cpu_us_per_request": 70.0, "stolen": 0.0}],
    }
    lines = report.lines_of(runs)
    rates = {line.target: line for line in lines if line.unit == "/s"}
    assert (rates["memory"].value, rates["memory"].ratio, rates["memory"].is_met) == (650.0, 0.65, True)
    assert (rates["sqlite"].ratio, rates["sqlite"].is_met) == (0.39, False)
    assert (rates["asgi"].ratio, rates["asgi"].is_met) == (None, None)
    line = "| Single publishes, 64 connections | sqlite | 390 /s | 0%, 1 of 1 | 0.39 × | ≥ 0.4 × | NO |"
    assert line in report.table(lines)
    assert report.as_json(lines, runs, {"cpus": 2})["figures"][0]["median"] == 1000.0


def test_what_is_compared_was_measured_in_the_same_turn() -> None:
    runs = {
        ("singles", name): [{"requests_per_s": rate, "cpu_us_per_request": 30.0, "stolen": 0.0} for rate in rates]
        for name, rates in (("asgi", (1000.0, 100.0, 500.0)), ("memory", (600.0, 70.0, 400.0)))
    }
    line = next(line for line in report.lines_of(runs) if line.target == "memory" and line.unit == "/s")
    assert (line.value, line.ratio) == (400.0, 0.7)


def test_what_is_said_of_an_idle_machine_was_seen_on_one() -> None:
    def rows(*found: tuple[float, float]) -> list[load.Row]:
        return [{"p50_us": p50, "p99_us": 2 * p50, "stolen": stolen} for p50, stolen in found]

    raw = rows((500.0, 0.0), (600.0, 0.2), (400.0, 0.0), (450.0, 0.01))
    runs = {("two nodes", "raw"): raw, ("two nodes", "redis"): rows((1500, 0.0), (9000, 0.0), (8000, 0.3), (1900, 0.0))}
    line = next(line for line in report.lines_of(runs) if line.target == "redis")
    assert (line.value, line.ratio, line.is_met, line.idle) == (1700.0, (3.0 + 1900 / 450) / 2, True, (2, 4))
    assert ", 2 of 4 |" in report.table([line])
    busy = {key: [{**row, "stolen": 0.5} for row in some] for key, some in runs.items()}
    line = next(line for line in report.lines_of(busy) if line.target == "redis")
    assert (line.value, line.is_met, line.idle) == (4950.0, None, (0, 4))
    assert "| not idle |" in report.table([line])
    cpu = {("bursts", name): [{"cpu_us_per_delivery": 0.3, "stolen": 0.5}] for name in ("raw", "memory")}
    assert all(line.idle is None and line.is_met is not False for line in report.lines_of(cpu))
    turns = [{"deliveries_per_s": n * 1e5, "first_frame_ms": n, "stolen": n / 99} for n in (1, 6)]
    lines = report.lines_of({("replay", "memory"): turns})
    assert [line.value for line in lines] == [1e5, 1.0], "where nothing stands beside it, its own turns"


def test_what_others_take_is_seen(servers: dict[str, Target], monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    target = servers["raw"]
    row = load.readers(target.port, target.pid, subs=1, events=1)
    assert 0 <= row["stolen"] <= 1
    monkeypatch.setattr(load, "STAT", tmp_path / "none")
    assert load.stolen_s() == 0.0
    load.STAT.write_text("cpu  1 2 3 4 5 6 7 250 9 10\n")
    assert load.stolen_s() == 250 / os.sysconf("SC_CLK_TCK")


def test_a_page_gets_the_new_table() -> None:
    page = "before\n<!-- figures: begin -->\nold\n<!-- figures: end -->\nafter"
    assert report.put_into(page, "new") == page.replace("old", "new")
    with pytest.raises(ValueError, match="the page has no"):
        report.put_into("before", "new")


def test_a_drawing_is_made() -> None:
    # In a process of its own: pygal leaves a finder of an old kind among the interpreter's.
    program = (
        "from tests.bench import report; from tests.bench.report import Line; import sys; "
        "line = Line('Single publishes: CPU', 'memory', 50.0, 'µs', 0.0, None, '', None); "
        "sys.stdout.write(report.drawing([line]))"
    )
    drawn = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True, cwd=ROOT).stdout
    assert drawn.startswith("<svg")
    assert "Single publishes" in drawn


def test_every_figure_has_a_load() -> None:
    measured = {load.name: load.targets for load in LOADS}
    for figure in FIGURES:
        assert figure.load in measured
        if figure.against is not None:
            assert figure.against in measured[figure.other or figure.load]
    assert cases.Size(1.0, 0.1).of(4000, 50) == 400
