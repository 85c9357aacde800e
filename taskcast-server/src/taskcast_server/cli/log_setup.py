"""The log of the server: lines for people or JSON, on standard error."""

from __future__ import annotations

import json
import logging
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import Any

_LEVELS = {"debug": logging.DEBUG, "info": logging.INFO, "warn": logging.WARNING, "error": logging.ERROR}
_NAMES = {logging.DEBUG: "debug", logging.INFO: "info", logging.WARNING: "warn", logging.ERROR: "error"}
_CHATTY = ("httpx", "httpcore", "asyncio", "uvicorn", "websockets")
"""Libraries whose news is of interest only when it is bad."""


def set_up_logging(level: str, *, as_json: bool) -> None:
    """Send the log to standard error, from this level on (debug, info, warn, error)."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(JsonFormatter() if as_json else TextFormatter())
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(_LEVELS[level])
    for name in _CHATTY:
        logging.getLogger(name).setLevel(max(_LEVELS[level], logging.WARNING))


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
    """``[taskcast] warn: message``; with the time in front where it goes to a file or a collector."""

    def __init__(self) -> None:
        super().__init__()
        self._with_time = not sys.stderr.isatty()

    def format(self, record: logging.LogRecord) -> str:
        """One line, and the traceback below it if there is one."""
        time = f"{_time(record)} " if self._with_time else ""
        line = f"{time}[taskcast] {_level(record)}: {record.getMessage()}"
        return f"{line}\n{self.formatException(record.exc_info)}" if record.exc_info else line


class JsonFormatter(logging.Formatter):
    """One JSON object per line: timestamp, level, logger, message, and error where there is one."""

    def format(self, record: logging.LogRecord) -> str:
        """The record as one line."""
        facts: dict[str, Any] = {
            "timestamp": _time(record), "level": _level(record), "logger": record.name, "message": record.getMessage(),
        }  # fmt: skip
        if record.exc_info:
            facts["error"] = self.formatException(record.exc_info)
        return json.dumps(facts, ensure_ascii=False)


def _time(record: logging.LogRecord) -> str:
    return datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def _level(record: logging.LogRecord) -> str:
    return _NAMES.get(record.levelno, record.levelname.lower())
