"""What one caller may use up: requests per minute, open streams, live tasks. Per process, bounded in memory."""

from __future__ import annotations

import math
import time
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Collection, Iterator
from contextlib import contextmanager
from typing import Literal

from taskcast_core.values import define, frozen
from taskcast_server.errors import TooManyRequests
from taskcast_server.options import LimitOptions

_MAX_CALLERS = 10_000
_LOOK_AGAIN_S = 1.0


@define
class _Bucket:
    tokens: float
    filled_at: float


class RequestRate:
    """A token bucket per caller: so many requests per minute, and so many at once."""

    def __init__(
        self,
        per_minute: int,
        burst: int,
        *,
        name: Literal["rate", "admin"] = "rate",
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._per_second, self._burst, self._monotonic = per_minute / 60, max(1, burst), monotonic
        self._name = name
        self._buckets: OrderedDict[str, _Bucket] = OrderedDict()

    def take(self, caller: str) -> None:
        """Count one request.

        Raises:
            TooManyRequests: the bucket is empty.
        """
        now = self._monotonic()
        bucket = self._buckets.get(caller)
        if bucket is None:
            bucket = self._buckets[caller] = _Bucket(self._burst, now)
            if len(self._buckets) > _MAX_CALLERS:
                self._buckets.popitem(last=False)  # idle the longest, so most likely full
        else:
            bucket.tokens = min(self._burst, bucket.tokens + (now - bucket.filled_at) * self._per_second)
            bucket.filled_at = now
            self._buckets.move_to_end(caller)
        if bucket.tokens < 1:
            wait_s = math.ceil((1 - bucket.tokens) / self._per_second)
            raise TooManyRequests("Too many requests", max(1, wait_s), self._name)
        bucket.tokens -= 1


class OpenStreams:
    """How many streams each caller has open here."""

    def __init__(self, maximum: int, before: OpenStreams | None = None) -> None:
        """``before``: whose place it takes; streams that are open go on counting."""
        self._maximum = maximum
        self._open: dict[str, int] = before._open if before else {}

    @contextmanager
    def opened(self, caller: str) -> Iterator[None]:
        """Count a stream while it is open.

        Raises:
            TooManyRequests: the caller has too many.
        """
        count = self._open.get(caller, 0)
        if count >= self._maximum:
            raise TooManyRequests(f"At most {self._maximum} streams may be open at a time", 5, "streams")
        self._open[caller] = count + 1
        try:
            yield
        finally:
            self._open[caller] -= 1
            if not self._open[caller]:
                del self._open[caller]


StillLive = Callable[[Collection[str]], Awaitable[Collection[str]]]
"""Of these task ids, those of tasks that have not ended."""


@define
class _Created:
    ids: set[str]
    looked_at: float = -math.inf


class LiveTasks:
    """How many unfinished tasks each caller has made through this process.

    Nobody tells this process when a task ends elsewhere; so where the bound is reached, it looks (at most once a
    second and caller) which of them have ended.
    """

    def __init__(
        self,
        maximum: int,
        still_live: StillLive,
        before: LiveTasks | None = None,
        *,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        """``before``: whose place it takes; the tasks that it knows go on counting."""
        self._maximum, self._still_live, self._monotonic = maximum, still_live, monotonic
        self._made: OrderedDict[str, _Created] = before._made if before else OrderedDict()

    async def check(self, caller: str, wanted: int = 1) -> None:
        """Make sure that there is room for so many more.

        Raises:
            TooManyRequests: there is not.
        """
        made = self._made.get(caller)
        if made is None or len(made.ids) + wanted <= self._maximum:
            return
        now = self._monotonic()
        if now - made.looked_at >= _LOOK_AGAIN_S:
            made.looked_at = now
            ended = set(made.ids) - set(await self._still_live(tuple(made.ids)))
            made.ids -= ended
        if len(made.ids) + wanted > self._maximum:
            raise TooManyRequests(f"At most {self._maximum} tasks may be live at a time", 5, "tasks")

    def add(self, caller: str, task_id: str) -> None:
        """Count a task that has been created."""
        made = self._made.setdefault(caller, _Created(set()))
        made.ids.add(task_id)
        self._made.move_to_end(caller)
        if len(self._made) > _MAX_CALLERS:
            self._made.popitem(last=False)


@frozen
class CallerLimits:
    """All of them; None is not applied."""

    rate: RequestRate | None = None
    streams: OpenStreams | None = None
    tasks: LiveTasks | None = None


def caller_limits(
    options: LimitOptions, still_live: StillLive, *, is_open: bool, before: CallerLimits | None = None
) -> CallerLimits:
    """The limits by the configuration; see `LimitOptions` for the defaults.

    ``is_open``: there is no authentication. ``before``: the limits so far, when they change while the server runs.
    """
    before = before or CallerLimits()

    def chosen(given: int | None, default: int) -> int | None:
        return given if given is not None or is_open else default

    rpm = chosen(options.requests_per_minute, 60_000)
    streams = chosen(options.max_open_streams, 10_000)
    tasks = chosen(options.max_live_tasks, 100_000)
    return CallerLimits(
        None if rpm is None else RequestRate(rpm, options.burst or max(1, rpm // 10)),
        None if streams is None else OpenStreams(streams, before.streams),
        None if tasks is None else LiveTasks(tasks, still_live, before.tasks),
    )
