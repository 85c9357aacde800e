"""The bearer token of a request."""

from __future__ import annotations

from taskcast_core.contracts.auth import Connection

PREFIX = "Bearer "


def bearer_token(connection: Connection) -> str | None:
    """What follows ``Bearer `` (case-sensitive, by the wire spec) in the Authorization header; None without it."""
    header = connection.headers.get("authorization")
    return header[len(PREFIX) :] if header is not None and header.startswith(PREFIX) else None
