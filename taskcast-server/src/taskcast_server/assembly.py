"""From a configuration to everything that the routes use, opened in order and closed in reverse."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Protocol, runtime_checkable

from taskcast_core.assembly import open_engine
from taskcast_core.config import Config
from taskcast_core.engine import TaskEngine
from taskcast_core.instruments import Instruments
from taskcast_core.meters import Meters
from taskcast_core.plugins import Plugins
from taskcast_core.selection import Role
from taskcast_server.auth.admin import open_admin_desk
from taskcast_server.auth.assembly import jwt_options, open_authenticator
from taskcast_server.auth.options import AccessOptions, AuthOptions
from taskcast_server.auth.tickets import TicketOffice, ticket_secret
from taskcast_server.dependencies import Check
from taskcast_server.metrics import MetricsOptions
from taskcast_server.observing import enter_observers
from taskcast_server.options import LimitOptions
from taskcast_server.services import Services
from taskcast_server.tracing import TracingOptions, find_tracer
from taskcast_server.webhooks.follower import WebhookFollower
from taskcast_server.webhooks.options import WebhookOptions

_PLACES: dict[Role, str] = {
    "broadcast": "broadcast",
    "short_term_store": "shortTermStore",
    "long_term_store": "longTermStore",
}


@runtime_checkable
class HasDependencies(Protocol):
    """A store or broadcast that needs something outside of this process."""

    def dependency_checks(self) -> Mapping[str, Check]:
        """What it needs, by name (``redisCommand``, ``postgres`` …), each with a function that asks it."""


@asynccontextmanager
async def open_services(config: Config, plugins: Plugins) -> AsyncIterator[Services]:
    """All that a standalone server consists of, while it is entered.

    Raises:
        ConfigError, PluginError, StoreUnavailable: it cannot be had.
    """
    auth, access = config.section(AuthOptions), config.section(AccessOptions)
    async with AsyncExitStack() as stack:
        webhooks = await stack.enter_async_context(WebhookFollower(config.section(WebhookOptions)))
        observers = await enter_observers(stack, config, plugins)
        metrics, tracer = config.section(MetricsOptions), find_tracer(config.section(TracingOptions))
        instruments = Instruments(Meters() if metrics.enabled else None, tracer)
        engine = await stack.enter_async_context(
            open_engine(config, plugins, hooks=observers, handlers=[webhooks], instruments=instruments)
        )
        authenticator = await stack.enter_async_context(open_authenticator(config, plugins))
        jwt = jwt_options(auth)
        yield Services(
            engine=engine,
            authenticator=authenticator,
            tickets=TicketOffice(ticket_secret(auth, jwt), max_stream_s=auth.max_stream_seconds),
            limits=config.section(LimitOptions),
            auth_mode=auth.mode,
            max_stream_s=auth.max_stream_seconds,
            admin=open_admin_desk(access, jwt),
            webhooks=webhooks,
            providers=_providers(config, plugins),
            checks=_checks(engine),
            needs=_needs(engine),
            metrics=metrics,
            tracer=tracer,
        )


def _providers(config: Config, plugins: Plugins) -> dict[str, str]:
    selected = {place: plugins.select(role, config) for role, place in _PLACES.items()}
    return {place: one.name for place, one in selected.items() if one is not None}


def _checks(engine: TaskEngine) -> dict[str, Check]:
    checks: dict[str, Check] = {}
    for part in _parts(engine).values():
        if isinstance(part, HasDependencies):
            checks |= part.dependency_checks()
    return checks


def _needs(engine: TaskEngine) -> dict[str, frozenset[str]]:
    """Which dependencies each place needs; a broadcast rings by the commands of its store, too."""
    return {
        place: frozenset(part.dependency_checks())
        for place, part in _parts(engine).items()
        if isinstance(part, HasDependencies)
    }


def _parts(engine: TaskEngine) -> dict[str, object]:
    return {
        "broadcast": engine.broadcast,
        "shortTermStore": engine.store,
        "longTermStore": engine.long_term_store,
    }
