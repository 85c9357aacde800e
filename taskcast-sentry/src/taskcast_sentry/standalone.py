"""For the standalone server: a client that belongs to nobody else, and its orderly end."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from importlib.metadata import version
from typing import TYPE_CHECKING

from taskcast_core.config import Config
from taskcast_core.plugins import Plugins
from taskcast_sentry.options import SentryOptions

if TYPE_CHECKING:
    import sentry_sdk

    from taskcast_sentry.hooks import SentryHooks


@asynccontextmanager
async def open_hooks(options: SentryOptions, config: Config, plugins: Plugins) -> AsyncIterator[SentryHooks | None]:
    """The hooks; at the end what waits is sent, for ``flush_timeout_ms`` at most. None where there is no DSN."""
    if not (options.dsn and options.enabled):
        yield None
        return
    from taskcast_sentry.hooks import SentryHooks
    from taskcast_sentry.secrets import configured_secrets

    client = new_client(options)
    hooks = SentryHooks(options, client, configured_secrets(config, plugins))
    try:
        yield hooks
    finally:
        hooks.close()
        await asyncio.to_thread(client.close, options.flush_timeout_ms / 1000)


def new_client(options: SentryOptions) -> sentry_sdk.Client:
    """A client without integrations: nothing is patched, and nothing is sent that this distribution has not built."""
    import sentry_sdk

    return sentry_sdk.Client(
        dsn=options.dsn,
        environment=options.environment,
        release=options.release or f"taskcast@{version('taskcast-core')}",
        server_name=options.server_name,
        sample_rate=options.sample_rate,
        default_integrations=False,
        auto_enabling_integrations=False,
        include_local_variables=False,
        max_breadcrumbs=0,
        auto_session_tracking=False,
        enable_backpressure_handling=False,
        shutdown_timeout=options.flush_timeout_ms / 1000,
    )
