"""The way around ASGI's messages, where the server lets us: replies in one write, events right into the transport.

A server that can be gone around says so with the ASGI extension ``taskcast.direct``: the `Exchange` of each request.
`taskcast_server.protocol` makes uvicorn such a server. On any other one, or behind a middleware that looks at what is
sent, everything goes through ``receive`` and ``send`` as usual: nothing depends on the extension but what things cost.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from taskcast_server.exchange import Exchange

EXTENSION = "taskcast.direct"

_NOTHING: Mapping[str, Any] = {}


def direct_of(scope: Mapping[str, Any]) -> Exchange | None:
    """The extension, where the server has it."""
    found = scope.get("extensions", _NOTHING).get(EXTENSION)
    return found if isinstance(found, Exchange) else None
