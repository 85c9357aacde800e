"""The reference says what the code says."""

from __future__ import annotations

from tests.tools.reference import REFERENCE, pages
from tests.tools.version import ROOT


def test_the_reference_is_in_step_with_the_code() -> None:
    written = {path.name: path.read_text() for path in REFERENCE.glob("*.md")}
    stale = [name for name, text in pages().items() if written.get(name) != text]
    assert stale == [], "run `make docs`"
    assert written.keys() == pages().keys(), "a page that nobody writes"


def test_every_page_is_in_the_navigation() -> None:
    navigation = (ROOT / "mkdocs.yml").read_text()
    assert [name for name in pages() if f"reference/{name}" not in navigation] == []
