"""What an engine counts while it works: plain integers, written on its event loop and read whenever somebody asks.

Nothing here locks, allocates per event or knows a format. Whoever exports figures reads these objects; an engine that
nobody measures has none of them.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections import Counter

OTHER = "other"
"""The label of everything beyond the bound of a `Labels`."""
UNTYPED = "none"
"""The label of tasks without a type."""
MAX_TYPES = 100
"""Task types that are counted apart."""

SECONDS = (0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 10.0)
"""Bounds of durations, from an append in memory to a database that is in trouble."""
LAGS = (0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 30.0)
COUNTS = (1, 2, 5, 10, 20, 50, 100, 200, 500, 1000, 2000, 5000, 10_000)
LENGTHS = (0, 1, 10, 100, 1000, 10_000, 100_000, 1_000_000)


PENDING = 128
"""Values that may wait to be sorted into a histogram: together that costs a fraction of one by one. So few stay in the
processor's cache."""


class Distribution:
    """A histogram.

    Attributes:
        bounds: upper bounds, each included, rising. pending: values not yet counted. Hot paths append to it, and then
        `settle` where it has grown to ``PENDING``; everybody else calls `add`.
    """

    __slots__ = ("_counts", "_sum", "bounds", "pending")

    def __init__(self, bounds: tuple[float, ...]) -> None:
        self.bounds = bounds
        self.pending: list[float] = []
        self._counts = [0] * (len(bounds) + 1)
        self._sum = 0.0

    def add(self, value: float, times: int = 1) -> None:
        """Count a value."""
        self._counts[bisect_left(self.bounds, value)] += times
        self._sum += value * times

    def settle(self) -> None:
        """Count what is pending."""
        values = sorted(self.pending)
        self.pending.clear()
        below = 0
        for at, bound in enumerate(self.bounds):
            upto = bisect_right(values, bound)
            self._counts[at] += upto - below
            below = upto
        self._counts[-1] += len(values) - below
        self._sum += sum(values)

    @property
    def counts(self) -> list[int]:
        """Values within each bound and above the one before; and one more, of all above."""
        self.settle()
        return self._counts

    @property
    def sum(self) -> float:
        """Of all values."""
        self.settle()
        return self._sum

    @property
    def count(self) -> int:
        """How many values there were."""
        return sum(self.counts)


class Labels:
    """The first so many values that come are told apart, all others are one: what callers choose is unbounded."""

    def __init__(self, most: int = MAX_TYPES) -> None:
        self._known: set[str] = set()
        self._most = most

    def of(self, value: str | None) -> str:
        """What to count a value as."""
        if value is None:
            return UNTYPED
        if value in self._known:
            return value
        if len(self._known) >= self._most:
            return OTHER
        self._known.add(value)
        return value


class Meters:
    """The figures of one engine, since it was made.

    Attributes:
        types: labels of task types. created: tasks by type. moved: committed transitions by (type, new status).
        batch: events per commit that has any. commit_s: time a commit took in the store.
        lag_s: from an entry's timestamp until the readers that waited for it here have been handed it, per reader.
        replayed: entries between a new reader's first place and the head of the log. gaps: gap notices, by reason.
        slow_readers: readers that were closed because they were too far behind.
    """

    def __init__(self) -> None:
        self.types = Labels()
        self.created: Counter[str] = Counter()
        self.moved: Counter[tuple[str, str]] = Counter()
        self.batch = Distribution(COUNTS)
        self.commit_s = Distribution(SECONDS)
        self.lag_s = Distribution(LAGS)
        self.replayed = Distribution(LENGTHS)
        self.gaps: Counter[str] = Counter()
        self.slow_readers = 0

    @property
    def events(self) -> int:
        """Appended by this process."""
        return round(self.batch.sum)

    def settle(self) -> None:
        """Count what commits have left pending."""
        self.commit_s.settle()
        self.batch.settle()

    def task_created(self, type: str | None) -> None:
        """Count a new task."""
        self.created[self.types.of(type)] += 1

    def task_moved(self, type: str | None, status: str) -> None:
        """Count a transition."""
        self.moved[self.types.of(type), status] += 1
