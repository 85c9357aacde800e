"""Every code block of the README and of the documentation does what the page says."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.docs.running import page_in
from tests.docs.server import DocsServer
from tests.docs.snippets import Snippet, snippets
from tests.tools.version import ROOT

PAGES = [
    ROOT / "README.md",
    *(page for page in sorted((ROOT / "docs").rglob("*.md")) if not {"reference", "examples"} & set(page.parts)),
]


def of(text: str, tmp_path: Path) -> list[Snippet]:
    page = tmp_path / "page.md"
    page.write_text(text)
    return snippets(page)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_a_page(page: Path, docs_server: DocsServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    found = snippets(page)
    assert [fault for one in found for fault in one.faults] == []
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setenv("TASKCAST_URL", docs_server.url)
    with page_in(tmp_path, docs_server.url) as running:
        for one in found:
            running.run(one)


def test_blocks_are_found_with_their_marks(tmp_path: Path) -> None:
    found = of(
        "# A\n\n```sh\necho one\n```\n\n<!-- run: no, it needs a cluster -->\n```yaml\na: 1\n```\n\n"
        "- in a list\n\n  ```python\n  if 1:\n      x = 1\n  ```\n",
        tmp_path,
    )
    assert [(one.language, one.line, one.mark) for one in found] == [
        ("sh", 4, ""), ("yaml", 9, "no, it needs a cluster"), ("python", 15, ""),
    ]  # fmt: skip
    assert found[2].code == "if 1:\n    x = 1\n"


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        ("```html\n<p>\n```\n", "html cannot be run"),
        ("<!-- run: no, -->\n```sh\nfalse\n```\n", "needs a reason"),
        ("<!-- run: maybe -->\n```sh\nfalse\n```\n", "unknown mark"),
    ],
)
def test_a_block_that_cannot_be_run_has_to_say_why(text: str, fault: str, tmp_path: Path) -> None:
    assert [fault in each for one in of(text, tmp_path) for each in one.faults] == [True]


@pytest.mark.parametrize(
    "text",
    [
        "```python\nraise ValueError('seen')\n```\n",
        "```python\nimport asyncio\nawait asyncio.sleep(0)\nassert 1 == 2\n```\n",
        "```sh\ntrue\nfalse | cat; test -f nothing\ntrue\n```\n",
        "```yaml\nport: none of these\n```\n",
        "```json\n{]\n```\n",
    ],
)
def test_a_block_that_fails_fails_the_test(text: str, tmp_path: Path) -> None:
    (one,) = of(text, tmp_path)
    with page_in(tmp_path, "http://nowhere") as running, pytest.raises(Exception):  # noqa: B017
        running.run(one)


def test_what_a_block_sets_the_next_one_has(tmp_path: Path) -> None:
    text = (
        "```sh\nx=1; (echo from; echo behind) &\n```\n```sh\ntest $x = 1; read y || echo nothing\n```\n"
        "<!-- run: output -->\n```text\nbehind\nnothing\n```\n"
        "<!-- run: file a.py -->\n```python\nz = 3\n```\n"
        "```python\nimport asyncio\n```\n```python\nawait asyncio.sleep(0)\n```\n"
    )
    with page_in(tmp_path, "http://nowhere") as running:
        for one in of(text, tmp_path):
            running.run(one)
    assert (tmp_path / "a.py").read_text() == "z = 3\n"
