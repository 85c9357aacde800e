"""What the server counts beside its engine. Hot paths add to integers; nobody locks, nobody waits."""

from __future__ import annotations

from bisect import bisect_left
from collections import Counter
from collections.abc import Sequence

from attrs import field

from taskcast_core.meters import PENDING, Distribution
from taskcast_core.values import frozen
from taskcast_server.errors import TooManyRequests
from taskcast_server.routing import Route

NO_ROUTE = "(none)"
"""The route label of requests that no route answers."""
TIMES = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)
"""Bounds of the times of requests, in seconds."""
LONG = -1.0
"""In place of the time of a request that is no measure of this server."""
_METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"})


@frozen(eq=False)
class RouteMeter:
    """The requests of one route.

    Attributes:
        path: the template, never what was asked for. success: the status of a reply when all is well.
        pending: by status, of each request that is not yet counted, the seconds until the reply was sent; `LONG` where
        that says nothing. took_s: the others together.
    """

    method: str
    path: str
    success: int
    pending: dict[int, list[float]] = field(factory=dict)
    statuses: Counter[int] = field(factory=Counter)
    took_s: Distribution = field(factory=lambda: Distribution(TIMES))

    def settle(self) -> None:
        """Count what is pending."""
        for status, times in self.pending.items():
            self.statuses[status] += len(times)
            times.sort()
            self.took_s.add_all(times[bisect_left(times, 0.0) :])
            times.clear()


class ServerMeters:
    """The figures of one application.

    Attributes:
        pending: by the route of the table, what is ``pending`` there. A hot path may append to a list
        that has fewer than ``PENDING``; else, as everybody else, it calls `answered`.
        resumes: streams of a task that were opened, by the kind of cursor. limited: refusals, by limit.
        stalled: readers that were cut off because they took nothing.
    """

    def __init__(self, routes: Sequence[Route]) -> None:
        self._routes = [RouteMeter(route.method, route.path, min(route.doc.replies)) for route in routes]
        self._nowhere: dict[str, RouteMeter] = {}
        self._of_table = dict(zip(routes, self._routes, strict=True))
        self.pending = {route: meter.pending for route, meter in self._of_table.items()}
        self.resumes: Counter[str] = Counter()
        self.limited: Counter[str] = Counter()
        self.stalled = 0

    def answered(self, route: Route, method: str, status: int, took_s: float) -> None:
        """Count a request."""
        meter = self._of_table.get(route) or self._elsewhere(method)
        times = meter.pending.setdefault(status, [])
        times.append(took_s)
        if len(times) >= PENDING:
            meter.settle()

    @property
    def routes(self) -> Sequence[RouteMeter]:
        """Each route's, in the order of the table; then what no route answers, by method."""
        for meter in self._routes:
            meter.settle()
        return self._routes

    def _elsewhere(self, method: str) -> RouteMeter:
        name = method if method in _METHODS else "OTHER"
        meter = self._nowhere.get(name)
        if meter is None:
            meter = self._nowhere[name] = RouteMeter(name, NO_ROUTE, 404)
            self._routes.append(meter)
        return meter

    def refused(self, error: TooManyRequests) -> None:
        """Count a refusal because of a limit."""
        self.limited[error.limit] += 1
