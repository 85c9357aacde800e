"""Ids that sort by time: ULIDs for tasks, and event ids that are a function of the commit.

An event id is a ULID of 48 bits of event time, 40 bits of salt (random per task and epoch) and 40 bits of index. It
sorts as the log does, names its epoch and index, and need not be stored anywhere (design, section 4).
"""

from __future__ import annotations

import os
import re
from bisect import bisect_left
from collections.abc import Callable, Sequence

from taskcast_core.values import frozen

_ALPHABET = "0123456789ABCDEFGHJKMNPQRSTVWXYZ"  # Crockford's base 32
_PAIRS = tuple(a + b for a in _ALPHABET for b in _ALPHABET)  # ten bits at a time
_PAIR_BYTES = tuple(pair.encode() for pair in _PAIRS)
_AS_PYTHON_COUNTS = bytes.maketrans(_ALPHABET.encode(), b"0123456789ABCDEFGHIJKLMNOPQRSTUV")
_ULID = re.compile(r"[0-7][0-9A-HJKMNP-TV-Z]{25}")

Noise = Callable[[int], bytes]
"""Gives so many random bytes; ``os.urandom``, or something that can be repeated."""

MAX_INDEX = (1 << 40) - 1


@frozen
class EventPosition:
    """What an event id says of itself."""

    timestamp: int
    salt: int
    index: int


def _text40(value: int) -> str:
    return _PAIRS[value >> 30] + _PAIRS[(value >> 20) & 1023] + _PAIRS[(value >> 10) & 1023] + _PAIRS[value & 1023]


def _text_ms(ms: int) -> str:
    return _PAIRS[ms >> 40] + _text40(ms & ((1 << 40) - 1))


def new_salt(noise: Noise = os.urandom) -> int:
    """A salt for one task and epoch: 40 random bits."""
    return int.from_bytes(noise(5), "big")


def new_ulid(now_ms: int, noise: Noise = os.urandom) -> str:
    """A ULID of this millisecond with 80 random bits."""
    bits = int.from_bytes(noise(10), "big")
    return _text_ms(now_ms) + _text40(bits >> 40) + _text40(bits & MAX_INDEX)


def event_id(timestamp: int, salt: int, index: int) -> str:
    """The id of the entry that has this timestamp (ms) and index in the epoch of this salt."""
    return _text_ms(timestamp) + _text40(salt) + _text40(index)


class EventIdMaker:
    """``event_id`` for one epoch: what an id has in common with the one before is made once."""

    __slots__ = ("_block", "_block_text", "_salt_text", "_second", "_second_text")

    def __init__(self, salt: int) -> None:
        self._salt_text = _text40(salt)
        self._second = self._block = -1
        self._second_text = self._block_text = ""

    def one(self, timestamp: int, index: int) -> str:
        """The id of the entry with this timestamp (ms) and index."""
        # Ids of 1,024 consecutive times begin alike, and those of so many indexes go on alike.
        if timestamp >> 10 != self._second:
            self._second, self._second_text = timestamp >> 10, _text_ms(timestamp)[:-2]
        if index >> 10 != self._block:
            self._block, self._block_text = index >> 10, self._salt_text + _text40(index)[:-2]
        return self._second_text + _PAIRS[timestamp & 1023] + self._block_text + _PAIRS[index & 1023]

    def run(self, timestamp: int, first: int, count: int) -> list[str]:
        """The ids of consecutive entries with this timestamp."""
        if (first & 1023) + count > 1024:
            return [self.one(timestamp, index) for index in range(first, first + count)]
        start, prefix = first & 1023, self.one(timestamp, first)[:-2]
        return [prefix + pair for pair in _PAIRS[start : start + count]]

    def stems(self, timestamps: Sequence[int], indexes: Sequence[int]) -> list[bytes]:
        """The ids of entries of one log, in its order, but for their `endings`; both sequences ascend."""
        stems: list[bytes] = []
        start = 0
        while start < len(indexes):
            end = bisect_left(timestamps, (timestamps[start] | 1023) + 1, start)
            end = bisect_left(indexes, (indexes[start] | 1023) + 1, start, end)
            times = timestamps[start:end]
            one = self.one(times[0], indexes[start]).encode()
            head, middle = one[:8], one[10:24]
            by_time = {time: head + _PAIR_BYTES[time & 1023] + middle for time in set(times)}
            stems += map(by_time.__getitem__, times)
            start = end
        return stems


def endings(indexes: Sequence[int]) -> Sequence[bytes]:
    """The last letters of the ids of entries with these indexes; see `EventIdMaker.stems`."""
    start, count = indexes[0] & 1023, len(indexes)
    if start + count <= 1024 and indexes[-1] - indexes[0] == count - 1:
        return _PAIR_BYTES[start : start + count]
    return [_PAIR_BYTES[index & 1023] for index in indexes]


def parse_event_id(text: str) -> EventPosition | None:
    """Read an event id back; None when it cannot be one of ours (an imported id, or rubbish)."""
    if not _ULID.fullmatch(text):
        return None
    digits = text.encode("ascii").translate(_AS_PYTHON_COUNTS)
    return EventPosition(int(digits[:10], 32), int(digits[10:18], 32), int(digits[18:], 32))
