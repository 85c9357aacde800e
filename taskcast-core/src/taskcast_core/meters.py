"""What an engine counts while it works: plain integers, written on its event loop and read whenever somebody asks.

Nothing here locks, allocates per event or knows a format. Whoever exports figures reads these objects; an engine that
nobody measures has none of them.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections import Counter
from collections.abc import Sequence

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


PENDING = 256
"""Measurements that may wait to be counted: a hot path appends to a list, and what has come together is counted in one
go, which costs a fraction of one by one.
"""


class Distribution:
    """A histogram. ``bounds``: upper bounds, each included, rising."""

    __slots__ = ("bounds", "counts", "sum")

    def __init__(self, bounds: tuple[float, ...]) -> None:
        self.bounds = bounds
        self.counts = [0] * (len(bounds) + 1)
        self.sum = 0.0

    def add(self, value: float, times: int = 1) -> None:
        """Count a value."""
        self.counts[bisect_left(self.bounds, value)] += times
        self.sum += value * times

    def add_all(self, ordered: Sequence[float]) -> None:
        """Count many, which rise."""
        if not ordered:
            return
        below = 0
        newest = ordered[-1]
        for at, bound in enumerate(self.bounds):
            if bound >= newest:
                self.counts[at] += len(ordered) - below
                break
            upto = bisect_right(ordered, bound, below)
            self.counts[at] += upto - below
            below = upto
        else:
            self.counts[-1] += len(ordered) - below
        self.sum += sum(ordered)

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
        took_s: of each commit that is not yet counted, the seconds it took in the store. Who appends calls `committed`
        where that had not just one event, or where there are ``PENDING``.
        lag_s: from an entry's timestamp until the readers that waited for it here have been handed it, per reader.
        replayed: entries between a new reader's first place and the head of the log. gaps: gap notices, by reason.
        slow_readers: readers that were closed because they were too far behind.
    """

    def __init__(self) -> None:
        self.types = Labels()
        self.created: Counter[str] = Counter()
        self.moved: Counter[tuple[str, str]] = Counter()
        self.took_s: list[float] = []
        self._sizes: list[int] = []  # of those with another number of events than one
        self._commit_s = Distribution(SECONDS)
        self._batch = Distribution(COUNTS)
        self.lag_s = Distribution(LAGS)
        self.replayed = Distribution(LENGTHS)
        self.gaps: Counter[str] = Counter()
        self.slow_readers = 0

    def committed(self, events: int) -> None:
        """How many events the commit has whose time has just been appended."""
        if events != 1:
            self._sizes.append(events)
        if len(self.took_s) >= PENDING:
            self._settle()

    def _settle(self) -> None:
        """Count the commits that wait for it."""
        if single := len(self.took_s) - len(self._sizes):
            self._batch.add(1, single)
        self.took_s.sort()
        self._commit_s.add_all(self.took_s)
        for size, times in Counter(self._sizes).items():
            if size:
                self._batch.add(size, times)
        self.took_s.clear()
        self._sizes.clear()

    @property
    def commit_s(self) -> Distribution:
        """Time that a commit took in the store."""
        self._settle()
        return self._commit_s

    @property
    def batch(self) -> Distribution:
        """Events per commit that has any."""
        self._settle()
        return self._batch

    @property
    def events(self) -> int:
        """Appended by this process."""
        return round(self.batch.sum)

    def task_created(self, type: str | None) -> None:
        """Count a new task."""
        self.created[self.types.of(type)] += 1

    def task_moved(self, type: str | None, status: str) -> None:
        """Count a transition."""
        self.moved[self.types.of(type), status] += 1
