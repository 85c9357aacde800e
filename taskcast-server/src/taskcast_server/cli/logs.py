"""``taskcast logs`` and ``taskcast tail``: streams as lines, read on across cuts."""

from __future__ import annotations

import asyncio
import json
from contextlib import aclosing
from typing import Annotated, Any

import click

from taskcast_server.cli.commands import argument, option
from taskcast_server.cli.output import (
    CliError,
    compact_json,
    local_time,
    printable,
    remark,
)
from taskcast_server.cli.remote import Remote, with_remote

TypesOption = Annotated[
    str | None, option("--types", help="Only these types, separated by commas; `llm.*` for a family.")
]
LevelsOption = Annotated[str | None, option("--levels", help="Only these levels, separated by commas.")]

_TASK_CHARS = 7
_EXIT_STATUS = {"completed": 0}
_EXIT_NOT_COMPLETED = 1


@with_remote
def logs(
    remote: Remote,
    task_id: Annotated[str, argument(metavar="ID", help="Id of the task.")],
    types: TypesOption = None,
    levels: LevelsOption = None,
    exit_code: Annotated[
        bool, option("--exit-code", help="Exit with 1 if the task ends otherwise than completed.")
    ] = False,
) -> None:
    """Show a task's events, from the first on, until the task ends."""
    from taskcast_server.cli.follow import DONE, follow
    from taskcast_server.cli.http import task_path

    async def read() -> str | None:
        async with remote.api() as api:
            path = task_path(task_id, "events")
            async with aclosing(follow(api, path, _filter(types, levels), on_cut=_tell_cut)) as frames:
                async for frame in frames:
                    value = _parsed(frame.data)
                    if frame.event == DONE:
                        return _tell_end(remote, value)
                    _tell_event(remote, value)
        return None

    reason = asyncio.run(read())
    if exit_code:
        raise click.exceptions.Exit(_EXIT_STATUS.get(reason or "", _EXIT_NOT_COMPLETED))


@with_remote
def tail(
    remote: Remote,
    types: TypesOption = None,
    levels: LevelsOption = None,
) -> None:
    """Show the events of all tasks that are created from now on."""
    from taskcast_server.cli.follow import follow

    async def read() -> None:
        async with remote.api() as api:
            stream = follow(api, "/events", _filter(types, levels), has_cursor=False, on_cut=_tell_cut)
            async with aclosing(stream) as frames:
                async for frame in frames:
                    _tell_event(remote, _parsed(frame.data), with_task=True)

    asyncio.run(read())


def event_line(event: dict[str, Any], *, with_task: bool = False) -> str:
    """``[HH:MM:SS] type level data``, with the beginning of the task's id in front where there are many."""
    task = f"{str(event.get('taskId', ''))[:_TASK_CHARS]}.. " if with_task else ""
    time = local_time(event.get("timestamp"), "%H:%M:%S")
    kind, level, data = printable(event.get("type")), printable(event.get("level")), compact_json(event.get("data"))
    return f"[{time}] {printable(task)}{kind:<16} {level:<5} {data}"


def _filter(types: str | None, levels: str | None) -> dict[str, str]:
    return {name: value for name, value in (("types", types), ("levels", levels)) if value}


def _parsed(data: str) -> dict[str, Any]:
    try:
        value = json.loads(data)
    except ValueError as error:
        raise CliError("the stream holds something that is not JSON") from error
    if not isinstance(value, dict):
        raise CliError("the stream holds something that is not an event")
    return value


def _tell_event(remote: Remote, event: dict[str, Any], *, with_task: bool = False) -> None:
    remote.tell(event, event_line(event, with_task=with_task))


def _tell_end(remote: Remote, value: dict[str, Any]) -> str:
    reason = str(value.get("reason", ""))
    remote.tell({"done": True, "reason": reason}, f"[{_now()}] [DONE] {printable(reason)}")
    return reason


def _now() -> str:
    import time

    return local_time(time.time() * 1000, "%H:%M:%S")


def _tell_cut(reason: str) -> None:
    remark(f"connection lost ({reason}); reconnecting")
