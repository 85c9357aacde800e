"""``taskcast tasks``: list, inspect, create, cancel, delete."""

from __future__ import annotations

import asyncio
import json
from collections import deque
from typing import TYPE_CHECKING, Annotated, Any

from taskcast_server.cli.commands import Group, argument, option
from taskcast_server.cli.output import (
    CliError,
    coloured_status,
    compact_json,
    local_time,
    printable,
    tell,
    tell_json,
)
from taskcast_server.cli.remote import Remote, with_remote

if TYPE_CHECKING:
    from taskcast_server.cli.http import Api

app = Group("tasks", help="Look at tasks and change them.")

TaskId = Annotated[str, argument(metavar="ID", help="Id of the task.")]

_LAST_EVENTS = 5
_PAGE = 1000


@app.command("list")
@with_remote
def list_tasks(
    remote: Remote,
    status: Annotated[str | None, option(help="Only these statuses, separated by commas.")] = None,
    type: Annotated[str | None, option(help="Only this type, or types like `llm.*`.")] = None,
    limit: Annotated[int, option(min=1, help="Show no more than so many.")] = 20,
) -> None:
    """List tasks, the newest first."""
    given = {"status": status, "type": type, "limit": str(limit)}
    params = {name: value for name, value in given.items() if value}
    reply = remote.call("GET", "/tasks", params=params)
    tasks = reply["tasks"][:limit]
    if remote.is_json:
        tell_json({"tasks": tasks})
        return
    if not tasks:
        tell("No tasks found.")
        return
    tell(f"{'ID':<28} {'TYPE':<13} {'STATUS':<11} CREATED")
    for each in tasks:
        created = local_time(each.get("createdAt"))
        kind, status_cell = printable(each.get("type") or "-"), coloured_status(each["status"], 11)
        tell(f"{printable(each['id']):<28} {kind:<13} {status_cell} {created}")


@app.command()
@with_remote
def inspect(remote: Remote, task_id: TaskId) -> None:
    """Show a task and its last events."""
    from taskcast_server.cli.http import task_path

    async def fetch() -> tuple[dict[str, Any], list[dict[str, Any]]]:
        async with remote.api() as api:
            task = await api.request("GET", task_path(task_id))
            return task, await _last_events(api)

    async def _last_events(api: Api) -> list[dict[str, Any]]:
        """The end of the history, page by page: the wire has no way to ask for it alone."""
        last: deque[dict[str, Any]] = deque(maxlen=_LAST_EVENTS)
        params = {"limit": str(_PAGE)}
        while True:
            page = await api.request("GET", task_path(task_id, "events", "history"), params=params)
            last.extend(page)
            if len(page) < _PAGE:
                return list(last)
            params["since.id"] = page[-1]["id"]

    task, events = asyncio.run(fetch())
    if remote.is_json:
        tell_json({"task": task, "events": events})
        return
    for line in _described(task):
        tell(line)
    tell("")
    tell(f"Last {len(events)} events:" if events else "No events.")
    for event in events:
        tell(_event_line(event))


@app.command()
@with_remote
def create(
    remote: Remote,
    type: Annotated[str | None, option(help="Type of the task.")] = None,
    task_id: Annotated[str | None, option("--id", help="Id of the task; the server makes one otherwise.")] = None,
    params: Annotated[str | None, option(help="Parameters, a JSON object.")] = None,
    metadata: Annotated[str | None, option(help="Metadata, a JSON object.")] = None,
    tag: Annotated[list[str] | None, option(help="A tag; may be repeated.")] = None,
    ttl: Annotated[int | None, option(min=1, help="Seconds after which the task times out.")] = None,
    priority: Annotated[str | None, option(help="low, normal, high or critical.")] = None,
) -> None:
    """Create a task; prints its id."""
    given = {
        "id": task_id, "type": type, "params": _json_object("--params", params),
        "metadata": _json_object("--metadata", metadata), "tags": tag or None, "ttl": ttl, "priority": priority,
    }  # fmt: skip
    body = {name: value for name, value in given.items() if value is not None}
    task = remote.call("POST", "/tasks", body)
    remote.tell(task, task["id"])


@app.command()
@with_remote
def cancel(remote: Remote, task_id: TaskId) -> None:
    """Cancel a task that has not ended."""
    from taskcast_server.cli.http import task_path

    task = remote.call("PATCH", task_path(task_id, "status"), {"status": "cancelled"})
    remote.tell(task, f"Cancelled {task_id}")


@app.command()
@with_remote
def delete(remote: Remote, task_id: TaskId) -> None:
    """Delete a task and its events."""
    from taskcast_server.cli.http import task_path

    remote.call("DELETE", task_path(task_id))
    remote.tell({"ok": True, "taskId": task_id}, f"Deleted {task_id}")


def _json_object(flag: str, text: str | None) -> dict[str, Any] | None:
    if text is None:
        return None
    try:
        value = json.loads(text)
    except ValueError as error:
        raise CliError(f"{flag} is not JSON: {error}") from error
    if not isinstance(value, dict):
        raise CliError(f"{flag} must be a JSON object")
    return value


def _described(task: dict[str, Any]) -> list[str]:
    lines = [f"{'id:':<18}{printable(task['id'])}", f"{'status:':<18}{coloured_status(task['status'])}"]
    for name, value in task.items():
        if name in ("id", "status"):
            continue
        if name.endswith("At") and isinstance(value, int | float):
            shown = local_time(value)
        else:
            shown = printable(value) if isinstance(value, str) else compact_json(value)
        lines.append(f"{name + ':':<18}{shown}")
    return lines


def _event_line(event: dict[str, Any]) -> str:
    series = f" series:{event['seriesId']}" if event.get("seriesId") else ""
    time = local_time(event.get("timestamp"), "%H:%M:%S")
    return printable(f"  #{event['index']} {event['type']} {event['level']}{series} {time}")
