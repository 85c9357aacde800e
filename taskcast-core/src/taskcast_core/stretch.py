"""A stretch of a log in columns: what a replay needs of many entries, without an object for each of them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from operator import attrgetter
from typing import NamedTuple, overload

from taskcast_core.entries import Entry, Origin, texts_of
from taskcast_core.ids import endings
from taskcast_core.models import Level

_GIVEN_ID = attrgetter("given_id")
_ORIGIN = attrgetter("origin")


class Columns(NamedTuple):
    """What is written of entries of one epoch, in the log's order, whose ids are of our own making."""

    origin: Origin
    indexes: Sequence[int]
    timestamps: Sequence[int]
    texts: Sequence[bytes]

    def ids(self) -> tuple[Sequence[bytes], Sequence[bytes]]:
        """Their ids in two columns: most letters are those of many entries, and made once."""
        return self.origin.id_stems(self.timestamps, self.indexes), endings(self.indexes)


class Stretch(Sequence[Entry]):
    """Consecutive entries that no series has text or values of; one is made when asked for, all when many are.

    Attributes:
        columns: what there is to write of them.
    """

    __slots__ = ("_entries", "_kinds", "_names", "columns")

    def __init__(self, columns: Columns, kinds: Sequence[int], names: Mapping[int, tuple[str, Level]]) -> None:
        """``kinds``: a number for each, which ``names`` gives type and level of."""
        self.columns = columns
        self._kinds, self._names = kinds, names
        self._entries: Sequence[Entry] | None = None

    @classmethod
    def of(cls, entries: Sequence[Entry], columns: Columns) -> Stretch:
        """A stretch of entries that are there already."""
        stretch = cls(columns, (), {})
        stretch._entries = entries
        return stretch

    def __len__(self) -> int:
        return len(self.columns.texts)

    @overload
    def __getitem__(self, at: int) -> Entry: ...

    @overload
    def __getitem__(self, at: slice) -> Sequence[Entry]: ...

    def __getitem__(self, at: int | slice) -> Entry | Sequence[Entry]:
        if self._entries is None and isinstance(at, int):
            return self._entry(at)
        return self._all()[at]

    def __iter__(self) -> Iterator[Entry]:
        return iter(self._all())

    def _all(self) -> Sequence[Entry]:
        if self._entries is None:
            self._entries = [self._entry(at) for at in range(len(self))]
        return self._entries

    def _entry(self, at: int) -> Entry:
        origin, indexes, timestamps, texts = self.columns
        type_, level = self._names[self._kinds[at]]
        return Entry.stored(origin, indexes[at], timestamps[at], texts[at], type=type_, level=level)


def columns_of(entries: Sequence[Entry]) -> Columns | None:
    """Entries in the log's order as columns; None where they are of several epochs, or an id was given."""
    if isinstance(entries, Stretch):
        return entries.columns
    if len(set(map(_ORIGIN, entries))) != 1 or set(map(_GIVEN_ID, entries)) != {None}:
        return None
    return Columns(
        entries[0].origin, [each.index for each in entries], [each.timestamp for each in entries], texts_of(entries)
    )
