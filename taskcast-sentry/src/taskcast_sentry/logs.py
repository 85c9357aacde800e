"""Listens to Taskcast's own log for what no hook tells: dependencies that are away, jobs that failed in the background.

By classes and facts alone, never by words: a record counts for the error that it carries, or for its ``event``
(``dependency_state_change``, ``http_request_failed``; wire spec, storage section 9 and rest section 7).
"""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Mapping
from typing import Any

from attrs import frozen

from taskcast_core.errors import StorageError, StoreUnavailable

OURS = "taskcast_"
"""What the loggers of Taskcast and of its distributions begin with."""
_AWAY = ("reconnecting", "unhealthy")
_SEEN = "taskcast_sentry_seen"


@frozen
class Trouble:
    """One record that speaks of trouble.

    Attributes:
        operation: the job, or the part that logged it. task_id: the task that it was about.
        dependency: what is away, where that is known.
        error: what was logged, if an error was. is_outage: a store or broadcast is away or contradicts another.
    """

    operation: str
    message: str
    error: BaseException | None = None
    dependency: str | None = None
    is_outage: bool = False
    task_id: str | None = None


def is_broadcast(dependency: str) -> bool:
    """Whether a dependency carries news rather than tasks, by its name (``redisPubSub``)."""
    return any(word in dependency.lower() for word in ("pubsub", "broadcast"))


class LogWatch(logging.Handler):
    """Hands on what is trouble, while it is begun. Each record once for one ``audience``, however many watches."""

    def __init__(self, tell: Callable[[Trouble], None], audience: object) -> None:
        super().__init__(logging.WARNING)
        self._tell, self._audience = tell, id(audience)

        self._heard: list[logging.Logger] = []

    def begin(self) -> None:
        """Listen to all of Taskcast's loggers: at the root, and at those that do not pass their records on."""
        known = [each for each in logging.root.manager.loggerDict.values() if isinstance(each, logging.Logger)]
        apart = [each for each in known if each.name.startswith(OURS) and not each.propagate]
        self._heard = [logging.root, *apart]
        for logger in self._heard:
            logger.addHandler(self)

    def end(self) -> None:
        """Listen no longer."""
        for logger in self._heard:
            logger.removeHandler(self)

    def emit(self, record: logging.LogRecord) -> None:
        """One record of the log; what fails here is told on standard error, as handlers do."""
        if not record.name.startswith(OURS):
            return
        seen: set[int] = record.__dict__.setdefault(_SEEN, set())
        if self._audience in seen:
            return
        seen.add(self._audience)
        try:
            trouble = trouble_of(record)
            if trouble is not None:
                self._tell(trouble)
        except Exception:  # noqa: BLE001 - whoever logs must not suffer
            self.handleError(record)


def trouble_of(record: logging.LogRecord) -> Trouble | None:
    """What a record tells that somebody should know of; None for everything else."""
    operation = record.name.rpartition(".")[2]
    facts = _facts(record)
    if facts.get("event") == "dependency_state_change":
        if facts.get("to") not in _AWAY:
            return None
        dependency, kind = str(facts.get("dependency")), facts.get("errorKind")
        message = f"{dependency} unavailable ({kind})" if kind else f"{dependency} is {facts['to']}"
        return Trouble(operation, message, dependency=dependency, is_outage=True)
    if facts.get("event") == "http_request_failed":
        if facts.get("errorKind") != "store":
            return None
        return Trouble(str(facts.get("method")), str(facts.get("error")), is_outage=True)
    error = _error(record)
    if isinstance(error, StoreUnavailable):
        return Trouble(operation, str(error), error, error.dependency, is_outage=True)
    if isinstance(error, StorageError):
        return Trouble(operation, str(error), error, is_outage=True)
    is_failure = bool(record.exc_info) and record.levelno >= logging.ERROR
    if not is_failure or error is None:
        return None
    return Trouble(str(facts.get("operation", operation)), str(error), error, task_id=facts.get("taskId"))


def _facts(record: logging.LogRecord) -> Mapping[str, Any]:
    event, facts = getattr(record, "event", None), getattr(record, "facts", None)
    if isinstance(event, str):
        return {**(facts if isinstance(facts, Mapping) else {}), "event": event}
    text = record.getMessage()
    if not text.startswith("{"):
        return {}
    try:
        parsed = json.loads(text)  # the line of a failed request is JSON, whatever the format of the log
    except ValueError:
        return {}
    return parsed if isinstance(parsed, dict) else {}


def _error(record: logging.LogRecord) -> BaseException | None:
    if record.exc_info and record.exc_info[1] is not None:
        return record.exc_info[1]
    values = record.args if isinstance(record.args, tuple) else ()
    return next((each for each in values if isinstance(each, BaseException)), None)
