"""The log of an existing program as events of a task: one added handler."""

from __future__ import annotations

import logging
from typing import Any

from taskcast_client.errors import ClientError
from taskcast_client.models import Level
from taskcast_client.sync_run import SyncTaskRun

_OWN = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime", "taskName"}
_PLAIN = (str, int, float, bool, type(None))
_INTERNAL = ("taskcast_client", "httpx", "httpcore", "asyncio")


class TaskcastHandler(logging.Handler):
    """Publishes log records as ``task.log`` events; fields given as ``extra`` go along, if they are plain values.

    What this client itself and its HTTP library log is left out: it would speak of its own sending. A record that
    cannot be sent is dropped as `logging` does it, by ``handleError``.
    """

    def __init__(self, task: SyncTaskRun, level: int = logging.NOTSET) -> None:
        super().__init__(level)
        self._task = task

    def emit(self, record: logging.LogRecord) -> None:
        """Publish one record; waits only when too much is waiting already."""
        if record.name.partition(".")[0] in _INTERNAL:
            return
        try:
            self._task.log(record.getMessage(), _level(record.levelno), **self._fields(record))
        except (ClientError, ValueError, TypeError, RuntimeError):
            self.handleError(record)

    def _fields(self, record: logging.LogRecord) -> dict[str, Any]:
        fields: dict[str, Any] = {
            name: value
            for name, value in vars(record).items()
            if name not in _OWN and isinstance(value, _PLAIN) and name not in ("level", "self")
        }
        fields["logger"] = record.name
        if record.exc_info:
            fields["exception"] = (self.formatter or logging.Formatter()).formatException(record.exc_info)
        return fields


def _level(number: int) -> Level:
    if number >= logging.ERROR:
        return "error"
    if number >= logging.WARNING:
        return "warn"
    return "info" if number >= logging.INFO else "debug"
