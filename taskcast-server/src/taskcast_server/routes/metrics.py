"""Figures for Prometheus, and the same as JSON."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

from taskcast_core.errors import Forbidden
from taskcast_server.auth.admin import may_administer
from taskcast_server.calls import Call
from taskcast_server.errors import RouteNotFound
from taskcast_server.responses import Reply, json_reply
from taskcast_server.routing import Doc, Route

if TYPE_CHECKING:
    from prometheus_client.core import Metric


async def as_text(call: Call) -> Reply:
    """``GET /metrics``."""
    from taskcast_server.metrics import rendering

    families = await _families(call)
    return Reply(200, rendering.as_text(families), ((b"content-type", rendering.TEXT_TYPE.encode()),))


async def as_json(call: Call) -> Reply:
    """``GET /metrics.json``."""
    from taskcast_server.metrics import rendering

    return json_reply(rendering.as_json(await _families(call)))


async def _families(call: Call) -> Iterable[Metric]:
    """All there is to tell.

    Raises:
        RouteNotFound: metrics are off. Unauthorized, Forbidden: they are not for everybody.
    """
    from taskcast_server.metrics.collect import collect

    services = call.services
    server, engine = services.meters, services.engine.instruments.meters
    if server is None or engine is None:
        raise RouteNotFound
    if services.metrics.access == "admin":
        await call.authenticate()
        if not may_administer(call.principal):
            raise Forbidden
    return collect(services, server, engine, await services.figures.now())


_ERRORS = {401: "the caller is not known", 403: "the caller may not", 404: "metrics are off"}

ROUTES = (
    Route(
        "GET", "/metrics", as_text,
        Doc("Figures in Prometheus' text format", "Health",
            {200: ("the figures", {"type": "string"}, "text/plain"), **_ERRORS}),
    ),
    Route(
        "GET", "/metrics.json", as_json,
        Doc("The same figures as JSON", "Health", {
            200: ("by name", {"type": "object", "additionalProperties": {"type": "object"}}), **_ERRORS}),
    ),
)  # fmt: skip
