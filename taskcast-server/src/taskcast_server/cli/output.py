"""What the commands print: results on standard output, remarks and errors on standard error."""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Sequence
from datetime import datetime
from enum import StrEnum
from typing import Any

import click

PREFIX = "[taskcast]"
_UNSHOWABLE = re.compile("[\x00-\x1f\x7f-\x9f\ud800-\udfff]")
_STATUS_COLOURS = {
    "pending": "bright_black",
    "running": "blue",
    "completed": "green",
    "failed": "red",
    "timeout": "red",
    "cancelled": "yellow",
    "paused": "yellow",
    "blocked": "magenta",
}


class OutputFormat(StrEnum):
    """``--output``: lines for people, more of them, or JSON (one document; one per line where it streams)."""

    TEXT = "text"
    VERBOSE = "verbose"
    JSON = "json"


class CliError(Exception):
    """A command cannot go on; the message is all that the user sees of it."""

    def __init__(self, message: str, exit_code: int = 1) -> None:
        super().__init__(message)
        self.exit_code = exit_code


def tell(text: str = "") -> None:
    """A line of the result."""
    click.echo(text)


def tell_json(value: Any) -> None:
    """The result, or one item of a stream of results, as one line of JSON."""
    click.echo(compact_json(value))


def tell_result(value: Any, text: str, output: OutputFormat) -> None:
    """A result, as ``--output`` wants it: the value as JSON, or a line that says the same."""
    if output is OutputFormat.JSON:
        tell_json(value)
    else:
        tell(text)


def compact_json(value: Any) -> str:
    """JSON that any terminal can show: halves of UTF-16 pairs and control characters stay escaped."""
    text = json.dumps(value, ensure_ascii=False, separators=(",", ":"))
    return _UNSHOWABLE.sub(lambda found: f"\\u{ord(found[0]):04x}", text)


def printable(text: object) -> str:
    """A text of somebody else's, without what a terminal would take for a command."""
    return _UNSHOWABLE.sub("\ufffd", str(text))


def remark(text: str) -> None:
    """A line about the command itself."""
    click.echo(f"{PREFIX} {text}", err=True)


def fitted(header: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    """A table as lines: columns are as wide as their widest cell."""
    every = (header, *rows)
    widths = [max(len(row[at]) for row in every) for at in range(len(header))]
    return ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in every]


def coloured_status(status: str, width: int = 0) -> str:
    """A status in its colour; `tell` drops colours where nobody would see them."""
    return click.style(status.ljust(width), fg=_STATUS_COLOURS.get(status))


def local_time(ms: object, form: str = "%Y-%m-%d %H:%M:%S") -> str:
    """A time of the wire (Unix milliseconds) in the user's zone; ``-`` for anything else."""
    if isinstance(ms, bool) or not isinstance(ms, int | float):
        return "-"
    try:
        return datetime.fromtimestamp(ms / 1000).astimezone().strftime(form)
    except (OverflowError, OSError, ValueError):
        return "-"


def confirm_or_fail(question: str, *, assume_yes: bool) -> None:
    """Ask before something that cannot be undone.

    Raises:
        CliError: the answer is no, or there is nobody to ask and ``--yes`` was not given.
    """
    if assume_yes:
        return
    if not sys.stdin.isatty():
        raise CliError(f"{question} Standard input is not a terminal; repeat with --yes to go on.")
    if not click.confirm(question):
        raise CliError("Nothing was changed.")
