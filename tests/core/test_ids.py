"""Ids sort as the log does and can be read back."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from taskcast_core.ids import (
    MAX_INDEX,
    EventIdMaker,
    EventPosition,
    endings,
    event_id,
    new_salt,
    new_ulid,
    parse_event_id,
)

MS = st.integers(0, (1 << 48) - 1)
FORTY = st.integers(0, MAX_INDEX)


@given(MS, FORTY, FORTY)
def test_round_trip(ms: int, salt: int, index: int) -> None:
    text = event_id(ms, salt, index)
    assert len(text) == 26
    assert parse_event_id(text) == EventPosition(ms, salt, index)


@given(FORTY, st.lists(st.tuples(MS, FORTY), min_size=2, max_size=10))
def test_ids_of_one_epoch_sort_as_time_and_index(salt: int, places: list[tuple[int, int]]) -> None:
    make = EventIdMaker(salt)
    ids = [make.one(ms, index) for ms, index in sorted(places)]
    assert ids == sorted(ids)
    assert ids == [event_id(ms, salt, index) for ms, index in sorted(places)]


@given(FORTY, st.lists(st.tuples(st.integers(0, 5000), st.integers(0, 5000)), max_size=40), MS, FORTY)
def test_many_ids_are_made_as_one_is(salt: int, steps: list[tuple[int, int]], ms: int, index: int) -> None:
    times, indexes = [ms % (1 << 47)], [index % (1 << 39)]
    for time, step in steps:
        times.append(times[-1] + time)
        indexes.append(indexes[-1] + 1 + step)
    stems = EventIdMaker(salt).stems(times, indexes)
    made = [(stem + ending).decode() for stem, ending in zip(stems, endings(indexes), strict=True)]
    assert made == [event_id(*one) for one in zip(times, [salt] * len(times), indexes, strict=True)]


@given(FORTY, st.integers(1, 1200))
def test_the_endings_of_consecutive_ids(first: int, count: int) -> None:
    indexes = range(min(first, MAX_INDEX - count), min(first, MAX_INDEX - count) + count)
    assert [each.decode() for each in endings(indexes)] == [event_id(0, 0, index)[-2:] for index in indexes]


@given(st.text(max_size=30))
def test_rubbish_is_no_id(text: str) -> None:
    found = parse_event_id(text)
    assert found is None or event_id(found.timestamp, found.salt, found.index) == text


@given(MS)
def test_ulids_sort_by_time(ms: int) -> None:
    text = new_ulid(ms)
    found = parse_event_id(text)
    assert found is not None and found.timestamp == ms
    if ms:
        assert new_ulid(ms - 1) < text


def test_salts_and_ulids_differ() -> None:
    assert len({new_salt() for _ in range(1000)}) > 990
    assert len({new_ulid(1) for _ in range(1000)}) == 1000
