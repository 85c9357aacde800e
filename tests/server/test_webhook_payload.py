"""The bodies that receivers get."""

import json

import pytest

from taskcast_core import wire
from taskcast_core.entries import Entry, Origin
from taskcast_core.ids import new_salt
from taskcast_core.models import EventDraft, Task, TaskError
from taskcast_server.event_text import envelope_text, event_text
from taskcast_server.webhooks.payload import completion_body

DRAFTS = [
    EventDraft(
        "llm.delta", data={"text": "é🎉 \x00"}, series_id="s", series_mode="accumulate", series_acc_field="text"
    ),
    EventDraft("x", "warn", None),
    EventDraft("lone", data="cut \ud83d"),
]


@pytest.mark.parametrize("draft", DRAFTS)
@pytest.mark.parametrize("given_id", [None, 'imported "id"'])
def test_the_body_is_the_event(draft: EventDraft, given_id: str | None) -> None:
    entry = Entry(Origin('task "1"', 0, new_salt()), 7, 1_700_000_000_000, draft, given_id)
    body = event_text(entry)
    assert json.loads(body) == wire.to_wire(entry.event())
    assert b": " not in body.replace(b'"cut ', b"")


def test_the_wrapped_body_is_the_envelope_of_the_stream() -> None:
    entry = Entry(Origin("t", 0, new_salt()), 7, 1_700_000_000_000, DRAFTS[0])
    event = json.loads(event_text(entry))
    envelope = json.loads(envelope_text(entry, 3))
    assert list(envelope)[:4] == ["filteredIndex", "rawIndex", "eventId", "taskId"]
    assert envelope.pop("filteredIndex") == 3 and envelope.pop("rawIndex") == event.pop("index")
    assert envelope.pop("eventId") == event.pop("id") and envelope == event


def test_the_completion_callback() -> None:
    done = Task("t", "completed", 1, 9, type="llm", result={"answer": 42}, completed_at=8, metadata={"order": 5})
    assert json.loads(completion_body(done)) == {
        "taskId": "t", "status": "completed", "type": "llm", "result": {"answer": 42}, "metadata": {"order": 5},
        "createdAt": 1, "finishedAt": 8,
    }  # fmt: skip
    failed = Task("t", "failed", 1, 9, error=TaskError("broken", "E1"), reason="gave up")
    assert json.loads(completion_body(failed)) == {
        "taskId": "t", "status": "failed", "error": {"message": "broken", "code": "E1"}, "reason": "gave up",
        "createdAt": 1, "finishedAt": 9,
    }  # fmt: skip
