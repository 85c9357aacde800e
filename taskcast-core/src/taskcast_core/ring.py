"""A bounded run of a log's newest entries, without a gap."""

from __future__ import annotations

from collections.abc import Sequence

from taskcast_core.entries import Entry


class Ring:
    """The newest entries of a log, up to so many and so many bytes (give or take a quarter).

    Attributes:
        first: index of the oldest entry that is here; of the next one to come, while it is empty.
    """

    __slots__ = ("_bytes", "_entries", "_max_bytes", "_max_entries", "first")

    def __init__(self, first: int, max_entries: int, max_bytes: int) -> None:
        self.first = first
        self._entries: list[Entry] = []
        self._bytes = 0
        self._max_entries, self._max_bytes = max_entries, max_bytes

    @property
    def newest(self) -> Entry | None:
        """The last entry."""
        return self._entries[-1] if self._entries else None

    def __len__(self) -> int:
        return len(self._entries)

    def after(self, index: int) -> Sequence[Entry] | None:
        """The entries behind an index; None if the ring does not reach back so far."""
        start = index + 1 - self.first
        return None if start < 0 else self._entries[start:]

    def extend(self, entries: Sequence[Entry]) -> None:
        """Add the entries that follow on the newest one."""
        self._entries.extend(entries)
        for entry in entries:
            self._bytes += len(entry.text)
        # Cutting a quarter at a time makes the cost per entry constant.
        if len(self._entries) * 4 > self._max_entries * 5 or self._bytes * 4 > self._max_bytes * 5:
            self._cut()

    def restart(self, first: int, entries: Sequence[Entry] = ()) -> None:
        """Forget everything, and begin anew at an index."""
        self._entries, self._bytes, self.first = [], 0, first
        self.extend(entries)

    def _cut(self) -> None:
        drop = 0
        while len(self._entries) - drop > self._max_entries or (
            self._bytes > self._max_bytes and drop < len(self._entries)
        ):
            self._bytes -= len(self._entries[drop].text)
            drop += 1
        del self._entries[:drop]
        self.first += drop
