"""What workers and the server say to each other on the WebSocket: messages taken apart, and faults named."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from taskcast_core import wire
from taskcast_core.errors import Forbidden, InvalidInput, TaskcastError
from taskcast_core.models import MatchRule, Task
from taskcast_core.workers import ClaimFailed

_LONGEST = 1 << 20  # characters of a message
_TROUBLE = {
    "register": "REGISTER_ERROR", "update": "UPDATE_ERROR", "accept": "CLAIM_ERROR", "claim": "CLAIM_ERROR",
    "decline": "DECLINE_ERROR", "drain": "DRAIN_ERROR",
}  # fmt: skip

Message = Mapping[str, Any]


class ProtocolError(TaskcastError):
    """A message that is not understood, or cannot be followed now."""

    def __init__(self, message: str, code: str) -> None:
        self.told = code
        super().__init__(message)


def summary_of(task: Task) -> dict[str, Any]:
    """What a worker is told of a task before it is the worker's."""
    shown = {"id": task.id, "type": task.type, "tags": task.tags, "cost": task.cost, "params": task.params}
    return {name: value for name, value in shown.items() if value is not None}


def parsed(text: str | bytes) -> dict[str, Any]:
    """A worker's message: an object with a ``type``.

    Raises:
        ProtocolError: it is none, or too long.
    """
    if len(text) > _LONGEST:
        raise ProtocolError(f"A message has at most {_LONGEST} characters", "MESSAGE_TOO_LARGE")
    try:
        message = wire.loads(text)
    except InvalidInput:
        raise ProtocolError("Invalid JSON", "PARSE_ERROR") from None
    if not isinstance(message, dict) or not isinstance(message.get("type"), str):
        raise ProtocolError("Invalid message: an object with a type is expected", "PARSE_ERROR")
    return message


def task_id_of(message: Message) -> str:
    """The task that a message is about. Raises ProtocolError: none is named."""
    task_id = message.get("taskId")
    if not isinstance(task_id, str):
        raise ProtocolError("taskId is required and must be a string", "INVALID_MESSAGE")
    return task_id


def facts_of(message: Message) -> tuple[float | None, int | None, MatchRule | None]:
    """A worker's weight, capacity and rule, as far as they are given.

    Raises:
        InvalidInput.
    """
    weight, capacity, rule = message.get("weight"), message.get("capacity"), message.get("matchRule")
    faults = []
    if weight is not None and (isinstance(weight, bool) or not isinstance(weight, int | float)):
        faults.append(("weight", "expected a number"))
    if (
        capacity is not None
        and not isinstance(capacity, bool)
        and isinstance(capacity, float)
        and capacity.is_integer()
    ):
        capacity = int(capacity)
    if capacity is not None and (isinstance(capacity, bool) or not isinstance(capacity, int) or capacity >= 2**53):
        faults.append(("capacity", "expected an integer"))
    if faults:
        raise InvalidInput(faults)
    return weight, capacity, None if rule is None else wire.from_wire(rule, MatchRule)


def code_of(error: Exception, kind: str) -> str:
    """The ``code`` of the error message that answers a message of that kind."""
    if isinstance(error, ProtocolError):
        return error.told
    if isinstance(error, Forbidden):
        return "FORBIDDEN"
    if isinstance(error, ClaimFailed):
        return "CLAIM_FAILED"
    return _TROUBLE.get(kind, "INTERNAL_ERROR")
