"""What the server registers: its authenticators, and the sections of the configuration that it reads."""

from __future__ import annotations

from taskcast_core.config import SectionRegistry
from taskcast_core.hookspecs import hookimpl
from taskcast_core.registry import Registry
from taskcast_server.auth.options import AccessOptions, AuthOptions, CustomOptions, JwtOptions
from taskcast_server.metrics.options import MetricsOptions
from taskcast_server.options import CorsOptions, DocsOptions, LimitOptions, ServerOptions
from taskcast_server.tracing import TracingOptions
from taskcast_server.webhooks.options import WebhookOptions


@hookimpl
def taskcast_authenticators(registry: Registry) -> None:
    """The modes of the wire spec."""
    registry.add("none", "taskcast_server.auth.none:open_none")
    registry.add("jwt", "taskcast_server.auth.jwt:open_jwt", options=JwtOptions)
    registry.add("custom", "taskcast_server.auth.custom:open_custom", options=CustomOptions)


@hookimpl
def taskcast_config_sections(registry: SectionRegistry) -> None:
    """What the server reads, and the top-level keys about access and the server itself."""
    registry.add("auth", AuthOptions)
    registry.add("webhook", WebhookOptions)
    registry.add("limits", LimitOptions)
    registry.add("cors", CorsOptions)
    registry.add("docs", DocsOptions)
    registry.add("metrics", MetricsOptions)
    registry.add("tracing", TracingOptions)
    registry.add_root(AccessOptions)
    registry.add_root(ServerOptions)
