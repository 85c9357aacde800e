"""Pieces of route documentation that several modules use."""

from __future__ import annotations

from typing import Any

from taskcast_server.routing import Parameter

INTEGER = {"type": "integer"}

ASSIGNMENT = Parameter("X-Taskcast-Assignment", "the assignment that the caller acts for", "header")
IDEMPOTENCY = Parameter("Idempotency-Key", "a repeat with the same key and body gets the first reply", "header")
TYPES = Parameter("types", "comma-separated type patterns: `*`, `a.*` or exact")
LEVELS = Parameter("levels", "comma-separated levels")
SINCE = (
    Parameter("since.id", "after the event with this id"),
    Parameter("since.index", "after this index", schema=INTEGER),
    Parameter("since.timestamp", "after this time (Unix ms)", schema=INTEGER),
)
STREAM = (200, ("the event stream", {"type": "string"}, "text/event-stream"))


def lists_of(name: str) -> dict[str, Any]:
    """A schema: a list of these."""
    return {"type": "array", "items": reference(name)}


def reference(name: str) -> dict[str, Any]:
    """A schema: the component of this name."""
    return {"$ref": f"#/components/schemas/{name}"}


def record(**properties: Any) -> dict[str, Any]:
    """A schema: an object with all these properties."""
    return {"type": "object", "properties": properties, "required": list(properties)}
