"""The server itself."""

from __future__ import annotations

from collections.abc import Sequence

from taskcast_client.calls.call import (
    Call,
    present,
    reading,
    writing,
)
from taskcast_client.models import AdminToken, JsonObject, Readiness, ServerInfo
from taskcast_client.wire import from_wire


def get_server_info() -> Call[ServerInfo]:
    """Which server answers."""
    return reading("/", ServerInfo)


def get_health() -> Call[JsonObject]:
    """Whether the server lives."""
    return Call("GET", "/health", lambda reply: dict(reply.json()))


def get_readiness() -> Call[Readiness]:
    """Whether the server and its stores can work; no error when they cannot."""
    return Call("GET", "/health/ready", lambda reply: from_wire(Readiness, reply.json()), accepts=frozenset({503}))


def get_health_detail() -> Call[JsonObject]:
    """Everything that the server tells of its state."""
    return Call("GET", "/health/detail", lambda reply: dict(reply.json()))


def create_admin_token(
    admin_token: str, *, scopes: Sequence[str] | None = None, expires_in_s: int | None = None
) -> Call[AdminToken]:
    """A bearer token made by the server, for whoever knows its admin token.

    Raises:
        NotFound: the server offers none. Unauthorized: the admin token is wrong.
    """
    body = {
        "adminToken": admin_token,
        "scopes": None if scopes is None else list(scopes),
        "expiresIn": expires_in_s,
    }
    return writing("POST", "/admin/token", AdminToken, present(body), repeat="safe")
