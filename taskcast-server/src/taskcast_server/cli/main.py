"""The commands by their names, and what becomes of their errors."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Sequence
from importlib.metadata import version
from typing import Annotated, NoReturn

import typer

from taskcast_core.errors import TaskcastError
from taskcast_server.cli import (
    backup,
    config,
    doctor,
    init,
    logs,
    migrate,
    nodes,
    plugins,
    run,
    start,
    tasks,
    token,
    workers,
)
from taskcast_server.cli import transfer as archives
from taskcast_server.cli.output import CliError, remark

DEFAULT_COMMAND = "start"
_OF_THE_PROGRAM = frozenset({"--help", "-h", "--version", "--install-completion", "--show-completion"})

app = typer.Typer(
    name="taskcast",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["--help", "-h"]},
    epilog="Without a command, the server is started; see `taskcast start --help`.",
)


def _tell_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"taskcast {version('taskcast-server')}")
        raise typer.Exit


@app.callback()
def taskcast(
    show_version: Annotated[
        bool, typer.Option("--version", help="Tell the version.", callback=_tell_version, is_eager=True)
    ] = False,
) -> None:
    """Run a Taskcast server, and talk to one."""


app.command("start")(start.start)
app.command("init")(init.init)
app.add_typer(config.app)
app.command("plugins")(plugins.plugins)
app.command("migrate")(migrate.migrate)
app.command("token")(token.token)
app.command("backup")(backup.backup)
app.command("restore")(backup.restore)
app.add_typer(nodes.app)
app.command("ping")(doctor.ping)
app.command("doctor")(doctor.doctor)
app.add_typer(tasks.app)
app.add_typer(workers.app)
app.command("logs")(logs.logs)
app.command("tail")(logs.tail)
app.command("run", context_settings=run.CONTEXT)(run.run)
app.command("export")(archives.export_archives)
app.command("import")(archives.import_archives)


def main() -> NoReturn:
    """Run the command line; the entry point of the `taskcast` script."""
    try:
        app(with_default_command(sys.argv[1:], is_completing="_TASKCAST_COMPLETE" in os.environ))
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
