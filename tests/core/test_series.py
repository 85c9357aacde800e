"""fold(deltas) = snapshot = stored text, however the text was cut and whatever fields the payloads have."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

from hypothesis import example, given
from hypothesis import strategies as st

from taskcast_core import machine, wire
from taskcast_core.builtin.memory_log import MemoryLog
from taskcast_core.contracts.task_log import Change, Record
from taskcast_core.models import Event, EventDraft, Task
from tests.core.oracle import Log

UTF16 = st.text(st.characters(codec=None, exclude_categories=()), max_size=8)
FIELD = st.sampled_from([None, None, "delta", "text", "other"])
PAYLOAD = st.one_of(
    st.dictionaries(st.sampled_from(["delta", "text", "other", "n"]), UTF16 | st.integers(-3, 3), max_size=3),
    st.fixed_dictionaries({"delta": UTF16}),
    st.fixed_dictionaries({"text": UTF16}),
    st.none() | st.integers() | st.lists(st.integers(), max_size=2) | UTF16,
)
DRAFT = st.builds(
    EventDraft,
    type=st.sampled_from(["a", "b"]),
    data=PAYLOAD,
    series_id=st.sampled_from(["s", "s", "t", None]),
    series_mode=st.sampled_from(["accumulate", "accumulate", "accumulate", "latest", "keep-all", None]),
    series_acc_field=FIELD,
)


def new_log() -> MemoryLog:
    task = Task(id="t", status="running", created_at=1, updated_at=1)
    return MemoryLog(machine.new_state(Record(task), salt=7, now=1))


def committed(log: MemoryLog, batches: list[list[EventDraft]]) -> list[Event]:
    return [entry.event() for batch in batches for entry in log.commit(Change(tuple(batch)), 2).entries]


@given(st.lists(st.lists(DRAFT, max_size=4), max_size=8))
def test_any_history_folds_as_the_spec_says(batches: list[list[EventDraft]]) -> None:
    log = new_log()
    oracle = Log(committed(log, batches))
    gone = oracle.replaced()
    for event in oracle.events:
        if event.series_mode == "accumulate" and event.series_id is not None:
            assert log.fold(event.series_id, event.index) == oracle.total(event)
    assert {item.index for item in log.read(-1, None, 999, reverse=False).items if hasattr(item, "index")} == {
        event.index for event in oracle.events
    } - gone


def cut(text: str, places: list[int]) -> list[str]:
    """A text in pieces, cut between UTF-16 units as JavaScript does."""
    units = text.encode("utf-16-le", "surrogatepass")
    edges = sorted({0, len(units) // 2, *(place % (len(units) // 2 + 1) for place in places)})
    pairs = pairwise(edges)
    return [units[2 * start : 2 * end].decode("utf-16-le", "surrogatepass") for start, end in pairs]


def joined(text: str) -> str:
    """A text with its surrogate pairs made whole."""
    return text.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "surrogatepass")


@given(st.text(max_size=40), st.lists(st.integers(0, 200), max_size=20))
@example("\N{GRINNING FACE}", [1])
@example("a\x00\N{GRINNING FACE}\N{GRINNING FACE}\u0301", [1, 2, 3, 4, 5, 6])
def test_a_text_cut_between_any_two_units_is_whole_again(text: str, places: list[int]) -> None:
    pieces = cut(text, places)
    log = new_log()
    events = committed(log, [[EventDraft("x", "info", {"delta": one}, "s", "accumulate")] for one in pieces])
    sent = [wire.loads(wire.encode(event))["data"]["delta"] for event in events]
    assert sent == pieces
    assert joined("".join(sent)) == text
    for event in events:
        total = wire.loads(wire.dumps(log.fold("s", event.index)))["delta"]
        assert joined(total) == joined("".join(pieces[: event.index + 1]))


def test_text_is_inferred_from_the_first_event() -> None:
    def story(*payloads: dict[str, Any], field: str | None = None) -> tuple[Any, list[str | None]]:
        log = new_log()
        drafts = [EventDraft("x", "info", data, "s", "accumulate", field) for data in payloads]
        events = committed(log, [drafts])
        return log.fold("s", len(drafts) - 1), [event.series_acc_field for event in events]

    assert story({"text": "a"}, {"text": "b"}) == ({"text": "ab"}, ["text", "text"])
    assert story({"delta": "a"}, {"delta": "b", "text": "c"}) == ({"delta": "ab", "text": "c"}, [None, None])
    assert story({"delta": "a", "text": "x"}, {"delta": "b"}) == ({"delta": "ab"}, [None, None])
    assert story({"text": "a"}, {"text": "b"}, field="delta") == ({"text": "b"}, ["delta", "delta"])
    assert story({"n": 1}, {"text": "b"}) == ({"text": "b"}, [None, None])


def test_a_switch_of_fields_and_a_restart() -> None:
    log = new_log()
    steps: list[tuple[Any, str | None, Any]] = [
        ({"delta": "a", "other": "A"}, None, {"delta": "a", "other": "A"}),
        ({"delta": "b", "other": "B"}, None, {"delta": "ab", "other": "B"}),
        ({"other": "C"}, "other", {"other": "BC"}),
        ({"delta": "d"}, None, {"delta": "d"}),
        ({"n": 1}, None, {"n": 1}),
        ({"delta": "e"}, None, {"delta": "e"}),
        (None, None, None),
        ({"delta": 5}, None, {"delta": 5}),
        ({"delta": "f"}, None, {"delta": "f"}),
        ({"delta": "g"}, None, {"delta": "fg"}),
    ]
    for index, (data, field, total) in enumerate(steps):
        committed(log, [[EventDraft("x", "info", data, "s", "accumulate", field)]])
        assert log.fold("s", index) == total
    assert [log.fold("s", index) for index in range(len(steps))] == [total for _, _, total in steps]
