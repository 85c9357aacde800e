"""New entries on their way into the table, and what to do about those that PostgreSQL refuses.

A few rows travel as one JSON parameter that the server expands, which saves a round trip; many by COPY, which takes
half as long from some hundred rows on. (Arrays of columns are the slowest of the three at every size.)
"""

# ruff: noqa: S608 - statements are put together from constants; all values are bound

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import orjson
import psycopg
from attrs import frozen

from taskcast_core.entries import Entry
from taskcast_core.packing import pack
from taskcast_postgres.database import Session
from taskcast_postgres.failures import REFUSED
from taskcast_postgres.rows import ENTRY_COLUMNS, MODE_CODES
from taskcast_postgres.stretch import Stretch

FEW = 64
"""Rows that travel as JSON, at most."""

_COPY = f"COPY taskcast.events (task, {ENTRY_COLUMNS}) FROM STDIN"
_EXPAND = f"""
INSERT INTO taskcast.events (task, {ENTRY_COLUMNS})
SELECT task, idx, ts, kind, mode, run, ends_at, decode(series, 'hex'), decode(given_id, 'hex'), text
FROM json_to_recordset(%s::json) AS given (
    task BIGINT, idx BIGINT, ts BIGINT, kind INTEGER, mode SMALLINT, run BIGINT, ends_at BIGINT, series TEXT,
    given_id TEXT, text TEXT)
"""
_DEAD = "INSERT INTO taskcast.dead_rows (task, idx, ts, reason, text) VALUES (%s, %s, %s, %s, %s)"
_BLOCK_BYTES = 256 << 10
_DEAD_BYTES = 64 << 20
_REASON_CHARACTERS = 500
_NULL = b"\\N"
_CONTROLS = ((b"\n", b"\\n"), (b"\r", b"\\r"), (b"\t", b"\\t"))


@frozen
class _Line:
    """An entry and whose it is."""

    stretch: Stretch
    entry: Entry

    @property
    def kind(self) -> int:
        """Number of the entry's type and level."""
        return self.stretch.kinds.number((self.entry.type, self.entry.level))

    @property
    def given_id(self) -> str | None:
        """The id that has to be kept, because the log's segments do not give it."""
        entry = self.entry
        if entry.given_id is not None:
            return entry.given_id
        return None if self.stretch.origins.at(entry.index).salt == entry.origin.salt else entry.id


async def insert_events(session: Session, stretches: Sequence[Stretch], *, carefully: bool) -> None:
    """Insert the rows of all stretches. Carefully: a refused one is found by halving, set aside, and the rest goes in.

    Raises:
        psycopg.Error: a row was refused, and we were not careful.
    """
    lines = [_Line(one, entry) for one in stretches for entry in one.rows.values()]
    if not lines:
        return
    await (_insert_carefully if carefully else _insert)(session, lines)


async def _insert(session: Session, lines: Sequence[_Line]) -> None:
    if len(lines) <= FEW:
        await session.run(_EXPAND, orjson.dumps(list(map(_json, lines))).decode())
    else:
        await session.copy(_COPY, _blocks(lines))


async def _insert_carefully(session: Session, lines: Sequence[_Line]) -> None:
    try:
        async with session.savepoint():
            await _insert(session, lines)
    except REFUSED as error:
        if len(lines) == 1:
            await _set_aside(session, lines[0], error)
            return
        half = len(lines) // 2
        await _insert_carefully(session, lines[:half])
        await _insert_carefully(session, lines[half:])


async def _set_aside(session: Session, line: _Line, error: psycopg.Error) -> None:
    stretch, entry = line.stretch, line.entry
    reason = str(error).replace("\0", "")[:_REASON_CHARACTERS]
    await session.run(_DEAD, stretch.known.num, entry.index, entry.timestamp, reason, entry.text[:_DEAD_BYTES])
    stretch.set_aside(entry, f"{type(error).__name__} ({error.sqlstate})")  # its text may hold some of the data


# ── As JSON ───────────────────────────────────────────────────────────────────────────────────────────────────────


def _json(line: _Line) -> dict[str, Any]:
    entry, given_id = line.entry, line.given_id
    fields: dict[str, Any] = {
        "task": line.stretch.known.num, "idx": entry.index, "ts": entry.timestamp, "kind": line.kind,
        "text": entry.text.decode(),
    }  # fmt: skip
    if entry.series_id is not None:
        fields |= {
            "mode": MODE_CODES[entry.series_mode], "run": entry.run, "ends_at": entry.end,
            "series": pack(entry.series_id).hex(),
        }  # fmt: skip
    if given_id is not None:
        fields["given_id"] = pack(given_id).hex()
    return fields


# ── As COPY's text format ─────────────────────────────────────────────────────────────────────────────────────────


def _blocks(lines: Sequence[_Line]) -> Iterator[bytes]:
    waiting: list[bytes] = []
    size = 0
    for line in lines:
        text = _copied(line)
        waiting.append(text)
        size += len(text)
        if size >= _BLOCK_BYTES:
            yield b"".join(waiting)
            waiting, size = [], 0
    yield b"".join(waiting)


def _copied(line: _Line) -> bytes:
    num, entry, given_id = line.stretch.known.num, line.entry, line.given_id
    text = entry.text
    if b"\\" in text:
        text = text.replace(b"\\", b"\\\\")
    for control, escape in _CONTROLS:  # only between the tokens of a publisher's own text
        if control in text:
            text = text.replace(control, escape)
    if entry.series_id is None and given_id is None:
        head = b"%d\t%d\t%d\t%d\t\\N\t\\N\t\\N\t\\N\t\\N\t" % (num, entry.index, entry.timestamp, line.kind)
        return head + text + b"\n"
    return b"%d\t%d\t%d\t%d\t%b\t%b\t%b\t%b\t%b\t%b\n" % (
        num, entry.index, entry.timestamp, line.kind, _number(MODE_CODES[entry.series_mode]), _number(entry.run),
        _number(entry.end), _bytes(entry.series_id), _bytes(given_id), text,
    )  # fmt: skip


def _number(value: int | None) -> bytes:
    return _NULL if value is None else b"%d" % value


def _bytes(text: str | None) -> bytes:
    return _NULL if text is None else b"\\\\x" + pack(text).hex().encode()
