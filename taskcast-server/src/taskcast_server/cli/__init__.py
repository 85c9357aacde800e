"""The command line, `taskcast`."""

from importlib.metadata import version
from typing import Annotated

import typer

app = typer.Typer(name="taskcast", no_args_is_help=True)


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
    """Run and inspect a Taskcast server."""


def main() -> None:
    """Run the command line; the entry point of the `taskcast` script."""
    app()
