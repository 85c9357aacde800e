"""All routes of the API, in one table."""

from __future__ import annotations

from taskcast_server.routes import admin, archive, batch, docs, events, health, metrics, signals, stream, tasks, workers
from taskcast_server.routing import Route


def route_table(*, has_docs: bool = True) -> tuple[Route, ...]:
    """The routes; ``has_docs``: the document and its page as well."""
    routes = (
        *health.ROUTES,
        *metrics.ROUTES,
        *tasks.ROUTES,
        *batch.ROUTES,
        *events.ROUTES,
        *signals.ROUTES,
        *stream.ROUTES,
        *archive.ROUTES,
        *workers.ROUTES,
        *admin.ROUTES,
    )
    return (*routes, *docs.routes_about(routes)) if has_docs else routes
