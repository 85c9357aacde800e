"""An embedder's own function as authenticator.

The function is given the connection (headers and query parameters) and returns, or awaits, one of

- a `Principal`;
- a mapping with the claims of the wire spec: ``{"taskIds": "*", "scope": ["event:subscribe"], "sub":
  "user-1"}``;
- None: the request gets 401 ``Unauthorized``.

It may raise `Unauthorized` or `Forbidden` with a message of its own. It runs on the event loop: plain functions
must not block.

"""

from __future__ import annotations

import inspect
import logging
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from importlib import import_module
from typing import Any

from taskcast_core.contracts.auth import Authenticator, Connection, Principal
from taskcast_core.errors import ConfigError, Unauthorized
from taskcast_server.auth.claims import MalformedClaims, principal_of
from taskcast_server.auth.none import NobodyAuthenticator
from taskcast_server.auth.options import CustomOptions

_log = logging.getLogger(__name__)

Answer = Principal | Mapping[str, Any] | None
Authenticate = Callable[[Connection], Answer | Awaitable[Answer]]


class CustomAuthenticator:
    """Asks the function; see the module for what it may answer."""

    def __init__(self, authenticate: Authenticate) -> None:
        self._authenticate = authenticate

    async def authenticate(self, connection: Connection) -> Principal:
        """The function's answer as a principal.

        Raises:
            Unauthorized: the answer was None, or nothing that can be understood (which is logged).
        """
        answer: object = self._authenticate(connection)
        if inspect.isawaitable(answer):
            answer = await answer
        if isinstance(answer, Principal):
            return answer
        if isinstance(answer, Mapping):
            try:
                return principal_of(answer, "custom")
            except MalformedClaims as error:
                _log.error("the custom authenticator gave a malformed %s; the request is refused", error)
        elif answer is not None:
            _log.error("the custom authenticator gave a %s; the request is refused", type(answer).__name__)
        raise Unauthorized("Unauthorized")


@asynccontextmanager
async def open_custom(options: CustomOptions) -> AsyncIterator[Authenticator]:
    """The authenticator of mode ``custom``; without a function, every request is refused.

    Raises:
        ConfigError: what is configured is no callable, or cannot be imported.
    """
    if options.authenticate is None:
        _log.warning("auth.mode is custom, but there is no auth.custom.authenticate: every request gets 401")
        yield NobodyAuthenticator()
    else:
        yield CustomAuthenticator(_callable(options.authenticate))


def _callable(given: object) -> Authenticate:
    found = given
    if isinstance(given, str):
        module, _, attribute = given.partition(":")
        try:
            found = getattr(import_module(module), attribute)
        except (ImportError, AttributeError, ValueError) as error:
            raise ConfigError(f'auth.custom.authenticate: "{given}" cannot be imported: {error}') from error
    if not callable(found):
        raise ConfigError(f"auth.custom.authenticate must be a callable or module:attribute, not {found!r}")
    authenticate: Authenticate = found
    return authenticate
