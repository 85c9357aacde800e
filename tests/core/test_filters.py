"""Which events pass: patterns against a regular expression, positions against counting."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from taskcast_core.builtin.memory_log import MemoryLog
from taskcast_core.contracts.task_log import Change
from taskcast_core.filters import View, matches_any_type, matches_type
from taskcast_core.models import EventDraft, SubscribeFilter
from tests.core.oracle import Log, is_visible, pattern_matches
from tests.core.test_series import committed, new_log

NAME = st.text("ab.*:\n", max_size=5)
LEVEL = st.sampled_from(["debug", "info", "warn", "error"])
FILTER = st.builds(
    SubscribeFilter,
    types=st.none() | st.lists(NAME | st.sampled_from(["*", "a.*", "a.b.*", "taskcast:status"]), max_size=3).map(tuple),
    levels=st.none() | st.lists(LEVEL | st.just("loud"), max_size=3).map(tuple),
    include_status=st.booleans(),
)
DRAFT = st.builds(EventDraft, type=NAME | st.sampled_from(["a", "a.b", "a.b.c", "taskcast:status"]), level=LEVEL)


@given(NAME | st.sampled_from(["*", "a.*", "a.b.*"]), NAME)
def test_patterns(pattern: str, type_: str) -> None:
    assert matches_type(pattern, type_) is pattern_matches(pattern, type_)


def test_pattern_examples_of_the_spec() -> None:
    assert [matches_type("a.*", one) for one in ("a.b", "a.b.c", "a", "ab", "b.a")] == [True, True, False, False, False]
    assert matches_type("*", "") and matches_type("taskcast:status", "taskcast:status")
    assert not matches_type("taskcast:*", "taskcast:status") and not matches_type("*.b", "a.b")
    assert matches_any_type(None, None) and not matches_any_type(("*",), None) and not matches_any_type((), "a")


@given(st.lists(DRAFT, max_size=20), FILTER)
def test_positions_are_what_counting_gives(drafts: list[EventDraft], wanted: SubscribeFilter) -> None:
    log: MemoryLog = new_log()
    oracle = Log(committed(log, [[draft] for draft in drafts]))
    view = View.of(wanted)
    visible = [event.index for event in oracle.events if is_visible(event, wanted)]
    for event in oracle.events:
        assert view.matches(event.type, event.level) is (event.index in visible)
        assert log.count(view, event.index) == oracle.position(event, wanted)
    assert [log.seek(view, place) for place in range(len(visible) + 2)] == [*visible, None, None]
    assert view.total(log.state.kinds) == len(visible)


@given(FILTER, FILTER)
def test_equal_filters_share_a_view(one: SubscribeFilter, other: SubscribeFilter) -> None:
    def meaning(wanted: SubscribeFilter) -> object:
        types, levels = wanted.types, wanted.levels
        return (None if types is None else set(types), None if levels is None else set(levels), wanted.include_status)

    assert (View.of(one) == View.of(other)) is (meaning(one) == meaning(other))
    if View.of(one) == View.of(other):
        assert hash(View.of(one)) == hash(View.of(other))


def test_a_change_of_many_types_stays_right_beyond_the_memory_of_verdicts() -> None:
    view = View(types=("t1.*",))
    assert all(view.matches(f"t1.{n}", "info") and not view.matches(f"t2.{n}", "info") for n in range(5000))
    assert len(view._verdicts) <= 4096


def test_nothing_matches_an_empty_list() -> None:
    log = new_log()
    log.commit(Change((EventDraft("a"),)), 2)
    assert log.count(View(types=()), 1) == log.count(View(levels=()), 1) == 0
