"""Workers over HTTP: who they are, pulling, declining, heartbeats (wire spec, rest section 4).

Where the worker layer is off, these paths do not exist. A worker that pulls learns of tasks that somebody else has
cancelled from the header ``X-Taskcast-Cancelled`` (percent-encoded ids, comma-separated) of its next pull, or of the
reply to a publish that names its assignment, or from ``cancelled`` in the reply to a heartbeat.
"""

from __future__ import annotations

import asyncio
from typing import Any

from taskcast_core import wire
from taskcast_core.engine import TaskEngine
from taskcast_core.errors import Forbidden, InvalidInput
from taskcast_core.models import MatchRule, TagMatch, Task, Worker
from taskcast_core.stopping import stop
from taskcast_core.workers import WorkerLayer
from taskcast_core.workers.roster import Roster
from taskcast_server.calls import Call
from taskcast_server.errors import ClientGone, RouteNotFound, UpgradeRequired
from taskcast_server.exchange import Header
from taskcast_server.requests import comma_list, read_integer, read_limit, text_faults
from taskcast_server.responses import NO_CONTENT, Reply, cancelled_header, json_reply, shown_task
from taskcast_server.routes.documents import INTEGER, lists_of, record
from taskcast_server.routing import Doc, Parameter, Route

DEFAULT_PULL_MS = 30_000
LONGEST_PULL_MS = 300_000
_EVENTS = 100
_MOST_EVENTS = 1000
_MOST_TASKS = 10_000  # that one heartbeat may name


def layer_of(call: Call) -> WorkerLayer:
    """The engine's workers.

    Raises:
        RouteNotFound: they are not enabled.
    """
    layer = call.services.engine.workers
    if layer is None:
        raise RouteNotFound
    return layer


def check_worker(call: Call, worker_id: str) -> str:
    """The id, if the caller may act as this worker.

    Raises:
        Forbidden: its token is for another one. InvalidInput: it is no id.
    """
    if call.principal.worker_id is not None and call.principal.worker_id != worker_id:
        raise Forbidden("Forbidden: worker ID mismatch")
    if faults := text_faults(worker_id, "workerId", call.services.limits.max_id_length):
        raise InvalidInput(faults)
    return worker_id


def told_with_publish(engine: TaskEngine, task: Task) -> tuple[Header, ...]:
    """The header for the reply to a publish that the task's worker made."""
    if engine.workers is None or task.assigned_worker is None:
        return ()
    return cancelled_header(engine.workers.notices.take(task.assigned_worker).keys())


# ── Pulling ───────────────────────────────────────────────────────────────────────────────────────────────────────


async def pull(call: Call) -> Reply:
    """``GET /workers/pull``."""
    layer, query = layer_of(call), call.query
    worker_id = query.get("workerId") or ""
    if not worker_id:
        raise InvalidInput("workerId query param required")
    check_worker(call, worker_id)
    call.is_long = True
    timeout_ms = read_integer(query, "timeout")
    timeout_ms = DEFAULT_PULL_MS if timeout_ms is None else max(0, min(timeout_ms, LONGEST_PULL_MS))
    pulling = asyncio.ensure_future(
        layer.pull(
            worker_id,
            0 if call.services.is_closing else timeout_ms / 1000,
            weight=_read_weight(query.get("weight")),
            capacity=read_integer(query, "capacity"),
            match_rule=_read_rule(query.get("types"), query.get("tags")),
        )
    )
    task = await _unless_gone(call, layer, pulling)
    headers = cancelled_header(layer.notices.take(worker_id).keys())
    if task is None:
        return Reply(204, headers=headers)
    call.note = f"→ {task.id}"
    if call.services.tracer is not None:
        call.services.tracer.link(task.traceparent)
    return json_reply(
        shown_task(task), 200, ((b"x-taskcast-assignment", (task.assignment_id or "").encode()), *headers)
    )


async def _unless_gone(call: Call, layer: WorkerLayer, pulling: asyncio.Future[Task | None]) -> Task | None:
    """What is pulled; a task that the client did not wait for goes back into the queue.

    Raises:
        ClientGone: nobody is left to answer. Also what the pull raises.
    """
    leaving = asyncio.ensure_future(_until_gone(call))
    both: set[asyncio.Future[Any]] = {leaving, pulling}
    has_left = True
    try:
        await asyncio.wait(both, return_when=asyncio.FIRST_COMPLETED)
        has_left = leaving.done()
        if has_left:
            raise ClientGone
        return pulling.result()
    finally:
        await stop(both)
        if has_left and not pulling.cancelled() and pulling.exception() is None:
            unwanted = pulling.result()
            if unwanted is not None:
                await layer.claims.put_back(unwanted)


async def _until_gone(call: Call) -> None:
    while True:
        message = await call.receive()
        if message["type"] == "http.disconnect":
            return


def _read_weight(text: str | None) -> float | None:
    if not text:
        return None
    try:
        weight = float(text)
    except ValueError:
        weight = float("nan")
    if not abs(weight) < 1e15:
        raise InvalidInput([("weight", "expected a number")])
    return weight


def _read_rule(types: str | None, tags: str | None) -> MatchRule | None:
    if types is None and tags is None:
        return None
    wanted = comma_list(tags)
    return MatchRule(comma_list(types), TagMatch(all=wanted) if wanted else None)


async def heartbeat(call: Call) -> Reply:
    """``POST /workers/{workerId}/heartbeat``: ``taskIds`` says what the worker has; without it, all are extended."""
    layer = layer_of(call)
    worker_id = check_worker(call, call.params["workerId"])
    text = await call.body()
    task_ids = _read_task_ids(wire.loads(text)) if text.strip() else None
    _, lost = await layer.heartbeat(worker_id, task_ids)
    return json_reply({"cancelled": lost}, headers=cancelled_header(lost))


def _read_task_ids(body: Any) -> frozenset[str] | None:
    given = body.get("taskIds") if isinstance(body, dict) else body
    if isinstance(body, dict) and given is None:
        return None
    if not isinstance(given, list) or len(given) > _MOST_TASKS or not all(isinstance(each, str) for each in given):
        raise InvalidInput([("taskIds", f"expected a list of at most {_MOST_TASKS} strings")])
    return frozenset(given)


async def decline(call: Call) -> Reply:
    """``POST /workers/tasks/{taskId}/decline``."""
    layer, body = layer_of(call), await call.json_object()
    worker_id, blacklist = body.get("workerId"), body.get("blacklist")
    faults = [] if isinstance(worker_id, str) and worker_id else [("workerId", "expected a string")]
    if not isinstance(blacklist, bool | None):
        faults.append(("blacklist", "expected true or false"))
    if faults or not isinstance(worker_id, str):
        raise InvalidInput(faults)
    check_worker(call, worker_id)
    await layer.claims.decline(call.task_id, worker_id, blacklist=bool(blacklist))
    return json_reply({"ok": True})


# ── Management ────────────────────────────────────────────────────────────────────────────────────────────────────


async def index(call: Call) -> Reply:
    """``GET /workers``."""
    roster = layer_of(call).roster
    return json_reply({"workers": [wire.to_wire(worker) for worker in await roster.without_offers(await roster.all())]})


async def show(call: Call) -> Reply:
    """``GET /workers/{workerId}``."""
    roster = layer_of(call).roster
    return await _shown(roster, await roster.get(call.params["workerId"]))


async def _shown(roster: Roster, worker: Worker) -> Reply:
    (seen,) = await roster.without_offers([worker])
    return json_reply(wire.to_wire(seen))


async def remove(call: Call) -> Reply:
    """``DELETE /workers/{workerId}``: its tasks are dealt with by their disconnect policy after the grace time."""
    await layer_of(call).roster.remove(call.params["workerId"])
    return NO_CONTENT


async def set_status(call: Call) -> Reply:
    """``PATCH /workers/{workerId}/status``."""
    layer, body = layer_of(call), await call.json_object()
    status = body.get("status")
    if status == "draining":
        worker = await layer.roster.update(call.params["workerId"], status="draining")
    elif status == "idle":
        worker = await layer.roster.update(call.params["workerId"], status="idle")
    else:
        raise InvalidInput([("status", "expected draining or idle")])
    call.note = f"→ {status}"
    return await _shown(layer.roster, worker)


async def events(call: Call) -> Reply:
    """``GET /workers/{workerId}/events``: the audit log, newest first; empty where no long-term store keeps one."""
    limit = min(read_limit(call.query.get("limit")) or _EVENTS, _MOST_EVENTS)
    entries = await layer_of(call).events(call.params["workerId"], limit, call.query.get("before") or None)
    return json_reply([wire.to_wire(entry) for entry in entries])


async def upgrade(call: Call) -> Reply:
    """``GET /workers/ws`` without an upgrade."""
    layer_of(call)
    raise UpgradeRequired


_WORKER = ("the worker", "Worker")
_ENTRY = record(
    id={"type": "string"}, workerId={"type": "string"}, timestamp={"type": "integer"}, action={"type": "string"}
)
_ENTRIES = {"type": "array", "items": _ENTRY}
_GONE = "no such worker"

ROUTES = (
    Route(
        "GET", "/workers", index,
        Doc("List workers, by id", "Workers", {200: ("all of them", record(workers=lists_of("Worker")))}),
        scope="worker:manage",
    ),
    Route(
        "GET", "/workers/pull", pull,
        Doc(
            "Wait for a task, and claim it", "Workers",
            {200: ("the task; it is the worker's", "Task"), 204: "none in time, or the worker takes none"},
            parameters=(
                Parameter("workerId", "who pulls; an unknown worker is registered"),
                Parameter("timeout", f"how long to wait: ms, {DEFAULT_PULL_MS} by default", schema=INTEGER),
                Parameter("weight", "preference among workers, higher first", schema={"type": "number"}),
                Parameter("capacity", "slots: costs of tasks at a time, 10 by default", schema=INTEGER),
                Parameter("types", "comma-separated type patterns that it takes"),
                Parameter("tags", "comma-separated tags that its tasks must all have"),
            ),
        ),
        scope="worker:connect", answers_head=False,
    ),
    Route(
        "GET", "/workers/ws", upgrade,
        Doc("The workers' WebSocket", "Workers", {101: "switching protocols", 426: "it is a WebSocket"}),
        scope="worker:connect",
    ),
    Route(
        "GET", "/workers/{workerId}", show, Doc("Show a worker", "Workers", {200: _WORKER, 404: _GONE}),
        scope="worker:manage",
    ),
    Route(
        "DELETE", "/workers/{workerId}", remove,
        Doc("Forget a worker", "Workers", {204: "it is gone", 404: _GONE}),
        scope="worker:manage",
    ),
    Route(
        "PATCH", "/workers/{workerId}/status", set_status,
        Doc(
            "Drain a worker, or let it work again", "Workers", {200: _WORKER, 404: _GONE},
            body="WorkerStatusUpdateInput",
        ),
        scope="worker:manage",
    ),
    Route(
        "GET", "/workers/{workerId}/events", events,
        Doc(
            "A worker's audit log, newest first", "Workers",
            {200: ("entries; none where no long-term store keeps them", _ENTRIES), 404: _GONE},
            parameters=(
                Parameter("limit", f"at most {_MOST_EVENTS}", schema=INTEGER),
                Parameter("before", "id of the last entry of the page before"),
            ),
        ),
        scope="worker:manage",
    ),
    Route(
        "POST", "/workers/{workerId}/heartbeat", heartbeat,
        Doc(
            "A sign of life: extends the leases of the worker's tasks", "Workers",
            {200: ("tasks that are not the worker's own any more", record(cancelled={"type": "array"})), 404: _GONE},
        ),
        scope="worker:connect",
    ),
    Route(
        "POST", "/workers/tasks/{taskId}/decline", decline,
        Doc("Give a task back", "Workers", {200: ("done, or nothing to do", record(ok={"type": "boolean"}))},
            body="DeclineInput"),
        scope="worker:connect",
    ),
)  # fmt: skip
