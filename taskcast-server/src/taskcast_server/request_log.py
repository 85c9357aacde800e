"""What the log says of requests: a line about each in verbose mode (wire spec, rest section 7), else of refused ones.

Requests that failed on our side are told by `taskcast_server.failures`.
"""

from __future__ import annotations

import logging
from datetime import UTC, datetime

from taskcast_core.log_events import tell
from taskcast_server.calls import Call
from taskcast_server.routing import path_of

_log = logging.getLogger("taskcast_server.requests")
_LOGGED_BODY_BYTES = 65_536


def log_refused(call: Call, status: int, took_s: float) -> None:
    """A request that got a 4xx; no query: it may hold a ticket."""
    if _log.isEnabledFor(logging.INFO):
        tell(
            _log, logging.INFO, "http_request_refused",
            method=call.scope["method"], path=path_of(call.scope), status=status,
            code=call.error_code or None, ms=round(took_s * 1000),
        )  # fmt: skip


def request_line(call: Call, status: int, took_s: float) -> str:
    """``[2026-01-31 12:00:00] POST   /tasks  → 201  3ms  (task created)``; no query: it may hold a ticket."""
    path, method = path_of(call.scope), call.scope["method"]
    is_stream = method == "GET" and status == 200 and (path == "/events" or path.endswith("/events"))
    now = datetime.now(UTC).strftime("%Y-%m-%d %H:%M:%S")
    note = _note(call)
    context = f"  ({note})" if note else ""
    shown = "SSE" if is_stream else str(status)
    return f"[{now}] {method:<6} {_printable(path):<35} → {shown}  {round(took_s * 1000)}ms{context}"


def _note(call: Call) -> str:
    length = call.header(b"content-length") or ""
    if length.isdigit() and int(length) > _LOGGED_BODY_BYTES:
        return "body too large to log"
    return _printable(call.note)


def _printable(text: str) -> str:
    return "".join(each if each.isprintable() else "?" for each in text)
