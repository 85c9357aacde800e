"""Is it alive, is it ready, and how is everything? (Wire spec, rest section 2.) Nobody is asked who they are."""

from __future__ import annotations

import asyncio
import platform
import time
from importlib.metadata import version
from typing import Any

from taskcast_core.contracts.followers import FollowerKind
from taskcast_core.contracts.hot_store import is_cold_capable
from taskcast_core.errors import StoreUnavailable
from taskcast_server.calls import Call
from taskcast_server.responses import Reply, json_reply
from taskcast_server.routes.documents import record
from taskcast_server.routing import Doc, Route
from taskcast_server.services import Check, Services

READY_WITHIN_S = 2.0
"""One deadline for all dependencies together."""
STORAGE_PROTOCOL = 2
VERSION = version("taskcast-server")
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
    """``GET /health/ready``."""
    states = await check_all(call.services)
    is_ready = all(state["state"] == "healthy" for state in states.values())
    return json_reply({"ok": is_ready, "dependencies": states}, 200 if is_ready else 503)


async def check_all(services: Services) -> dict[str, dict[str, str]]:
    """Ask all dependencies at once; those that do not answer in time are unhealthy."""
    names = list(services.checks)
    states = await asyncio.gather(*(_check(services.checks[name]) for name in names))
    return dict(zip(names, states, strict=True))


async def _check(check: Check) -> dict[str, str]:
    try:
        async with asyncio.timeout(READY_WITHIN_S):
            await check()
    except TimeoutError:
        return {"state": "unhealthy", "errorKind": "timeout"}
    except StoreUnavailable as error:
        return {"state": "unhealthy", "errorKind": error.kind}
    return {"state": "healthy"}


async def detail(call: Call) -> Reply:
    """``GET /health/detail``: always 200; what cannot be found out is left out."""
    services = call.services
    engine = services.engine
    states = await check_all(services)
    is_ok = all(state["state"] == "healthy" for state in states.values())
    facts: dict[str, Any] = {
        "ok": is_ok,
        **_NAMES,
        "uptime": int(time.monotonic() - services.started_at),
        "auth": {"mode": services.auth_mode},
        "adapters": {},
        "storage": {
            "releaseReady": engine.long_term_store is not None and is_cold_capable(engine.store),
            "requiredStorageProtocolVersion": STORAGE_PROTOCOL,
            "activeWriterCount": 1,
            "incompatibleWriterIds": [],
        },
        "durability": {"shortTermStore": engine.store.durability},
        "versions": {"server": VERSION, "core": version("taskcast-core"), "python": platform.python_version()},
    }
    try:
        async with asyncio.timeout(READY_WITHIN_S):
            facts["tasks"] = await _tasks(services)
            facts["followers"] = await _followers(services)
        status = "ok" if is_ok else "error"
    except (StoreUnavailable, TimeoutError):
        facts["ok"], status = False, "error"
    facts["adapters"] = {place: {"provider": name, "status": status} for place, name in services.providers.items()}
    return json_reply(facts)


async def _tasks(services: Services) -> dict[str, int]:
    counts: dict[str, int] = {}
    for (_, status), count in (await services.engine.store.tally()).items():
        counts[status] = counts.get(status, 0) + count
    return counts


async def _followers(services: Services) -> dict[str, dict[str, int]]:
    kinds: list[FollowerKind] = []
    if services.webhooks is not None:
        kinds.append("webhook")
    if services.engine.long_term_store is not None:
        kinds.append("archive")
    backlogs: dict[str, dict[str, int]] = {}
    for kind in kinds:
        backlog = await services.engine.store.backlog(kind)
        backlogs[kind] = {"lanes": backlog.lanes, "events": backlog.events, "oldestMs": backlog.oldest_ms}
    return backlogs


_ANY = {"type": "object", "additionalProperties": True}
_READY = record(ok={"type": "boolean"}, dependencies=_ANY)

ROUTES = (
    Route("GET", "/", root, Doc("What this is", "Health", {200: ("name, version, links", _ANY)})),
    Route("GET", "/health", live, Doc("Whether the process lives", "Health", {200: ("it does", _ANY)})),
    Route(
        "GET", "/health/ready", ready,
        Doc("Whether requests can be served", "Health", {200: ("they can", _READY), 503: ("they cannot", _READY)}),
    ),
    Route("GET", "/health/detail", detail, Doc("How everything is", "Health", {200: ("all there is to know", _ANY)})),
)  # fmt: skip
