"""Links between the project's own pages lead somewhere, headings included."""

from __future__ import annotations

import re
from functools import cache
from pathlib import Path
from urllib.parse import unquote

import pytest

from tests.tools.version import ROOT

LINK = re.compile(r"(?<!!)\[(?:[^\[\]]|\[[^\]]*\])*\]\(([^)\s]+)\)")
FENCE = re.compile(r"^( *)```.*?^\1```", re.MULTILINE | re.DOTALL)
HEADING = re.compile(r"^#{1,6} +(.+?) *#*$", re.MULTILINE)
PAGES = sorted(
    {
        *ROOT.glob("*.md"),
        *ROOT.glob("taskcast-*/*.md"),
        *(ROOT / "docs").rglob("*.md"),
        *ROOT.glob("tests/*/*.md"),
    }
)


def prose(page: Path) -> str:
    """A page without its code."""
    return re.sub(
        r"`[^`\n]*`", lambda code: code[0].replace("[", "(").replace("]", ")"), FENCE.sub("", page.read_text())
    )


@cache
def anchors(page: Path) -> set[str]:
    """What links may name behind ``#``: headings as Markdown's `toc` and GitHub turn them into anchors."""
    found = set()
    for heading in HEADING.findall(FENCE.sub("", page.read_text())):
        plain = re.sub(r"[^\w\s-]", "", heading.lower(), flags=re.UNICODE).strip()
        found |= {re.sub(r"\s", "-", plain), re.sub(r"[\s-]+", "-", plain)}
    return found


def broken(page: Path) -> list[str]:
    """The links of a page that lead nowhere."""
    lost = []
    for target in LINK.findall(prose(page)):
        if "://" in target or target.startswith("mailto:"):
            continue
        path, _, anchor = unquote(target).partition("#")
        goal = (page.parent / path) if path else page
        if not goal.exists() or (anchor and goal.suffix == ".md" and anchor not in anchors(goal)):
            lost.append(target)
    return lost


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_links_lead_somewhere(page: Path) -> None:
    assert broken(page) == []


def test_links_of_the_site_stay_in_the_site() -> None:
    docs = ROOT / "docs"
    outside = {
        str(page.relative_to(ROOT)): target
        for page in docs.rglob("*.md")
        for target in LINK.findall(prose(page))
        if "://" not in target and docs not in (page.parent / target.partition("#")[0]).resolve().parents
    }
    assert outside == {}


def test_a_broken_link_is_seen(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text(
        "# Who may?\n[a](#who-may) [b](#nobody) [c](gone.md) [d](page.md#who-may) `[e](x)`\n```\n[f](y)\n```\n"
    )
    assert broken(page) == ["#nobody", "gone.md"]
