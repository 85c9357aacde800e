"""From the configuration to the one authenticator that a server asks: service keys first, then the mode."""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any, Protocol, TypeVar, cast

import attrs

from taskcast_core.config import Config, Options, did_you_mean, option
from taskcast_core.contracts.auth import Authenticator, Connection, Principal
from taskcast_core.registry import Registry
from taskcast_server.auth.custom import Authenticate, CustomAuthenticator
from taskcast_server.auth.none import OpenAuthenticator
from taskcast_server.auth.options import AccessOptions, AuthOptions, JwtOptions
from taskcast_server.auth.service_keys import ServiceKeys

_log = logging.getLogger(__name__)

T = TypeVar("T")


class _Offers(Protocol):
    """Who knows the installed authenticators; `taskcast_core.plugins.Plugins` does."""

    @property
    def authenticators(self) -> Registry: ...


class GuardedAuthenticator:
    """Trusted services by their key, everybody else by the mode."""

    def __init__(self, services: ServiceKeys, mode: Authenticator, *, api_key_decides: bool) -> None:
        self._services, self._mode = services, mode
        self._api_key_decides = api_key_decides

    async def authenticate(self, connection: Connection) -> Principal:
        """The caller; raises Unauthorized as the service keys and the mode do."""
        service = self._services.authenticate(connection, api_key_decides=self._api_key_decides)
        return service if service is not None else await self._mode.authenticate(connection)


@asynccontextmanager
async def open_authenticator(config: Config, plugins: _Offers) -> AsyncIterator[Authenticator]:
    """The authenticator that ``auth`` and ``trustedServices`` describe.

    Raises:
        InvalidConfig: ``auth.mode`` is not installed, or its options are not right. ConfigError: keys do not fit.
    """
    auth = config.section(AuthOptions)
    registry = plugins.authenticators
    provider = registry.get(auth.mode, "auth.mode")
    for key in auth.modes.keys():  # noqa: SIM118 - not a mapping
        if key not in registry:
            _log.warning('unknown key "%s" at auth%s', key, did_you_mean(key, registry.names()) or "; it is ignored")
    options = mode_options(auth, auth.mode, provider.options_class) if provider.options_class else None
    async with provider.open(options) as mode:
        services = ServiceKeys(config.section(AccessOptions).trusted_services)
        if not services:
            yield mode
            return
        yield GuardedAuthenticator(services, mode, api_key_decides=auth.mode == "jwt")


def as_authenticator(auth: Authenticator | Authenticate | None) -> Authenticator:
    """What an embedder passes as ``auth=``: an authenticator, a function (see `custom`), None for open access."""
    if auth is None:
        return OpenAuthenticator()
    if hasattr(auth, "authenticate"):
        return auth
    return CustomAuthenticator(auth)


def jwt_options(auth: AuthOptions) -> JwtOptions | None:
    """The options of mode ``jwt``, where that is the mode: for minting tokens and sealing tickets.

    Raises:
        InvalidConfig: they are not right.
    """
    return mode_options(auth, "jwt", JwtOptions) if auth.mode == "jwt" else None


def mode_options(auth: AuthOptions, mode: str, cls: type[T]) -> T:
    """Read ``auth.<mode>`` and the variables of its options, leaving the options of other modes unread.

    Raises:
        InvalidConfig: unknown, missing or ill-typed options, with their paths.
    """
    name = mode.replace("-", "_")
    fields: tuple[attrs.Attribute[Any], ...] = attrs.fields(cast(Any, cls))
    is_optional = all(each.default is not attrs.NOTHING for each in fields if each.init)
    own: Any = option(factory=cls, aliases=(mode,)) if is_optional else option(aliases=(mode,))
    own.type = cls
    others: Any = option(extras=True, factory=dict)
    others.type = dict[str, Options]
    wrapper = attrs.make_class("ModeOptions", {name: own, "others__": others}, frozen=True)
    read: T = getattr(auth.modes.structure(wrapper), name)
    return read
