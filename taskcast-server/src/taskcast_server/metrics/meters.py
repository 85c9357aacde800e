"""What the server counts beside its engine. Hot paths add to integers; nobody locks, nobody waits."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence

from taskcast_core.meters import PENDING, Distribution
from taskcast_server.errors import TooManyRequests
from taskcast_server.routing import Route

NO_ROUTE = "(none)"
"""The route label of requests that no route answers."""
TIMES = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)
"""Bounds of the times of requests, in seconds."""
LONG = -1.0
"""In place of the time of a request that is no measure of this server."""
_METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"})


class RouteMeter:
    """The requests of one route.

    Attributes:
        path: the template, never what was asked for. success: the status of a reply when all is well.
        pending: by status, the seconds until each reply was sent; `LONG` for those whose time says nothing.
    """

    def __init__(self, method: str, path: str, success: int) -> None:
        self.method, self.path, self.success = method, path, success
        self.pending: dict[int, list[float]] = {}
        self._statuses: Counter[int] = Counter()
        self._took_s = Distribution(TIMES)

    def settle(self) -> None:
        """Count what is pending."""
        for status, times in self.pending.items():
            self._statuses[status] += len(times)
            self._took_s.pending += [each for each in times if each >= 0]
            times.clear()
        self._took_s.settle()

    @property
    def statuses(self) -> Mapping[int, int]:
        """How many replies had each status."""
        self.settle()
        return self._statuses

    @property
    def took_s(self) -> Distribution:
        """Until the reply was sent; streams and pulls are left out."""
        self.settle()
        return self._took_s


class ServerMeters:
    """The figures of one application.

    Attributes:
        routes: of each route, in the order of the table, and of what no route answers by method.
        resumes: streams of a task that were opened, by the kind of cursor. limited: refusals, by limit.
        stalled: readers that were cut off because they took nothing.
    """

    def __init__(self, routes: Sequence[Route]) -> None:
        self.routes = [RouteMeter(route.method, route.path, min(route.doc.replies)) for route in routes]
        self._by_route = {id(route): meter for route, meter in zip(routes, self.routes, strict=True)}
        self._nowhere: dict[str, RouteMeter] = {}
        self.resumes: Counter[str] = Counter()
        self.limited: Counter[str] = Counter()
        self.stalled = 0

    def answered(self, route: Route, method: str, status: int, took_s: float) -> None:
        """Count a request; ``took_s`` is `LONG` where a reply is long because there is much to tell, or nothing yet."""
        meter = self._by_route.get(id(route)) or self._elsewhere(method)
        times = meter.pending.get(status)
        if times is None:
            times = meter.pending[status] = []
        times.append(took_s)
        if len(times) >= PENDING:
            meter.settle()

    def _elsewhere(self, method: str) -> RouteMeter:
        name = method if method in _METHODS else "OTHER"
        meter = self._nowhere.get(name)
        if meter is None:
            meter = self._nowhere[name] = RouteMeter(name, NO_ROUTE, 404)
            self.routes.append(meter)
        return meter

    def refused(self, error: TooManyRequests) -> None:
        """Count a refusal because of a limit."""
        self.limited[error.limit] += 1
