"""Is it alive, is it ready, and how is everything? (Wire spec, rest section 2.) Nobody is asked who they are."""

from __future__ import annotations

import asyncio
import platform
import time
from collections.abc import Mapping
from importlib.metadata import version
from typing import Any, Protocol, runtime_checkable

from taskcast_core.contracts.followers import Backlog
from taskcast_core.contracts.hot_store import is_cold_capable
from taskcast_core.engine import TaskEngine
from taskcast_core.errors import StoreUnavailable
from taskcast_core.models import JsonValue
from taskcast_core.states import LIVE
from taskcast_server.calls import Call
from taskcast_server.dependencies import WITHIN_S, DependencyState
from taskcast_server.metrics.figures import Asked, Tally, ask
from taskcast_server.responses import Reply, json_reply
from taskcast_server.routes.documents import record
from taskcast_server.routing import Doc, Parameter, Route
from taskcast_server.services import VERSION, Services

STORAGE_PROTOCOL = 2
_NAMES = {"name": "taskcast", "version": VERSION, "apiVersion": "v1"}
_LINKS = {
    "health": "/health",
    "healthReady": "/health/ready",
    "healthDetail": "/health/detail",
    "openapi": "/openapi.json",
    "docs": "/docs",
}


async def root(_: Call) -> Reply:
    """``GET /``."""
    return json_reply({**_NAMES, "links": _LINKS})


async def live(_: Call) -> Reply:
    """``GET /health``: no I/O."""
    return json_reply({"ok": True, **_NAMES})


async def ready(call: Call) -> Reply:
    """``GET /health/ready``; a server that is being stopped is not ready, whatever its dependencies are."""
    states = await call.services.dependencies.look()
    is_ready = not call.services.is_closing and all(state.is_healthy for state in states.values())
    closing = {"closing": True} if call.services.is_closing else {}
    return json_reply({"ok": is_ready, **closing, "dependencies": _shortly(states)}, 200 if is_ready else 503)


def _shortly(states: Mapping[str, DependencyState]) -> dict[str, dict[str, str]]:
    return {
        name: {"state": state.state} | ({"errorKind": state.error_kind} if state.error_kind else {})
        for name, state in states.items()
    }


async def detail(call: Call) -> Reply:
    """``GET /health/detail``: always 200; what cannot be found out is left out."""
    services = call.services
    engine = services.engine
    asked = await ask(services)
    is_ok = all(state.is_healthy for state in asked.dependencies.values())
    facts: dict[str, Any] = {
        "ok": is_ok and asked.tally is not None,
        **_NAMES,
        "uptime": int(time.monotonic() - services.started_at),
        "auth": {"mode": services.auth_mode},
        "adapters": _adapters(services, asked),
        "dependencies": {name: state.shown(name) for name, state in asked.dependencies.items()},
        "storage": {
            "releaseReady": engine.long_term_store is not None and is_cold_capable(engine.store),
            "requiredStorageProtocolVersion": STORAGE_PROTOCOL,
            "activeWriterCount": 1,
            "incompatibleWriterIds": [],
        },
        "durability": _durability(engine),
        "followers": {kind: _backlog(backlog) for kind, backlog in asked.backlogs.items()},
        "clock": {"serverMs": time.time_ns() // 1_000_000, "storeMs": engine.now_ms()},
        "versions": {"server": VERSION, "core": version("taskcast-core"), "python": platform.python_version()},
    }
    if asked.tally is not None:
        facts["tasks"] = _tasks(asked.tally)
    if asked.dead_letters is not None and services.webhooks is not None:
        facts["followers"]["webhook"] = {**facts["followers"].get("webhook", {}), "deadLetters": asked.dead_letters}
    if asked.workers is not None:
        facts["workers"] = {
            "count": len(asked.workers),
            "slots": sum(worker.capacity for worker in asked.workers),
            "usedSlots": sum(worker.used_slots for worker in asked.workers),
        }
    if call.query.get("diagnose"):
        facts["diagnosis"] = await diagnose(engine)
    return json_reply(facts)


def _adapters(services: Services, asked: Asked) -> dict[str, dict[str, str]]:
    """A place is as well as what it needs; where it needs nothing outside, as well as the store answers."""
    found = {}
    for place, name in services.providers.items():
        needed = services.needs.get(place, ()) if services.needs else asked.dependencies
        is_ok = all(asked.dependencies[each].is_healthy for each in needed if each in asked.dependencies)
        if place == "shortTermStore":
            is_ok = is_ok and asked.tally is not None
        found[place] = {"provider": name, "status": "ok" if is_ok else "error"}
    return found


def _durability(engine: TaskEngine) -> dict[str, str]:
    """What it means that a request was acknowledged."""
    told = {"shortTermStore": engine.store.durability}
    if engine.long_term_store is not None:
        told["longTermStore"] = "committed there after the acknowledgement; followers.archive says how far behind it is"
    return told


def _tasks(tally: Tally) -> dict[str, Any]:
    """What the hot store holds; a task that waits to be begun is queued, one that has been and has not ended active."""
    by_status: dict[str, int] = {}
    for (_, status), count in tally.items():
        by_status[status] = by_status.get(status, 0) + count
    queued = by_status.get("pending", 0)
    live = sum(count for status, count in by_status.items() if status in LIVE)
    return {
        "active": live - queued, "queued": queued, "total": sum(by_status.values()), "byStatus": by_status,
    }  # fmt: skip


def _backlog(backlog: Backlog) -> dict[str, int]:
    return {"lanes": backlog.lanes, "events": backlog.events, "oldestMs": backlog.oldest_ms}


@runtime_checkable
class Diagnosable(Protocol):
    """A store that can say more of what it stands on than whether it answers."""

    async def diagnose(self) -> Mapping[str, JsonValue]:
        """Facts by name, for ``taskcast doctor``: no secrets, no addresses. Raises StoreUnavailable."""


async def diagnose(engine: TaskEngine) -> dict[str, Any]:
    """What the stores say of themselves; one that is away says so."""
    found: dict[str, Any] = {}
    parts: dict[str, object] = {"shortTermStore": engine.store, "longTermStore": engine.long_term_store}
    for place, part in parts.items():
        if isinstance(part, Diagnosable):
            try:
                async with asyncio.timeout(WITHIN_S):
                    found[place] = dict(await part.diagnose())
            except (StoreUnavailable, TimeoutError):
                found[place] = {"unavailable": True}
    return found


_ANY = {"type": "object", "additionalProperties": True}
_READY = record(ok={"type": "boolean"}, dependencies=_ANY)
_READY["properties"] |= {"closing": {"type": "boolean"}}

ROUTES = (
    Route("GET", "/", root, Doc("What this is", "Health", {200: ("name, version, links", _ANY)})),
    Route("GET", "/health", live, Doc("Whether the process lives", "Health", {200: ("it does", _ANY)})),
    Route(
        "GET", "/health/ready", ready,
        Doc("Whether requests can be served", "Health", {200: ("they can", _READY), 503: ("they cannot", _READY)}),
    ),
    Route(
        "GET", "/health/detail", detail,
        Doc(
            "How everything is", "Health", {200: ("all there is to know", _ANY)},
            parameters=(Parameter("diagnose", "`1` also asks the stores what they stand on"),),
        ),
    ),
)  # fmt: skip
