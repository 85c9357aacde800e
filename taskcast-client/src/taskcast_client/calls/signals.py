"""Signals: telling a running task something from outside, the answers to its tool calls above all."""

from __future__ import annotations

from typing import Any
from uuid import uuid4

from taskcast_client.calls.call import Call, task_path, writing
from taskcast_client.models import TOOL_RESULT_SIGNAL, Event


def send_signal(task_id: str, type: str, data: Any = None, *, id: str | None = None) -> Call[Event]:
    """Tell a running task something (scope ``task:signal``); the event of type ``taskcast:signal`` that it became.

    ``id``: names the signal within its task, which takes each once; a new one by default.

    Raises:
        TaskEnded: nobody is left to be told. IdempotencyConflict: another signal of this task has that id.
    """
    body = {"type": type, "data": data, "id": uuid4().hex if id is None else id}
    return writing("POST", f"{task_path(task_id)}/signals", Event, body, repeat="safe")


def tool_result(task_id: str, call_id: str, result: Any = None, *, error: str | None = None) -> Call[Event]:
    """Answer a tool call that a task is waiting for, with a result or with why there is none. The first answer counts.

    Raises:
        IdempotencyConflict: the call has been answered otherwise. TaskEnded: nobody waits any more.
    """
    answer = {"callId": call_id, "result": result} if error is None else {"callId": call_id, "error": error}
    return send_signal(task_id, TOOL_RESULT_SIGNAL, answer, id=f"{TOOL_RESULT_SIGNAL}:{call_id}")
