"""Many events as text at once: nothing is made one by one; parts are made as columns, and woven into lines. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from operator import itemgetter

import orjson

from taskcast_core.stretch import Columns

Column = bytes | Sequence[bytes]
"""A part for each line, or one that all have."""

_FIELDS = itemgetter(slice(1, None))  # of an entry's text: what is behind the first brace
_FEW = 8  # so many events to one point in time, and what is made once for each time pays


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
    task = b'%b,"taskId":%b,"timestamp":' % (mark, columns.origin.task_json)
    tails = list(map(_FIELDS, columns.texts))
    times = set(columns.timestamps)
    if len(times) * _FEW > len(columns.timestamps):
        return task, decimals(columns.timestamps), b",", tails
    by_time = {time: b"%b%d," % (task, time) for time in times}  # those of one commit have one
    return list(map(by_time.__getitem__, columns.timestamps)), tails
