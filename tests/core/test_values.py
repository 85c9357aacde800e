"""The decorators of values: attrs' own classes, with a text of themselves that is written once for all."""

from __future__ import annotations

from typing import Any

import attrs
import pytest

from taskcast_core.values import define, frozen, value


def _length(text: str) -> str:
    return f"<{len(text)} characters>"


def _fields() -> dict[str, Any]:
    return {
        "name": attrs.field(),
        "_private": attrs.field(default=None),
        "token": attrs.field(default="s3cret", repr=False),
        "text": attrs.field(default="abc", repr=_length),
        "parts": attrs.field(factory=list, eq=False),
    }


@pytest.mark.parametrize(("ours", "theirs"), [(define, attrs.define), (frozen, attrs.frozen)], ids=["define", "frozen"])
def test_a_value_is_what_attrs_makes_and_says_so_in_the_same_words(ours: Any, theirs: Any) -> None:
    mine, other = (made(type("Some", (), _fields())) for made in (ours, theirs))

    assert [repr(each) for each in (mine("x"), mine(mine(1), private={"a"}))] == [
        repr(each) for each in (other("x"), other(other(1), private={"a"}))
    ]
    assert "s3cret" not in repr(mine("x"))
    assert "<3 characters>" in repr(mine("x"))
    assert mine("x", parts=[1]) == mine("x")
    assert mine("x") != mine("y")
    assert (hash(mine("x")) == hash(mine("x"))) if ours is frozen else mine.__hash__ is None


def test_options_are_passed_on_and_a_text_of_its_own_is_kept() -> None:
    @define(eq=False)
    class Named:
        name: str

        def __repr__(self) -> str:
            return f"the one called {self.name}"

    assert repr(Named("x")) == "the one called x"
    assert Named("x") != Named("x")


def test_what_leads_back_to_itself_has_an_end() -> None:
    @define
    class Node:
        next: Any = None

    node = Node()
    node.next = node
    assert repr(node) == "Node(next=...)"


def test_a_value_of_every_event_can_be_a_key() -> None:
    @value
    class Place:
        index: int

    assert len({Place(1), Place(1), Place(2)}) == 2
    assert repr(Place(1)) == "Place(index=1)"
