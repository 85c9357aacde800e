"""The code blocks of a Markdown page, and what is to be done with each.

A block is run by its language: `python` in one namespace per page, `sh` in one shell per page, `yaml` is read as a
configuration, `json` and `toml` are parsed; `text` and `mermaid` are for the eye. A comment right before a block says
otherwise::

    <!-- run: file NAME -->        it is written to this file, in the page's directory
    <!-- run: output -->           it stands in what the block before has printed
    <!-- run: part of FILE -->     it stands like this in a file below ``docs/``, which other tests run
    <!-- run: no, REASON -->       it is not run
"""

from __future__ import annotations

import re
from pathlib import Path
from textwrap import dedent

from attrs import frozen

FENCE = re.compile(
    r"^(?:[ ]*<!--\ run:\ (?P<mark>.*?)\ -->\n+)?(?P<indent>[ ]*)```(?P<language>[a-z]*)[^\n`]*\n"
    r"(?P<code>.*?)^(?P=indent)```[ ]*$",
    re.MULTILINE | re.DOTALL | re.VERBOSE,
)
FOR_THE_EYE = {"text", "mermaid"}
LANGUAGES = {"python", "sh", "yaml", "json", "toml", *FOR_THE_EYE}


@frozen
class Snippet:
    """One code block. ``line``: where its code begins, from 1. ``mark``: what its comment says, if it has one."""

    page: Path
    line: int
    language: str
    code: str
    mark: str

    @property
    def place(self) -> str:
        return f"{self.page.name}:{self.line}"

    @property
    def file(self) -> str | None:
        """The file that it is to be written to."""
        return self.mark.removeprefix("file ").strip() if self.mark.startswith("file ") else None

    @property
    def part_of(self) -> str | None:
        """The file that it is a part of."""
        return self.mark.removeprefix("part of ").strip() if self.mark.startswith("part of ") else None

    @property
    def is_output(self) -> bool:
        return self.mark == "output"

    @property
    def is_left_out(self) -> bool:
        return self.mark.startswith("no,")

    @property
    def faults(self) -> list[str]:
        """What is wrong with how it is written."""
        found = []
        if self.language not in LANGUAGES and not (self.file or self.part_of or self.is_left_out):
            found.append(f"{self.place}: {self.language or 'a block without a language'} cannot be run: mark it")
        if self.mark and not (self.file or self.part_of or self.is_output or self.is_left_out):
            found.append(f"{self.place}: unknown mark {self.mark!r}")
        if self.is_left_out and len(self.mark.split()) < 4:
            found.append(f"{self.place}: a block that is not run needs a reason")
        return found


def snippets(page: Path) -> list[Snippet]:
    """The code blocks of a page."""
    text = page.read_text()
    return [
        Snippet(
            page, text.count("\n", 0, found.start("code")) + 1, found["language"], dedent(found["code"]),
            found["mark"] or "",
        )
        for found in FENCE.finditer(text)
    ]  # fmt: skip
