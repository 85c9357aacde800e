"""An authenticator for a server behind a proxy that has logged people in: it says who they are, and proves itself."""

from __future__ import annotations

import hmac
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from attrs import frozen

from taskcast_core import Registry, hookimpl
from taskcast_core.config import option
from taskcast_core.contracts import Connection, Principal
from taskcast_core.errors import Unauthorized

READERS = frozenset({"event:subscribe", "event:history"})


@frozen
class ProxyOptions:
    """``auth.proxy``, with ``auth.mode: proxy``."""

    secret: str = option(env="PROXY_SECRET", secret=True, help="what the proxy sends as x-proxy-secret")
    admins: tuple[str, ...] = option((), help="people who may do everything; the others may read")


class ProxyAuthenticator:
    def __init__(self, options: ProxyOptions) -> None:
        self._secret, self._admins = options.secret.encode(), frozenset(options.admins)

    async def authenticate(self, connection: Connection) -> Principal:
        given = connection.headers.get("x-proxy-secret", "").encode()
        user = connection.headers.get("x-user")
        if not hmac.compare_digest(given, self._secret) or not user:
            raise Unauthorized("This server is reached through its proxy only")
        scopes = frozenset({"*"}) if user in self._admins else READERS
        return Principal(scopes, subject=user, name=f"user:{user}")


@asynccontextmanager
async def open_authenticator(options: ProxyOptions) -> AsyncIterator[ProxyAuthenticator]:
    yield ProxyAuthenticator(options)


@hookimpl
def taskcast_authenticators(registry: Registry) -> None:
    registry.add("proxy", open_authenticator, options=ProxyOptions)
