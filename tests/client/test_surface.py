"""The client has everything that the server has, by the server's own route table and models."""

import inspect

import attrs

from taskcast_client import SyncTaskcastClient, TaskcastClient, calls, models
from taskcast_client.calls import Call
from taskcast_core import models as served
from taskcast_server.routes.table import route_table
from taskcast_server.routing import Router

NO_VERB = {
    "/metrics": "for Prometheus; `get_metrics` reads the same figures",
    "/openapi.json": "for generators",
    "/docs": "for people",
    "/workers/ws": "TaskcastWorker",
    "/events": "subscribe_all",
}
STREAM = ("GET", "/tasks/{taskId}/events")
EXAMPLES = {
    "task_id": "t", "worker_id": "w", "letter_id": "l", "call_id": "c", "type": "x", "status": "running",
    "message": "m", "admin_token": "a", "archive": {}, "config": {}, "tasks": [], "events": [],
    "expected_last_event_index": 0, "inactive_since": 0, "timeout_ms": 1000,
}  # fmt: skip


def built(name: str) -> Call[object]:
    """The call of a verb, with what it cannot do without."""
    function = getattr(calls, name)
    needed = [each for each in inspect.signature(function).parameters.values() if each.default is each.empty]
    made: Call[object] = function(**{each.name: EXAMPLES[each.name] for each in needed})
    return made


def test_every_route_has_a_verb() -> None:
    router = Router(route_table())
    verbs = [name for name in calls.__all__ if name.islower()]
    reached = set()
    for name in verbs:
        call = built(name)
        route, _ = router.find(call.method, call.path)
        reached.add((route.method, route.path))
    wanted = {(route.method, route.path) for route in route_table() if route.path not in NO_VERB} - {STREAM}
    assert reached == wanted


def test_every_verb_is_on_both_clients() -> None:
    for name in calls.__all__:
        if name.islower():
            assert hasattr(TaskcastClient, name), name
            assert hasattr(SyncTaskcastClient, name), name


def test_what_comes_over_the_wire_has_a_field() -> None:
    for name in ("Task", "TaskInput", "Event", "TaskError", "BlockedRequest", "Worker", "WorkerAudit", "TaskArchive"):
        ours = attrs.fields_dict(getattr(models, name)).keys()
        assert ours >= attrs.fields_dict(getattr(served, name)).keys(), name
