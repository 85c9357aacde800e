"""Values as SQL databases keep them: texts as bytes, numbers of 64 bits, words as codes, counts as JSON."""

from __future__ import annotations

from collections.abc import Mapping

import orjson

from taskcast_core.models import SeriesMode

MODES: tuple[SeriesMode, ...] = ("keep-all", "accumulate", "latest")
"""The code of a mode is its place."""

Counts = dict[int, int]
"""How many entries of each kind's number."""

_MOST = (1 << 63) - 1


def pack(text: str) -> bytes:
    """Free text as it is stored; NUL and lone surrogates survive."""
    return text.encode("utf-8", "surrogatepass")


def unpack(blob: bytes) -> str:
    """``pack`` read back."""
    return blob.decode("utf-8", "surrogatepass")


def pack_or_none(text: str | None) -> bytes | None:
    """``pack`` where there may be nothing."""
    return None if text is None else pack(text)


def unpack_or_none(blob: bytes | None) -> str | None:
    """``unpack`` where there may be nothing."""
    return None if blob is None else unpack(blob)


def within(value: int) -> int:
    """As near as an integer of 64 bits comes."""
    return max(-_MOST, min(value, _MOST))


def pack_counts(counts: Mapping[int, int]) -> str:
    """Counts as they are stored."""
    return orjson.dumps(list(counts.items())).decode()


def unpack_counts(text: str) -> Counts:
    """``pack_counts`` read back."""
    return dict(orjson.loads(text))


def add_counts(total: Counts, more: Mapping[int, int]) -> None:
    """Add ``more`` to ``total``."""
    for kind, n in more.items():
        total[kind] = total.get(kind, 0) + n
