"""The README is short, and its translation is in step."""

from __future__ import annotations

import re

from tests.docs.snippets import snippets
from tests.tools.version import ROOT

README, CHINESE = ROOT / "README.md", ROOT / "README.zh.md"
HEADING = re.compile(r"^(#+) ", re.MULTILINE)
LINK = re.compile(r"\]\(([^)]+)\)")
NAME = re.compile(r"`([^`\n]+)`")


def test_the_readme_stays_short() -> None:
    for page in (README, CHINESE):
        assert len(page.read_text().splitlines()) < 120


def test_the_translation_has_the_same_headings() -> None:
    assert HEADING.findall(CHINESE.read_text()) == HEADING.findall(README.read_text())


def test_the_translation_has_the_same_code() -> None:
    english, chinese = ([(one.language, one.code, bool(one.mark)) for one in snippets(p)] for p in (README, CHINESE))
    assert chinese == english


def test_the_translation_has_the_same_links_names_and_figures() -> None:
    texts = [re.sub(r"^```.*?^```", "", page.read_text(), flags=re.M | re.S) for page in (README, CHINESE)]
    links = [{link for link in LINK.findall(text) if not link.startswith("README")} for text in texts]
    assert links[0] == links[1]
    assert set(NAME.findall(texts[0])) == set(NAME.findall(texts[1]))
    figures = [sorted(re.findall(r"\d+(?:[.,]\d+)*", re.sub(r"<!--.*?-->", "", text))) for text in texts]
    assert figures[0] == figures[1]
