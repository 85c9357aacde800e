"""Entries in columns are the entries that they stand for."""

from __future__ import annotations

from taskcast_core.deliveries import Delivery, Run
from taskcast_core.entries import Entry, Origin
from taskcast_core.models import EventDraft
from taskcast_core.stretch import Columns, Stretch, columns_of

ORIGIN = Origin("t", 1, 7)


def entry(index: int, given_id: str | None = None, origin: Origin = ORIGIN) -> Entry:
    return Entry(
        origin, index, 1_700_000_000_000 + index // 3, EventDraft("a" if index % 2 else "b", "info", index), given_id
    )


def stretch(first: int, count: int) -> Stretch:
    entries = [entry(index) for index in range(first, first + count)]
    columns = Columns(ORIGIN, range(first, first + count), [e.timestamp for e in entries], [e.text for e in entries])
    return Stretch(columns, [index % 2 for index in columns.indexes], {0: ("b", "info"), 1: ("a", "info")})


def test_a_stretch_is_a_sequence_of_its_entries() -> None:
    one = stretch(5, 10)
    assert len(one) == 10
    assert [each.event() for each in (one[0], one[3], one[-1])] == [entry(index).event() for index in (5, 8, 14)]
    assert [each.event() for each in one] == [entry(index).event() for index in range(5, 15)]
    assert [each.index for each in one[2:4]] == [7, 8]
    assert one[3] is list(one)[3], "once made, an entry stays"


def test_columns_say_what_the_entries_do() -> None:
    one = stretch(1020, 10)
    made = columns_of(list(one))
    assert made is not None
    assert columns_of(one) is one.columns
    assert [list(column) for column in made[1:]] == [list(column) for column in one.columns[1:]]
    assert [(stem + ending).decode() for stem, ending in zip(*made.ids(), strict=True)] == [each.id for each in one]


def test_ids_that_were_given_and_other_epochs_have_no_columns() -> None:
    assert columns_of([entry(0), entry(1, "imported")]) is None
    assert columns_of([entry(0), entry(1, origin=Origin("t", 2, 8))]) is None
    assert columns_of([]) is None


def test_a_run_is_a_sequence_of_deliveries() -> None:
    entries = [entry(index) for index in (3, 5, 9)]
    run = Run(entries, 20)
    assert list(run) == [Delivery(each, 20 + at) for at, each in enumerate(entries)]
    assert (run[1], run[-1], run[1:]) == (list(run)[1], list(run)[-1], list(run)[1:])
    assert not Run([], 4)
