"""Bells as they travel: a line of numbers, then the texts that they measure.

``version epoch salt first last status created_at len(task id)``, then per entry
``len(kind) len(series id) mode run end timestamp len(text)``; the body is the task id, and per entry kind, series id
and text. Scripts make the same (``send_bell`` in ``lua/changes.lua``), and releases side by side have to read each
other's.
"""

from __future__ import annotations

from typing import cast

from taskcast_core.contracts.broadcast import Bell
from taskcast_core.entries import Entry, Origin
from taskcast_core.models import Level, TaskStatus
from taskcast_redis.codec import LETTERS, MODES, kind_text
from taskcast_redis.keys import BELL_VERSION, pack, unpack

LARGE_BYTES = 32_768
"""As in ``lua/changes.lua``: entries larger than this together stay at home."""

_HEAD, _ENTRY = 8, 7


def ring_text(bell: Bell) -> bytes:
    """A bell as a message."""
    entries = bell.entries
    if entries and (sum(len(entry.text) for entry in entries) > LARGE_BYTES or not _are_plain(entries)):
        entries = ()
    salt = entries[0].origin.salt if entries else 0
    task_id = pack(bell.task_id)
    head: list[object] = [
        BELL_VERSION, bell.epoch, salt, bell.first_index, bell.last_index, bell.status, bell.created_at, len(task_id),
    ]  # fmt: skip
    body = [task_id]
    for entry in entries:
        kind = kind_text(entry.type, entry.level)
        series = b"" if entry.series_id is None else pack(entry.series_id)
        mode = "-" if entry.series_mode is None else LETTERS[entry.series_mode]
        run = -1 if entry.run is None else entry.run
        end = -1 if entry.end is None else entry.end
        head += [len(kind), len(series), mode, run, end, entry.timestamp, len(entry.text)]
        body += [kind, series, entry.text]
    return b"%b\n%b" % (" ".join(map(str, head)).encode(), b"".join(body))


def _are_plain(entries: tuple[Entry, ...]) -> bool:
    """Whether one salt makes all their ids, as it does for the entries of one commit."""
    salt = entries[0].origin.salt
    return all(entry.origin.salt == salt and entry.given_id is None for entry in entries)


def bell_of(channel: str | None, message: bytes) -> Bell | None:
    """A message read back; None when it is of a version that is not known here (the listener looks for itself).

    ``channel``: None is the task's own.
    """
    head, _, body = message.partition(b"\n")
    words = head.split(b" ")
    if words[0] != b"%d" % BELL_VERSION or len(words) < _HEAD:
        return None
    epoch, salt, first, last = map(int, words[1:5])
    at = int(words[7])
    task_id = unpack(body[:at])
    origin = Origin(task_id, epoch, salt)
    entries: list[Entry] = []
    for n, start in enumerate(range(_HEAD, len(words), _ENTRY)):
        kind_size, series_size, text_size = int(words[start]), int(words[start + 1]), int(words[start + 6])
        mode, run, end = words[start + 2], int(words[start + 3]), int(words[start + 4])
        level, _, type_ = body[at : at + kind_size].partition(b" ")
        at += kind_size
        series = body[at : at + series_size]
        at += series_size
        entries.append(
            Entry.stored(
                origin, first + n, int(words[start + 5]), body[at : at + text_size], type=unpack(type_),
                level=cast(Level, level.decode()), series_id=None if mode == b"-" else unpack(series),
                series_mode=None if mode == b"-" else MODES[mode.decode()], run=None if run < 0 else run,
                end=None if end < 0 else end,
            )
        )  # fmt: skip
        at += text_size
    status = cast(TaskStatus, words[5].decode())
    return Bell(channel or task_id, task_id, epoch, first, last, status, int(words[6]), tuple(entries))
