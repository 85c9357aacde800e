"""Which pages of other origins may call: Starlette's rules, given to the reply on its way in.

Starlette's middleware puts its headers into whatever is sent, and so stands between each reply and the connection. Here
the request brings them along, nothing looks at what is sent, and streams go right into the transport for pages, too.
"""

from __future__ import annotations

from starlette.datastructures import Headers
from starlette.middleware.cors import CORSMiddleware
from starlette.types import Message, Receive, Scope, Send

from taskcast_server.calls import REPLY_HEADERS


class Cors(CORSMiddleware):
    """CORS for an application that adds the ``REPLY_HEADERS`` of a scope to its replies."""

    async def simple_response(self, scope: Scope, receive: Receive, send: Send, request_headers: Headers) -> None:
        """Answer a request that is no preflight."""
        empty: Message = {"type": "http.response.start", "headers": []}
        await self.send(empty, _nowhere, request_headers)
        await self.app({**scope, REPLY_HEADERS: tuple(empty["headers"])}, receive, send)


async def _nowhere(_: Message) -> None:
    """What is asked for is the headers alone."""
