"""A text that only grows: appending costs what is appended, and nothing is joined until somebody reads."""

from __future__ import annotations


class Rope:
    """One run of an accumulate series."""

    __slots__ = ("_joined", "_parts")

    def __init__(self, text: str = "") -> None:
        self._joined = text
        self._parts: list[str] = []

    def append(self, text: str) -> None:
        """Add to the end."""
        self._parts.append(text)

    def upto(self, length: int) -> str:
        """The first so many characters."""
        if length > len(self._joined):
            self._join()
        return self._joined if length == len(self._joined) else self._joined[:length]

    def text(self) -> str:
        """All of it."""
        self._join()
        return self._joined

    def _join(self) -> None:
        if self._parts:
            self._joined += "".join(self._parts)
            self._parts.clear()
