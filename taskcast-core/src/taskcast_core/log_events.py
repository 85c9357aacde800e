"""Log lines that people read and machines take apart: an event's name and its facts, never payloads or secrets."""

from __future__ import annotations

import json
import logging
import re
from collections.abc import Mapping

_STORAGE = logging.getLogger("taskcast_core.storage")
_PLAIN = re.compile(r"[^\s\"=\x00-\x1f\x7f]+")


def tell(log: logging.Logger, level: int, event: str, /, **facts: object) -> None:
    """Log an event. The record carries ``event`` and ``facts`` for formatters; facts that are None are left out."""
    _log_event(log, level, event, facts)


def tell_failure(log: logging.Logger, error: BaseException, event: str, /, **facts: object) -> None:
    """Log an event that is a failure, with its stack."""
    _log_event(log, logging.ERROR, event, facts, error)


def _log_event(
    log: logging.Logger, level: int, event: str, facts: Mapping[str, object], error: BaseException | None = None
) -> None:
    if not log.isEnabledFor(level):
        return
    known = {name: value for name, value in facts.items() if value is not None}
    text = " ".join((event, *(f"{name}={shown(value)}" for name, value in known.items())))
    log.log(level, "%s", text, exc_info=error, extra={"event": event, "facts": known}, stacklevel=3)


def shown(value: object) -> str:
    """A fact in a line of text; quoted where it would not be one word, so that no value can forge a line."""
    if isinstance(value, dict | list):
        return json.dumps(value, separators=(",", ":"))
    text = str(value)
    return text if _PLAIN.fullmatch(text) and text.isprintable() else json.dumps(text)


def tell_storage(event: str, level: int = logging.INFO, **facts: object) -> None:
    """Log an event of the storage life cycle (wire spec, storage section 8)."""
    tell(_STORAGE, level, event, component="storage-lifecycle", **facts)
