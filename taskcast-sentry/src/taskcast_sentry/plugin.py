"""What Taskcast finds by the entry point: the section ``sentry``. Sentry's SDK is loaded only when it is used."""

from __future__ import annotations

from taskcast_core.config import SectionRegistry
from taskcast_core.hookspecs import hookimpl
from taskcast_sentry.options import SentryOptions


@hookimpl
def taskcast_config_sections(registry: SectionRegistry) -> None:
    """``sentry``."""
    registry.add("sentry", SentryOptions)
