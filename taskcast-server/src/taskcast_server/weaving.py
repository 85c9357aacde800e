"""Many events as text at once: nothing is made one by one; parts are made as columns, and woven into lines. Pure."""

from __future__ import annotations

from collections.abc import Sequence

import orjson

from taskcast_core.stretch import Columns

Column = bytes | Sequence[bytes]
"""A part for each line, or one that all have."""


def weave(count: int, *columns: Column) -> list[bytes]:
    """The parts of so many lines, to be joined."""
    parts = [column if isinstance(column, bytes) else b"" for column in columns] * count
    for at, column in enumerate(columns):
        if not isinstance(column, bytes):
            parts[at :: len(columns)] = column
    return parts


def decimals(numbers: Sequence[int]) -> list[bytes]:
    """Each number as text."""
    return orjson.dumps(list(numbers))[1:-1].split(b",")


def tail_columns(columns: Columns, mark: bytes = b"") -> tuple[Column, ...]:
    """How the events end: the mark that ends the field before, a comma and what `Entry.tail` is."""
    tails = [text[1:] for text in columns.texts]
    task = b'%b,"taskId":%b,"timestamp":' % (mark, columns.origin.task_json)
    return task, decimals(columns.timestamps), b",", tails
