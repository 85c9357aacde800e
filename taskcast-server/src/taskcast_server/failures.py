"""One JSON line per failed request (5xx), for people and machines (wire spec, rest section 7)."""

from __future__ import annotations

import logging
import re
from datetime import UTC, datetime

from taskcast_core import wire
from taskcast_core.engine import TaskEngine
from taskcast_core.errors import StorageError, StoreUnavailable, TaskcastError
from taskcast_server import request_ids

FAILURES = logging.getLogger("taskcast_server.failed_requests")
_MAX_CHARACTERS = 2048
_USERINFO = re.compile(r"(?<=://)[^/\s]*@")
_NAMED = re.compile(r"(?i)\b(password|passwd|secret|token|api_?key)(\s*[=:]\s*)(?!\*\*\*)[^\s,;&\"']+")


def log_failure(method: str, path: str, status: int, error: BaseException | None) -> None:
    """Report a request that the server could not do; the message without credentials of URLs, and cut."""
    facts = {
        "timestamp": datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z"),
        "level": "error",
        "event": "http_request_failed",
        "method": method,
        "path": path,
        "status": status,
        "errorKind": _kind(path, error),
    }
    if request_id := request_ids.current.get():
        facts["requestId"] = request_id
    if error is not None:
        facts["error"] = describe(error)
    FAILURES.error("%s", wire.dumps(facts).decode())


def report_failure(
    engine: TaskEngine, method: str, path: str, status: int, error: BaseException, task_id: str | None
) -> None:
    """`log_failure`, and tell the observers of what nobody expected."""
    log_failure(method, path, status, error)
    unhandled = engine.observers.unhandled_error
    if unhandled is not None and not isinstance(error, TaskcastError):
        unhandled(error=error, operation=f"{method} {path}", task_id=task_id)


def describe(error: BaseException) -> str:
    """An error in one line without secrets."""
    return without_credentials(f"{type(error).__name__}: {error}")[:_MAX_CHARACTERS]


def without_credentials(text: str) -> str:
    """A text without what stands where a credential does: before a host, or behind a word such as ``password=``."""
    return _NAMED.sub(r"\1\2***", _USERINFO.sub("***@", text))


def _kind(path: str, error: BaseException | None) -> str:
    if path.endswith(("/archive", "/import")):
        return "archive"
    return "store" if isinstance(error, StoreUnavailable | StorageError) else "internal"
