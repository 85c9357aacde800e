"""The API document, and a page that shows it without any network."""

from __future__ import annotations

from collections.abc import Sequence
from importlib.resources import files

from taskcast_core import wire
from taskcast_server.calls import Call
from taskcast_server.openapi import document
from taskcast_server.responses import Reply
from taskcast_server.routing import Doc, Handler, Route

_HTML = (b"content-type", b"text/html; charset=utf-8")
_CONFINED = (
    b"content-security-policy",
    b"default-src 'none'; style-src 'unsafe-inline'; script-src 'unsafe-inline'; connect-src 'self'",
)


def routes_about(others: Sequence[Route]) -> tuple[Route, ...]:
    """``/openapi.json`` and ``/docs``, which describe the other routes and themselves."""
    own: list[Route] = []
    text: list[bytes] = []

    async def openapi(_: Call) -> Reply:
        """``GET /openapi.json``."""
        if not text:
            text.append(wire.dumps(document([*others, *own])))
        return Reply(200, text[0])

    async def page(_: Call) -> Reply:
        """``GET /docs``."""
        return Reply(200, files("taskcast_server").joinpath("docs.html").read_bytes(), (_HTML, _CONFINED))

    own += [
        _public("/openapi.json", openapi, "This document", "application/json", {"type": "object"}),
        _public("/docs", page, "A page that shows this document", "text/html", {"type": "string"}),
    ]
    return tuple(own)


def _public(path: str, handler: Handler, summary: str, media_type: str, schema: dict[str, str]) -> Route:
    return Route("GET", path, handler, Doc(summary, "Docs", {200: ("it", schema, media_type)}))
