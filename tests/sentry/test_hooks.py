"""What Sentry is told of, by the wire spec's table; through the real SDK, to a server of our own."""

from __future__ import annotations

import json
import logging
import time
from typing import Any

import pytest
import sentry_sdk

from taskcast_core.errors import StorageIntegrityError, StoreUnavailable
from taskcast_core.models import Event, EventDraft, Task, TaskError, WebhookConfig
from taskcast_core.observers import Observers
from taskcast_sentry import Levels
from tests.fixtures.sentry_sink import KEY, LEGACY_SECRET, SentrySink
from tests.sentry.conftest import OpenHooks

TASK = Task("01TASK", "failed", 1_000, 2_000, type="llm.chat", params={"prompt": "the prompt of the caller"})
EVENT = Event("01TASK-1-0", "01TASK", 0, 1_700_000_000_000, "llm.delta", "info", {"delta": "a word of the answer"})


def exception_of(event: dict[str, Any]) -> dict[str, Any]:
    (value,) = event["exception"]["values"]
    found: dict[str, Any] = value
    return found


def boom(secret: str) -> Exception:
    """An error with a stack that holds a local variable."""
    try:
        raise RuntimeError("it broke")
    except RuntimeError as error:
        assert secret
        return error


def test_a_failed_task_is_an_exception(hooks: OpenHooks, sink: SentrySink) -> None:
    hooks().task_failed(TASK, TaskError("no capacity", "overloaded", {"region": "north"}))
    (event,) = sink.wait_for(1)
    assert exception_of(event)["value"] == "Task failed [01TASK]: no capacity"
    assert event["tags"] == {"taskId": "01TASK", "status": "failed", "errorCode": "overloaded"}
    assert event["extra"] == {
        "params": "[Filtered]",
        "error": {"message": "no capacity", "code": "overloaded", "details": "[Filtered]"},
    }
    assert event["level"] == "error"
    assert event["transaction"] == "llm.chat"
    assert event["release"].startswith("taskcast@")


def test_params_and_details_go_along_when_asked(hooks: OpenHooks, sink: SentrySink) -> None:
    task = Task("01TASK", "failed", 1, 2, params={"prompt": "hello", "apiKey": "sk-123", "more": {"password": "pw"}})
    hooks(send_payloads=True).task_failed(task, TaskError("no", details={"reply": "hello there", "token": "t"}))
    (event,) = sink.wait_for(1)
    assert event["tags"]["errorCode"] == "unknown"
    assert event["extra"]["params"] == {"prompt": "hello", "apiKey": "[Filtered]", "more": {"password": "[Filtered]"}}
    assert event["extra"]["error"]["details"] == {"reply": "hello there", "token": "[Filtered]"}


def test_failures_of_one_kind_are_one_issue(hooks: OpenHooks, sink: SentrySink) -> None:
    told = hooks()
    for number, code in enumerate([None, None, "a", "b"]):
        task = Task(f"01TASK{number}", "failed", 1, 2, type="t")
        told.task_failed(task, TaskError(f"timed out after {number} s", code))
    first, second, a, b = sink.wait_for(4)
    assert first["fingerprint"] == second["fingerprint"]
    assert len({json.dumps(each["fingerprint"]) for each in (first, a, b)}) == 3


def test_a_timeout_is_a_message(hooks: OpenHooks, sink: SentrySink) -> None:
    hooks().task_timed_out(Task("01TASK", "timeout", 1, 2))
    (event,) = sink.wait_for(1)
    assert event["message"] == "Task timed out [01TASK]"
    assert event["level"] == "warning"
    assert event["tags"] == {"taskId": "01TASK", "status": "timeout"}


def test_a_dropped_event_is_a_message_without_its_data(hooks: OpenHooks, sink: SentrySink) -> None:
    told = hooks()
    told.event_dropped(EVENT, "set aside")
    told.event_dropped(EventDraft("llm.delta", data="a word of the answer"), "no room")
    stored, draft = sink.wait_for(2)
    assert stored["message"] == "Event dropped [01TASK-1-0]: set aside"
    assert stored["tags"] == {"taskId": "01TASK", "eventType": "llm.delta"}
    assert draft["message"] == "Event dropped [-]: no room"
    assert b"a word of the answer" not in sink.raw


def test_a_webhook_that_was_given_up_is_its_error(hooks: OpenHooks, sink: SentrySink) -> None:
    config = WebhookConfig("https://user:hunter22@hooks.example:8443/services/T0/B0/xyzzy?key=1", secret="whsecret")
    hooks().webhook_failed(config, boom("local value"))
    (event,) = sink.wait_for(1)
    assert exception_of(event)["value"] == "it broke"
    assert event["tags"] == {"webhookUrl": "https://hooks.example:8443"}
    for secret in (b"hunter22", b"xyzzy", b"whsecret", b"local value"):
        assert secret not in sink.raw


def test_an_unhandled_error_has_its_stack_without_variables(hooks: OpenHooks, sink: SentrySink) -> None:
    hooks().unhandled_error(boom("local value"), "POST /tasks", "01TASK")
    (event,) = sink.wait_for(1)
    assert event["tags"] == {"operation": "POST /tasks", "taskId": "01TASK"}
    frames = exception_of(event)["stacktrace"]["frames"]
    assert frames[-1]["function"] == "boom"
    assert not any("vars" in frame for frame in frames)
    assert b"local value" not in sink.raw


@pytest.mark.parametrize(
    ("option", "hook"),
    [
        ("capture_task_failures", "task_failed"),
        ("capture_task_timeouts", "task_timed_out"),
        ("capture_dropped_events", "event_dropped"),
        ("capture_dropped_events", "webhook_failed"),
    ],
)
def test_what_is_switched_off_is_no_hook_at_all(hooks: OpenHooks, option: str, hook: str) -> None:
    assert getattr(Observers(hooks()), hook) is not None
    assert getattr(Observers(hooks(**{option: False})), hook) is None


def test_traces_are_off_unless_asked_for(hooks: OpenHooks) -> None:
    observers = Observers(hooks())
    assert observers.events_committed is None
    assert observers.subscriber_connected is None
    assert observers.subscriber_disconnected is None


def test_unhandled_storage_and_broadcast_errors_each_have_their_switch(hooks: OpenHooks, sink: SentrySink) -> None:
    errors = {
        "capture_unhandled_errors": RuntimeError("it broke"),
        "capture_storage_errors": StoreUnavailable("postgres", "timeout"),
        "capture_broadcast_errors": StoreUnavailable("redisPubSub", "connection_refused"),
    }
    for option, error in errors.items():
        silent, loud = hooks(**{option: False}), hooks()
        sink.clear()
        silent.unhandled_error(error, "deadlines", None)
        loud.unhandled_error(error, "deadlines", None)
        (event,) = sink.wait_for(1)
        assert event["tags"]["operation"] == "deadlines"


def test_only_the_asked_for_types_are_reported(hooks: OpenHooks, sink: SentrySink) -> None:
    told = hooks(task_types=["llm.*"])
    told.task_failed(Task("1", "failed", 1, 2, type="batch.import"), TaskError("x"))
    told.task_failed(Task("2", "failed", 1, 2), TaskError("x"))
    told.task_timed_out(Task("3", "timeout", 1, 2, type="batch.import"))
    told.task_failed(TASK, TaskError("x"))
    (event,) = sink.wait_for(1)
    assert event["tags"]["taskId"] == "01TASK"


def test_levels_are_the_operators(hooks: OpenHooks, sink: SentrySink) -> None:
    levels = Levels("warning", "info", "debug", "fatal", "fatal", "warning")
    told = hooks(levels=levels)
    told.task_failed(TASK, None)
    told.task_timed_out(TASK)
    told.event_dropped(EVENT, "x")
    told.webhook_failed(WebhookConfig("https://a.example/"), boom("x"))
    told.unhandled_error(boom("x"), "x", None)
    told.unhandled_error(StoreUnavailable("redisCommand"), "x", None)
    assert [each["level"] for each in sink.wait_for(6)] == ["warning", "info", "debug", "fatal", "fatal", "warning"]


def test_a_stream_is_a_transaction_of_its_length(hooks: OpenHooks, sink: SentrySink) -> None:
    hooks(trace_sse_connections=True).subscriber_disconnected("01TASK", "client-1", 90_000)
    (found,) = sink.wait_for(1, "transaction")
    assert found["transaction"] == "GET /tasks/{taskId}/events"
    assert found["contexts"]["trace"]["op"] == "taskcast.sse"
    assert found["tags"] == {"taskId": "01TASK", "clientId": "client-1"}
    assert seconds(found) == pytest.approx(90, abs=0.01)


def test_a_commit_is_a_transaction_without_the_data(hooks: OpenHooks, sink: SentrySink) -> None:
    hooks(trace_event_publish=True).events_committed("01TASK", [EVENT, EVENT])
    (found,) = sink.wait_for(1, "transaction")
    assert found["transaction"] == "event publish"
    assert found["tags"] == {"taskId": "01TASK", "eventType": "llm.delta", "events": "2"}
    assert b"a word of the answer" not in sink.raw


def test_a_share_of_the_traces_is_sent(hooks: OpenHooks, sink: SentrySink, client: sentry_sdk.Client) -> None:
    never = hooks(trace_event_publish=True, trace_sse_connections=True, traces_sample_rate=0.0)
    for _ in range(20):
        never.events_committed("01TASK", [EVENT])
        never.subscriber_disconnected("01TASK", "c", 5)
    half = hooks(trace_event_publish=True, traces_sample_rate=0.5)
    for _ in range(60):
        half.events_committed("01TASK", [EVENT])
        client.flush(timeout=10)
    assert 5 < len(sink.items("transaction")) < 55


def seconds(transaction: dict[str, Any]) -> float:
    from datetime import datetime

    begin, end = (datetime.fromisoformat(transaction[name]) for name in ("start_timestamp", "timestamp"))
    return (end - begin).total_seconds()


# ── What only the log knows ───────────────────────────────────────────────────────────────────────────────────────────


def state_change(dependency: str, to: str) -> None:
    facts = {"dependency": dependency, "from": "healthy", "to": to, "errorKind": "connection_refused"}
    extra = {"event": "dependency_state_change", "facts": facts}
    logging.getLogger("taskcast_redis.health").warning("dependency_state_change %s", facts, extra=extra)


def test_a_dependency_that_goes_away_is_told_of_once(hooks: OpenHooks, sink: SentrySink) -> None:
    hooks()
    for to in ("reconnecting", "unhealthy", "healthy", "reconnecting"):
        state_change("redisCommand", to)
        state_change("redisPubSub", to)
    logging.getLogger("taskcast_core.deadlines").warning("deadlines wait: %s", StoreUnavailable("redisCommand"))
    storage, broadcast = sink.wait_for(2)
    assert storage["message"] == "Storage error: redisCommand unavailable (connection_refused)"
    assert storage["tags"]["dependency"] == "redisCommand"
    assert broadcast["message"] == "Broadcast error: redisPubSub unavailable (connection_refused)"


def test_copies_that_disagree_are_told_of(hooks: OpenHooks, sink: SentrySink) -> None:
    hooks()
    error = StorageIntegrityError("entry 7 is another one")
    logging.getLogger("taskcast_core.archive").warning("archiving %s waits: %s", "01TASK", error)
    (event,) = sink.wait_for(1)
    assert event["message"] == "Storage error: entry 7 is another one"


def test_a_job_that_fails_in_the_background_is_told_of_once(hooks: OpenHooks, sink: SentrySink) -> None:
    hooks()
    for _ in range(3):
        try:
            raise KeyError("local value")
        except KeyError:
            logging.getLogger("taskcast_core.followers").exception("lane failed")
    (event,) = sink.wait_for(1)
    assert exception_of(event)["type"] == "KeyError"
    assert event["tags"] == {"operation": "followers"}


def test_what_the_log_and_the_hook_both_tell_of_is_told_once(hooks: OpenHooks, sink: SentrySink) -> None:
    told = hooks()
    log, error = logging.getLogger("taskcast_core.followers"), boom("local value")
    Observers().failed(log, error, "archive follower", "01TASK")
    told.unhandled_error(error, "archive follower", "01TASK")
    told.task_timed_out(Task("01TASK", "timeout", 1, 2))
    failure, timeout = sink.wait_for(2)
    assert exception_of(failure)["type"] == "RuntimeError"
    assert failure["tags"] == {"operation": "archive follower", "taskId": "01TASK"}
    assert timeout["message"] == "Task timed out [01TASK]"


def test_requests_that_a_store_could_not_serve_are_told_of(hooks: OpenHooks, sink: SentrySink) -> None:
    from taskcast_server.failures import log_failure

    hooks()
    log_failure("POST", "/tasks", 503, StoreUnavailable("sqlite", "disk_full"))
    log_failure("POST", "/tasks", 500, RuntimeError("the hook unhandled_error tells of this one"))
    (event,) = sink.wait_for(1)
    assert event["level"] == "error"
    assert "sqlite unavailable (disk_full)" in event["message"]


def test_the_log_is_listened_to_by_what_is_switched_on(hooks: OpenHooks, sink: SentrySink) -> None:
    hooks(capture_storage_errors=False)
    state_change("redisCommand", "unhealthy")
    state_change("redisPubSub", "unhealthy")
    (event,) = sink.wait_for(1)
    assert event["message"].startswith("Broadcast error")


def test_two_hooks_of_one_client_tell_once_and_closed_ones_nothing(hooks: OpenHooks, sink: SentrySink) -> None:
    first, second = hooks(), hooks()
    state_change("redisCommand", "unhealthy")
    assert len(sink.wait_for(1)) == 1
    first.close()
    second.close()
    state_change("other", "unhealthy")
    hooks().task_timed_out(TASK)
    assert "timed out" in sink.wait_for(2)[1]["message"]


# ── Embedded, and the transport ───────────────────────────────────────────────────────────────────────────────────────


def test_without_a_client_it_is_the_programs_own(sink: SentrySink) -> None:
    from taskcast_sentry import create_sentry_hooks

    before = sentry_sdk.get_global_scope().client
    sentry_sdk.init(dsn=sink.dsn, default_integrations=False, auto_enabling_integrations=False, release="mine@1")
    hooks = create_sentry_hooks()
    try:
        hooks.unhandled_error(boom("local value"), "x", None)
        (event,) = sink.wait_for(1)
    finally:
        hooks.close()
        sentry_sdk.get_client().close(timeout=10)
        sentry_sdk.get_global_scope().set_client(before)
    assert event["release"] == "mine@1"
    assert b"local value" not in sink.raw


def test_the_dsn_is_in_no_envelope(hooks: OpenHooks, sink: SentrySink) -> None:
    hooks(secrets=[KEY]).unhandled_error(RuntimeError(f"no route to {sink.dsn}"), "x", None)
    sink.wait_for(1)
    assert LEGACY_SECRET.encode() not in sink.raw
    assert KEY.encode() not in sink.raw
    assert f"sentry_key={KEY}" in sink.envelopes[0].request_headers["X-Sentry-Auth"]


async def test_telling_is_off_the_path_of_commits(hooks: OpenHooks, sink: SentrySink, anyio_backend: str) -> None:
    """The observer's calls are queued; a commit appends to that queue, and no more."""
    observers = Observers(hooks(trace_event_publish=True, traces_sample_rate=0.0))
    assert observers.task_failed is not None
    began = time.monotonic()
    observers.task_failed(task=TASK, error=TaskError("x"))
    assert sink.items("event") == [], f"sent within the call, after {time.monotonic() - began:.3f} s"
    await observers.aclose(deadline_s=20)
    assert len(sink.wait_for(1)) == 1
