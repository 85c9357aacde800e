"""Rows of runs → medians, ratios, a table, and a drawing."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from typing import Any

from attrs import frozen

from tests.bench.cases import FIGURES, Figure, met
from tests.bench.load import Row

Runs = Mapping[tuple[str, str], Sequence[Row]]
"""What every run of (load, target) printed."""

_BEGIN, _END = "<!-- figures: begin -->", "<!-- figures: end -->"
_SCALE = (0.1, 1, 10, 100, 1000)
IDLE = 0.02
"""A machine of whose processors' time others took no more than this part is idle, but for what is measured."""

_WORDS = {True: "yes", False: "NO", None: ""}


@frozen
class Line:
    """One figure of one target.

    Attributes:
        value: the median. spread: (largest − smallest) / median. ratio: the median of what each run was to the
        yardstick's of the same turn, since a machine is not as fast in every turn; None where there is no yardstick.
        is_met: None where there is no target. idle: of what was timed, in how many of how many turns the machine was
        idle; with none, the figure is of all turns, and no target is met or missed.
    """

    title: str
    target: str
    value: float
    unit: str
    spread: float
    ratio: float | None
    wanted: str
    is_met: bool | None
    idle: tuple[int, int] | None = None


def lines_of(runs: Runs) -> list[Line]:
    """The table's lines, for what was measured."""
    return [line for figure in FIGURES for line in _lines(figure, runs)]


def _lines(figure: Figure, runs: Runs) -> list[Line]:
    beside = () if figure.against is None else runs.get((figure.other or figure.load, figure.against), ())
    made: list[Line] = []
    for (load, target), rows in runs.items():
        if load != figure.load:
            continue
        theirs, idle = beside, None
        if figure.is_timed:
            rows, theirs, idle = _idle(rows, beside)
        values, yardstick = ([row[figure.metric] for row in some] for some in (rows, theirs))
        value = statistics.median(values)
        is_yardstick = target == figure.against and figure.other is None
        spread = (max(values) - min(values)) / value if value else 0.0
        ratios = [mine / its for mine, its in zip(values, yardstick, strict=False) if its]
        ratio = statistics.median(ratios) if ratios and not is_yardstick else None
        verdict = None if idle is not None and not idle[0] else met(figure, target, value, ratio)
        wanted = _wanted(figure, target)
        made.append(Line(figure.title, target, value, figure.unit, spread, ratio, wanted, verdict, idle))
    return made


def _idle(rows: Sequence[Row], beside: Sequence[Row]) -> tuple[Sequence[Row], Sequence[Row], tuple[int, int]]:
    """The turns of a target in which the machine was idle, also for whom it is compared with; and how many those are.

    Without any, all turns.
    """
    turns = [(row, row) for row in rows] if not beside else list(zip(rows, beside, strict=False))
    idle = [turn for turn in turns if max(row["stolen"] for row in turn) <= IDLE]
    mine, theirs = zip(*(idle or turns), strict=True)
    return mine, theirs if beside else (), (len(idle), len(turns))


def _wanted(figure: Figure, target: str) -> str:
    sign = "≤" if figure.better == "lower" else "≥"
    if figure.ratio and target in figure.ratio:
        return f"{sign} {figure.ratio[target]:g} ×"
    if figure.bound and target in figure.bound:
        return f"{sign} {figure.bound[target]:,g} {figure.unit}"
    return ""


def table(lines: Sequence[Line]) -> str:
    """The lines as a Markdown table."""
    rows = [
        "| figure | server | median | spread, idle turns | to yardstick | target | met |",
        "|---|---|---:|---:|---:|---|---|",
    ]
    for line in lines:
        ratio = "" if line.ratio is None else f"{line.ratio:.2f} ×"
        spread = f"{line.spread:.0%}"
        if line.idle is not None:
            spread += f", {line.idle[0]} of {line.idle[1]}"
        word = "not idle" if line.wanted and line.is_met is None else _WORDS[line.is_met]
        rows.append(
            f"| {line.title} | {line.target} | {_number(line.value)} {line.unit} | {spread} | {ratio} "
            f"| {line.wanted} | {word} |"
        )
    return "\n".join(rows)


def _number(value: float) -> str:
    return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.3g}"


def put_into(page: str, text: str) -> str:
    """A page with this text between its two marks.

    Raises:
        ValueError: it has no such marks.
    """
    before, begin, rest = page.partition(_BEGIN)
    _, end, after = rest.partition(_END)
    if not (begin and end):
        raise ValueError(f"the page has no {_BEGIN} … {_END}")
    return f"{before}{begin}\n{text}\n{end}{after}"


def drawing(lines: Sequence[Line]) -> str:
    """The CPU that each kind of work costs, beside its yardstick, as SVG."""
    import pygal  # type: ignore[import-untyped]
    from pygal.style import Style  # type: ignore[import-untyped]

    shown = [line for line in lines if line.unit == "µs" and "CPU" in line.title]
    titles = list(dict.fromkeys(_work(line.title, shown) for line in shown))
    chart = pygal.HorizontalBar(
        title="CPU of the server, µs (logarithmic)", logarithmic=True, legend_at_bottom=True, print_values=True,
        value_formatter=_number, range=(_SCALE[0], _SCALE[-1]), zero=_SCALE[0],
        width=1000, height=120 + 90 * len(titles), truncate_label=-1, js=(),
        disable_xml_declaration=True, style=Style(font_family="sans-serif", background="white"),
    )  # fmt: skip
    chart.x_labels = titles
    chart.y_labels = _SCALE
    for target in dict.fromkeys(line.target for line in shown):
        values = {_work(line.title, shown): line.value for line in shown if line.target == target}
        chart.add(target, [values.get(title) for title in titles])
    drawn: str = chart.render(is_unicode=True)
    return drawn


def _work(title: str, lines: Sequence[Line]) -> str:
    """What the work is called on the drawing; "the same" means the figure before it."""
    names = {"The same: CPU per request": "Single publish", "The same: CPU per event": "Event of a batch of 100"}
    return names.get(title, title.removesuffix(": CPU per delivery").removesuffix(": CPU"))


def as_json(lines: Sequence[Line], runs: Runs, facts: Mapping[str, Any]) -> dict[str, Any]:
    """All that was found, for programs."""
    return {
        "machine": dict(facts),
        "figures": [
            {
                "figure": line.title, "server": line.target, "median": line.value, "unit": line.unit,
                "spread": round(line.spread, 3), "ratio": line.ratio, "target": line.wanted, "met": line.is_met,
                "idle_turns": line.idle,
            }
            for line in lines
        ],
        "runs": [{"load": load, "server": target, "rows": list(rows)} for (load, target), rows in runs.items()],
    }  # fmt: skip
