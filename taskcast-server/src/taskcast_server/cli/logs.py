"""``taskcast logs`` and ``taskcast tail``: streams as lines, read on across cuts."""

from __future__ import annotations

import asyncio
import json
from contextlib import aclosing
from typing import Annotated, Any

import typer

from taskcast_server.cli.flags import NodeOption, OutputOption, TokenOption, UrlOption
from taskcast_server.cli.output import (
    CliError,
    OutputFormat,
    compact_json,
    local_time,
    printable,
    remark,
    tell,
    tell_json,
)
from taskcast_server.cli.targets import choose

TypesOption = Annotated[
    str | None, typer.Option("--types", help="Only these types, separated by commas; `llm.*` for a family.")
]
LevelsOption = Annotated[str | None, typer.Option("--levels", help="Only these levels, separated by commas.")]

_TASK_CHARS = 7
_EXIT_STATUS = {"completed": 0}
_EXIT_NOT_COMPLETED = 1


def logs(
    task_id: Annotated[str, typer.Argument(metavar="ID", help="Id of the task.", show_default=False)],
    types: TypesOption = None,
    levels: LevelsOption = None,
    exit_code: Annotated[
        bool, typer.Option("--exit-code", help="Exit with 1 if the task ends otherwise than completed.")
    ] = False,
    node: NodeOption = None,
    url: UrlOption = None,
    token: TokenOption = None,
    output: OutputOption = OutputFormat.TEXT,
) -> None:
    """Show a task's events, from the first on, until the task ends."""
    from taskcast_server.cli.follow import DONE, follow
    from taskcast_server.cli.http import Api, task_path

    async def read() -> str | None:
        async with Api(choose(node, url, token)) as api:
            path = task_path(task_id, "events")
            async with aclosing(follow(api, path, _filter(types, levels), on_cut=_tell_cut)) as frames:
                async for frame in frames:
                    value = _parsed(frame.data)
                    if frame.event == DONE:
                        return _tell_end(value, output)
                    _tell_event(value, output)
        return None

    reason = asyncio.run(read())
    if exit_code:
        raise typer.Exit(_EXIT_STATUS.get(reason or "", _EXIT_NOT_COMPLETED))


def tail(
    types: TypesOption = None,
    levels: LevelsOption = None,
    node: NodeOption = None,
    url: UrlOption = None,
    token: TokenOption = None,
    output: OutputOption = OutputFormat.TEXT,
) -> None:
    """Show the events of all tasks that are created from now on."""
    from taskcast_server.cli.follow import follow
    from taskcast_server.cli.http import Api

    async def read() -> None:
        async with Api(choose(node, url, token)) as api:
            stream = follow(api, "/events", _filter(types, levels), has_cursor=False, on_cut=_tell_cut)
            async with aclosing(stream) as frames:
                async for frame in frames:
                    _tell_event(_parsed(frame.data), output, with_task=True)

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


def _tell_event(event: dict[str, Any], output: OutputFormat, *, with_task: bool = False) -> None:
    if output is OutputFormat.JSON:
        tell_json(event)
    else:
        tell(event_line(event, with_task=with_task))


def _tell_end(value: dict[str, Any], output: OutputFormat) -> str:
    reason = str(value.get("reason", ""))
    if output is OutputFormat.JSON:
        tell_json({"done": True, "reason": reason})
    else:
        tell(f"[{_now()}] [DONE] {printable(reason)}")
    return reason


def _now() -> str:
    import time

    return local_time(time.time() * 1000, "%H:%M:%S")


def _tell_cut(reason: str) -> None:
    remark(f"connection lost ({reason}); reconnecting")
