"""The two authenticators that look at nothing: everybody is welcome, nobody is."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from taskcast_core.contracts.auth import Authenticator, Connection, Principal
from taskcast_core.errors import Unauthorized

OPEN_NAME = "open"
"""The name of the principal of mode ``none``; those of the other modes hold a ``:`` or ``#``."""

OPEN = Principal(scopes=frozenset({"*"}), name=OPEN_NAME)
"""Everybody, where authentication is switched off: every scope, all tasks."""


class OpenAuthenticator:
    """Mode ``none``: an Authorization header is ignored."""

    async def authenticate(self, connection: Connection) -> Principal:
        """The open principal, always."""
        return OPEN


class NobodyAuthenticator:
    """Stands in for a mode without its settings."""

    async def authenticate(self, connection: Connection) -> Principal:
        """Refuse, always.

        Raises:
            Unauthorized: always.
        """
        raise Unauthorized("Unauthorized")


@asynccontextmanager
async def open_none() -> AsyncIterator[Authenticator]:
    """The authenticator of mode ``none``."""
    yield OpenAuthenticator()
