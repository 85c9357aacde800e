"""The log of the server: lines for people or JSON, on standard error."""

from __future__ import annotations

import json
import logging
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import Any

from taskcast_core.log_events import shown
from taskcast_server import request_ids
from taskcast_server.failures import without_credentials
from taskcast_server.log_levels import NAMES, set_level


def set_up_logging(level: str, *, as_json: bool) -> None:
    """Send the log to standard error, from this level on (debug, info, warn, error)."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(JsonFormatter() if as_json else TextFormatter())
    logging.getLogger().handlers[:] = [handler]
    set_level(level)


@contextmanager
def failures_told_once() -> Iterator[None]:
    """Keep uvicorn from logging why the start failed: whoever started the server tells it."""
    logger = logging.getLogger("uvicorn.error")
    logger.addFilter(_is_no_start_failure)
    try:
        yield
    finally:
        logger.removeFilter(_is_no_start_failure)


def _is_no_start_failure(record: logging.LogRecord) -> bool:
    return record.module != "on"  # uvicorn.lifespan.on


class TextFormatter(logging.Formatter):
    """``[taskcast] warn: message``; with the time in front where it goes to a file or a collector.

    Events (see `taskcast_core.log_events`) are a name and facts: ``task_created taskId=01J… requestId=…``.
    """

    def __init__(self) -> None:
        super().__init__()
        self._with_time = not sys.stderr.isatty()

    def format(self, record: logging.LogRecord) -> str:
        """One line, and the traceback below it if there is one."""
        time = f"{_time(record)} " if self._with_time else ""
        request = request_ids.current.get()
        shown_request = f" requestId={shown(request)}" if request and hasattr(record, "event") else ""
        line = f"{time}[taskcast] {_level(record)}: {without_credentials(record.getMessage())}{shown_request}"
        return f"{line}\n{_trace(self, record)}" if record.exc_info else line


class JsonFormatter(logging.Formatter):
    """One JSON object per line: timestamp, level, logger, message, requestId where a request is the reason.

    Of an event, in place of the message, its name (``event``) and its facts, each under a key of its own. ``error``:
    the traceback, where there is one.
    """

    def format(self, record: logging.LogRecord) -> str:
        """The record as one line."""
        told: dict[str, Any] = {"timestamp": _time(record), "level": _level(record), "logger": record.name}
        event = getattr(record, "event", None)
        if event is None:
            told["message"] = without_credentials(record.getMessage())
        else:
            told["event"] = event
            facts = getattr(record, "facts", {})
            told |= {name: value for name, value in facts.items() if name not in told}
        if request := request_ids.current.get():
            told["requestId"] = request
        if record.exc_info:
            told["error"] = _trace(self, record)
        return json.dumps(told, ensure_ascii=False, default=str)


def _trace(formatter: logging.Formatter, record: logging.LogRecord) -> str:
    assert record.exc_info is not None
    return without_credentials(formatter.formatException(record.exc_info))


def _time(record: logging.LogRecord) -> str:
    return datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def _level(record: logging.LogRecord) -> str:
    return NAMES.get(record.levelno, record.levelname.lower())
