"""Models and JSON: there and back, nothing invented, nothing lost, faults with their path."""

from __future__ import annotations

import json
from typing import Any, get_args

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from taskcast_core import models, wire
from taskcast_core.errors import InvalidInput

TEXT = st.text(st.characters(codec=None, exclude_categories=()), max_size=6)
JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**53), 2**53) | st.floats(allow_nan=False, allow_infinity=False) | TEXT,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXT, inner, max_size=3),
    max_leaves=8,
)
OBJECT = st.dictionaries(TEXT, JSON, max_size=3)
MS = st.integers(0, 2**48)


def optional(strategy: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    return st.none() | strategy


def some(strategy: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    return optional(st.lists(strategy, max_size=2).map(tuple))


def one_of(literal: Any) -> st.SearchStrategy[Any]:
    return st.sampled_from(get_args(literal))


NUMBER = st.integers(1, 10_000)
CURSOR = st.builds(models.Cursor, id=optional(TEXT), index=optional(st.integers(-1, 9)), timestamp=optional(MS))
FILTER = st.builds(
    models.SubscribeFilter, since=optional(CURSOR), types=some(TEXT), levels=some(TEXT), include_status=st.booleans(),
    wrap=st.booleans(), series_format=one_of(models.SeriesFormat), resume=st.sampled_from(["delta", "snapshot"]),
    limit=optional(NUMBER),
)  # fmt: skip
RETRY = st.builds(
    models.RetryConfig, retries=optional(NUMBER), backoff=optional(st.just("fixed")),
                  initial_delay_ms=optional(NUMBER), max_delay_ms=optional(NUMBER), timeout_ms=optional(NUMBER),
)  # fmt: skip
WEBHOOK = st.builds(
    models.WebhookConfig, url=TEXT, filter=optional(FILTER), secret=optional(TEXT), wrap=optional(st.booleans()),
    retry=optional(RETRY), on=optional(st.sampled_from(["events", "terminal"])),
)  # fmt: skip
EVENT_FILTER = st.builds(
    models.EventFilter, types=some(TEXT), levels=some(one_of(models.Level)), older_than_ms=optional(NUMBER),
    series_mode=optional(one_of(models.SeriesMode)) | some(one_of(models.SeriesMode)),
)  # fmt: skip
RULE = st.builds(
    models.CleanupRule, target=st.sampled_from(["all", "events", "task"]), name=optional(TEXT),
    match=optional(st.builds(models.CleanupMatch, task_types=some(TEXT), status=some(one_of(models.TaskStatus)))),
    trigger=optional(st.builds(models.CleanupTrigger, after_ms=optional(NUMBER))), event_filter=optional(EVENT_FILTER),
)  # fmt: skip
AUTH = st.builds(models.TaskAuthConfig, rules=some(st.builds(
    models.AuthRule, match=st.builds(models.AuthRuleMatch, scope=st.just(("*",))),
    require=st.builds(models.AuthRuleRequire, claims=optional(OBJECT), sub=some(TEXT)),
)))  # fmt: skip
SHARED = {
    "type": optional(TEXT), "params": optional(OBJECT), "metadata": optional(OBJECT), "ttl": optional(NUMBER),
    "webhooks": some(WEBHOOK),
    "cleanup": optional(st.builds(models.CleanupConfig, rules=st.lists(RULE, max_size=2).map(tuple))),
    "auth_config": optional(AUTH), "tags": some(TEXT), "assign_mode": optional(one_of(models.AssignMode)),
    "cost": optional(NUMBER), "disconnect_policy": optional(one_of(models.DisconnectPolicy)),
    "priority": optional(one_of(models.Priority)),
    "retry": optional(st.builds(models.RetryPolicy, attempts=NUMBER, delay_ms=NUMBER)),
}  # fmt: skip
ERROR = st.builds(models.TaskError, message=TEXT, code=optional(TEXT), details=optional(OBJECT))
REQUEST = st.builds(models.BlockedRequest, type=TEXT, data=JSON)
TASK = st.builds(
    models.Task, id=TEXT, status=one_of(models.TaskStatus), created_at=MS, updated_at=MS, result=optional(OBJECT),
    error=optional(ERROR), completed_at=optional(MS), started_at=optional(MS), assigned_worker=optional(TEXT),
    assignment_id=optional(TEXT), attempt=optional(NUMBER), after=optional(TEXT), reason=optional(TEXT),
    resume_at=optional(MS), blocked_request=optional(REQUEST), **SHARED,
)  # fmt: skip
SERIES = {
    "series_id": optional(TEXT),
    "series_mode": optional(one_of(models.SeriesMode)),
    "series_acc_field": optional(TEXT),
}
DRAFT = st.builds(models.EventDraft, type=TEXT, level=one_of(models.Level), data=JSON, **SERIES)
EVENT = st.builds(
    models.Event, id=TEXT, task_id=TEXT, index=NUMBER, timestamp=MS, type=TEXT, level=one_of(models.Level), data=JSON,
    series_snapshot=st.booleans(), **SERIES,
)  # fmt: skip
TAGS = st.builds(models.TagMatch, all=some(TEXT), any=some(TEXT), none=some(TEXT))
WORKER = st.builds(
    models.Worker, id=TEXT, status=one_of(models.WorkerStatus), capacity=NUMBER, used_slots=NUMBER,
    match_rule=st.builds(models.MatchRule, task_types=some(TEXT), tags=optional(TAGS)),
    weight=st.floats(0, 9), connection_mode=one_of(models.ConnectionMode), connected_at=MS, last_heartbeat_at=MS,
    metadata=optional(OBJECT),
)  # fmt: skip
MODELS = st.one_of(
    st.builds(models.TaskInput, id=optional(TEXT), **SHARED), TASK, DRAFT, EVENT, FILTER, WEBHOOK, RULE, WORKER,
    st.builds(models.TransitionInput, result=optional(OBJECT), error=optional(ERROR), reason=optional(TEXT),
              ttl=optional(NUMBER), resume_after_ms=optional(NUMBER), blocked_request=optional(REQUEST)),
    st.builds(models.TaskArchive, task=TASK, events=st.lists(EVENT, max_size=2).map(tuple), exported_at=MS),
)  # fmt: skip


def whole(value: Any) -> Any:
    """A JSON value with its surrogate pairs made whole: JSON has no way to keep them apart."""
    return json.loads(json.dumps(value))


@given(MODELS)
@settings(max_examples=200)
def test_every_model_there_and_back(model: Any) -> None:
    text = wire.encode(model)
    back = wire.decode(text, type(model))
    assert whole(wire.to_wire(back)) == whole(wire.to_wire(model))
    assert b"_" not in b"".join(key.encode() for key in wire.to_wire(model))
    for name, value in wire.to_wire(model).items():
        assert value is not None or name == "data"


@given(JSON)
def test_opaque_json_is_exact(value: Any) -> None:
    assert whole(wire.loads(wire.dumps(value))) == whole(value)
    event = models.Event("i", "t", 0, 0, "x", "info", value)
    assert repr(whole(wire.decode(wire.encode(event), models.Event).data)) == repr(whole(value))


def test_odd_numbers_and_texts() -> None:
    for text in ('{"a":null,"b":[],"c":{}}', '"\\ud83d"', '"\\u0000"', "1.0", "-0.0", "1e300", "9007199254740993"):
        assert json.loads(wire.dumps(wire.loads(text))) == json.loads(text)
    for text in (b"{", b"NaN", b"1e999", b"\xff", b'{"a":}', b"[1,]", b""):
        with pytest.raises(InvalidInput):
            wire.loads(text)
    for value in (object(), {1, 2}, b"bytes"):
        with pytest.raises(InvalidInput):
            wire.dumps(value)


@pytest.mark.parametrize(
    ("cls", "value", "paths"),
    [
        (models.TaskInput, {"ttl": "soon", "tags": ["a", 1], "params": []}, ["params", "tags[1]", "ttl"]),
        (models.TaskInput, {"webhooks": [{}, {"url": 1, "retry": {"retries": 1.5}}]},
         ["webhooks[0].url", "webhooks[1].retry.retries", "webhooks[1].url"]),
        (models.TaskInput, {"cleanup": {"rules": [{"target": "x"}]}}, ["cleanup.rules[0].target"]),
        (models.TaskInput, {"authConfig": {"rules": [{"match": {}, "require": {}}]}},
         ["authConfig.rules[0].match.scope"]),
        (models.EventDraft, {"level": "loud"}, ["level", "type"]),
        (models.EventDraft, [], [""]),
        (models.TransitionInput, {"error": {"code": 1}, "ttl": True}, ["error.code", "error.message", "ttl"]),
    ],
)  # fmt: skip
def test_faults_name_their_paths(cls: type, value: Any, paths: list[str]) -> None:
    with pytest.raises(InvalidInput) as refused:
        wire.from_wire(value, cls)
    assert sorted(path for path, _ in refused.value.details) == paths


def test_what_is_unknown_is_ignored_and_null_is_absent() -> None:
    draft = wire.from_wire(
        {"type": "x", "level": None, "seriesId": None, "clientSeq": 1, "data": None}, models.EventDraft
    )
    assert draft == models.EventDraft("x")
    assert wire.to_wire(draft) == {"type": "x", "level": "info", "data": None}
    assert wire.from_wire({"ttl": 5.0}, models.TaskInput).ttl == 5
