"""Takes out of texts and values what must not leave the process. Pure, and bounded in time and size."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Mapping
from urllib.parse import urlsplit

from taskcast_core.models import JsonValue, Task

FILTERED = "[Filtered]"
MOST_CHARACTERS = 1_000
"""Of any text that is sent."""
_LOOKED_AT = 8_000
_LEAST_LITERAL = 6
"""Shorter values are words of the language rather than anybody's secret."""
_LEAST_PAYLOAD = 8
_MOST_PAYLOAD = 200
_DEEPEST = 8
_WIDEST = 50

_SENSITIVE = (
    r"(?:pass(?:word|wd|phrase)?|secret|token|api[_-]?key|access[_-]?key|private[_-]?key|authorization|cookie"
    r"|credentials?|signature|ticket|dsn|session)"
)
_SENSITIVE_NAME = re.compile(_SENSITIVE, re.IGNORECASE)
_USERINFO = re.compile(r"(?<=://)[^\s/?#'\"<>]*@")
_SCHEME = re.compile(r"\b(bearer|basic|token)\s+[A-Za-z0-9._~+/=-]{8,}", re.IGNORECASE)
_JWT = re.compile(r"\beyJ[\w-]+\.[\w-]+(?:\.[\w-]*)?")
_PREFIXED = re.compile(r"\b(?:sk|pk|rk|whsec|ghp|gho|ghs|glpat|xox[abprs]|AKIA)[_-]?[A-Za-z0-9_-]{12,}")
_NAMED = re.compile(
    rf"({_SENSITIVE}[\w.-]{{0,40}}+['\"]?\s{{0,3}}[:=]\s{{0,3}}['\"]?)([^\s\"'&,;}}\]]+)", re.IGNORECASE
)
"""Possessive, so that no text takes long."""


class Scrubber:
    """Knows some secrets by their value, and others by how they look.

    Args:
        secrets: values that are replaced wherever they stand.
    """

    def __init__(self, secrets: Iterable[str] = ()) -> None:
        self._literals = _longest_first(each for each in secrets if len(each) >= _LEAST_LITERAL)

    def text(self, text: str, also: Collection[str] = ()) -> str:
        """A text of at most 1,000 characters without secrets, and without the values in ``also``."""
        for literal in (*_longest_first(also), *self._literals):
            text = text.replace(literal, FILTERED)
        text = text[:_LOOKED_AT]
        text = _USERINFO.sub(f"{FILTERED}@", text)
        text = _SCHEME.sub(rf"\1 {FILTERED}", text)
        text = _JWT.sub(FILTERED, text)
        text = _PREFIXED.sub(FILTERED, text)
        text = _NAMED.sub(rf"\1{FILTERED}", text)
        return text if len(text) <= MOST_CHARACTERS else f"{text[: MOST_CHARACTERS - 1]}…"

    def value(self, value: JsonValue, also: Collection[str] = (), depth: int = 0) -> JsonValue:
        """A JSON value without what is secret by its name or by its look; deep and wide ones are cut."""
        if isinstance(value, str):
            return self.text(value, also)
        if depth >= _DEEPEST and isinstance(value, Mapping | list | tuple):
            return "…"
        if isinstance(value, Mapping):
            return {
                str(key): FILTERED if _SENSITIVE_NAME.search(str(key)) else self.value(inner, also, depth + 1)
                for key, inner in list(value.items())[:_WIDEST]
            }
        if isinstance(value, list | tuple):
            return [self.value(inner, also, depth + 1) for inner in value[:_WIDEST]]
        return value


def origin_of(url: str) -> str:
    """Scheme, host and port of a URL: credentials, path and query may all hold secrets."""
    try:
        parts = urlsplit(url)
        port = f":{parts.port}" if parts.port else ""
    except ValueError:
        return "an invalid URL"
    return f"{parts.scheme}://{parts.hostname}{port}" if parts.scheme and parts.hostname else "an invalid URL"


def secrets_of(task: Task) -> set[str]:
    """The secrets that a task carries: those of its webhooks, their URLs' credentials, paths and queries included."""
    found: set[str] = set()
    for webhook in task.webhooks or ():
        found |= {webhook.secret} if webhook.secret else set()
        found |= parts_of_url(webhook.url)
    return {each for each in found if len(each) >= _LEAST_LITERAL}


def payload_of(task: Task) -> set[str]:
    """The longer texts of params, metadata and result: what an error message may quote. Bounded."""
    found: set[str] = set()
    waiting: list[JsonValue] = [task.params, task.metadata, task.result, task.error.details if task.error else None]
    while waiting and len(found) < _MOST_PAYLOAD:
        value = waiting.pop()
        if isinstance(value, str):
            found |= {value} if len(value) >= _LEAST_PAYLOAD else set()
        elif isinstance(value, Mapping):
            waiting.extend(value.values())
        elif isinstance(value, list | tuple):
            waiting.extend(value)
    return found


def parts_of_url(url: str) -> set[str]:
    """The secret parts of a URL that may be quoted alone: the whole, its user and password, its path and query."""
    try:
        parts = urlsplit(url)
    except ValueError:
        return {url}
    return {each for each in (url, parts.username, parts.password, parts.path.strip("/"), parts.query) if each}


def _longest_first(texts: Iterable[str]) -> tuple[str, ...]:
    return tuple(sorted(set(texts), key=len, reverse=True))
