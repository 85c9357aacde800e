"""Signals: what the outside tells a running task, as an entry of the task's own log.

A signal is an ordinary event to everybody who reads: type ``taskcast:signal``, level ``info``, and as its data what
was sent, ``{"id", "type", "data"}``. So it is replayed, resumed after, archived and posted to webhooks like any other.
Type filters see ``taskcast:signal``, never the signal's own type, and ``include_status`` does not concern it.
"""

from __future__ import annotations

from taskcast_core.errors import InvalidInput
from taskcast_core.ids import new_ulid
from taskcast_core.models import EventDraft, JsonValue
from taskcast_core.values import frozen

SIGNAL_TYPE = "taskcast:signal"
SIGNAL_KEY_MS = 24 * 3600 * 1000
"""How long a signal's id is remembered (and among the newest keys of its task only, as with other keys)."""


@frozen
class SignalInput:
    """What somebody tells a task.

    Attributes:
        id: names the signal within its task: sent again, it is not appended again. None makes one up.
    """

    type: str
    data: JsonValue = None
    id: str | None = None


def signal_draft(signal: SignalInput, now: int) -> EventDraft:
    """The log entry of a signal; ``now`` (ms) is for the id of one that has none.

    Raises:
        InvalidInput: the id is empty.
    """
    if signal.id == "":
        raise InvalidInput([("id", "must not be empty")])
    return EventDraft(SIGNAL_TYPE, data={"id": signal.id or new_ulid(now), "type": signal.type, "data": signal.data})
