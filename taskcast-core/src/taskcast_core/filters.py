"""Which events a reader sees: type patterns, levels, status events. Pure, compiled once per distinct filter."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from functools import lru_cache

from taskcast_core.entries import STATUS_TYPE
from taskcast_core.models import Level, SubscribeFilter

_MEMORY = 4096  # remembered (type, level) verdicts per view; the types of one task are fewer


def matches_type(pattern: str, type_: str) -> bool:
    """``*`` matches all; ``a.*`` matches ``a.b`` and ``a.b.c`` but not ``a``; anything else matches itself."""
    if pattern == "*" or pattern == type_:
        return True
    return pattern.endswith(".*") and type_.startswith(pattern[:-1])


def matches_any_type(patterns: Iterable[str] | None, type_: str | None) -> bool:
    """Whether one pattern matches; None is no restriction; an unset type matches no pattern."""
    if patterns is None:
        return True
    return type_ is not None and any(matches_type(pattern, type_) for pattern in patterns)


class View:
    """The part of a log that a filter lets through: a function of an event's type and level alone.

    Equal filters make equal views, so that readers can share what is computed for one of them.
    """

    __slots__ = ("_hash", "_verdicts", "include_status", "is_everything", "levels", "types")

    def __init__(
        self,
        types: Iterable[str] | None = None,
        levels: Iterable[str] | None = None,
        include_status: bool = True,
    ) -> None:
        self.types = None if types is None else tuple(sorted(set(types)))
        self.levels = None if levels is None else tuple(sorted(set(levels)))
        self.include_status = include_status
        self.is_everything = self.types is None and self.levels is None and include_status
        self._hash = hash((self.types, self.levels, include_status))
        self._verdicts: dict[tuple[str, str], bool] = {}

    @classmethod
    def of(cls, filter: SubscribeFilter | None) -> View:
        """The view of a subscription or webhook filter; None is everything."""
        return _view(filter.types, filter.levels, filter.include_status) if filter else EVERYTHING

    def matches(self, type_: str, level: str) -> bool:
        """Whether such an event is visible."""
        if self.is_everything:
            return True
        verdict = self._verdicts.get((type_, level))
        if verdict is None:
            verdict = self._decide(type_, level)
            if len(self._verdicts) < _MEMORY:
                self._verdicts[type_, level] = verdict
        return verdict

    def _decide(self, type_: str, level: str) -> bool:
        if not self.include_status and type_ == STATUS_TYPE:
            return False
        if self.levels is not None and level not in self.levels:
            return False
        return matches_any_type(self.types, type_)

    def total(self, counts: Mapping[tuple[str, Level], int]) -> int:
        """How many of so many events of each (type, level) are visible."""
        if self.is_everything:
            return sum(counts.values())
        return sum(n for (type_, level), n in counts.items() if self.matches(type_, level))

    def __eq__(self, other: object) -> bool:
        return self is other or (
            isinstance(other, View)
            and (self.types, self.levels, self.include_status) == (other.types, other.levels, other.include_status)
        )

    def __hash__(self) -> int:
        return self._hash

    def __repr__(self) -> str:
        return f"View(types={self.types}, levels={self.levels}, include_status={self.include_status})"


@lru_cache(64)
def _view(types: tuple[str, ...] | None, levels: tuple[str, ...] | None, include_status: bool) -> View:
    return View(types, levels, include_status)


EVERYTHING = View()
"""The view of who filters nothing."""
