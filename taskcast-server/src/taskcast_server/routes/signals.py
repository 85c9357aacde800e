"""Telling a running task something from outside: the answer of a tool, a word of its user."""

from __future__ import annotations

from taskcast_core import wire
from taskcast_core.errors import InvalidInput
from taskcast_core.signals import SignalInput
from taskcast_server.calls import Call
from taskcast_server.options import LimitOptions
from taskcast_server.requests import Fault, is_deeper, text_faults
from taskcast_server.responses import Reply, json_reply
from taskcast_server.routing import Doc, Route


async def signal(call: Call) -> Reply:
    """``POST /tasks/{taskId}/signals``."""
    given = wire.from_wire(await call.json_object(), SignalInput)
    if faults := _faults(given, call.services.limits):
        raise InvalidInput(faults)
    await call.check_rules()
    event = await call.services.engine.signal(call.task_id, given)
    call.note = f"signal: {given.type}"
    return json_reply(wire.to_wire(event), 201)


def _faults(given: SignalInput, limits: LimitOptions) -> list[Fault]:
    """The bounds of events: the signal is the data of one, so its own data may be one level less deep."""
    faults = text_faults(given.type, "type", limits.max_type_length)
    if given.id is not None:
        faults += text_faults(given.id, "id", limits.max_id_length)
    depth = limits.max_json_depth - 1
    if is_deeper(given.data, depth):
        faults.append(("data", f"is nested deeper than {depth} levels"))
    return faults


ROUTES = (
    Route(
        "POST", "/tasks/{taskId}/signals", signal,
        Doc(
            "Send a running task a signal", "Events",
            {
                201: ("the event that it became; a repeat with the same id gets the first one", "TaskEvent"),
                409: "a bound of the task, or the first reply is gone",
                422: "another signal of this task has the id",
            },
            body="SignalInput",
            description=(
                "The task's log gets an event of type `taskcast:signal` and level `info`, whose data is"
                " `{id, type, data}`. Whoever reads the log sees it; type filters match `taskcast:signal`,"
                " never the signal's own type."
            ),
        ),
        scope="task:signal",
    ),
)  # fmt: skip
