"""What the server counts beside its engine. Hot paths add to integers; nobody locks, nobody waits."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from attrs import field, frozen

from taskcast_core.meters import Distribution
from taskcast_server.errors import TooManyRequests
from taskcast_server.routing import Route

NO_ROUTE = "(none)"
"""The route label of requests that no route answers."""
TIMES = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)
"""Bounds of the times of requests, in seconds."""
_METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"})


@frozen(eq=False)
class RouteMeter:
    """The requests of one route.

    Attributes:
        path: the template, never what was asked for. success: the status of a reply when all is well.
        took_s: until the reply was sent; long-lived ones are left out.
    """

    method: str
    path: str
    success: int
    statuses: Counter[int] = field(factory=Counter)
    took_s: Distribution = field(factory=lambda: Distribution(TIMES))


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

    def answered(self, route: Route, method: str, status: int, took_s: float | None) -> None:
        """Count a request; ``took_s`` is None where a reply is long because there is much to tell (streams)."""
        meter = self._by_route.get(id(route)) or self._elsewhere(method)
        meter.statuses[status] += 1
        if took_s is not None:
            meter.took_s.add(took_s)

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
