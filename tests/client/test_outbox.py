"""What may be merged, and that merging changes no text and no order."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from taskcast_client.models import EventInput
from taskcast_client.outbox import MAX_EVENTS, MAX_SIZE, Outbox


def delta(text: str, series: str = "a", **more: Any) -> EventInput:
    return EventInput("llm.text", {"delta": text}, series_id=series, series_mode="accumulate", **more)


def sent(*events: EventInput) -> list[dict[str, Any]]:
    outbox = Outbox()
    for event in events:
        outbox.add(event)
    taken: list[dict[str, Any]] = []
    while outbox:
        batch, _ = outbox.take()
        taken += [json.loads(each) for each in batch]
    assert outbox.size == 0
    return taken


def test_neighbouring_deltas_of_a_series_become_one() -> None:
    assert sent(delta("a"), delta("b"), delta("c")) == [
        {
            "type": "llm.text",
            "data": {"delta": "abc"},
            "level": "info",
            "seriesId": "a",
            "seriesMode": "accumulate",
        }
    ]


@pytest.mark.parametrize(
    "other",
    [
        delta("x", "b"),
        delta("x", level="warn"),
        delta("x", series_acc_field="text"),
        EventInput("llm.text", {"delta": "x", "more": 1}, series_id="a", series_mode="accumulate"),
        EventInput("llm.text", {"delta": 5}, series_id="a", series_mode="accumulate"),
        EventInput("llm.text", {"delta": "x"}, series_id="a", series_mode="keep-all"),
        EventInput("llm.text", {"delta": "x"}),
        EventInput("other", {"delta": "x"}, series_id="a", series_mode="accumulate"),
    ],
)
def test_what_is_not_the_same_stands_between(other: EventInput) -> None:
    assert len(sent(delta("a"), other, delta("b"))) == 3


def test_of_neighbouring_values_of_a_latest_series_the_last_is_sent() -> None:
    values = [EventInput("p", n, series_id="p", series_mode="latest") for n in range(5)]
    assert [each["data"] for each in sent(*values, EventInput("x"), *values)] == [4, None, 4]


def test_surrogates_cut_apart_come_together_again() -> None:
    assert sent(delta("\ud83d"), delta("\ude00"))[0]["data"]["delta"] == "\U0001f600"


def test_later_changes_of_the_data_do_not_show() -> None:
    data = {"n": 1}
    outbox = Outbox()
    outbox.add(EventInput("x", data))
    data["n"] = 2
    assert json.loads(outbox.take()[0][0])["data"] == {"n": 1}


def test_what_is_no_json_is_refused_at_once() -> None:
    outbox = Outbox()
    for wrong in (float("nan"), object(), {1, 2}):
        with pytest.raises((ValueError, TypeError)):
            outbox.add(EventInput("x", wrong))
    assert not outbox


def test_requests_are_bounded() -> None:
    outbox = Outbox()
    for n in range(MAX_EVENTS + 1):
        outbox.add(EventInput("x", n))
    assert [len(outbox.take()[0]), len(outbox.take()[0])] == [MAX_EVENTS, 1]
    for _ in range(3):
        outbox.add(EventInput("x", "y" * (MAX_SIZE // 2)))
    outbox.add(EventInput("x", "y" * (2 * MAX_SIZE)))
    assert [len(outbox.take()[0]) for _ in range(4)] == [1, 1, 1, 1]


SERIES = st.sampled_from(["a", "b"])


@given(st.lists(st.tuples(SERIES, st.text(max_size=3)) | st.none(), max_size=40))
def test_texts_order_and_counts_are_kept(script: list[tuple[str, str] | None]) -> None:
    outbox = Outbox()
    texts = {"a": "", "b": ""}
    order: list[str | None] = []
    for step in script:
        if step is None:
            outbox.add(EventInput("mark"))
        else:
            outbox.add(delta(step[1], step[0]))
            texts[step[0]] += step[1]
        name = None if step is None else step[0]
        if not order or order[-1] != name or name is None:
            order.append(name)
    batch, count = outbox.take()
    events = [json.loads(each) for each in batch]
    assert count == len(script)
    assert [each.get("seriesId") for each in events] == order
    assert texts == {
        name: "".join(each["data"]["delta"] for each in events if each.get("seriesId") == name) for name in texts
    }
