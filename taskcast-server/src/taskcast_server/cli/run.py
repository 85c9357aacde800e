"""``taskcast run -- COMMAND``: any program as a task.

Its output goes through pipes, not through a terminal: programs that buffer more when they do not write to a terminal
do so here, too. Python programs are told not to (``PYTHONUNBUFFERED``).
"""

from __future__ import annotations

import asyncio
import os
from typing import Annotated

import click

from taskcast_server.cli.commands import argument, option
from taskcast_server.cli.output import CliError, remark
from taskcast_server.cli.remote import Remote, with_remote

CONTEXT = {"allow_interspersed_args": False}
FAILED = 125
"""The exit status when the task cannot even be made; as timeout(1) and others do it."""


@with_remote
def run(
    remote: Remote,
    command: Annotated[list[str], argument(metavar="COMMAND...", help="The program, with its arguments.")],
    type: Annotated[str, option(help="Type of the task.")] = "process",
    task_id: Annotated[str | None, option("--id", help="Id of the task; the server makes one otherwise.")] = None,
    tag: Annotated[list[str] | None, option(help="A tag of the task; may be repeated.")] = None,
    ttl: Annotated[int | None, option(min=1, help="Seconds after which the task times out.")] = None,
    grace: Annotated[float, option(min=0, help="Seconds between SIGTERM and SIGKILL.")] = 10.0,
    patience: Annotated[float, option(min=0, help="Seconds that the server may be away.")] = 300.0,
    quiet: Annotated[bool, option("--quiet", "-q", help="Print nothing but the program's output.")] = False,
) -> None:
    """Run a program as a task: its lines become events, its exit status the task's end.

    Ctrl-C is passed on to the program and cancels the task; cancelling the task stops the program. Exits as the program
    does; with 125 if the task cannot be made.
    """
    from taskcast_server.cli.running import Job, run_job

    shown = [os.fsencode(each).decode("utf-8", "replace") for each in command]
    body = {"id": task_id, "type": type, "tags": tag or None, "ttl": ttl, "params": {"command": shown}}
    job = Job(
        command=tuple(command),
        body={name: value for name, value in body.items() if value is not None},
        grace_s=grace,
        patience_s=patience,
        is_quiet=quiet,
        as_json=remote.is_json,
    )
    try:
        status = asyncio.run(run_job(remote.target(), job))
    except CliError as error:
        remark(str(error))
        status = FAILED
    raise click.exceptions.Exit(status)
