"""The commands by their names, and what becomes of their errors."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Iterable, Mapping, Sequence
from importlib import import_module
from typing import NoReturn

import click

from taskcast_core.errors import TaskcastError
from taskcast_server.cli import completion, extensions
from taskcast_server.cli.commands import Group
from taskcast_server.cli.output import CliError, remark

DEFAULT_COMMAND = "start"
_OF_THE_PROGRAM = frozenset({"--help", "-h", "--version", "--install-completion", "--show-completion"})

COMMANDS = {
    "start": "start:start",
    "init": "init:init",
    "config": "config:app",
    "plugins": "plugins:plugins",
    "migrate": "migrate:migrate",
    "rebuild": "rebuild:rebuild",
    "token": "token:token",
    "backup": "backup:backup",
    "restore": "backup:restore",
    "node": "nodes:app",
    "ping": "doctor:ping",
    "doctor": "doctor:doctor",
    "tasks": "tasks:app",
    "workers": "workers:app",
    "logs": "logs:logs",
    "tail": "logs:tail",
    "run": "run:run",
    "service": "service:app",
    "export": "transfer:export_archives",
    "import": "transfer:import_archives",
}
"""Where each command is: a function, or an application with commands of its own."""


def program(names: Iterable[str], added: Mapping[str, click.Command] | None = None) -> click.Group:
    """The program with these commands of ours, and those that others have added."""
    app = Group(
        "taskcast",
        help="Run a Taskcast server, and talk to one.",
        context_settings={"help_option_names": ["--help", "-h"]},
        epilog="Without a command, the server is started; see `taskcast start --help`.",
    )
    tell_version = click.version_option(
        package_name="taskcast-server", message="taskcast %(version)s", help="Tell the version."
    )
    tell_version(app)
    completion.add_options(app)
    for name in names:
        module_name, _, attribute = COMMANDS[name].partition(":")
        module = import_module(f"taskcast_server.cli.{module_name}")
        command = getattr(module, attribute)
        if isinstance(command, click.Command):
            app.add_command(command, name)
        else:
            app.command(name, context_settings=getattr(module, "CONTEXT", None))(command)
    for name, command in (added or {}).items():
        app.add_command(command, name)
    return app


def program_for(arguments: Sequence[str]) -> click.Group:
    """The program with the command that is named; one that is about to be run needs none of the others loaded.

    Raises:
        CliError: it cannot be loaded.
    """
    name = arguments[0] if arguments else ""
    if name in COMMANDS:
        return program([name])
    added = extensions.commands(name)
    return program([] if name in added else COMMANDS, {each: added[each] for each in added if each not in COMMANDS})


def main() -> NoReturn:
    """Run the command line; the entry point of the `taskcast` script."""
    try:
        arguments = with_default_command(sys.argv[1:], is_completing=completion.VARIABLE in os.environ)
        program_for(arguments)(arguments)
        status: object = 0
    except SystemExit as error:
        status = error.code
    except (CliError, TaskcastError) as error:
        remark(str(error))
        status = error.exit_code if isinstance(error, CliError) else 1
    except BrokenPipeError:
        status = _quiet_end()
    except OSError as error:
        remark(_described(error))
        status = 1
    except KeyboardInterrupt:
        status = 128 + signal.SIGINT
    sys.exit(status if isinstance(status, int | str | None) else 1)


def with_default_command(arguments: Sequence[str], *, is_completing: bool = False) -> list[str]:
    """The arguments with ``start`` in front, where they name no command."""
    given = list(arguments)
    if is_completing or (given and (not given[0].startswith("-") or given[0] in _OF_THE_PROGRAM)):
        return given
    return [DEFAULT_COMMAND, *given]


def _quiet_end() -> int:
    """Whoever read our output has gone (``| head``): end as other programs do, without a word at exit."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    return 128 + getattr(signal, "SIGPIPE", 13)


def _described(error: OSError) -> str:
    reason = error.strerror or str(error)
    return f"{error.filename}: {reason}" if error.filename else reason
