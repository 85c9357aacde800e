"""`${VAR}` in texts."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from taskcast_core.config.interpolation import interpolate
from taskcast_core.config.nodes import Unset

NAMES = st.from_regex(r"[A-Z_][A-Z0-9_]{0,8}", fullmatch=True)
VALUES = st.text(min_size=1)
PLAIN = st.text().filter(lambda text: "${" not in text and not text.endswith("$"))


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("redis://${HOST}:${PORT:-6379}/0", "redis://cache:6379/0"),
        ("${NONE:-}", None),
        ("${EMPTY:-}", None),
        ("x${NONE:-}", "x"),
        ("", ""),
        ("${NONE:-${HOST}}", "cache"),
        ("${NONE:-a${ALSO_NONE:-b}c}d", "abcd"),
        ("$${HOST}", "${HOST}"),
        ("$$${HOST}", "$${HOST}"),
        ("${not a name} ${} ${1X} $HOST $", "${not a name} ${} ${1X} $HOST $"),
        ("${HOST:-never closed", "${HOST:-never closed"),
        ("${NESTED}", "${HOST}"),
    ],
)
def test_examples(text: str, expected: str | None) -> None:
    assert interpolate(text, {"HOST": "cache", "EMPTY": "", "NESTED": "${HOST}"}) == expected


@pytest.mark.parametrize("text", ["${NONE}", "a${NONE}b", "${HOST}${NONE}", "${EMPTY}", "${OTHER:-${NONE}}"])
def test_a_variable_without_value_or_default_is_named(text: str) -> None:
    found = interpolate(text, {"HOST": "cache", "EMPTY": ""})
    assert isinstance(found, Unset)
    assert found.variable == ("EMPTY" if text == "${EMPTY}" else "NONE")
    assert found.text == text


@given(PLAIN)
def test_text_without_references_is_itself(text: str) -> None:
    assert interpolate(text, {}) == text


@given(PLAIN, NAMES, VALUES, PLAIN)
def test_a_reference_is_replaced_by_exactly_its_value(before: str, name: str, value: str, after: str) -> None:
    assert interpolate(f"{before}${{{name}}}{after}", {name: value}) == before + value + after


@given(NAMES, VALUES, st.text(alphabet="ab:/-$ ", min_size=1))
def test_a_default_counts_only_without_a_value(name: str, value: str, fallback: str) -> None:
    text = f"${{{name}:-{fallback}}}"
    assert interpolate(text, {name: value}) == value
    assert interpolate(text, {}) == fallback
    assert interpolate(text, {name: ""}) == fallback


@given(st.text(alphabet="${}:-AB \\"))
def test_escaping_every_reference_gives_the_text_back(text: str) -> None:
    escaped = text.replace("${", "$${")
    if "$$${" not in escaped:  # a dollar before a reference cannot be told from the escape
        assert interpolate(escaped, {"A": "1", "B": "2"}) == text


@given(st.text(alphabet="${}:-AB x", max_size=40))
def test_no_text_breaks_it(text: str) -> None:
    found = interpolate(text, {"A": "1"})
    assert found is None or isinstance(found, str | Unset)
