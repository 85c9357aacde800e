"""New entries on their way into the table: COPY, and what to do about those that PostgreSQL refuses."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import psycopg
from attrs import frozen

from taskcast_core.entries import Entry
from taskcast_postgres.database import Session
from taskcast_postgres.failures import REFUSED
from taskcast_postgres.rows import ENTRY_COLUMNS, MODE_CODES, pack
from taskcast_postgres.stretch import Stretch

_COPY = f"COPY taskcast.events (task, {ENTRY_COLUMNS}) FROM STDIN"
_DEAD = "INSERT INTO taskcast.dead_rows (task, idx, ts, reason, text) VALUES (%s, %s, %s, %s, %s)"
_BLOCK_BYTES = 256 << 10
_DEAD_BYTES = 64 << 20
_REASON_CHARACTERS = 500
_NULL = b"\\N"
_CONTROLS = ((b"\n", b"\\n"), (b"\r", b"\\r"), (b"\t", b"\\t"))


@frozen
class _Line:
    stretch: Stretch
    entry: Entry
    text: bytes


async def insert_events(session: Session, stretches: Sequence[Stretch], *, carefully: bool) -> None:
    """Insert the rows of all stretches. Carefully: a refused one is found by halving, set aside, and the rest goes in.

    Raises:
        psycopg.Error: a row was refused, and we were not careful.
    """
    lines = [_Line(one, entry, _line(one, entry)) for one in stretches for entry in one.rows.values()]
    if not lines:
        return
    if carefully:
        await _insert_carefully(session, lines)
    else:
        await session.copy(_COPY, _blocks(lines))


async def _insert_carefully(session: Session, lines: Sequence[_Line]) -> None:
    try:
        async with session.savepoint():
            await session.copy(_COPY, _blocks(lines))
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
    stretch.set_aside(entry)


def _blocks(lines: Sequence[_Line]) -> Iterator[bytes]:
    waiting: list[bytes] = []
    size = 0
    for line in lines:
        waiting.append(line.text)
        size += len(line.text)
        if size >= _BLOCK_BYTES:
            yield b"".join(waiting)
            waiting, size = [], 0
    yield b"".join(waiting)


def _line(stretch: Stretch, entry: Entry) -> bytes:
    """An entry in COPY's text format."""
    kind = stretch.kinds.number((entry.type, entry.level))
    text = entry.text
    if b"\\" in text:
        text = text.replace(b"\\", b"\\\\")
    for control, escape in _CONTROLS:  # only between the tokens of a publisher's own text
        if control in text:
            text = text.replace(control, escape)
    given_id = _given_id(stretch, entry)
    if entry.series_id is None and given_id is None:
        head = b"%d\t%d\t%d\t%d\t\\N\t\\N\t\\N\t\\N\t\\N\t" % (stretch.known.num, entry.index, entry.timestamp, kind)
        return head + text + b"\n"
    return b"%d\t%d\t%d\t%d\t%b\t%b\t%b\t%b\t%b\t%b\n" % (
        stretch.known.num, entry.index, entry.timestamp, kind, _number(MODE_CODES[entry.series_mode]),
        _number(entry.run), _number(entry.end), _bytes(entry.series_id), _bytes(given_id), text,
    )  # fmt: skip


def _given_id(stretch: Stretch, entry: Entry) -> str | None:
    """The id that has to be kept, because the log's segments do not give it."""
    if entry.given_id is not None:
        return entry.given_id
    return None if stretch.origins.at(entry.index).salt == entry.origin.salt else entry.id


def _number(value: int | None) -> bytes:
    return _NULL if value is None else b"%d" % value


def _bytes(text: str | None) -> bytes:
    return _NULL if text is None else b"\\\\x" + pack(text).hex().encode()
