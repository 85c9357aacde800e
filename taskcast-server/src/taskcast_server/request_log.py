"""The line about a request that verbose mode prints (wire spec, rest section 7)."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

from taskcast_server.calls import Call
from taskcast_server.routing import path_of

_LOGGED_BODY_BYTES = 65_536


def request_line(scope: Mapping[str, Any], status: int, took_s: float, call: Call | None) -> str:
    """``[2026-01-31 12:00:00] POST   /tasks  → 201  3ms  (task created)``; no query: it may hold a ticket."""
    path = path_of(scope)
    is_stream = scope["method"] == "GET" and status == 200 and (path == "/events" or path.endswith("/events"))
    now = datetime.now(UTC).strftime("%Y-%m-%d %H:%M:%S")
    note = _note(scope, call)
    context = f"  ({note})" if note else ""
    shown = "SSE" if is_stream else str(status)
    return f"[{now}] {scope['method']:<6} {_printable(path):<35} → {shown}  {round(took_s * 1000)}ms{context}"


def _note(scope: Mapping[str, Any], call: Call | None) -> str:
    length = dict(scope["headers"]).get(b"content-length", b"")
    if length.isdigit() and int(length) > _LOGGED_BODY_BYTES:
        return "body too large to log"
    return "" if call is None else _printable(call.note)


def _printable(text: str) -> str:
    return "".join(each if each.isprintable() else "?" for each in text)
