"""Signals: what the outside tells a running task."""

import pytest

import tc

pytestmark = pytest.mark.reference_bug("the scope task:signal is declared, but there are no signals")


def send(api, tid, **body):
    return api.req("POST", f"/tasks/{tid}/signals", json=body)


def test_a_signal_is_an_event(srv, api):
    tid = api.running()
    r = send(api, tid, type="tool_result", data={"callId": "c", "result": 1})
    assert r.status_code == 201
    e = r.json()
    assert tc.ULID_RE.match(e["id"]) and e["taskId"] == tid and e["index"] == 1
    assert e["type"] == "taskcast:signal" and e["level"] == "info"
    assert e["data"]["type"] == "tool_result" and e["data"]["data"] == {"callId": "c", "result": 1}
    assert isinstance(e["data"]["id"], str) and e["data"]["id"]
    assert api.hist(tid)[1] == e


def test_filters_match_the_events_type(srv, api):
    tid = api.running()
    e = send(api, tid, type="llm.stop").json()
    assert e["data"]["data"] is None
    assert api.hist(tid, types="taskcast:signal") == [e]
    assert api.hist(tid, types="llm.*,tool_result") == []
    api.to(tid, "completed")
    with api.sse(tid, params={"types": "taskcast:signal", "includeStatus": "false"}) as s:
        s.wait_done()
        assert [(x["eventId"], x["data"]) for x in s.events] == [(e["id"], e["data"])]


def test_a_repeat_appends_nothing(srv, api):
    tid = api.running()
    first = send(api, tid, id="one", type="x", data=1)
    assert send(api, tid, id="one", type="x", data=1).json() == first.json()
    assert send(api, tid, id="one", type="x", data=2).status_code == 422
    assert send(api, tid, id="two", type="x", data=1).status_code == 201
    assert [x["data"]["id"] for x in api.hist(tid)[1:]] == ["one", "two"]
    assert send(api, api.running(), id="one", type="y").status_code == 201, "ids are of one task"


@pytest.mark.parametrize("status", ["completed", "failed", "timeout", "cancelled"])
def test_ended_task_takes_none(srv, api, status):
    tid = api.running()
    api.to(tid, status)
    r = send(api, tid, type="x")
    assert r.status_code == 400 and status in r.json()["error"]
    assert len(api.hist(tid)) == 2


def test_pending_task_takes_signals(srv, api):
    assert send(api, api.create()["id"], type="x").status_code == 201


@pytest.mark.parametrize("body", [{}, {"type": 1}, {"type": "x", "id": 1}, {"data": 1}], ids=str)
def test_rejects_malformed(srv, api, body):
    tid = api.running()
    assert send(api, tid, **body).status_code == 400
    assert len(api.hist(tid)) == 1


def test_unknown_task(srv, api):
    assert send(api, tc.uid(), type="x").status_code == 404


@pytest.mark.profiles("jwt_hs256")
def test_scope(srv):
    root = tc.Api(srv.base, tc.bearer(tc.token()))
    tid = root.running()
    for scope, status in (("task:signal", 201), ("*", 201), ("event:publish", 403), ("task:manage", 403)):
        assert send(tc.Api(srv.base, tc.bearer(tc.token([scope]))), tid, type="x").status_code == status
    elsewhere = tc.Api(srv.base, tc.bearer(tc.token(["task:signal"], ["another-task"])))
    assert send(elsewhere, tid, type="x").status_code == 403
    assert send(tc.Api(srv.base), tid, type="x").status_code == 401
