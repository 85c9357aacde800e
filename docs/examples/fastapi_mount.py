"""Taskcast inside a FastAPI program that knows its users: mounted below a prefix, with the program's own sessions.

    uvicorn fastapi_mount:app

A user may follow the tasks that were begun for them, and nothing else. The program itself uses the engine directly.
"""

from collections import defaultdict
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Annotated

from fastapi import Depends, FastAPI, Header, HTTPException

from taskcast_core import MemoryBroadcastProvider, MemoryShortTermStore, TaskEngine
from taskcast_core.contracts import Connection
from taskcast_server import create_taskcast_app

SESSIONS = {"session-of-ada": "ada", "session-of-bob": "bob"}
tasks_of: dict[str, set[str]] = defaultdict(set)

engine = TaskEngine(broadcast=MemoryBroadcastProvider(), short_term_store=MemoryShortTermStore())


async def authenticate(connection: Connection) -> dict[str, object] | None:
    """What a browser may do that comes with a session; None refuses it."""
    user = SESSIONS.get(connection.headers.get("x-session", ""))
    if user is None:
        return None
    return {"sub": user, "taskIds": sorted(tasks_of[user]), "scope": ["event:subscribe", "event:history"]}


@asynccontextmanager
async def lifespan(_: FastAPI) -> AsyncIterator[None]:
    async with engine:
        yield


app = FastAPI(lifespan=lifespan)
app.mount("/taskcast", create_taskcast_app(engine, auth=authenticate))


def current_user(x_session: Annotated[str, Header()] = "") -> str:
    if x_session not in SESSIONS:
        raise HTTPException(401)
    return SESSIONS[x_session]


@app.post("/reports")
async def begin_report(user: Annotated[str, Depends(current_user)]) -> dict[str, str]:
    task = await engine.create_task(type="report", params={"for": user})
    tasks_of[user].add(task.id)
    await engine.transition_task(task.id, "running")
    await engine.publish_event(task.id, type="log", data={"message": f"a report for {user}"})
    await engine.transition_task(task.id, "completed")
    return {"task": task.id}
